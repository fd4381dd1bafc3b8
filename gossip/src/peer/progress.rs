//! How a peer comes to its next round: it starts, gathers its neighbours, opens the round that
//! follows, or goes forward past rounds that the others have left behind.

use std::sync::Arc;

use kith_consensus::PeerId;
use kith_consensus::mutant::{Mutant, planted};

use super::handshake::REDIAL;
use super::mode::Pace;
use super::privacy::stated_by;
use super::{Peer, Phase};
use crate::effect::{Checkpoint, Effect, Intent, Timer};
use crate::event::{Closed, Event};

/// A peer goes forward when it is at least this many rounds behind neighbours that continued
/// without it (guess: one round is caught up without help).
pub(super) const BEHIND_MIN: u64 = 2;

/// Most rounds that a peer that is behind goes forward at once; then it looks again (guess).
const JUMP_MAX: u64 = 1000;

impl Peer {
    pub(super) fn start(
        &mut self,
        checkpoint: Option<Box<Checkpoint>>,
        intent: Option<Box<Intent>>,
        out: &mut Vec<Effect>,
    ) {
        assert_eq!(self.phase, Phase::Created, "a peer starts once");
        let resumed = checkpoint.is_some() || intent.is_some();
        if let Some(checkpoint) = checkpoint {
            self.take_back(*checkpoint);
        }
        let stated = intent.as_deref().map(stated_by);
        if let Some(intent) = intent {
            self.keep_promise(intent);
        }
        let (round, federation) = (self.round, self.charter.genesis.0);
        out.push(Effect::Emit(Event::Started {
            round,
            resumed,
            federation,
        }));
        out.push(Effect::SetTimer {
            timer: Timer::Redial,
            after: REDIAL,
        });
        if let Some((round, total)) = stated {
            // Before the update goes out again: the ledger may be an older copy than the state.
            self.learn_spent(round, total, out);
        }
        // Rounds in step show how far the others are. At a free pace they do not: there the peer
        // waits for handshakes first, unless it has a promise to keep.
        let shows = self.mode.pace() == Pace::InStep || self.promised.is_some();
        if round >= self.charter.rounds {
            self.evaluating = Some(round);
            let parameters = Arc::clone(&self.parameters);
            out.push(Effect::Evaluate { round, parameters });
            self.finish(out);
        } else if resumed && self.overlay.is_formed() && shows {
            self.open_round(out); // the others have not stopped
        } else {
            self.gather_from_now(out);
        }
    }

    /// An update was promised before the stop: the one of this round goes out again, and one of a
    /// later round must not be contradicted.
    fn keep_promise(&mut self, intent: Box<Intent>) {
        if intent.round == self.round {
            self.promised = Some(intent).filter(|_| !planted(Mutant::TrainAgain));
        } else if intent.round > self.round && !planted(Mutant::ForgetIntentAhead) {
            // The update was promised after a jump, or on a checkpoint that is lost.
            self.standing.has_promised(intent.round);
            self.sequence = self.sequence.max(intent.sequence + 1);
        }
    }

    fn take_back(&mut self, checkpoint: Checkpoint) {
        let dimension = self.parameters.len();
        let stored = checkpoint.parameters.len();
        assert_eq!(stored, dimension, "a checkpoint has the model's dimension");
        self.round = checkpoint.round;
        self.sequence = checkpoint.sequence;
        if !planted(Mutant::ForgetParameters) {
            self.parameters = checkpoint.parameters;
        }
        self.overlay.restore(&checkpoint.roster);
        if !planted(Mutant::ForgetReplicas) {
            self.exchange.restore(checkpoint.replicas);
        }
        self.restore(checkpoint.carried);
        self.history = checkpoint.history;
        for packet in &checkpoint.headers {
            // What somebody has put into the file in a peer's name does not open.
            if let Ok(header) = packet.open(&self.authenticator, false) {
                self.witness.resume(&header);
            }
        }
        self.standing.resume();
    }

    // --- gathering ---

    fn gather_from_now(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Gathering;
        self.is_expected = false;
        self.wait_to_start(out);
        self.gather(false, out);
    }

    /// A neighbour has published in `round`, or asks for an update of it. It waits for this peer's
    /// update. If this peer still waits for its start, it begins before the neighbour's deadline: what
    /// keeps it may be a liar that the neighbour has met. A neighbour that is far ahead no longer waits
    /// for this peer.
    pub(super) fn begin_in_time(&mut self, peer: PeerId, round: u64, out: &mut Vec<Effect>) {
        let waits =
            self.phase == Phase::Gathering && self.mode.pace() == Pace::InStep && !self.is_expected;
        let is_with_it = (self.round..self.round.saturating_add(BEHIND_MIN)).contains(&round);
        if !waits || !is_with_it || !self.overlay.neighbourhood(self.round).contains(&peer) {
            return;
        }
        self.is_expected = !planted(Mutant::WaitToTheEnd);
        if self.is_expected {
            // The other half of the deadline is for training (guess).
            let after = self.charter.round.deadline / 2;
            out.push(Effect::SetTimer {
                timer: Timer::Start,
                after,
            });
        }
    }

