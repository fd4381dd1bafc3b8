//! Others' updates: from an announcement to a place in the round's window.
//!
//! An announcement is checked and queued by its round. It is worked on when its round has come and
//! its body is here, and its vector goes into the window if it counts. `exchange` reconstructs
//! vectors; the mode decides which updates are for this peer.

use kith_consensus::PeerId;
use kith_consensus::mutant::{Mutant, planted};

use super::exchange::{Applied, Progress};
use super::mode::{Pace, Reply};
use super::window::Arrived;
use super::{Peer, Phase};
use crate::effect::Effect;
use crate::envelope::{Header, Kind};
use crate::event::Event;
use crate::message::Want;
use crate::packet::{Opened, Packet};
use crate::refusal::Refusal;
use crate::wire;

impl Peer {
    pub(super) fn update(
        &mut self,
        from: PeerId,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (sender, round) = (envelope.header.sender, envelope.header.round);
        if sender == self.id {
            self.learn_of_itself(from, envelope.header, out);
            return Ok(());
        }
        self.hear(from, envelope, out)?;
        self.mode.has_published(sender);
        if envelope.is_header_only() {
            self.overlay.claim(envelope.header, self.now);
            return Ok(());
        }
        debug_assert_eq!(
            sender, from,
            "no body is admitted from another peer than its sender"
        );
        let reply = self.ask_mode(|mode, scene| mode.meet(scene, &sender, round));
        self.reply(sender, round, reply?, out);
        self.admit_update(sender, round)?;
        let checked = envelope.announcement().and_then(|announcement| {
            let asked = self.charter.round.selection.needs_losses();
            let (dimension, most) = (self.exchange.dimension(), self.exchange.body_bytes_max());
            announcement.check(dimension, most, asked)?;
            Ok(announcement)
        });
        if checked.is_err() && round >= self.round {
            self.silent_in(sender, round, out); // it has spoken; there is nothing to wait for
        }
        if !self.exchange.announce(envelope, &checked?, self.round) {
            if self.mode.asks_a_partner() {
                self.give_up_on(&sender, out); // it has nothing newer, and says so
                return Ok(());
            }
            return Err(Refusal::Duplicate);
        }
        self.ask_mode(|mode, scene| mode.announced(scene, &sender, round));
        self.advance(sender, out);
        Ok(())
    }

    /// A neighbour shows what this peer has signed. If this peer's store does not know it, this peer
    /// says nothing else of that round. What it signed in an earlier life may be of an earlier run,
    /// in which it says nothing about this one: then as many neighbours must know it as can be
    /// believed, and two if there are two that it sends to, there or still to come.
    fn learn_of_itself(&mut self, from: PeerId, header: &Header, out: &mut Vec<Effect>) {
        let round = header.round;
        self.learn_spent(round, header.spent, out);
        // A clock that was set back gives this life a number that an earlier one had.
        if header.incarnation > self.incarnation {
            self.incarnation = header.incarnation.saturating_add(1);
        }
        let is_known = self.exchange.outgoing(round).is_some() || round < self.round;
        let can_tell = self.overlay.is_ready(&from) && self.overlay.on_roster(&from);
        if is_known || !can_tell || planted(Mutant::ForgetSigned) {
            return;
        }
        let needed = match header.incarnation == self.incarnation {
            true => 1,
            false => {
                let receivers = self.overlay.audience(&self.id, round).into_iter();
                let can_know = receivers.filter(|peer| self.overlay.may_tell(peer)).count();
                can_know
                    .clamp(1, 2)
                    .max(self.charter.aggregation.byzantine + 1)
            }
        };
        self.standing.learn_signed(from, round, needed);
    }

    /// Whether an update of that sender and round may come in now.
    fn admit_update(&self, sender: PeerId, round: u64) -> Result<(), Refusal> {
        self.mode.admit(&self.scene(), round, self.ahead)?;
        if self.phase == Phase::Lingering {
            return Err(Refusal::StaleRound {
                theirs: round,
                ours: self.round,
            });
        }
        if !self.overlay.is_neighbour(&sender, round) {
            return Err(Refusal::NotANeighbour { round });
        }
        let in_step = self.mode.pace() == Pace::InStep;
        match in_step && round == self.round && self.window.contains(&sender) {
            true => Err(Refusal::Duplicate),
            false => Ok(()),
        }
    }

