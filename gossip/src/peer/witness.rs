//! Noticing that somebody signed two different updates for one round.
//!
//! Every header that arrives, from its sender or passed on by a neighbour, is remembered for a few
//! rounds. Two headers of one life of the sender (its incarnation) and one round with another state
//! or another payload prove equivocation, whatever their sequence. Headers of two lives prove
//! nothing: a peer that has lost its disk may train a round again. Then the newer life counts.
//!
//! What a header states of its sender's privacy ledger is no claim about the update: two headers
//! that differ in it alone prove nothing. Of each sender the header with the largest such total is kept
//! to the end of the run, whatever its round, for a sender that comes back after many rounds; it is
//! part of this peer's checkpoints, so that both may have been restarted in between.

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::privacy::ledger::Total;
use kith_consensus::{Digest, Genesis, PeerId, Sorted};
use serde_bytes::ByteBuf;

use crate::envelope::{Envelope, Header, Kind, PROTOCOL_VERSION, Parts, SIGNATURE_BYTES};
use crate::message::Proof;
use crate::packet::{Opened, Packet};
use crate::wire;

/// Headers are kept for at least this many rounds before and after this peer's round (guess).
const ROUNDS_KEPT: u64 = 3;

/// What the header of an update says besides its sender and round, and the signature under it. The
/// header is rebuilt from these on request, which is rare.
#[derive(Clone, Debug)]
struct Seen {
    incarnation: u64,
    sequence: u64,
    state: Digest,
    payload: Digest,
    spent: Option<Total>,
    signature: [u8; SIGNATURE_BYTES],
    /// Whether the whole message came, not only its header.
    is_whole: bool,
    /// Whether another header of the same sender and round came that says something else.
    disputed: bool,
}

impl Seen {
    fn of(message: &Opened<'_>) -> Seen {
        let header = message.header;
        Seen {
            incarnation: header.incarnation,
            sequence: header.sequence,
            state: header.state,
            payload: header.payload,
            spent: header.spent,
            signature: *message.signature(),
            is_whole: !message.is_header_only(),
            disputed: false,
        }
    }

    /// The same was said again, perhaps in a later life, perhaps for the first time as a whole.
    fn repeated(&mut self, fresh: Seen) -> Testimony {
        let is_new = fresh.is_whole && !self.is_whole && !planted(Mutant::PassOnFirstOnly);
        let (is_whole, disputed) = (self.is_whole | fresh.is_whole, self.disputed);
        self.is_whole = is_whole;
        if fresh.incarnation > self.incarnation {
            *self = Seen {
                is_whole,
                disputed,
                ..fresh
            };
        }
        if is_new {
            Testimony::New
        } else {
            Testimony::Known
        }
    }
}

/// What a header means next to the ones already seen.
#[derive(Debug)]
pub(super) enum Testimony {
    /// The first whole message of its sender and round.
    New,
    /// Nothing that was not known, or a header alone.
    Known,
    /// It says something else than one of an earlier life, which counts no longer; whether it is
    /// the first that does.
    Second(bool),
    /// It says something else than this one of a later life, which is the one that counts.
    Older(Packet),
    /// It is older than every header that is still kept of its sender.
    Forgotten(u64),
    /// Contradicts one seen before: the proof.
    Contradiction(Box<Proof>, [Digest; 2]),
}

#[derive(Debug)]
pub(super) struct Witness {
    federation: Genesis,
    /// Rounds for which headers are kept, before and after this peer's round.
    kept: u64,
    /// Whether peers keep step. If not, the newest headers of each sender are kept, whatever this
    /// peer's round is.
    in_step: bool,
    /// By sender and round; each sender has at most [`Witness::most`].
    seen: Sorted<PeerId, Sorted<u64, Seen>>,
    /// By sender, round and header of the whole message that states the largest total.
    spent: Sorted<PeerId, (u64, Seen)>,
}

impl Witness {
    /// A witness for a federation whose peers may be `ahead` rounds ahead of each other, if they
    /// keep step.
    pub(super) fn new(federation: Genesis, ahead: u64, in_step: bool) -> Witness {
        Witness {
            federation,
            kept: ROUNDS_KEPT.max(ahead + 1),
            in_step,
            seen: Sorted::default(),
            spent: Sorted::default(),
        }
    }

