//! What a round leads to: the models that came and this peer's own, combined by the rule or
//! adopted.
//!
//! The rule sees this peer's exact row, and of the others the rows that everybody reconstructs. An
//! absent neighbour leaves its weight to this peer's model. If the graph gives a peer's own model
//! no weight, the peer adopts its sender's model, without a rule. If nobody sends to it, it keeps
//! its own. A peer that listens takes what others say: that is in `listening`.

use std::sync::Arc;

use kith_consensus::aggregate::{Aggregate, Context, Contribution, spread};
use kith_consensus::charter::{Space, Weighting};
use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::optimization::server_momentum;
use kith_consensus::topology::{Graph, remainder};
use kith_consensus::{Digest, PeerId};

use super::window::{Arrived, Window};
use super::{Peer, Phase};
use crate::Parameters;
use crate::effect::{Checkpoint, Effect, Record};
use crate::event::Event;

/// What the rule sees: contributions in the order of their senders, and which one is this peer's.
pub(super) struct Rows {
    pub(super) rows: Vec<(PeerId, Arrived)>,
    pub(super) own: usize,
}

/// The origin of the vectors that the rule sees: zero for models, the start of the round for
/// updates.
struct Origin {
    start: Parameters,
    space: Space,
}

impl Origin {
    fn seen(&self, values: &[f32]) -> Vec<f32> {
        values
            .iter()
            .zip(self.start.iter())
            .map(|(value, start)| value - start)
            .collect()
    }

    fn is_start(&self) -> bool {
        self.space == Space::Updates
    }
}

impl Peer {
    /// Combines what the closed window holds and stores the result.
    pub(super) fn conclude(&mut self, losses: Option<&[f64]>, out: &mut Vec<Effect>) {
        self.parameters = match (self.asks_the_rule(), self.standing.listens()) {
            (true, false) => self.combine(losses, out),
            (true, true) if self.holds_shares() => self.take_shares(out),
            (true, true) => self.catch_up(out),
            (false, _) => self.settle(out),
        };
        let stayed = Arc::ptr_eq(&self.parameters, &self.own.row);
        if !(planted(Mutant::StayAfterSkip) && stayed) {
            self.round += 1;
        }
        self.phase = Phase::Storing;
        let checkpoint = Checkpoint {
            round: self.round,
            sequence: self.sequence,
            roster: self.overlay.roster(),
            parameters: Arc::clone(&self.parameters),
            replicas: self.exchange.replicas(),
            carried: self.carried(),
            history: self.history.clone(),
            headers: self.witness.stated(),
        };
        out.push(Effect::Persist(Record::Checkpoint(Box::new(checkpoint))));
        if self.exchange.is_large() {
            // Memory that this round no longer needs is freed before the next one needs as much.
            self.own.row = Arc::clone(&self.parameters);
            self.exchange.release_own();
            if !self.charter.topology.changes() {
                self.exchange
                    .expect_only(&self.overlay.receives_from(self.round));
            }
        }
    }

    // --- what stands in a round ---

    /// The graph of the peer's round and its place in it; `None` while the roster forms.
    fn place(&self) -> Option<(Arc<Graph>, usize)> {
        let own = self.overlay.place()?;
        Some((self.overlay.graph(self.round), own))
    }

    /// Whether this peer takes its sender's model unchanged.
    pub(super) fn adopts(&self) -> bool {
        self.place().is_some_and(|(graph, own)| graph.adopts(own))
    }

    /// Whether the rule is asked in this round.
    pub(super) fn asks_the_rule(&self) -> bool {
        self.place()
            .is_none_or(|(graph, own)| !graph.adopts(own) && !graph.receives_from(own).is_empty())
    }

    /// Whether this round's update has no receivers, though other rounds' have. Then it is not
    /// made: the replica would change without those that follow it.
    pub(super) fn speaks_to_nobody(&self) -> bool {
        self.charter.topology.changes() && self.overlay.audience(&self.id, self.round).is_empty()
    }

    /// Whether this peer's own model is the next choice after the one that it would adopt: others
    /// adopt it.
    pub(super) fn stands_in(&self) -> bool {
        self.adopts() && !self.overlay.audience(&self.id, self.round).is_empty()
    }