    /// Works through the waiting updates of one sender.
    pub(super) fn advance(&mut self, sender: PeerId, out: &mut Vec<Effect>) {
        // While gathering or storing, no window is open: early updates wait.
        let open = matches!(
            self.phase,
            Phase::Charging | Phase::Training | Phase::Promising | Phase::Collecting
        );
        if !open || self.overlay.is_expelled(&sender) {
            return;
        }
        loop {
            match self
                .exchange
                .advance(sender, self.mode.pace().newest(self.round))
            {
                Progress::Idle => break,
                Progress::Abandoned(digest) => out.push(Effect::Abandon {
                    digest,
                    source: sender,
                }),
                Progress::Fetch {
                    round,
                    digest,
                    length,
                    keyframe,
                } => {
                    if keyframe {
                        out.push(Effect::Emit(Event::KeyframeWanted {
                            round,
                            peer: sender,
                        }));
                    }
                    out.push(Effect::Fetch {
                        digest,
                        length,
                        sources: vec![sender],
                    });
                    break;
                }
                Progress::Refused { round, reason } => {
                    self.refuse(sender, Some(Kind::Update), Some(round), reason, out);
                    if round == self.round || self.mode.asks_a_partner() {
                        self.window.release(&sender); // it has spoken; there is nothing to wait for
                    }
                }
                Progress::Applied(applied) => self.accept(sender, applied, out),
            }
        }
        self.close_if_complete(out);
    }

    /// A vector is reconstructed: it goes into the window if it counts.
    fn accept(&mut self, sender: PeerId, applied: Applied, out: &mut Vec<Effect>) {
        let (pace, round) = (self.mode.pace(), self.round);
        let age = pace.age(&applied, round);
        out.push(Effect::Emit(Event::Accepted {
            round,
            peer: sender,
            of: applied.round,
            staleness: age,
            payload_bytes: applied.payload_bytes,
            keyframe_bytes: applied.keyframe_bytes,
            envelope_bytes: applied.envelope_bytes,
            dense_bytes: self.exchange.dimension() * 4,
        }));
        if applied.round < round && pace == Pace::InStep {
            self.late.insert(sender);
            self.note_in_time(sender, applied.round, out);
        }
        self.choosing.heard(
            sender,
            &applied,
            round,
            self.now,
            self.charter.round.deadline,
        );
        let is_of_round = applied.round == round && self.choosing.takes(&sender);
        let is_disputed = self.witness.is_disputed(applied.round, &sender);
        let (values, samples) = (applied.values, applied.samples);
        let arrived = Arrived {
            values,
            state: Some(applied.state),
            age,
            samples,
        };
        match pace {
            Pace::Free if !is_disputed => self.window.replace(sender, arrived),
            Pace::InStep if is_of_round && !is_disputed => self.window.insert(sender, arrived),
            _ if planted(Mutant::MixOldUpdates) => self.window.insert(sender, arrived),
            _ => {}
        }
    }

    // --- asking and answering ---

    /// A neighbour misses an update of this peer.
    pub(super) fn want(
        &mut self,
        sender: PeerId,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let Want { round } = wire::decode(envelope.payload())?;
        let reply = self.mode.answer(&self.scene(), &sender, round);
        self.reply(sender, round, reply, out);
        Ok(())
    }

    fn reply(&mut self, to: PeerId, round: u64, reply: Reply, out: &mut Vec<Effect>) {
        let bytes = match reply {
            Reply::Nothing => None,
            Reply::Asked => return self.send_outgoing(to, round, out),
            Reply::Skip => Some(self.skip_of(round)),
            Reply::Newest => self.newest_promised(to),
        };
        if let Some(bytes) = bytes.filter(|_| self.overlay.is_ready(&to)) {
            out.push(Effect::Send { to, bytes });
        }
    }

    /// The newest update that is promised; the next one is owed where there is none yet.
    fn newest_promised(&mut self, to: PeerId) -> Option<Packet> {
        let is_promised = |of: &u64| self.phase != Phase::Promising || *of != self.round;
        let newest = self
            .exchange
            .outgoing_rounds()
            .into_iter()
            .rev()
            .find(is_promised);
        if newest.is_none() {
            self.mode.owe(to);
        }
        self.announcement(newest?)
    }

    /// This partner will send nothing that could be merged in this peer's round.
    pub(super) fn give_up_on(&mut self, sender: &PeerId, out: &mut Vec<Effect>) {
        if self.mode.asks_a_partner() {
            self.window.release(sender);
            self.close_if_complete(out);
        }
    }
}
