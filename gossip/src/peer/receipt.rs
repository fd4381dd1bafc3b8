//! What becomes of a message on receipt.
//!
//! It is opened (size, encoding, signature), admitted (federation, roster, which peers may hand it
//! over), and handed to the part of the peer that it concerns. A failure is an event with a reason,
//! never a panic. Malformed messages count against the peer that handed them over.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId};

use super::Peer;
use super::overlay::Overlay;
use super::progress::BEHIND_MIN;
use crate::effect::Effect;
use crate::envelope::{Header, Kind};
use crate::event::Event;
use crate::message::Hello;
use crate::packet::{Opened, Packet};
use crate::refusal::Refusal;

impl Peer {
    pub(super) fn received(&mut self, from: PeerId, packet: &Packet, out: &mut Vec<Effect>) {
        // The neighbours of a sender show its header to each other: it is verified once, not once
        // for each.
        let verified = !packet.is_open() && self.witness.recognises(packet);
        let envelope = match packet.open(&self.authenticator, verified) {
            Ok(envelope) if self.witness.knows(&envelope) => return,
            Ok(envelope) => envelope,
            Err(reason) => {
                self.refuse(from, None, None, reason, out);
                return self.strike(from, out);
            }
        };
        if !self.lets_in(from, &envelope, out) {
            return;
        }
        let header = envelope.header;
        let (kind, round, sender) = (header.kind, header.round, header.sender);
        let outcome = match kind {
            Kind::Hello => self.hello(sender, &envelope, out),
            Kind::Update => self.update(from, &envelope, out),
            Kind::Want => self.want(sender, &envelope, out),
            Kind::Proof => self.proof(&envelope, out),
            Kind::Goodbye => self.goodbye(from, &envelope, out),
            Kind::Skip => self.skipped(&envelope, out),
        };
        self.asked_lately |= sender != self.id && kind != Kind::Goodbye;
        if let Err(reason) = outcome {
            self.turn_down(from, header, reason, out);
        } else {
            self.expects(from, header, out);
        }
        if sender != self.id && self.overlay.is_ready(&sender) {
            self.overlay.claim(header, self.now);
            if round >= self.round.saturating_add(BEHIND_MIN) {
                self.jump_if_behind(out);
            }
        }
    }

    /// What came in may show that its sender waits for this peer's start. A header that others show of
    /// a peer that was not met may be a recording.
    fn expects(&mut self, from: PeerId, header: &Header, out: &mut Vec<Effect>) {
        let has_begun = matches!(header.kind, Kind::Update | Kind::Want);
        if has_begun && (header.sender == from || self.overlay.is_ready(&header.sender)) {
            self.begin_in_time(header.sender, header.round, out);
        }
    }

    /// A message that came in is refused for what it says.
    fn turn_down(&mut self, from: PeerId, header: &Header, reason: Refusal, out: &mut Vec<Effect>) {
        let (kind, round, sender) = (header.kind, header.round, header.sender);
        let malformed = matches!(
            reason,
            Refusal::Junk { .. } | Refusal::TooMany { .. } | Refusal::AddressRecord { .. }
        );
        self.repeats(from, sender, &reason, out);
        self.refuse(sender, Some(kind), Some(round), reason, out);
        if malformed {
            // The signer is to blame, never a peer that has passed its message on.
            let forwarder = planted(Mutant::BlameForwarder);
            self.strike(if forwarder { from } else { sender }, out);
        }
        if kind == Kind::Update && sender == from {
            self.give_up_on(&sender, out);
        }
    }

    /// Whether a verified message comes in, and is not one too many. If not, it is refused.
    fn lets_in(&mut self, from: PeerId, envelope: &Opened<'_>, out: &mut Vec<Effect>) -> bool {
        let header = envelope.header;
        let (kind, round, sender) = (header.kind, header.round, header.sender);
        if let Err(reason) = self.admit(from, envelope, out) {
            // A peer that passes on what another signed has done nothing wrong.
            let theirs = matches!(reason, Refusal::Equivocator | Refusal::FutureRound { .. });
            let blamed = if theirs { sender } else { from };
            self.repeats(from, sender, &reason, out);
            self.refuse(blamed, Some(kind), Some(round), reason, out);
            return false;
        }
        // What a peer signed counts as its own, whoever brings it. But only what it brings itself is
        // held against it: others can repeat it without end.
        if let Err(reason) = self.overlay.spend(sender, kind, self.now) {
            self.refuse(sender, Some(kind), Some(round), reason, out);
            if from == sender {
                self.strike(sender, out);
            }
            return false;
        }
        true
    }

    /// A peer hands over what another has signed, and it is refused for this reason: no honest peer
    /// hands over more than a header, and few that are old.
    fn repeats(&mut self, from: PeerId, sender: PeerId, why: &Refusal, out: &mut Vec<Effect>) {
        let too_many = match why {
            _ if from == sender || planted(Mutant::AllowFloods) => false,
            Refusal::NotTheSigner => true,
            Refusal::Replayed => !self.overlay.may_repeat(from, self.now),
            Refusal::StaleRound { .. } => !self.overlay.may_show_late(from, self.now),
            _ => false,
        };
        if too_many {
            self.strike(from, out);
        }
    }

