//! Noticing that somebody signed two different updates for one round.
//!
//! Every header that arrives, from its sender or passed on by a neighbour, is remembered for a few
//! rounds. Two headers with equal round and sequence and different `state_hash` prove equivocation;
//! a repeated one is a duplicate.

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, Genesis, PeerId, Sorted};
use serde_bytes::ByteBuf;

use crate::envelope::{Envelope, Header, Kind, PROTOCOL_VERSION, Parts, SIGNATURE_BYTES};
use crate::message::Proof;
use crate::packet::{Opened, Packet};
use crate::wire;

/// Headers are kept for at least this many rounds before and after this peer's round (guess).
const ROUNDS_KEPT: u64 = 3;

/// Headers for which a new round has room at once: sparse graphs have about this many senders.
const ROOM: usize = 4;

/// What the header of an update says besides its sender and round, and the signature under it. The
/// header is rebuilt from these on request, which is rare.
#[derive(Clone, Debug)]
struct Seen {
    sequence: u64,
    state: Digest,
    payload: Digest,
    signature: [u8; SIGNATURE_BYTES],
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
    /// A second update for a round, under another sequence: no proof, but not both can be what the
    /// sender trained.
    Second,
    /// Contradicts one seen before: the proof.
    Contradiction(Box<Proof>, [Digest; 2]),
}

#[derive(Debug)]
pub(super) struct Witness {
    federation: Genesis,
    /// Rounds for which headers are kept, before and after this peer's round.
    kept: u64,
    /// By round and sender.
    seen: Sorted<u64, Sorted<PeerId, Seen>>,
}

impl Witness {
    /// A witness for a federation whose peers may be `ahead` rounds ahead of each other.
    pub(super) fn new(federation: Genesis, ahead: u64) -> Witness {
        Witness {
            federation,
            kept: ROUNDS_KEPT.max(ahead + 1),
            seen: Sorted::default(),
        }
    }

    /// The bytes of a header that was seen.
    fn spell(&self, round: u64, sender: &PeerId, seen: &Seen) -> Vec<u8> {
        let Seen {
            sequence,
            state,
            payload,
            ..
        } = *seen;
        let header = Header {
            version: PROTOCOL_VERSION,
            federation: self.federation,
            kind: Kind::Update,
            sender: *sender,
            round,
            sequence,
            state,
            payload,
        };
        let header_bytes = wire::encode(&header);
        Envelope {
            header,
            header_bytes,
            signature: seen.signature.to_vec(),
            payload: Vec::new(),
        }
        .header_to_bytes()
    }

    fn seen(&self, round: u64, sender: &PeerId) -> Option<&Seen> {
        self.seen.get(&round)?.get(sender)
    }

    /// Remembers the header of an update.
    pub(super) fn hear(&mut self, message: &Opened<'_>) -> Testimony {
        let header = message.header;
        let (round, sender, sequence, state) =
            (header.round, header.sender, header.sequence, header.state);
        let of_round = self.seen.entry(round, || Sorted::with_room(ROOM));
        let Some(seen) = of_round.get_mut(&sender) else {
            let (payload, signature) = (header.payload, *message.signature());
            of_round.insert(
                sender,
                Seen {
                    sequence,
                    state,
                    payload,
                    signature,
                    disputed: false,
                },
            );
            return Testimony::New;
        };
        if seen.state == state && seen.sequence == sequence {
            return Testimony::Known;
        }
        seen.disputed = true;
        if seen.sequence != sequence {
            return Testimony::Second;
        }
        let seen = seen.clone();
        let first = ByteBuf::from(self.spell(round, &sender, &seen));
        let proof = Proof(first, ByteBuf::from(message.header_alone().to_vec()));
        Testimony::Contradiction(Box::new(proof), [seen.state, state])
    }

    /// Whether a sender signed more than one update for a round. Then none of them counts, in
    /// whatever order they come.
    pub(super) fn is_disputed(&self, round: u64, sender: &PeerId) -> bool {
        self.seen(round, sender).is_some_and(|seen| seen.disputed)
    }

    /// Whether the header of a message that is not open yet was verified before, byte for byte: in
    /// a neighbourhood many peers show one header.
    pub(super) fn recognises(&self, packet: &Packet) -> bool {
        let Some((header, signature)) = Parts::claimed(packet) else {
            return false;
        };
        let front = packet.place_of(signature).end;
        let Some(seen) = self.seen(header.round, &header.sender) else {
            return false;
        };
        let alone = self.spell(header.round, &header.sender, seen);
        packet[..front] == alone[..alone.len() - 1]
    }

