//! Connections and handshakes: what two peers tell each other once connected, so that neither
//! misses what the other sent before.

use std::collections::BTreeSet;
use std::time::Duration;

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId};
use strum::IntoEnumIterator;

use super::overlay::Dismissed;
use super::{Peer, Phase};
use crate::address::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, AddressRecord, Scope};
use crate::effect::{Effect, Timer};
use crate::envelope::Kind;
use crate::event::Event;
use crate::message::Hello;
use crate::packet::{Opened, Packet};
use crate::refusal::Refusal;
use crate::wire;

/// How often neighbours that are not connected are dialled again (guess: fast enough for a person
/// restarting a peer).
pub(super) const REDIAL: Duration = Duration::from_secs(2);

/// Most addresses at which others have reached this peer that it tells further peers, besides those
/// where it listens (guess).
const REACHED_MAX: usize = 3;

/// An address without the peer's id, with which this peer's own end; others name the place alone.
fn place(address: &str) -> &str {
    address.split("/p2p/").next().unwrap_or_default()
}

impl Peer {
    // --- connections ---

    pub(super) fn peer_up(
        &mut self,
        peer: PeerId,
        addresses: Vec<String>,
        scope: Scope,
        out: &mut Vec<Effect>,
    ) {
        let is_further = self.overlay.connected(peer, scope);
        self.overlay.learn_addresses(peer, addresses);
        // Sent first, so that it arrives before the handshake that lets the peer begin. Sent once
        // more after the handshake, in case it is lost.
        self.give_back(peer, out);
        self.greet(peer, out);
        if is_further && self.overlay.is_ready(&peer) {
            // A further connection, or the last of several: messages on another one may be lost.
            self.send_all_again(peer, 0, out);
        }
        self.advance(peer, out); // a body that could not be had may be there now
    }

    pub(super) fn peer_down(&mut self, peer: PeerId, out: &mut Vec<Effect>) {
        if self.overlay.disconnected(&peer) {
            out.push(Effect::Emit(Event::Disconnected { peer }));
        }
        self.close_if_complete(out); // one in its place may be here
        self.give_up_on(&peer, out);
        self.leave_when_done(out);
    }

    /// Dials neighbours that are not connected, and greets those that are and have not answered.
    pub(super) fn redial(&mut self, out: &mut Vec<Effect>) {
        self.dial(self.last_or_current_round(), out);
        self.dial_for_later(out);
        for peer in self.overlay.speechless(self.now) {
            self.greet(peer, out);
        }
        if !planted(Mutant::NoRedial) {
            out.push(Effect::SetTimer {
                timer: Timer::Redial,
                after: REDIAL,
            });
        }
    }

    /// A peer that is connected with nobody dials the neighbours of the next round that has some: it
    /// may be in a round in which it exchanges with nobody.
    fn dial_for_later(&self, out: &mut Vec<Effect>) {
        /// Rounds that are looked through (guess: no topology leaves a peer alone for longer).
        const ROUNDS: u64 = 64;
        let round = self.last_or_current_round();
        if !self.charter.topology.changes() || !self.overlay.everyone_ready().is_empty() {
            return;
        }
        let rounds = (0..self.charter.rounds).cycle();
        let mut later = rounds.skip(round as usize + 1).take(ROUNDS as usize);
        if let Some(later) = later.find(|round| !self.overlay.neighbourhood(*round).is_empty()) {
            self.dial(later, out);
        }
    }

    /// If the graph changes, the neighbours of this round and the next are dialled before they are
    /// needed.
    pub(super) fn reach(&mut self, out: &mut Vec<Effect>) {
        let next = (self.round + 1).min(self.last_round());
        for round in [self.round, next] {
            self.dial(round, out);
        }
    }

    fn dial(&self, round: u64, out: &mut Vec<Effect>) {
        for (peer, addresses) in self.overlay.unreached(round, self.now) {
            out.push(Effect::Connect { peer, addresses });
        }
    }

    /// Sends a peer the kept updates since `oldest`, and a goodbye if this peer has finished.
    fn send_all_again(&mut self, peer: PeerId, oldest: u64, out: &mut Vec<Effect>) {
        for round in self.exchange.outgoing_rounds() {
            if round >= oldest {
                self.send_outgoing(peer, round, out);
            }
        }
        if self.has_none_of(self.round) {
            self.send_outgoing(peer, self.round, out);
        }
        if self.phase == Phase::Lingering {
            let bytes = self.farewell(true);
            out.push(Effect::Send { to: peer, bytes });
        }
    }