    /// Headers kept of one sender.
    fn most(&self) -> usize {
        2 * self.kept as usize + 1
    }

    /// The bytes of a header that was seen.
    fn spell(&self, round: u64, sender: &PeerId, seen: &Seen) -> Vec<u8> {
        let Seen {
            incarnation,
            sequence,
            state,
            payload,
            spent,
            ..
        } = *seen;
        let header = Header {
            version: PROTOCOL_VERSION,
            federation: self.federation,
            kind: Kind::Update,
            sender: *sender,
            incarnation,
            round,
            sequence,
            state,
            payload,
            spent,
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
        self.seen.get(sender)?.get(&round)
    }

    /// Remembers what the header of an update states of its sender's ledger, if that is more than
    /// was known. The sender has signed it, so a recording states less and not more.
    pub(super) fn note_spent(&mut self, message: &Opened<'_>) {
        let (header, fresh) = (message.header, Seen::of(message));
        let known = self.spent.get(&header.sender);
        let is_more = known.is_none_or(|(_, known)| known.spent < fresh.spent);
        if fresh.is_whole && fresh.spent.is_some() && is_more {
            self.spent.insert(header.sender, (header.round, fresh));
        }
    }

    /// The headers with each sender's largest total, for this peer's checkpoint.
    pub(super) fn stated(&self) -> Vec<Packet> {
        let senders = self.spent.iter();
        let headers = senders.map(|(sender, (round, seen))| self.spell(*round, sender, seen));
        headers.map(Packet::from).collect()
    }

    /// Takes back a header of [`Witness::stated`]: its message had come whole.
    pub(super) fn resume(&mut self, message: &Opened<'_>) {
        let header = message.header;
        let fresh = Seen {
            is_whole: true,
            ..Seen::of(message)
        };
        if header.federation == self.federation && header.spent.is_some() {
            self.spent.insert(header.sender, (header.round, fresh));
        }
    }

    /// Remembers the header of an update.
    pub(super) fn hear(&mut self, message: &Opened<'_>) -> Testimony {
        let header = message.header;
        let (round, sender) = (header.round, header.sender);
        let is_whole = !message.is_header_only();
        let most = self.most();
        let of_sender = self.seen.entry(sender, Sorted::default);
        let fresh = Seen::of(message);
        let Some(seen) = of_sender.get_mut(&round) else {
            if of_sender.len() >= most {
                // What is left of earlier lives makes room first: it may be a recording.
                let life = fresh.incarnation;
                of_sender.retain(|_, seen| seen.incarnation >= life);
            }
            let oldest = of_sender.keys().next().copied().unwrap_or(0);
            if of_sender.len() >= most && round < oldest {
                return Testimony::Forgotten(oldest);
            }
            of_sender.insert(round, fresh);
            while of_sender.len() > most && !planted(Mutant::KeepSeen) {
                of_sender.pop_first();
            }
            return if is_whole {
                Testimony::New
            } else {
                Testimony::Known
            };
        };
        if (seen.state, seen.payload) == (fresh.state, fresh.payload) {
            return seen.repeated(fresh);
        }
        if fresh.incarnation > seen.incarnation {
            let (was_whole, is_first) = (seen.is_whole, !seen.disputed);
            let disputed = was_whole || seen.disputed;
            *seen = Seen { disputed, ..fresh };
            return match (was_whole, is_whole) {
                (true, _) => Testimony::Second(is_first),
                // Of the earlier life came a header alone, which may be a recording.
                (false, true) => Testimony::New,
                (false, false) => Testimony::Known,
            };
        }
        let forgiven = planted(Mutant::ForgiveOtherSequence) && fresh.sequence != seen.sequence
            || planted(Mutant::CompareStateOnly) && fresh.state == seen.state;
        if forgiven {
            return Testimony::Known;
        }
        seen.disputed |= fresh.incarnation == seen.incarnation;
        let held = seen.clone();
        let spelled = self.spell(round, &sender, &held);
        if fresh.incarnation < held.incarnation {
            return Testimony::Older(spelled.into());
        }
        let (first, second) = (spelled, message.header_alone().to_vec());
        let proof = Proof(ByteBuf::from(first), ByteBuf::from(second));
        Testimony::Contradiction(Box::new(proof), [held.state, header.state])
    }

    /// Whether a sender signed more than one update for a round. Then none of them counts, in
    /// whatever order they come.
    pub(super) fn is_disputed(&self, round: u64, sender: &PeerId) -> bool {
        self.seen(round, sender).is_some_and(|seen| seen.disputed)
    }

    /// Whether the header of a message that is not open yet was verified before, byte for byte: in
    /// a neighbourhood many peers show one header.
    pub(super) fn recognises(&self, packet: &Packet) -> bool {
        let Some((header, signature, _)) = Parts::claimed(packet) else {
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
            header.incarnation,
            header.sequence,
            header.state,
            header.payload,
            header.spent,
            message.signature(),
        );
        let is_same = |seen: &Seen| {
            (
                seen.incarnation,
                seen.sequence,
                seen.state,
                seen.payload,
                seen.spent,
                &seen.signature,
            ) == said
        };
        message.is_header_only()
            && header.kind == Kind::Update
            && self.seen(header.round, &header.sender).is_some_and(is_same)
    }

    /// The newest header of a peer, to give back to it when it returns without its state, and the one
    /// that states the largest total, if that is another. Only of messages that came whole, from the
    /// peer itself: a header alone may be a recording.
    pub(super) fn newest(&self, peer: &PeerId) -> Vec<Packet> {
        let mut headers = self.seen.get(peer).into_iter().flat_map(Sorted::iter);
        let newest = headers.rfind(|(_, seen)| seen.is_whole);
        let spent = self.spent.get(peer).map(|(round, seen)| (round, seen));
        let is_other = |(_, seen): &(&u64, &Seen)| {
            newest.is_none_or(|(_, newest)| newest.signature != seen.signature)
        };
        let both = newest.into_iter().chain(spent.filter(is_other));
        both.map(|(round, seen)| self.spell(*round, peer, seen).into())
            .collect()
    }

    /// Number of headers remembered.
    pub(super) fn len(&self) -> usize {
        self.seen.values().map(Sorted::len).sum()
    }

    /// Forgets rounds that are over, if peers keep step.
    pub(super) fn forget(&mut self, round: u64) {
        if !self.in_step || planted(Mutant::KeepSeen) {
            return;
        }
        let kept = self.kept;
        let over = |(seen, _): (&u64, &Seen)| seen.saturating_add(kept) < round;
        for of_sender in self.seen.values_mut() {
            while of_sender.first().is_some_and(over) {
                of_sender.pop_first();
            }
        }
        self.seen.retain(|_, of_sender| !of_sender.is_empty());
    }

    /// Whether a round is one whose headers are kept.
    pub(super) fn keeps(&self, own: u64, round: u64) -> bool {
        let anywhere = !self.in_step && !planted(Mutant::ForgetFarRounds);
        anywhere || round.abs_diff(own) <= self.kept
    }
}

/// Whether two verified headers contradict each other.
pub(super) fn contradict(a: &Header, b: &Header) -> bool {
    let claim = |header: &Header| {
        (
            header.federation,
            header.kind,
            header.sender,
            header.incarnation,
            header.round,
        )
    };
    let said = |header: &Header| (header.state, header.payload);
    claim(a) == claim(b) && a.kind == Kind::Update && said(a) != said(b)
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
                incarnation: 1,
                round: 3,
                sequence: 3,
                state: Digest::of(state),
                payload: hash,
                spent: None,
            };
            Envelope::seal(&liar, header, payload.to_vec())
        };
        let known = update(b"state", &payload);
        let mut witness = Witness::new(Genesis::default(), 2, true);
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
            incarnation: 1,
            round: 3,
            sequence: 3,
            state: Digest::of(b"state"),
            payload: Digest::of(b"payload"),
            spent: None,
        };
        let envelope = Envelope::seal(&sender, header, b"payload".to_vec());
        let mut witness = Witness::new(Genesis::default(), 2, true);
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
