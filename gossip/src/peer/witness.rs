//! Noticing that somebody signed two different updates for one round.
//!
//! Every header that arrives, from its sender or passed on by a neighbour, is remembered for a few rounds. Two headers with
//! equal round and sequence and different `state_hash` prove equivocation; a repeated one is a duplicate.

use std::collections::BTreeMap;

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId};
use serde_bytes::ByteBuf;

use crate::envelope::{Envelope, Kind};
use crate::message::Proof;

/// Rounds for which headers are kept, before and after the own one.
const ROUNDS_KEPT: u64 = 3;

#[derive(Clone, Debug)]
struct Seen {
    sequence: u64,
    state: Digest,
    header: Vec<u8>,
    /// Whether another header of the same sender and round came.
    disputed: bool,
}

/// What a header means next to the ones already seen.
#[derive(Debug)]
pub(super) enum Testimony {
    /// The first of its sender and round.
    New,
    /// Seen before.
    Known,
    /// A second update for a round, under another sequence: no proof, but not both can be what the sender trained.
    Second,
    /// Contradicts one seen before: the proof.
    Contradiction(Box<Proof>, [Digest; 2]),
}

/// How much of a message is known before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recognised {
    /// Nothing.
    Nothing,
    /// Its header was verified before.
    Header,
    /// It is a header that was verified before, and nothing else.
    Everything,
}

#[derive(Debug, Default)]
pub(super) struct Witness {
    seen: BTreeMap<(u64, PeerId), Seen>,
    /// Where a header stands, by the beginning of its signature.
    signatures: BTreeMap<[u8; 8], (u64, PeerId)>,
}

impl Witness {
    /// Remembers the header of an update.
    pub(super) fn hear(&mut self, envelope: &Envelope) -> Testimony {
        let header = &envelope.header;
        let key = (header.round(), header.sender());
        if let Some(seen) = self.seen.get_mut(&key) {
            if seen.state == header.state() && seen.sequence == header.sequence() {
                return Testimony::Known;
            }
            seen.disputed = true;
            if seen.sequence == header.sequence() {
                let proof = Proof(ByteBuf::from(seen.header.clone()), ByteBuf::from(envelope.header_to_bytes()));
                return Testimony::Contradiction(Box::new(proof), [seen.state, header.state()]);
            }
            return Testimony::Second;
        }
        let seen =
            Seen { sequence: header.sequence(), state: header.state(), header: envelope.header_to_bytes(), disputed: false };
        self.signatures.extend(Envelope::signature_in(&seen.header).map(|signature| (signature, key)));
        self.seen.insert(key, seen);
        Testimony::New
    }

    /// Whether a sender signed more than one update for a round: then none of them counts, in whatever order they come.
    pub(super) fn is_disputed(&self, round: u64, sender: &PeerId) -> bool {
        self.seen.get(&(round, *sender)).is_some_and(|seen| seen.disputed)
    }

    /// What is known of a message before it is opened: whether its header was verified before, byte for byte, and whether it
    /// is nothing but that header.
    pub(super) fn recognise(&self, bytes: &[u8]) -> Recognised {
        let seen = Envelope::signature_in(bytes).and_then(|signature| self.seen.get(self.signatures.get(&signature)?));
        // A header alone ends in an empty payload, one byte; what is before it begins every message that carries the header.
        let begins = |seen: &&Seen| bytes.starts_with(&seen.header[..seen.header.len() - 1]);
        match seen.filter(begins) {
            None => Recognised::Nothing,
            Some(seen) if seen.header == bytes => Recognised::Everything,
            Some(_) => Recognised::Header,
        }
    }

    /// The newest header of a peer, to give back to it when it returns without its state.
    pub(super) fn newest(&self, peer: &PeerId) -> Option<(u64, &[u8])> {
        let newest = self.seen.iter().rev().find(|((_, sender), _)| sender == peer);
        newest.map(|((round, _), seen)| (*round, seen.header.as_slice()))
    }

    /// Headers remembered.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Forgets rounds that are over.
    pub(super) fn forget(&mut self, round: u64) {
        let kept = |seen: u64| seen.saturating_add(ROUNDS_KEPT) >= round || planted(Mutant::KeepSeen);
        self.seen.retain(|(seen, _), _| kept(*seen));
        self.signatures.retain(|_, (seen, _)| kept(*seen));
    }

    /// Whether a round is one whose headers are kept.
    pub(super) fn keeps(own: u64, round: u64) -> bool {
        round.abs_diff(own) <= ROUNDS_KEPT
    }
}

/// Whether two verified headers contradict each other.
pub(super) fn contradict(a: &Envelope, b: &Envelope) -> bool {
    let claim = |envelope: &Envelope| {
        let header = &envelope.header;
        (header.federation(), header.kind(), header.sender(), header.round(), header.sequence())
    };
    claim(a) == claim(b) && a.header.kind() == Kind::Update && a.header.state() != b.header.state()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Authenticator, Header, PROTOCOL_VERSION};

    #[test]
    fn a_header_is_recognised_alone_and_before_its_payload_and_nothing_else_is() {
        let liar = Authenticator::from_secret(&[1; 32]);
        let payload = vec![7; 300];
        let update = |state: &[u8], payload: &[u8]| {
            let hash = Digest::of(payload);
            let header = Header(PROTOCOL_VERSION, Digest::default(), Kind::Update, liar.peer(), 3, 3, Digest::of(state), hash);
            Envelope::seal(&liar, header, payload.to_vec())
        };
        let known = update(b"state", &payload);
        let mut witness = Witness::default();
        assert_eq!(witness.recognise(&known.to_bytes()), Recognised::Nothing);
        witness.hear(&known);
        assert_eq!(witness.recognise(&known.to_bytes()), Recognised::Header);
        assert_eq!(witness.recognise(&known.header_to_bytes()), Recognised::Everything);
        for place in 0..known.header_to_bytes().len() - 1 {
            let mut other = known.to_bytes();
            other[place] ^= 1;
            assert_eq!(witness.recognise(&other), Recognised::Nothing, "byte {place}");
        }
        assert_eq!(witness.recognise(&update(b"another", &payload).to_bytes()), Recognised::Nothing);
        for length in 0..known.header_to_bytes().len() - 1 {
            assert_eq!(witness.recognise(&known.to_bytes()[..length]), Recognised::Nothing);
        }
        witness.forget(3 + ROUNDS_KEPT + 1);
        assert_eq!(witness.recognise(&known.to_bytes()), Recognised::Nothing);
        assert!(witness.signatures.is_empty());
    }
}
