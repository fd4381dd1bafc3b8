//! `false-addresses`: says in its handshakes that the others are where they are not.
//!
//! A receiver that believes it dials there, tells others, and has no room for true addresses.

use kith_consensus::Section;
use kith_gossip::envelope::Kind;
use kith_gossip::{Effect, Packet};
use serde_cbor::Value;

use super::messages::{Speaker, Truthful, to_all};
use super::{AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "false-addresses",
    help: "says in its handshakes that the others are at addresses that are not theirs",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Messages {
            speak: |speaker| {
                Box::new(FalseAddresses {
                    speaker,
                    handshake: None,
                    ticks: 0,
                })
            },
            fails: "true-addresses",
        },
        build: |_: &mut Section<'_>| Box::new(Truthful),
    },
};

/// An address of a block that is kept for documents (RFC 5737): no peer has it.
pub(crate) const ADDRESS: &str = "/ip4/203.0.113.9/tcp/1";

#[derive(Debug)]
struct FalseAddresses {
    speaker: Speaker,
    handshake: Option<Packet>,
    ticks: u64,
}

impl FalseAddresses {
    /// A handshake with a record of everybody in place of its own records.
    fn altered(&self, bytes: &Packet, version: u64) -> Option<Packet> {
        self.speaker.says_instead(bytes, Kind::Hello, |_, payload| {
            *payload = self.with_records(payload, version);
        })
    }

    fn with_records(&self, payload: &[u8], version: u64) -> Vec<u8> {
        /// Place of the records among a handshake's fields, which travel as a map from their
        /// numbers.
        const RECORDS: Value = Value::Integer(7);
        let Ok(Value::Map(mut fields)) = serde_cbor::from_slice(payload) else {
            return payload.to_vec();
        };
        let own = self.speaker.key.peer();
        let others = self.speaker.roster.iter().filter(|peer| **peer != own);
        let record = |peer: &kith_consensus::PeerId| {
            let fields = [
                Value::Bytes(peer.0.to_vec()),
                Value::Integer(1 << 40),
                Value::Integer(i128::from(version)),
                // The scope of addresses that everybody is told.
                Value::Integer(2),
                Value::Array(vec![Value::Text(ADDRESS.to_owned())]),
                Value::Bytes(vec![7; 64]),
            ];
            let numbered = (0..).map(Value::Integer).zip(fields);
            Value::Map(numbered.collect())
        };
        fields.insert(RECORDS, Value::Array(others.map(record).collect()));
        serde_cbor::to_vec(&Value::Map(fields)).unwrap_or_else(|_| payload.to_vec())
    }
}

impl Adversary for FalseAddresses {
    fn act(&mut self, scene: &Scene<'_>, cue: Cue<'_>, acts: &mut Acts) {
        /// Ticks between two handshakes of its own accord.
        const EVERY: u64 = 10;
        for effect in &mut acts.effects {
            let Effect::Send { bytes, .. } = effect else {
                continue;
            };
            if let Some(altered) = self.altered(bytes, self.ticks) {
                self.handshake = Some(bytes.clone());
                *bytes = altered;
            }
        }
        if matches!(cue, Cue::Tick) {
            self.ticks += 1;
            let again = self.handshake.as_ref();
            let again = again.filter(|_| self.ticks.is_multiple_of(EVERY));
            let again = again.and_then(|bytes| self.altered(bytes, self.ticks));
            acts.effects
                .extend(again.iter().flat_map(|bytes| to_all(scene, bytes)));
        }
    }
}