    /// Whether a verified message may come in at all: federation, roster, and which peers may hand
    /// over whose messages.
    fn admit(
        &mut self,
        from: PeerId,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let header = envelope.header;
        let relayed = header.sender != from;
        if header.federation != self.charter.genesis {
            let theirs = match header.kind {
                // Its handshake may be of a form that this program does not know.
                Kind::Hello => Hello::decode(envelope.payload())
                    .map(|hello| hello.sections)
                    .unwrap_or_default(),
                _ => BTreeMap::new(),
            };
            let sections = self.charter.differing_sections(&theirs);
            let reason = Refusal::WrongFederation { sections };
            self.dismiss(from, reason.clone(), out);
            return Err(reason);
        }
        let joins = header.kind == Kind::Hello && !relayed && !self.overlay.is_formed();
        if !self.overlay.on_roster(&header.sender) && !joins {
            // While the roster forms, a member's update may overtake its handshake.
            if !relayed && self.overlay.is_formed() {
                self.dismiss(from, Refusal::UnknownSender, out);
            }
            return Err(Refusal::UnknownSender);
        }
        self.admit_time(header, from)?;
        if self.overlay.is_expelled(&header.sender) && header.kind == Kind::Update {
            return Err(Refusal::Equivocator);
        }
        // Headers, proofs and goodbyes travel through others; a handshake, a body or a request does
        // not.
        let may_travel =
            envelope.is_header_only() || matches!(header.kind, Kind::Proof | Kind::Goodbye);
        if relayed && !may_travel {
            Err(Refusal::NotTheSigner)
        } else {
            Ok(())
        }
    }

    /// Whether a message is of this run: of a round that there is, and of the life that its sender
    /// is in.
    fn admit_time(&self, header: &Header, from: PeerId) -> Result<(), Refusal> {
        if header.round > self.charter.rounds {
            let (theirs, ours) = (header.round, self.round);
            return Err(Refusal::FutureRound { theirs, ours });
        }
        // What a peer signed before its last start is a recording, even if it comes from the peer
        // itself, which passes gossip on as everybody does. Only a handshake shows a life.
        let shows_life = header.sender == from && header.kind == Kind::Hello;
        let is_old = !shows_life
            && self
                .overlay
                .is_of_earlier_life(&header.sender, header.incarnation);
        match is_old && header.kind != Kind::Proof && !planted(Mutant::BelieveRecordings) {
            true => Err(Refusal::Replayed),
            false => Ok(()),
        }
    }

    /// Counts a malformed message, or one too many, against a connected peer.
    fn strike(&mut self, peer: PeerId, out: &mut Vec<Effect>) {
        if self.overlay.strike(&peer) {
            let (what, limit) = ("messages that are refused".into(), Overlay::strikes_max());
            self.dismiss(peer, Refusal::TooMany { what, limit }, out);
        }
    }

    pub(super) fn refuse(
        &mut self,
        peer: PeerId,
        kind: Option<Kind>,
        round: Option<u64>,
        reason: Refusal,
        out: &mut Vec<Effect>,
    ) {
        out.push(Effect::Emit(Event::Refused {
            peer,
            kind,
            round,
            reason,
        }));
    }

    // --- bodies ---

    pub(super) fn fetched(&mut self, digest: Digest, bytes: &Arc<Vec<u8>>, out: &mut Vec<Effect>) {
        for sender in self.exchange.fetched(digest, bytes) {
            self.advance(sender, out);
        }
    }

    pub(super) fn fetch_failed(
        &mut self,
        digest: Digest,
        sources: &[PeerId],
        why: &str,
        out: &mut Vec<Effect>,
    ) {
        let (lost, mut again) = self.exchange.fetch_failed(digest, sources);
        for (peer, round) in lost {
            let reason = Refusal::Unavailable {
                why: why.to_owned(),
            };
            self.refuse(peer, Some(Kind::Update), Some(round), reason, out);
            self.give_up_on(&peer, out);
        }
        // A disconnected source is asked again when it comes back.
        again.retain(|peer| self.overlay.is_up(peer));
        for peer in again {
            self.advance(peer, out);
        }
        self.close_if_complete(out);
    }

    pub(super) fn provide(
        &mut self,
        to: PeerId,
        digest: Digest,
        request: u64,
        out: &mut Vec<Effect>,
    ) {
        self.asked_lately = true;
        let body = self.body_for(&to, digest);
        out.push(Effect::Provide { request, body });
    }

    /// A body, if it belongs to an update that is for the peer that asks, and was not served to it
    /// too often.
    fn body_for(&mut self, to: &PeerId, digest: Digest) -> Option<Arc<Vec<u8>>> {
        if !self.overlay.may_pull(*to, self.sequence) {
            return None;
        }
        let rounds = self.exchange.rounds_of_body(digest);
        let scene = self.scene();
        let is_for = rounds
            .iter()
            .any(|round| self.mode.may_pull(&scene, to, *round));
        match is_for || planted(Mutant::ServeAnybody) && self.overlay.on_roster(to) {
            true => self.exchange.body(digest),
            false => None,
        }
    }
}