    /// This peer's exact row and what arrived, in the order of ids.
    pub(super) fn rows(&self) -> Rows {
        let arrived = self.window.counted();
        let mut rows: Vec<(PeerId, Arrived)> = arrived
            .map(|(peer, arrived)| (*peer, arrived.clone()))
            .collect();
        rows.push((self.id, self.own_row()));
        if !planted(Mutant::UnsortedRows) {
            rows.sort_by_key(|(peer, _)| *peer);
        }
        let own = rows.iter().position(|(peer, _)| *peer == self.id);
        Rows {
            rows,
            own: own.expect("this peer's row was just added"),
        }
    }

    fn own_row(&self) -> Arrived {
        let (values, samples) = (Arc::clone(&self.own.row), self.own.claims.samples);
        Arrived {
            state: self.exchange.own_state_if(&values),
            values,
            age: 0,
            samples,
        }
    }

    // --- combining ---

    /// The rule over this peer's exact model and what arrived; its own model if that is too little.
    pub(super) fn combine(&mut self, losses: Option<&[f64]>, out: &mut Vec<Effect>) -> Parameters {
        let Rows { rows, own } = self.rows();
        self.window = Window::default();
        self.history.mixed(rows.len());
        self.standing.mixed(rows.len());
        let charter = Arc::clone(&self.charter);
        let mut weights = self.weights(&rows, own);
        let origin = Origin {
            start: Arc::clone(&self.parameters),
            space: charter.aggregation.on,
        };
        let lost = self.standing.has_lost_rounds();
        let mut moved = self.algorithm.models(&rows, own, lost, &mut weights);
        if origin.is_start() {
            moved = rows
                .iter()
                .map(|(_, arrived)| origin.seen(&arrived.values))
                .collect();
        }
        let dimension = origin.start.len();
        let contributions: Vec<Contribution<'_>> = rows
            .iter()
            .zip(&weights)
            .enumerate()
            .map(|(index, ((peer, arrived), weight))| Contribution {
                mixing_weight: *weight,
                // Values were checked on arrival.
                is_finite: moved.is_empty(),
                // A vector that is moved to another origin, or cut, has another name.
                state: arrived
                    .state
                    .filter(|_| !origin.is_start() && arrived.values.len() == dimension),
                ..Contribution::of(
                    *peer,
                    moved
                        .get(index)
                        .map_or(&arrived.values[..dimension], Vec::as_slice),
                )
            })
            .collect();
        let public = self
            .exchange
            .own_public()
            .map(|public| match origin.is_start() {
                true => Arc::new(origin.seen(&public)),
                false => public,
            });
        let context = Context {
            own: Some(own),
            own_public: public.as_deref().map(|public| &public[..dimension]),
            last_aggregate: (!origin.is_start()).then_some(origin.start.as_slice()),
            round: self.round,
            rounds: charter.rounds,
            losses,
            seed: charter.genesis.seed(),
        };
        let rule = charter.aggregation.rule.as_ref();
        let added: Vec<&[f32]> = rows
            .iter()
            .map(|(_, arrived)| &arrived.values[dimension..])
            .collect();
        match self
            .algorithm
            .combine(rule, &context, &contributions, &added)
        {
            Ok(aggregate) => {
                let senders: Vec<PeerId> = rows.iter().map(|(peer, _)| *peer).collect();
                self.take(aggregate, &senders, spread(&contributions), &origin, out)
            }
            Err(_) => {
                let (round, have, need) = (self.round, rows.len(), rule.minimum());
                out.push(Effect::Emit(Event::MixingSkipped { round, have, need }));
                self.own_model()
            }
        }
    }

    /// The model of this peer's row.
    fn own_model(&self) -> Parameters {
        model_of(&self.own.row, self.parameters.len())
    }

    /// Applies an aggregate to the start of the round, and notes whom it makes suspect.
    fn take(
        &mut self,
        mut aggregate: Aggregate,
        senders: &[PeerId],
        spread: f64,
        origin: &Origin,
        out: &mut Vec<Effect>,
    ) -> Parameters {
        let dropped = self.suspicion.judge(&self.id, senders, &aggregate, out);
        let values = &mut aggregate.parameters;
        if origin.is_start() {
            // A rule that trusts nobody's update answers zero: this peer keeps its own step.
            if values.iter().all(|value| *value == 0.0) {
                *values = origin.seen(&self.own.row);
            }
            values
                .iter_mut()
                .zip(origin.start.iter())
                .for_each(|(value, start)| *value += start);
        }
        if self.trains() {
            self.carry_on(&origin.start, values);
        }
        let (round, models) = (self.round, senders.len());
        let parameters = Arc::new(aggregate.parameters);
        let state = Arc::clone(&parameters).into();
        out.push(Effect::Emit(Event::Aggregated {
            round,
            state,
            models,
            dropped,
            spread,
        }));
        parameters
    }

