//! `pulls-make-room`: the pull of an earlier round's body is given up once an update of the open
//! round waits behind it. Otherwise a sender with a slow line, or a liar, would be one round late
//! in every round.
//!
//! Watched where peers keep step and updates stand alone: a replica needs every body.

use std::collections::{BTreeMap, BTreeSet};

use kith_consensus::mode::Mode;
use kith_consensus::{Digest, PeerId};
use kith_gossip::envelope::Kind;
use kith_gossip::{Effect, Event, Input};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "pulls-make-room",
    help: "the body of an earlier round is no longer pulled once an update of this one waits behind it",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(PullsMakeRoom {
            members: vec![Pulls::default(); scope.ids.len()],
        })
    },
};

#[derive(Clone, Default)]
struct Pulls {
    /// By body, the round in which its pull began, and the peers that it is pulled from.
    under_way: BTreeMap<Digest, (u64, Vec<PeerId>)>,
    /// Updates that came while bodies were being pulled from their sender, with their rounds.
    waiting: BTreeSet<(u64, PeerId)>,
}

struct PullsMakeRoom {
    members: Vec<Pulls>,
}

impl Check for PullsMakeRoom {
    fn input(&mut self, _: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        let pulls = &mut self.members[moment.member];
        match input {
            Input::Received { from, bytes } => {
                let mut sources = pulls.under_way.values().flat_map(|(_, sources)| sources);
                if sources.any(|source| source == from) {
                    let header = bytes.claimed_header()?;
                    if header.kind == Kind::Update && header.sender == *from {
                        pulls.waiting.insert((header.round, *from));
                    }
                }
            }
            Input::Fetched { digest, .. } | Input::FetchFailed { digest, .. } => {
                pulls.under_way.remove(digest);
            }
            _ => {}
        }
        None
    }

    fn effect(&mut self, scope: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        let in_step = scope.charter.round.mode == Mode::Synchronous;
        if !in_step || moment.peer.keeps_replicas() {
            return None;
        }
        let pulls = &mut self.members[moment.member];
        match effect {
            Effect::Fetch {
                digest, sources, ..
            } => {
                let began = (moment.peer.round(), sources.clone());
                pulls.under_way.entry(*digest).or_insert(began);
            }
            Effect::Abandon { digest, .. } => {
                pulls.under_way.remove(digest);
            }
            _ => {}
        }
        None
    }

    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let pulls = &mut self.members[moment.member];
        match event {
            Event::Refused {
                peer,
                round: Some(round),
                ..
            } => {
                pulls.waiting.remove(&(*round, *peer));
            }
            Event::RoundClosed { round, .. } => {
                let mut old = pulls.under_way.values().filter(|(began, _)| began < round);
                let blocked = old.find_map(|(_, sources)| {
                    let waits = |source: &&PeerId| pulls.waiting.contains(&(*round, **source));
                    sources.iter().find(waits).copied()
                });
                pulls.waiting.retain(|(of, _)| of > round);
                let number = scope.number(&blocked?)?;
                return Some(format!(
                    "it closed round {round} while the update of peer {number} waited behind an earlier round's body"
                ));
            }
            _ => {}
        }
        None
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.members[moment.member] = Pulls::default();
    }
}