    /// Gives a peer its own newest header, in case it comes back without its state and would
    /// contradict itself.
    fn give_back(&self, peer: PeerId, out: &mut Vec<Effect>) {
        let newest = self.witness.newest(&peer);
        for bytes in newest.into_iter().filter(|_| !planted(Mutant::KeepHeaders)) {
            out.push(Effect::Send { to: peer, bytes });
        }
    }

    /// Sends a peer away.
    pub(super) fn dismiss(&mut self, peer: PeerId, reason: Refusal, out: &mut Vec<Effect>) {
        let why = match reason {
            Refusal::TooMany { .. } => Dismissed::Misbehaves,
            _ => Dismissed::DoesNotFit,
        };
        self.overlay.dismiss(peer, why, self.now);
        out.push(Effect::Emit(Event::Dismissed {
            peer,
            reason: reason.clone(),
        }));
        out.push(Effect::Disconnect { peer, reason });
        // No round waits for it until it has been on time again, and no start.
        self.close_if_complete(out);
        self.gather(false, out);
    }

    // --- handshakes ---

    /// Sends the handshake with all known address records.
    fn greet(&mut self, peer: PeerId, out: &mut Vec<Effect>) {
        let records = self
            .overlay
            .address_book(&peer, self.last_or_current_round());
        let mut reached = self.overlay.own_addresses_of(&peer);
        reached.retain(|text| text.len() <= ADDRESS_BYTES_MAX);
        let bytes = self.handshake(records, reached, self.overlay.is_ready(&peer));
        out.push(Effect::Send { to: peer, bytes });
    }

    fn handshake(
        &mut self,
        records: Vec<AddressRecord>,
        reached: Vec<String>,
        answered: bool,
    ) -> Packet {
        let hello = Hello {
            height: self.charter.height,
            head: self.charter.id,
            sections: self.charter.sections.clone(),
            layout: self.layout,
            answered,
            roster: self.overlay.roster_digest(),
            reached,
            records,
        };
        // Many peers get the same handshake at the same time.
        let payload = wire::encode(&hello);
        let header = self.header(Kind::Hello, Digest::default(), &payload);
        if let Some((_, packet)) = self.greeting.as_ref().filter(|(said, _)| *said == header) {
            return packet.clone();
        }
        let packet = Packet::seal(&self.authenticator, header.clone(), payload);
        self.greeting = Some((header, packet.clone()));
        packet
    }

    pub(super) fn hello(
        &mut self,
        sender: PeerId,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let hello = Hello::decode(envelope.payload())?;
        if let Err(reason) = self.admit_hello(&hello) {
            self.dismiss(sender, reason.clone(), out);
            return Err(reason);
        }
        let round = envelope.header.round;
        let completed = self.overlay.enlist(sender);
        self.learn_where(sender, hello.reached, hello.records, out)?;
        let fresh = self.overlay.admit(sender);
        let incarnation = envelope.header.incarnation;
        self.overlay.lives(sender, incarnation);
        if fresh {
            out.push(Effect::Emit(Event::Connected { peer: sender }));
            self.show_evidence(sender, out);
        }
        self.overlay.claim(envelope.header, self.now);
        if completed {
            self.roster_formed(out);
        }
        self.dial(self.last_or_current_round(), out);
        if !fresh && (hello.answered || planted(Mutant::IgnoreUnanswered)) {
            return Ok(()); // it only brought addresses
        }
        if !fresh {
            // It has not heard this peer's handshake: that was lost, or the other peer restarted
            // while a connection still seems open.
            self.greet(sender, out);
        }
        self.give_back(sender, out);
        self.send_all_again(sender, round, out);
        self.gather(false, out);
        self.charge_when_answered(out);
        Ok(())
    }

    /// Whether two peers of one federation have what they need to work together.
    fn admit_hello(&self, hello: &Hello) -> Result<(), Refusal> {
        if (hello.height, hello.head) != (self.charter.height, self.charter.id) {
            return Err(Refusal::OtherCharter {
                theirs: hello.height,
                ours: self.charter.height,
                sections: self.charter.differing_sections(&hello.sections),
            });
        }
        if hello.layout != self.layout {
            return Err(Refusal::Layout {
                theirs: hello.layout,
                ours: self.layout,
            });
        }
        let both_formed = hello.roster != Digest::default() && self.overlay.is_formed();
        match both_formed && hello.roster != self.overlay.roster_digest() {
            true => Err(Refusal::Roster),
            false => Ok(()),
        }
    }

    // --- addresses ---

    /// A process with another key answered at an address of `peer`.
    pub(super) fn is_not_at(&mut self, peer: PeerId, address: String) {
        self.overlay.refute(peer, address, self.now);
    }

