//! `odd-spelling`: every update is spelled in another way that decodes to the same: with thirty tags
//! before its header, or with a length in more bytes than it needs.
//!
//! A receiver that takes both spellings for one message, but passes on or compares bytes, can be
//! led to say something that it never checked.

use kith_consensus::Section;
use kith_gossip::envelope::Kind;
use kith_gossip::{Effect, Packet};

use super::messages::{Speaker, Truthful};
use super::{AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "odd-spelling",
    help: "spells its updates in other ways that decode to the same",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Messages {
            speak: |speaker| Box::new(OddSpelling { speaker, sent: 0 }),
            fails: "one-spelling",
        },
        build: |_: &mut Section<'_>| Box::new(Truthful),
    },
};

#[derive(Debug)]
struct OddSpelling {
    speaker: Speaker,
    sent: u64,
}

impl Adversary for OddSpelling {
    fn act(&mut self, _: &Scene<'_>, _: Cue<'_>, acts: &mut Acts) {
        for effect in &mut acts.effects {
            let Effect::Send { bytes, .. } = effect else {
                continue;
            };
            if self.speaker.own(bytes, Kind::Update).is_none() {
                continue;
            }
            self.sent += 1;
            let (front, rest) = bytes.split_at(1); // an array of three
            let odd = match (self.sent % 2, rest) {
                (0, [0x58, length, rest @ ..]) => [front, &[0x59, 0, *length], rest].concat(),
                _ => [front, &[0xc1; 30], rest].concat(),
            };
            *bytes = Packet::from(odd);
        }
    }
}
