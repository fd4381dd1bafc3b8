//! The course of a round: it opens, the peer trains, waits, and the round closes.
//!
//! Whom a round waits for and when it is complete is the mode's decision. Which updates are in is
//! the window's, and what the round leads to is in `mixing`. No absence ever aborts a round: after
//! its deadlines it closes with what it has, unless that is less than the charter asks for.

use std::sync::Arc;
use std::time::Duration;

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId};

use super::mode::{Pace, RoundMode, Scene, Wait};
use super::overlay::Patience;
use super::window::Window;
use super::{Peer, Phase};
use crate::effect::{Effect, Stored, Timer};
use crate::envelope::Kind;
use crate::event::{Closed, Event};
use crate::message::Want;
use crate::wire;

/// A round asks for missing updates this many times before its deadline.
const NUDGES: u32 = 4;

/// Closed rounds for which an update may still be in time (guess: a peer that is
/// [`BEHIND_MIN`](super::progress::BEHIND_MIN) rounds behind goes forward, and its update is made
/// while the others close two more).
const CLOSED_MAX: usize = 4;

impl Peer {
    /// What the mode looks at.
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene {
            charter: &self.charter,
            own: &self.id,
            round: self.round,
            overlay: &self.overlay,
            exchange: &self.exchange,
            window: &self.window,
            listens: self.standing.listens(),
        }
    }

    /// Asks the mode, which may note something by it.
    pub(super) fn ask_mode<A>(
        &mut self,
        question: impl FnOnce(&mut dyn RoundMode, &Scene<'_>) -> A,
    ) -> A {
        let Peer {
            mode,
            charter,
            id: own,
            overlay,
            exchange,
            window,
            ..
        } = self;
        let (round, listens) = (self.round, self.standing.listens());
        question(
            mode.as_mut(),
            &Scene {
                charter,
                own,
                round,
                overlay,
                exchange,
                window,
                listens,
            },
        )
    }

    /// Whether peers train in this peer's round.
    pub(super) fn trains(&self) -> bool {
        self.mode.trains(&self.charter, self.round)
    }

    pub(super) fn open_round(&mut self, out: &mut Vec<Effect>) {
        let round = self.round;
        self.only_hears = false;
        self.regained.clear();
        self.witness.forget(round);
        let neighbours = self.overlay.receives_from(round);
        let (awaited, selected) =
            self.choosing
                .open(&self.charter, &self.overlay, &self.id, round, &neighbours);
        // At a free pace the window has been open all the time, and nothing is left behind.
        if self.mode.pace() == Pace::InStep {
            self.exchange
                .forget(round.saturating_sub(self.charter.round.staleness));
            let alternatives = self.overlay.alternatives(round);
            self.window = Window::new(awaited, alternatives, self.stands_in());
        }
        self.turned_away.retain(|(turned, _)| *turned >= round);
        for (_, sender) in self
            .turned_away
            .iter()
            .filter(|(turned, _)| *turned == round)
        {
            self.window.release(sender);
        }
        if let Some(place) = self.overlay.place() {
            self.algorithm.open(&self.overlay.graph(round), place);
        }
        let opened = Event::RoundOpened {
            round,
            neighbours: neighbours.len(),
            selected,
        };
        out.push(Effect::Emit(opened));
        self.begin(out);
        for sender in neighbours {
            self.advance(sender, out); // updates that came early
        }
        if self.charter.topology.changes() {
            self.reach(out);
        }
    }

    /// What this peer itself does in the round that has opened.
    pub(super) fn begin(&mut self, out: &mut Vec<Effect>) {
        if self.promised.is_some() && self.spending.is_behind() {
            self.phase = Phase::Charging; // what it has promised is paid first
            return;
        }
        if let Some(intent) = self.promised.take() {
            return self.send_again(*intent, out);
        }
        self.phase = Phase::Training;
        if self.standing.listens() {
            return self.listen_now(out);
        }
        if !self.trains() {
            return self.exchange_only(out);
        }
        if self.charter.privacy.is_some() && !planted(Mutant::ChargeAfterSend) {
            return self.charge(out);
        }
        self.train(out);
    }

    pub(super) fn train(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Training;
        out.push(Effect::Train {
            round: self.round,
            parameters: Arc::clone(&self.parameters),
            memory: self.memory.clone(),
            correction: self.algorithm.correction(),
        });
    }

    /// A round without training: early updates go in, then this peer sends the model that it has.
    fn exchange_only(&mut self, out: &mut Vec<Effect>) {
        for sender in self.overlay.receives_from(self.round) {
            self.advance(sender, out);
        }
        self.own = self.untrained();
        self.release(Arc::clone(&self.parameters), 0.0, out);
    }

    /// The peers that are told this round's update.
    pub(super) fn audience(&mut self) -> Vec<PeerId> {
        self.ask_mode(|mode, scene| mode.audience(scene))
    }

    // --- waiting ---

    /// This peer's part of the round is done: the rest is others' updates.
    pub(super) fn collect(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Collecting;
        let (round, deadline) = (self.round, self.charter.round.deadline);
        let wait = match self.standing.listens() || self.only_hears {
            true => Wait::Window, // in any mode it waits for others
            false => self.ask_mode(|mode, scene| mode.wait(scene)),
        };
        let waits_for_window = matches!(wait, Wait::Window);
        if let Wait::For(peer) = wait {
            self.window.await_only(peer);
            if peer.is_none() {
                return self.close(Closed::Quorum, out);
            }
        }
        self.choosing.collects(round, self.now);
        self.collects_since = self.now;
        if !planted(Mutant::NoDeadline) {
            let after = deadline.saturating_mul(self.mode.deadlines(&self.charter, round));
            out.push(Effect::SetTimer {
                timer: Timer::Deadline { round },
                after,
            });
        }
        out.push(Effect::SetTimer {
            timer: Timer::Nudge { round },
            after: deadline / NUDGES,
        });
        self.close_if_complete(out);
        if waits_for_window {
            self.jump_if_behind(out);
        }
    }

    pub(super) fn close_if_complete(&mut self, out: &mut Vec<Effect>) {
        if self.phase != Phase::Collecting {
            return;
        }
        self.stop_waiting_for_the_late();
        // One that gives nothing would go through its rounds without a pause where nobody waits.
        let needs = match (self.standing.listens(), self.only_hears) {
            (true, _) => self.needs_to_hear(),
            (false, true) if self.mode.pace() == Pace::Free => self.needs_to_hear().max(1),
            (false, _) => 0,
        };
        if !self.mode.is_complete(&self.scene(), needs) {
            return;
        }
        match self.too_few() {
            None => self.close(Closed::Quorum, out),
            Some(_) if self.is_over() => self.end_alone(out),
            Some(_) => {} // somebody may come
        }
    }

    /// A peer that is late too often is awaited only while the rule has too few updates without it:
    /// perhaps the others have come and gone.
    fn stop_waiting_for_the_late(&mut self) {
        let is_enough =
            self.window.counted().count() + 1 >= self.charter.aggregation.rule.minimum().max(2);
        let waits_for_all =
            self.mode.pace() == Pace::InStep && self.charter.round.selection.is_everyone();
        if is_enough && waits_for_all {
            self.window
                .release_those(|peer| !self.overlay.is_awaited(peer));
        }
    }

    /// Whether the round has to wait longer although nobody is awaited any more or its deadline has
    /// passed; if so, (have, need). The charter requires a number of others that are connected, or
    /// whose update came, or that have said that they have none.
    fn too_few(&self) -> Option<(usize, usize)> {
        let need = self.others_needed();
        // At a free pace a peer that is alone does not open its next round.
        if self.mode.pace() == Pace::Free || self.overlay.everyone_ready().len() >= need {
            return None;
        }
        let silent = self
            .turned_away
            .iter()
            .filter(|(round, peer)| *round == self.round && !self.window.contains(peer))
            .count();
        let have = self.window.counted().count() + silent;
        (have < need).then_some((have, need))
    }

    /// Says whom the round waits for, and asks them. An announced update on its way is not missing.
    fn nudge(&mut self, out: &mut Vec<Effect>) {
        let (round, deadline) = (self.round, self.charter.round.deadline);
        let mut missing = self.window.unheard();
        missing.retain(|peer| !self.exchange.is_on_its_way(peer, round));
        out.push(Effect::SetTimer {
            timer: Timer::Nudge { round },
            after: deadline / NUDGES,
        });
        if missing.is_empty() {
            return;
        }
        let bytes = self.seal(Kind::Want, Digest::default(), wire::encode(&Want { round }));
        for to in missing.iter().filter(|peer| self.overlay.is_ready(peer)) {
            out.push(Effect::Send {
                to: *to,
                bytes: bytes.clone(),
            });
        }
        if self.mode.asks_a_partner() {
            // The question may be lost, or the answer.
            for to in self.window.unheard() {
                let question = self
                    .announcement(round)
                    .filter(|_| self.overlay.is_ready(&to));
                out.extend(question.map(|bytes| Effect::Send { to, bytes }));
            }
        }
        out.push(Effect::Emit(Event::Stalled { round, missing }));
    }

    // --- closing ---

    /// The deadline has passed: the round closes with what it has, unless that is less than the
    /// charter asks for.
    fn deadline(&mut self, out: &mut Vec<Effect>) {
        let round = self.round;
        if self.puts_off(out) {
            return;
        }
        let mut absent: Vec<PeerId> = self.overlay.neighbourhood(round).into_iter().collect();
        absent.retain(|peer| !self.overlay.is_ready(peer));
        self.overlay.are_absent(&absent);
        match self.too_few() {
            None => self.close(Closed::Deadline, out),
            Some(_) if self.is_over() => self.end_alone(out),
            Some((have, need)) => {
                let missing = self.window.missing(|peer| self.overlay.is_up(peer));
                out.push(Effect::Emit(Event::TooFew {
                    round,
                    have,
                    need,
                    missing,
                }));
                let after = self.charter.round.deadline;
                out.push(Effect::SetTimer {
                    timer: Timer::Deadline { round },
                    after,
                });
            }
        }
    }

    /// Puts the deadline off by half its length, once in a round, if a missing neighbour may still wait
    /// in an earlier round for somebody else; returns whether it did. A liar may keep its update from
    /// that neighbour alone, and then the neighbour's deadline ends when this peer's does. Rounds
    /// without training have more time in any case.
    fn puts_off(&mut self, out: &mut Vec<Effect>) -> bool {
        let round = self.round;
        let keeps_step = self.mode.pace() == Pace::InStep && self.trains();
        if !keeps_step || self.put_off == Some(round) || planted(Mutant::GrantNoTime) {
            return false;
        }
        let missing = self.window.missing(|peer| self.overlay.is_up(peer));
        let (overlay, now) = (&mut self.overlay, self.now);
        if !missing
            .iter()
            .any(|peer| overlay.grant_time(peer, round, now))
        {
            return false;
        }
        self.put_off = Some(round);
        out.push(Effect::SetTimer {
            timer: Timer::Deadline { round },
            after: self.charter.round.deadline / 2,
        });
        true
    }

    pub(super) fn close(&mut self, why: Closed, out: &mut Vec<Effect>) {
        let round = self.round;
        if self.mode.pace() == Pace::InStep && self.charter.round.quorum >= 1.0 {
            // At a free pace, and with a quorum below 1, peers get ahead of neighbours that are not
            // late.
            self.exchange.release((round + 1).saturating_sub(self.lead));
        }
        let until = self
            .collects_since
            .saturating_add(self.charter.round.deadline);
        self.closed.push_back((round, until));
        if self.closed.len() > CLOSED_MAX {
            self.closed.pop_front();
        }
        let missing = self.window.missing(|peer| self.overlay.is_up(peer));
        self.note_who_was_on_time(out);
        let (have, awaited) = (self.window.counted().count(), self.window.awaited());
        out.push(Effect::Emit(Event::RoundClosed {
            round,
            why,
            have,
            awaited,
            missing,
        }));
        self.choosing
            .close(&self.charter, &self.overlay, round, &mut self.window);
        let judges = self.charter.aggregation.rule.needs_losses();
        if judges && self.asks_the_rule() && !self.standing.listens() {
            self.phase = Phase::Judging;
            self.ask_for_losses(out);
        } else {
            self.conclude(None, out);
        }
    }

    fn note_who_was_on_time(&mut self, out: &mut Vec<Effect>) {
        for peer in self.overlay.receives_from(self.round) {
            let is_in = self.window.contains(&peer);
            let Some(on_time) = self.choosing.on_time(&peer, is_in) else {
                continue;
            };
            let is_late = self.mode.expects(&self.window, &peer)
                && !self.window.is_overtaken(&peer)
                && !self.turned_away.contains(&(self.round, peer));
            // A round that does not wait for a peer closes before it may be late.
            let is_spared = self.regained.contains(&peer) && !planted(Mutant::BlameSpared);
            let was_awaited = self.overlay.is_awaited(&peer) && !is_spared;
            if is_in || (is_late && was_awaited) {
                self.patience(peer, on_time, out);
            }
        }
    }

    /// An update of `round` has come: of a neighbour for which the round did not wait, it may be in
    /// time though the round is closed, and others have closed since. A peer that comes back may be
    /// a few rounds behind, and would stay so for ever if nobody waited for it.
    pub(super) fn note_in_time(&mut self, peer: PeerId, round: u64, out: &mut Vec<Effect>) {
        let in_time = |(closed, until): &(u64, Duration)| *closed == round && self.now <= *until;
        if self.closed.iter().any(in_time) && !self.overlay.is_awaited(&peer) {
            self.patience(peer, true, out);
        }
    }

    /// Notes whether a neighbour was on time, and emits an event if rounds now begin or cease to
    /// wait for it.
    fn patience(&mut self, peer: PeerId, on_time: bool, out: &mut Vec<Effect>) {
        match self.overlay.on_time(peer, on_time) {
            Some(Patience::Lost) if !self.overlay.has_finished(&peer) => {
                let (missed, late) = (self.overlay.missed(&peer), self.late.contains(&peer));
                out.push(Effect::Emit(Event::NoLongerAwaited { peer, missed, late }));
            }
            Some(Patience::Regained) => {
                self.regained.insert(peer);
                out.push(Effect::Emit(Event::AwaitedAgain { peer }));
            }
            Some(Patience::Lost) | None => {}
        }
        if on_time {
            self.late.remove(&peer);
        }
    }

    fn ask_for_losses(&self, out: &mut Vec<Effect>) {
        let models = self
            .rows()
            .rows
            .into_iter()
            .map(|(_, arrived)| arrived.values)
            .collect();
        out.push(Effect::Judge {
            round: self.round,
            models,
        });
    }

    /// The losses that a rule asked for are here.
    pub(super) fn judged(&mut self, losses: Option<&[f64]>, out: &mut Vec<Effect>) {
        // No update comes in meanwhile, but a contradiction removes one that had come.
        let is_of_these = losses.is_none_or(|losses| losses.len() == self.rows().rows.len());
        if is_of_these {
            self.conclude(losses, out)
        } else {
            self.ask_for_losses(out)
        }
    }

    // --- records and timers ---

    pub(super) fn stored(&mut self, stored: Stored, out: &mut Vec<Effect>) {
        match stored {
            Stored::Charge {
                round,
                decision,
                spent,
            } if self.is_in(Phase::Charging, round) => self.charged(decision, spent, out),
            Stored::Covered { round, behind } => self.covered(round, behind, out),
            Stored::Intent { round } if self.phase == Phase::Promising && round == self.round => {
                self.send_update(out);
            }
            Stored::Checkpoint { round } if self.phase == Phase::Storing && round == self.round => {
                let is_last = round >= self.charter.rounds;
                let every = self.evaluate_every;
                if is_last || (every > 0 && round.is_multiple_of(every)) {
                    self.evaluating = Some(round);
                    let parameters = Arc::clone(&self.parameters);
                    out.push(Effect::Evaluate { round, parameters });
                }
                if is_last {
                    self.finish(out)
                } else {
                    self.open_round_or_jump(out)
                }
            }
            _ => {} // of a round that a jump has left behind
        }
    }

    pub(super) fn expired(&mut self, timer: Timer, out: &mut Vec<Effect>) {
        let collecting = self.phase == Phase::Collecting;
        match timer {
            Timer::Start => self.gather(true, out),
            Timer::Deadline { round }
                if collecting && (round == self.round || planted(Mutant::StaleDeadline)) =>
            {
                self.deadline(out);
            }
            Timer::Nudge { round } if collecting && round == self.round => self.nudge(out),
            Timer::Answers { round } => self.unanswered(round, out),
            Timer::Linger if self.phase == Phase::Lingering => self.linger_on(out),
            Timer::Redial => self.redial(out),
            Timer::Deadline { .. } | Timer::Nudge { .. } | Timer::Linger => {} // stale
        }
    }
}
