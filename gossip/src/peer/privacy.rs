//! Privacy: the one stage between what a peer has learned from its rows and what anybody else gets to
//! see.
//!
//! Under a `[privacy] mechanism` the trainer returns values that are noised already,
//! so that no exact one ever enters a peer, and all that a peer makes of them costs nothing more.
//! Two things are decided here. Before each training [`Peer::charge`] asks the ledger of the peer's
//! rows; if the budget does not bear the round, the peer does not train and says that nothing comes
//! ([`Peer::charged`]). And what an announcement says besides its vector is a constant of the charter
//! ([`Peer::claims`]), since the true numbers follow from the rows.
//!
//! [`Cleared`] is what may be released. [`Peer::clear`] alone makes one, and `Exchange::encode`
//! takes nothing else, so no honest vector gets around this stage.

use kith_consensus::privacy::ledger::{Decision, Spent};

use super::{Peer, Phase};
use crate::Parameters;
use crate::effect::{Effect, Record};
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

impl Peer {
    /// Asks for the training of this round to be charged.
    pub(super) fn charge(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Charging;
        out.push(Effect::Persist(Record::Charge {
            round: self.round,
            known: self.standing.signed(),
        }));
    }

    /// The ledger has answered: the peer trains, or it says that it has no update of this round.
    pub(super) fn charged(&mut self, decision: Decision, spent: Spent, out: &mut Vec<Effect>) {
        let terms = self.charter.privacy.as_ref();
        let budget = terms.map_or(0.0, |terms| terms.budget().get());
        let (round, epsilon) = (self.round, spent.epsilon);
        match decision {
            Decision::Charged => {
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
                self.own = self.untrained();
                self.only_hears = true;
                self.skip(out);
                self.collect(out);
            }
        }
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