    /// Server momentum at every peer: v ← β v + (aggregate − start), x ← start + v.
    fn carry_on(&mut self, start: &Parameters, aggregate: &mut [f32]) {
        let momentum = self.charter.aggregation.momentum;
        if momentum == 0.0 {
            return;
        }
        let change: Vec<f32> = aggregate
            .iter()
            .zip(start.iter())
            .map(|(value, start)| value - start)
            .collect();
        let velocity = self.velocity.as_ref();
        let mut velocity =
            velocity.map_or_else(|| vec![0.0; change.len()], |velocity| velocity.to_vec());
        aggregate.copy_from_slice(start);
        server_momentum::step(aggregate, &mut velocity, &change, momentum, 1.0);
        self.velocity = Some(Arc::new(velocity));
    }

    // --- weights ---

    /// The weight of each row, this peer's own included.
    fn weights(&self, rows: &[(PeerId, Arrived)], own: usize) -> Vec<f64> {
        let factor = self.choosing.factor();
        let weight =
            |(peer, arrived): &(PeerId, Arrived)| factor * self.weight(peer, arrived, rows.len());
        let mut weights: Vec<f64> = rows.iter().map(weight).collect();
        if self.weighs_by_samples_alone() {
            share_out(&mut weights, own);
        } else if !planted(Mutant::LoseWeight) {
            // An absent peer leaves its weight to this one's model.
            let others = weights
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != own);
            weights[own] = remainder(others.map(|(_, weight)| *weight));
        }
        weights
    }

    fn weight(&self, peer: &PeerId, arrived: &Arrived, models: usize) -> f64 {
        let mixing = self.mode.weight(&self.scene(), peer, arrived.age, models);
        match self.charter.aggregation.weighting {
            Weighting::Mixing => mixing,
            // In a round without training a model is nobody's own: it counts as the graph says.
            Weighting::Samples { .. } if !self.trains() => mixing,
            Weighting::Samples { cap } => mixing * (arrived.samples as f64 / cap as f64).min(1.0),
        }
    }

    /// Whether samples alone weigh all models, this peer's included, with a sum of 1 (FedAvg). That
    /// holds if mixing keeps no mean of all models that a remainder for the peer's own model could
    /// protect.
    fn weighs_by_samples_alone(&self) -> bool {
        let by_samples = matches!(
            self.charter.aggregation.weighting,
            Weighting::Samples { .. }
        );
        by_samples && self.trains() && !self.charter.topology.kind.doubly_stochastic()
    }

    // --- where the rule is not asked ---

    /// The adopted model, or this peer's own. The window is closed.
    fn settle(&mut self, out: &mut Vec<Effect>) -> Parameters {
        let (round, adopts) = (self.round, self.adopts());
        let window = std::mem::take(&mut self.window);
        if let Some((peer, arrived)) = window.counted().next().filter(|_| adopts) {
            let parameters = model_of(&arrived.values, self.parameters.len());
            let state = Digest::of_values(&parameters);
            self.standing.caught_up();
            out.push(Effect::Emit(Event::Adopted {
                round,
                peer: *peer,
                state,
            }));
            return parameters;
        }
        if adopts {
            self.history.mixed(1);
            self.standing.listened();
        }
        out.push(Effect::Emit(Event::Kept {
            round,
            expected: adopts,
        }));
        let start = Arc::clone(&self.parameters);
        let mut own = self.own.row[..start.len()].to_vec();
        if self.trains() {
            self.carry_on(&start, &mut own);
        }
        Arc::new(own)
    }
}

/// The model at the beginning of a row.
fn model_of(row: &Parameters, dimension: usize) -> Parameters {
    match row.len() == dimension {
        true => Arc::clone(row),
        false => Arc::new(row[..dimension].to_vec()),
    }
}

/// Scales weights to sum to 1; if all are zero, the row at `own` gets everything.
pub(super) fn share_out(weights: &mut [f64], own: usize) {
    let sum: f64 = weights.iter().sum();
    if sum > 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    } else {
        weights[own] = 1.0;
    }
}
