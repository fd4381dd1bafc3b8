//! Four ways to tell two receivers different things of one round, each of which once went
//! unpunished: under another sequence, with one state and other claims, with the header sent ahead
//! of its message, and, where nobody waits, far ahead of everybody.

use kith_consensus::Section;
use kith_gossip::envelope::{Envelope, Kind};
use kith_gossip::{Effect, Packet};
use serde_cbor::Value;

use super::equivocation::Equivocation;
use super::messages::{Speaker, Truthful};
use super::{Attack, AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

/// How far ahead: further than headers are kept by peers that keep step.
const AHEAD: u64 = 20;

const fn entry(
    name: &'static str,
    help: &'static str,
    speak: fn(Speaker) -> Box<dyn Adversary>,
    build: fn(&mut Section<'_>) -> Box<dyn Attack>,
) -> AttackEntry {
    AttackEntry {
        name,
        help,
        source: "fault injection",
        main_key: None,
        new: AttackKind {
            knowledge: Knowledge::Own,
            means: Means::Messages {
                speak,
                fails: "contradictions-convict",
            },
            build,
        },
    }
}

pub(super) const SEQUENCE: AttackEntry = entry(
    "two-sequences",
    "equivocates, and numbers the two updates of a round differently",
    |speaker| Box::new(Contradiction::new(speaker, Way::Sequence)),
    |_| Box::new(Equivocation { scale: 1.0 }),
);

pub(super) const CLAIMS: AttackEntry = entry(
    "two-claims",
    "tells every second receiver another number of examples behind the same vector",
    |speaker| Box::new(Contradiction::new(speaker, Way::Claims)),
    |_| Box::new(Truthful),
);

pub(super) const HEADER_FIRST: AttackEntry = entry(
    "header-first",
    "equivocates, and sends each header alone ahead of its message",
    |speaker| Box::new(Contradiction::new(speaker, Way::HeaderFirst)),
    |_| Box::new(Equivocation { scale: 1.0 }),
);

pub(super) const FAR_AHEAD: AttackEntry = entry(
    "far-ahead",
    "equivocates in rounds that are far ahead of everybody",
    |speaker| Box::new(Contradiction::new(speaker, Way::FarAhead)),
    |_| Box::new(Equivocation { scale: 1.0 }),
);

#[derive(Clone, Copy, Debug)]
enum Way {
    Sequence,
    Claims,
    HeaderFirst,
    FarAhead,
}

#[derive(Debug)]
struct Contradiction {
    speaker: Speaker,
    way: Way,
}

impl Contradiction {
    fn new(speaker: Speaker, way: Way) -> Contradiction {
        Contradiction { speaker, way }
    }

    /// Whether this receiver is one of those that are told something else.
    fn is_second(&self, to: &kith_consensus::PeerId) -> bool {
        self.speaker
            .roster
            .index(to)
            .is_some_and(|place| place % 2 == 1)
    }

    /// What a receiver is sent in place of an update.
    fn instead(&self, to: &kith_consensus::PeerId, bytes: &Packet) -> Vec<Packet> {
        let rounds = self.speaker.charter.rounds;
        let speaker = &self.speaker;
        let altered = match self.way {
            Way::Sequence => speaker.says_instead(bytes, Kind::Update, |header, _| {
                header.sequence += self.speaker.roster.index(to).unwrap_or(0) as u64;
            }),
            Way::Claims if self.is_second(to) => {
                speaker.says_instead(bytes, Kind::Update, |_, payload| {
                    *payload = one_example_more(payload);
                })
            }
            Way::FarAhead => speaker.says_instead(bytes, Kind::Update, |header, _| {
                header.round += AHEAD;
            }),
            _ => None,
        };
        let header = altered.as_ref().and_then(Packet::claimed_header);
        if header.is_some_and(|header| header.round >= rounds) {
            return Vec::new(); // there is no such round
        }
        let bytes = altered.unwrap_or_else(|| bytes.clone());
        let ahead = match (self.way, speaker.own(&bytes, Kind::Update)) {
            (Way::HeaderFirst, Some(whole)) => Some(header_of(&whole)),
            _ => None,
        };
        ahead.into_iter().chain([bytes]).collect()
    }
}

fn header_of(whole: &Envelope) -> Packet {
    whole.header_to_bytes().into()
}

/// An announcement that claims one example more. Its fields travel as a map from their numbers, and
/// the claimed examples follow the vector's dimension.
fn one_example_more(payload: &[u8]) -> Vec<u8> {
    /// Place of the claimed examples among an announcement's fields.
    const SAMPLES: Value = Value::Integer(2);
    let Ok(Value::Map(mut fields)) = serde_cbor::from_slice(payload) else {
        return payload.to_vec();
    };
    if let Some(Value::Integer(samples)) = fields.get_mut(&SAMPLES) {
        *samples += 1;
    }
    serde_cbor::to_vec(&Value::Map(fields)).unwrap_or_else(|_| payload.to_vec())
}

impl Adversary for Contradiction {
    fn act(&mut self, _: &Scene<'_>, _: Cue<'_>, acts: &mut Acts) {
        let effects = std::mem::take(&mut acts.effects);
        for effect in effects {
            match effect {
                Effect::Send { to, bytes } => {
                    let each = self.instead(&to, &bytes).into_iter();
                    acts.effects
                        .extend(each.map(|bytes| Effect::Send { to, bytes }));
                }
                other => acts.effects.push(other),
            }
        }
    }
}
