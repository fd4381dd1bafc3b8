//! `foreign-bodies`: pulls bodies of updates that are not for it, whose names an accomplice tells.
//!
//! A neighbour of the sender is told the name of a body; nobody but neighbours should get it.

use std::collections::BTreeSet;

use kith_consensus::{Digest, Section};
use kith_gossip::envelope::{Envelope, Kind};
use kith_gossip::{Effect, Input, Packet};
use serde_cbor::Value;

use super::messages::{Speaker, Truthful};
use super::{AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "foreign-bodies",
    help: "pulls bodies of updates that are for its accomplices and not for it",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Messages {
            speak: |speaker| {
                Box::new(ForeignBodies {
                    speaker,
                    asked: BTreeSet::new(),
                })
            },
            fails: "bodies-for-receivers",
        },
        build: |_: &mut Section<'_>| Box::new(Truthful),
    },
};

#[derive(Debug)]
struct ForeignBodies {
    speaker: Speaker,
    /// Bodies that it has asked for.
    asked: BTreeSet<Digest>,
}

impl ForeignBodies {
    /// The body that an update of another peer announces: its name and length.
    fn announced(&self, bytes: &Packet) -> Option<(Digest, usize)> {
        let header = bytes.claimed_header()?;
        if header.kind != Kind::Update || header.sender == self.speaker.key.peer() {
            return None;
        }
        let message = Envelope::open(&self.speaker.key, bytes).ok()?;
        let Value::Map(fields) = serde_cbor::from_slice(&message.payload).ok()? else {
            return None;
        };
        fields.values().find_map(pulled)
    }
}

/// The name and the length in an announcement's field, if it is a body to be pulled: a list of the
/// variant's number, the name and the length.
fn pulled(field: &Value) -> Option<(Digest, usize)> {
    let Value::Array(parts) = field else {
        return None;
    };
    let [
        Value::Integer(1),
        Value::Bytes(name),
        Value::Integer(length),
    ] = parts.as_slice()
    else {
        return None;
    };
    Some((
        Digest(name.as_slice().try_into().ok()?),
        usize::try_from(*length).ok()?,
    ))
}

impl Adversary for ForeignBodies {
    fn act(&mut self, scene: &Scene<'_>, cue: Cue<'_>, acts: &mut Acts) {
        match cue {
            Cue::Input(Input::Received { from, bytes }) => {
                if let Some((digest, length)) = self.announced(bytes) {
                    self.speaker.overhears(digest, length, *from);
                }
            }
            Cue::Input(_) => {}
            Cue::Tick => {
                for (digest, length, source) in self.speaker.overheard() {
                    if self.asked.contains(&digest) {
                        continue;
                    }
                    let is_connected = scene.connected.contains(&source);
                    acts.effects.push(match is_connected {
                        true => Effect::Fetch {
                            digest,
                            length,
                            sources: vec![source],
                        },
                        false => Effect::Connect {
                            peer: source,
                            addresses: Vec::new(),
                        },
                    });
                    if is_connected {
                        self.asked.insert(digest);
                    }
                }
            }
        }
    }
}