    /// This peer listens at an address: from now on it says so.
    pub(super) fn listens_at(&mut self, address: String) {
        if self.overlay.learn_addresses(self.id, vec![address]) {
            self.sign_addresses();
        }
    }

    /// Signs where this peer can be dialled: where it listens, then where others have reached it.
    fn sign_addresses(&mut self) {
        let listens = self.overlay.own_addresses_of(&self.id);
        let reached = self.overlay.reached_at();
        for scope in Scope::iter() {
            let is_of_scope = |text: &&String| Scope::of(text) == scope;
            let listens: Vec<&String> = listens.iter().filter(is_of_scope).collect();
            let is_elsewhere =
                |text: &&String| !listens.iter().any(|own| place(own) == place(text));
            let elsewhere = reached.iter().filter(is_of_scope).filter(is_elsewhere);
            let listens = listens.iter().copied().take(ADDRESSES_MAX - REACHED_MAX);
            let addresses = listens.chain(elsewhere.take(REACHED_MAX)).cloned();
            let addresses = addresses.filter(|text| text.len() <= ADDRESS_BYTES_MAX);
            self.sign_addresses_of(scope, addresses.collect());
        }
    }

    fn sign_addresses_of(&mut self, scope: Scope, addresses: Vec<String>) {
        let before = self.overlay.record_of(&self.id, scope);
        let said = before.as_ref().map_or(&[][..], |before| &before.addresses);
        if said == addresses {
            return;
        }
        let version = before.map_or(0, |before| before.version + 1);
        let (federation, incarnation) = (self.charter.genesis, self.incarnation);
        let (signer, version) = (&self.authenticator, (scope, version));
        let record = AddressRecord::sign(signer, federation, incarnation, version, addresses);
        self.overlay.learn_record(record, self.now);
    }

    /// What `sender` says about addresses: where it has reached this peer, and records of others.
    ///
    /// # Errors
    /// A record was not signed by the peer that it names.
    fn learn_where(
        &mut self,
        sender: PeerId,
        reached: Vec<String>,
        records: Vec<AddressRecord>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if !reached.is_empty() {
            // Each change costs dials: as many are followed as are passed on.
            let is_news = self.overlay.was_reached(sender, reached.clone(), self.now);
            if is_news {
                self.look_for_double(reached, out);
                self.sign_addresses();
            }
        }
        for record in records {
            let (peer, scope) = (record.peer, record.scope);
            if peer == self.id || !self.overlay.is_news(&record) {
                continue;
            }
            record.check(&self.authenticator, self.charter.genesis)?;
            if self.overlay.learn_record(record, self.now) {
                self.introduce(peer, scope, sender, out);
            }
        }
        Ok(())
    }

    /// Tells a member's addresses of a scope to those of its neighbours that are connected here from
    /// within it: two peers that know only this one must find each other, whichever came first.
    fn introduce(&mut self, peer: PeerId, scope: Scope, told_by: PeerId, out: &mut Vec<Effect>) {
        let Some(record) = self.overlay.record_of(&peer, scope) else {
            return;
        };
        let bytes = self.handshake(vec![(*record).clone()], Vec::new(), true);
        for to in self
            .overlay
            .neighbourhood_of(&peer, self.last_or_current_round())
        {
            // Also one whose handshake is still to come: what this peer knew was sent when it
            // connected.
            let is_told = self.overlay.is_up(&to) && self.overlay.is_within(&to, scope);
            if to != told_by && to != self.id && is_told {
                out.push(Effect::Send {
                    to,
                    bytes: bytes.clone(),
                });
            }
        }
    }

    /// Others have seen this peer's key at these addresses. Another process may have the same key
    /// at an address that is not this peer's: dialling it shows that.
    fn look_for_double(&mut self, mut addresses: Vec<String>, out: &mut Vec<Effect>) {
        let known = self.overlay.addresses_of(&self.id);
        let known: BTreeSet<&str> = known.iter().map(|text| place(text)).collect();
        addresses.retain(|address| !known.contains(place(address)));
        let peer = self.id;
        if !addresses.is_empty() {
            out.push(Effect::Connect { peer, addresses });
        }
    }

    /// Tells everyone which roster this peer arrived at: two different ones must not go unnoticed.
    fn roster_formed(&mut self, out: &mut Vec<Effect>) {
        let peers = self.overlay.roster().len();
        out.push(Effect::Emit(Event::RosterFormed { peers }));
        let bytes = self.handshake(Vec::new(), Vec::new(), true);
        for to in self.overlay.everyone_ready() {
            out.push(Effect::Send {
                to,
                bytes: bytes.clone(),
            });
        }
        self.gather(false, out);
    }
}
