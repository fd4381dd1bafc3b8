//! Privacy: the one stage between what a peer has learned from its rows and what anybody else gets to
//! see.
//!
//! Under a `[privacy] mechanism` the trainer returns values that are noised already,
//! so that no exact one ever enters a peer, and all that a peer makes of them costs nothing more.
//! Three things are decided here. Before each training [`Peer::charge`] asks the ledger of the peer's
//! rows; if the budget does not bear the round, the peer does not train and says that nothing comes
//! ([`Peer::charged`]). The header of each update states the ledger's total, and neighbours give a
//! peer that comes back its own headers: what they state and the ledger lacks, because an older copy
//! was put back, is charged at once ([`Peer::learn_spent`]). Before the first charge after a start
//! enough neighbours have to have answered for one of them to be honest. And what an announcement says besides its vector is a constant of the charter
//! ([`Peer::claims`]), since the true numbers follow from the rows.
//!
//! [`Cleared`] is what may be released. [`Peer::clear`] alone makes one, and `Exchange::encode`
//! takes nothing else, so no honest vector gets around this stage.

use kith_consensus::PeerId;
use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::privacy::ledger::{Decision, Spent, Total};

use super::{Peer, Phase};
use crate::Parameters;
use crate::effect::{Behind, Effect, Intent, Record, Timer};
use crate::event::Event;

/// What an announcement says about the training, apart from its vector. That follows from the rows
/// too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claims {
    pub(super) samples: u64,
    pub(super) local_steps: u64,
    /// Mean training loss. It is sent if the charter's selection looks at it.
    pub(super) loss: f64,
}

/// A vector with its claims that may be released.
#[derive(Clone, Debug)]
pub(super) struct Cleared {
    vector: Parameters,
    claims: Claims,
}

impl Cleared {
    pub(super) fn vector(&self) -> &Parameters {
        &self.vector
    }

    pub(super) fn claims(&self) -> Claims {
        self.claims
    }
}

/// The round of a stored update, and what its header states of the ledger.
pub(super) fn stated_by(intent: &Intent) -> (u64, Option<Total>) {
    let header = intent.announcement.claimed_header();
    (intent.round, header.and_then(|header| header.spent))
}

/// What a peer knows of the ledger of its rows.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// The largest total that the ledger has answered, or that it was asked to cover.
    total: Option<Total>,
    /// Whether enough neighbours have answered since the start.
    is_answered: bool,
    /// The round whose charge waits for that.
    waits: Option<u64>,
    /// Headers that the ledger was asked to cover and has not answered.
    covering: u32,
}

impl Spending {
    /// What the header of an update states.
    pub(super) fn total(&self) -> Option<Total> {
        self.total
    }

    /// Whether the ledger may still be older than a header of this peer.
    pub(super) fn is_behind(&self) -> bool {
        self.covering > 0
    }

    /// The ledger covers this from now on.
    fn reaches(&mut self, total: Total) {
        self.total = self.total.max(Some(total));
    }
}

impl Peer {
    /// Asks for the training of this round to be charged, once enough neighbours have answered; until
    /// the round's deadline it waits for them.
    pub(super) fn charge(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Charging;
        let round = self.round;
        self.spending.waits = Some(round);
        self.charge_when_answered(out);
        if self.spending.waits.is_some() {
            let after = self.charter.round.deadline;
            out.push(Effect::SetTimer {
                timer: Timer::Answers { round },
                after,
            });
        }
    }

    /// A neighbour may have answered.
    pub(super) fn charge_when_answered(&mut self, out: &mut Vec<Effect>) {
        let round = self.round;
        if !self.is_in(Phase::Charging, round) || self.spending.waits != Some(round) {
            return;
        }
        let (answered, needed) = self.answers();
        self.spending.is_answered |= answered >= needed || planted(Mutant::ChargeUnanswered);
        if self.spending.is_answered {
            self.spending.waits = None;
            out.push(Effect::Persist(Record::Charge { round }));
        }
    }

