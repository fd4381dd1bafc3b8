//! `[membership]`: which peers take part.

use std::collections::BTreeMap;

use crate::identity::{NotAPeerId, PeerId};
use crate::section::Section;

/// The peers that take part.
#[derive(Clone, Debug, PartialEq)]
pub struct Membership {
    /// Members only, or anyone.
    pub mode: Admission,
    /// How many peers the federation has.
    pub peers: usize,
    /// The members in the order of their keys; empty if anyone may join.
    pub members: Vec<Member>,
}

/// Who may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Only the keys on the roster.
    Members,
    /// Anyone with the federation id. `byzantine` is then an assumption: one person may hold many
    /// keys.
    Open,
}

/// A member of the federation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unique name, for people.
    pub name: String,
    /// The organisation it belongs to; may be empty.
    pub organisation: String,
    /// Its public key.
    pub key: PeerId,
}

impl Membership {
    pub(super) fn read(section: &mut Section<'_>) -> Membership {
        if section.choice("mode", Some("members"), &["members", "open"]) == "open" {
            let peers = section.integer("peers", None, 1..=1_000_000) as usize;
            return Membership {
                mode: Admission::Open,
                peers,
                members: Vec::new(),
            };
        }
        let read: Vec<Option<Member>> = section.tables("member", |member| {
            let name = member.text("name", None);
            let organisation = member.text("organisation", Some(""));
            let key = member.text("key", None);
            let key = key
                .parse()
                .map_err(|error: NotAPeerId| member.note("key", error.to_string()))
                .ok()?;
            Some(Member {
                name,
                organisation,
                key,
            })
        });
        let written = read.len();
        let mut members: Vec<Member> = read.into_iter().flatten().collect();
        if written == 0 {
            section.note(
                "member",
                "no member is listed; expected at least one [[membership.member]]",
            );
        }
        let mut names = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for member in &members {
            if names.insert(&member.name, ()).is_some() {
                section.note("member", format!("two members are named {:?}", member.name));
            }
            if let Some(first) = keys.insert(member.key, &member.name) {
                section.note(
                    "member",
                    format!("members {first:?} and {:?} have the same key", member.name),
                );
            }
        }
        // The order in which a charter lists them does not change the federation.
        members.sort_by_key(|member| member.key);
        Membership {
            mode: Admission::Members,
            peers: written,
            members,
        }
    }
}