    /// Whether a message is nothing but a header that was seen before.
    pub(super) fn knows(&self, message: &Opened<'_>) -> bool {
        let header = message.header;
        let said = (
            header.sequence,
            header.state,
            header.payload,
            message.signature(),
        );
        let seen = || self.seen(header.round, &header.sender);
        message.is_header_only()
            && seen().is_some_and(|seen| {
                (seen.sequence, seen.state, seen.payload, &seen.signature) == said
            })
    }

    /// The newest header of a peer, to give back to it when it returns without its state.
    pub(super) fn newest(&self, peer: &PeerId) -> Option<Packet> {
        self.seen
            .keys()
            .rev()
            .find_map(|round| Some(self.spell(*round, peer, self.seen(*round, peer)?).into()))
    }

    /// Number of headers remembered.
    pub(super) fn len(&self) -> usize {
        self.seen.values().map(Sorted::len).sum()
    }

    /// Forgets rounds that are over.
    pub(super) fn forget(&mut self, round: u64) {
        let kept = self.kept;
        let over = |(seen, _): (&u64, &Sorted<_, _>)| seen.saturating_add(kept) < round;
        while self.seen.first().is_some_and(over) && !planted(Mutant::KeepSeen) {
            self.seen.pop_first();
        }
    }

    /// Whether a round is one whose headers are kept.
    pub(super) fn keeps(&self, own: u64, round: u64) -> bool {
        round.abs_diff(own) <= self.kept
    }
}

/// Whether two verified headers contradict each other.
pub(super) fn contradict(a: &Header, b: &Header) -> bool {
    let claim = |header: &Header| {
        (
            header.federation,
            header.kind,
            header.sender,
            header.round,
            header.sequence,
        )
    };
    claim(a) == claim(b) && a.kind == Kind::Update && a.state != b.state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Authenticator, Envelope, PROTOCOL_VERSION};

    #[test]
    fn a_header_is_recognised_alone_and_before_its_payload_and_nothing_else_is() {
        let liar = Authenticator::from_secret(&[1; 32]);
        let payload = vec![7; 300];
        let update = |state: &[u8], payload: &[u8]| {
            let hash = Digest::of(payload);
            let header = Header {
                version: PROTOCOL_VERSION,
                federation: Genesis::default(),
                kind: Kind::Update,
                sender: liar.peer(),
                round: 3,
                sequence: 3,
                state: Digest::of(state),
                payload: hash,
            };
            Envelope::seal(&liar, header, payload.to_vec())
        };
        let known = update(b"state", &payload);
        let mut witness = Witness::new(Genesis::default(), 2);
        let packet = Packet::from(known.to_bytes());
        assert!(!witness.recognises(&packet));
        let opened = packet.open(&liar, false).unwrap();
        witness.hear(&opened);
        let header = opened.header_alone();
        assert_eq!(header.to_vec(), known.header_to_bytes());
        assert!(header.open(&liar, false).unwrap().is_header_only() && !opened.is_header_only());
        let recognises =
            |witness: &Witness, bytes: &[u8]| witness.recognises(&Packet::from(bytes.to_vec()));
        assert!(recognises(&witness, &known.to_bytes()));
        assert!(recognises(&witness, &header));
        for place in 0..header.len() - 1 {
            let mut other = known.to_bytes();
            other[place] ^= 1;
            assert!(!recognises(&witness, &other), "byte {place}");
        }
        assert!(!recognises(
            &witness,
            &update(b"another", &payload).to_bytes()
        ));
        for length in 0..header.len() - 1 {
            assert!(!recognises(&witness, &known.to_bytes()[..length]));
        }
        witness.forget(3 + ROUNDS_KEPT + 1);
        assert!(!recognises(&witness, &known.to_bytes()));
        assert_eq!(witness.len(), 0);
    }

    #[test]
    fn what_was_recognised_is_still_refused_for_another_payload() {
        let sender = Authenticator::from_secret(&[1; 32]);
        let header = Header {
            version: PROTOCOL_VERSION,
            federation: Genesis::default(),
            kind: Kind::Update,
            sender: sender.peer(),
            round: 3,
            sequence: 3,
            state: Digest::of(b"state"),
            payload: Digest::of(b"payload"),
        };
        let envelope = Envelope::seal(&sender, header, b"payload".to_vec());
        let mut witness = Witness::new(Genesis::default(), 2);
        let packet = Packet::from(envelope.to_bytes());
        witness.hear(&packet.open(&sender, false).unwrap());
        let other = Packet::from(
            Envelope {
                payload: b"another".to_vec(),
                ..envelope
            }
            .to_bytes(),
        );
        assert!(witness.recognises(&other));
        assert!(matches!(
            other.open(&sender, true),
            Err(crate::refusal::Refusal::PayloadHash)
        ));
    }
}