    /// How many of those that may hold a header of this peer have completed a handshake since the
    /// start, before which they have given back what they hold; and how many have to: one more than
    /// may be liars.
    fn answers(&self) -> (usize, usize) {
        let anyone = || self.overlay.roster().iter().copied().collect();
        let mut peers: Vec<PeerId> = match self.charter.topology.changes() {
            true => anyone(),
            false => self.overlay.neighbourhood(self.round).into_iter().collect(),
        };
        peers.retain(|peer| *peer != self.id && self.overlay.may_come(peer));
        let answered = peers.iter().filter(|peer| self.overlay.is_ready(peer));
        let needed = self.charter.aggregation.byzantine + 1;
        (answered.count(), needed.min(peers.len()))
    }

    /// The round's deadline has passed and too few have answered: it goes on without a release.
    pub(super) fn unanswered(&mut self, round: u64, out: &mut Vec<Effect>) {
        if !self.is_in(Phase::Charging, round) || self.spending.waits.take() != Some(round) {
            return;
        }
        let (answered, needed) = self.answers();
        out.push(Effect::Emit(Event::Unanswered {
            round,
            answered,
            needed,
        }));
        self.release_nothing(out);
    }

    /// A header of this peer states what was spent before an update of `round`: one that others hold,
    /// or that it has promised. Nobody else can have signed it, so one is enough.
    pub(super) fn learn_spent(&mut self, round: u64, stated: Option<Total>, out: &mut Vec<Effect>) {
        let Some(stated) = stated.filter(|stated| self.spending.total < Some(*stated)) else {
            return;
        };
        if self.charter.privacy.is_none() || planted(Mutant::ForgetSpent) {
            return;
        }
        self.spending.reaches(stated);
        self.spending.covering += 1;
        out.push(Effect::Persist(Record::Cover { round, stated }));
    }

    /// The ledger covers what a header of this peer states about its update of `round`.
    pub(super) fn covered(&mut self, round: u64, behind: Option<Behind>, out: &mut Vec<Effect>) {
        self.spending.covering = self.spending.covering.saturating_sub(1);
        if let Some(Behind {
            stated,
            before,
            after,
        }) = behind
        {
            self.spending.reaches(Total::of(after.epsilon));
            out.push(Effect::Emit(Event::LedgerBehind {
                round,
                entries: before.entries,
                epsilon: before.epsilon,
                stated: stated.epsilon(),
                charged: after.epsilon,
                budget: self.budget(),
            }));
        }
        if self.phase == Phase::Charging && self.promised.is_some() {
            self.begin(out);
        }
    }

    /// The ledger has answered: the peer trains, or it says that it has no update of this round.
    pub(super) fn charged(&mut self, decision: Decision, spent: Spent, out: &mut Vec<Effect>) {
        let budget = self.budget();
        let (round, epsilon) = (self.round, spent.epsilon);
        match decision {
            Decision::Charged => {
                self.spending.reaches(Total::of(epsilon));
                let event = Event::PrivacySpent {
                    round,
                    epsilon,
                    budget,
                };
                out.push(Effect::Emit(event));
                self.train(out);
            }
            Decision::Exhausted => {
                let event = Event::BudgetExhausted {
                    round,
                    epsilon,
                    budget,
                };
                out.push(Effect::Emit(event));
                self.release_nothing(out);
            }
        }
    }

    fn budget(&self) -> f64 {
        let terms = self.charter.privacy.as_ref();
        terms.map_or(0.0, |terms| terms.budget().get())
    }

    /// The round goes on with what others give.
    fn release_nothing(&mut self, out: &mut Vec<Effect>) {
        self.own = self.untrained();
        self.only_hears = true;
        self.skip(out);
        self.collect(out);
    }

    /// What may be said about a training: under a guarantee the charter's constants.
    pub(super) fn claims(&self, true_claims: Claims) -> Claims {
        match &self.charter.privacy {
            None => true_claims,
            Some(terms) => Claims {
                samples: terms.samples(),
                local_steps: terms.local_steps(),
                loss: 0.0,
            },
        }
    }

    /// Clears a vector of this round for release.
    pub(super) fn clear(&self, vector: Parameters) -> Cleared {
        Cleared {
            vector,
            claims: self.own.claims,
        }
    }
}