    fn wait_to_start(&self, out: &mut Vec<Effect>) {
        let after = self.charter.round.start_deadline;
        out.push(Effect::SetTimer {
            timer: Timer::Start,
            after,
        });
    }

    /// Opens the first round once every neighbour is there but those that were sent away for what
    /// they did, or when waiting is over. Others may have heard such a peer before it misbehaved, and
    /// be in a round that does not wait for this peer's start.
    pub(super) fn gather(&mut self, waited_enough: bool, out: &mut Vec<Effect>) {
        if self.phase != Phase::Gathering {
            return;
        }
        if !self.overlay.is_formed() {
            let (ready, needed) = (self.overlay.roster().len() - 1, self.overlay.wanted() - 1);
            out.push(Effect::Emit(Event::Waiting {
                ready,
                needed,
                missing: Vec::new(),
            }));
            if waited_enough {
                // Without a roster there is no graph to begin with.
                self.wait_to_start(out);
            }
            return;
        }
        let neighbours = self.overlay.neighbourhood(self.round);
        let missing: Vec<PeerId> = neighbours
            .iter()
            .filter(|peer| !self.overlay.is_ready(peer))
            .copied()
            .collect();
        let connected = neighbours.len() - missing.len();
        let alone = self.overlay.everyone_ready().len() < self.others_needed();
        let goes_on = self.mode.pace() == Pace::Free && self.round > 0;
        let enough = goes_on && connected >= self.needs_to_hear().max(1);
        // One says that it is far ahead: another that is still to come may confirm that.
        let enough = enough
            && !self
                .overlay
                .may_be_confirmed(self.round + BEHIND_MIN, self.round);
        let has_waited = waited_enough || missing.iter().all(|peer| self.overlay.is_given_up(peer));
        if missing.is_empty() || enough || (has_waited && !alone) {
            out.push(Effect::Emit(Event::Ready {
                neighbours: neighbours.len(),
                connected,
            }));
            if waited_enough {
                self.overlay.are_absent(&missing);
            }
            return self.open_round_or_jump(out);
        }
        out.push(Effect::Emit(Event::Waiting {
            ready: connected,
            needed: neighbours.len(),
            missing,
        }));
        if waited_enough && self.is_over() {
            self.end_alone(out);
        } else if waited_enough {
            self.is_expected = false;
            self.wait_to_start(out);
        }
    }

    /// How many others have to be there for a round, of all that there are.
    pub(super) fn others_needed(&self) -> usize {
        self.charter
            .round
            .neighbours_min
            .min(self.overlay.wanted() - 1)
    }

    // --- going forward ---

    /// Jumps to a later round when enough neighbours are far ahead.
    pub(super) fn jump_if_behind(&mut self, out: &mut Vec<Effect>) {
        // At a free pace a listening peer hears everybody's newest model, whatever round it is in.
        let hears_all = self.mode.pace() == Pace::Free && self.standing.listens();
        if hears_all || self.jump_target().is_none() {
            return;
        }
        match self.phase {
            Phase::Gathering => self.open_round_or_jump(out),
            // The trained model is mixed with the updates that came; then the checkpoint leads into
            // the later round. Training is never aborted: a slow peer would not finish a single
            // round.
            Phase::Collecting => self.close(Closed::Deadline, out),
            _ => {}
        }
    }

    fn jump_target(&self) -> Option<u64> {
        let byzantine = self.charter.aggregation.byzantine;
        let credible = self
            .overlay
            .credible_round(self.round, byzantine, self.ahead)?;
        // At a free pace being behind is no fault, unless others know rounds of this peer that it
        // has lost.
        let has_lost_rounds = || self.has_been_away() && self.standing.has_lost_rounds();
        if self.mode.pace() == Pace::Free && !has_lost_rounds() {
            return None;
        }
        let most = self.round.saturating_add(JUMP_MAX);
        let target = credible.min(self.last_round()).min(most);
        let is_behind = credible >= self.round.saturating_add(BEHIND_MIN);
        (is_behind && target > self.round).then_some(target)
    }

    pub(super) fn open_round_or_jump(&mut self, out: &mut Vec<Effect>) {
        let free = self.mode.pace() == Pace::Free;
        let alone = || self.overlay.everyone_ready().len() < self.others_needed();
        if free && self.phase == Phase::Storing && alone() {
            // Nobody waits for anybody there, so a peer that is alone would run through all rounds.
            self.standing.is_alone();
            return self.gather_from_now(out);
        }
        if let Some(target) = self.jump_target() {
            out.push(Effect::Emit(Event::Jumped {
                from: self.round,
                to: target,
            }));
            self.pass_over(target - self.round);
            self.round = target;
            self.promised = None;
        } else if free && self.promised.is_none() {
            self.listen_if_away();
        }
        self.open_round(out);
    }

    fn listen_if_away(&mut self) {
        if !self.standing.listens() && self.has_been_away() {
            self.listen();
        }
    }

    pub(super) fn last_round(&self) -> u64 {
        self.charter.rounds.saturating_sub(1)
    }

    /// This peer's round, or the last one when all are done.
    pub(super) fn last_or_current_round(&self) -> u64 {
        self.round.min(self.last_round())
    }
}
