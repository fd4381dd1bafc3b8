//! Rounds in which not everybody trains and combines: where the topology gives a round a stage of
//! its own.
//!
//! A round in which nobody trains begins with the model that the peer has. Where the graph gives a
//! peer's own model no weight it adopts what its sender has, without a rule; where nobody sends to
//! it, it keeps its own. What a stage is, the charter's topology says; not here: who sends to whom,
//! and how models are combined.

use std::sync::Arc;

use kith_consensus::Digest;
use kith_consensus::charter::Weighting;
use kith_consensus::topology::Graph;

use super::{Peer, Phase};
use crate::effect::{Effect, Parameters};
use crate::event::Event;

impl Peer {
    /// Whether peers train in the own round.
    pub(super) fn trains(&self) -> bool {
        self.charter.topology.trains(self.round)
    }

    /// The graph of a round and this peer's place in it; `None` while the roster forms.
    fn place(&self, round: u64) -> Option<(Arc<Graph>, usize)> {
        let own = self.overlay.place()?;
        Some((self.overlay.graph(round), own))
    }

    /// Whether this peer takes its sender's model as it comes in the own round.
    pub(super) fn adopts(&self) -> bool {
        self.place(self.round)
            .is_some_and(|(graph, own)| graph.adopts(own))
    }

    /// Whether the rule is asked in the own round.
    pub(super) fn asks_the_rule(&self) -> bool {
        self.place(self.round)
            .is_none_or(|(graph, own)| !graph.adopts(own) && !graph.receives_from(own).is_empty())
    }

    /// Whether what comes in is weighed by samples alone, the own model too, all of it together 1
    /// (FedAvg): where mixing keeps no mean of all models that a remainder for the own model could
    /// protect.
    pub(super) fn takes_shares(&self) -> bool {
        let by_samples = matches!(
            self.charter.aggregation.weighting,
            Weighting::Samples { .. }
        );
        by_samples && self.trains() && !self.charter.topology.kind.doubly_stochastic()
    }

    /// Deadlines after which the own round closes. Nobody's training paces a round without it, so a
    /// sender may come as late as the rounds before have taken it longer: each exchange up to a
    /// deadline, and in training it may have waited for somebody who is gone, as often as its
    /// patience lasts.
    pub(super) fn deadlines(&self) -> u32 {
        let topology = &self.charter.topology;
        if topology.trains(self.round) {
            return 1;
        }
        let before = (0..self.round).rev();
        let exchanges = before
            .clone()
            .take_while(|round| !topology.trains(*round))
            .count();
        let patience = usize::try_from(self.charter.round.patience).unwrap_or(usize::MAX);
        let training = before
            .skip(exchanges)
            .take(patience)
            .take_while(|round| topology.trains(*round))
            .count();
        u32::try_from(1 + exchanges + training).unwrap_or(u32::MAX)
    }

    /// Whether this peer's own model is next in line to the one that it would adopt: others adopt
    /// it.
    pub(super) fn stands_in(&self) -> bool {
        self.adopts() && !self.overlay.audience(&self.id, self.round).is_empty()
    }

    /// A round without training: what came early goes in, then the model that is here is the
    /// update.
    pub(super) fn exchange_only(&mut self, out: &mut Vec<Effect>) {
        debug_assert_eq!(self.phase, Phase::Training, "an update can come in");
        for sender in self.overlay.receives_from(self.round) {
            self.advance(sender, out);
        }
        self.own = self.row(Arc::clone(&self.parameters), &self.parameters, 0.0);
        (self.own_samples, self.own_local_steps) = (0, 0);
        self.say(Arc::clone(&self.parameters), 0.0, out);
    }

    /// Whether there is nobody to tell the own update of this round, though there is in others.
    /// Then it is not made: a replica would go on without those who follow it.
    pub(super) fn speaks_to_nobody(&self) -> bool {
        self.charter.topology.changes() && self.overlay.audience(&self.id, self.round).is_empty()
    }

    /// What the round leads to where the rule is not asked: the adopted model, or the own one. The
    /// window is closed.
    pub(super) fn settle(&mut self, out: &mut Vec<Effect>) -> Parameters {
        let (round, dimension, adopts) = (self.round, self.parameters.len(), self.adopts());
        let window = std::mem::take(&mut self.window);
        if let Some((peer, arrived)) = window.counted().next().filter(|_| adopts) {
            let model = || Arc::new(arrived.values[..dimension].to_vec());
            let whole = arrived.values.len() == dimension;
            let parameters = if whole {
                Arc::clone(&arrived.values)
            } else {
                model()
            };
            let state = Digest::of_values(&parameters);
            self.listening = 0;
            (self.untaught, self.returned) = (false, false);
            out.push(Effect::Emit(Event::Adopted {
                round,
                peer: *peer,
                state,
            }));
            return parameters;
        }
        if adopts {
            self.history.mixed(1);
            self.listening = self.listening.saturating_sub(1);
        }
        out.push(Effect::Emit(Event::Kept {
            round,
            expected: adopts,
        }));
        let start = Arc::clone(&self.parameters);
        let mut own = self.own[..dimension].to_vec();
        if self.trains() {
            self.carry_on(&start, &mut own);
        }
        Arc::new(own)
    }
}

/// Scales weights to sum to 1; where all are nothing the own model keeps everything.
pub(super) fn share_out(weights: &mut [f64], own: usize) {
    let sum: f64 = weights.iter().sum();
    if sum > 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    } else {
        weights[own] = 1.0;
    }
}
