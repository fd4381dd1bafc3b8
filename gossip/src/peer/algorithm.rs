//! What the charter's algorithm of optimisation does to a round: one file each.
//!
//! A row is what a peer sends: its model and, after it, what the algorithm adds. [`Algorithm`] says
//! how this peer's row follows from training, what the neighbourhood's rows mean to the rule, and
//! what is carried to the next round. The formulas are `kith_consensus::optimization`'s; the peer
//! decides when something is sent, combined or stored.

mod fednova;
mod gradient_tracking;
mod plain;
mod push_sum;
mod scaffold;

use std::sync::Arc;

use kith_consensus::aggregate::{Aggregate, AggregateError, Context, Contribution};
use kith_consensus::charter::Charter;
use kith_consensus::optimization::Method;
use kith_consensus::topology::Graph;
use kith_consensus::{PeerId, Rule};

use super::window::Arrived;
use crate::Parameters;
use crate::effect::Carried;

/// An algorithm of optimisation at one peer, with what it carries from round to round.
pub(super) trait Algorithm: Send {
    /// A round begins over this graph, in which the peer has this place.
    fn open(&mut self, _graph: &Graph, _place: usize) {}

    /// The correction of every local gradient in the round that begins.
    fn correction(&self) -> Option<Parameters> {
        None
    }

    /// The model in this peer's row.
    fn model(&self, training: &Training<'_>) -> Parameters {
        Arc::clone(training.end)
    }

    /// The values after the model in this peer's row.
    fn added(&self, _training: &Training<'_>) -> Vec<f32> {
        Vec::new()
    }

    /// What this peer's row of this round becomes when it is sent: (what receivers are told, what
    /// the peer keeps).
    fn share(&self, row: &Parameters, _round: u64) -> (Parameters, Parameters) {
        (Arc::clone(row), Arc::clone(row))
    }

    /// The peer has lost its state: its model is worth nothing.
    fn lose_all(&mut self) {}

    /// Notes what was told; after a crash it is told again.
    fn shared(&mut self, _told: &Parameters) {}

    /// The models that rows stand for, if they are not the rows' first values, and their weights.
    /// `lost` says that neighbours know updates of this peer that it no longer knows. Empty: the
    /// rows' first values.
    fn models(
        &mut self,
        _rows: &[(PeerId, Arrived)],
        _own: usize,
        _lost: bool,
        _weights: &mut [f64],
    ) -> Vec<Vec<f32>> {
        Vec::new()
    }

    /// What the rule makes of the models. `beside` is what stood after each model in its row. The
    /// algorithm's carried state follows from it once there is an aggregate.
    ///
    /// # Errors
    /// The rule's error; then nothing has changed.
    fn combine(
        &mut self,
        rule: &dyn Rule,
        context: &Context<'_>,
        models: &[Contribution<'_>],
        _beside: &[&[f32]],
    ) -> Result<Aggregate, AggregateError> {
        rule.aggregate(context, models)
    }

    /// What is carried to the next round, by name.
    fn carried(&self) -> Carried {
        Carried::new()
    }

    /// Takes back what it carried.
    fn restore(&mut self, _carried: &mut Carried) {}
}

/// The algorithm that a charter names, for models of `dimension` values.
pub(super) fn new(charter: &Charter, dimension: usize) -> Box<dyn Algorithm> {
    match charter.aggregation.method {
        Method::Plain => Box::new(plain::Plain),
        Method::FedNova { reference_steps } => Box::new(fednova::FedNova::new(
            charter.declared.optimizer,
            reference_steps,
        )),
        Method::GradientTracking => Box::new(gradient_tracking::GradientTracking::new(dimension)),
        Method::PushSum => Box::new(push_sum::PushSum::new(dimension)),
        Method::Scaffold {
            global_learning_rate,
        } => Box::new(scaffold::Scaffold::new(dimension, global_learning_rate)),
    }
}

/// A round's training as the algorithms see it.
pub(super) struct Training<'a> {
    /// Where the round started.
    pub(super) start: &'a Parameters,
    /// Where it led; the start if nothing was trained.
    pub(super) end: &'a Parameters,
    /// How far a constant gradient of 1 would have led, the step size times ‖a‖₁ of FedNova; 0 if
    /// nothing was trained.
    pub(super) reach: f64,
    /// The size of its steps.
    pub(super) rate: f64,
}

impl Training<'_> {
    /// The mean gradient of the round's steps, corrections included: (start − end) / reach; zero if
    /// nothing was trained.
    fn mean_gradient(&self) -> Vec<f32> {
        if self.reach == 0.0 {
            return vec![0.0; self.start.len()];
        }
        let gradient = |(start, end): (&f32, &f32)| {
            ((f64::from(*start) - f64::from(*end)) / self.reach) as f32
        };
        self.start
            .iter()
            .zip(self.end.iter())
            .map(gradient)
            .collect()
    }
}

/// What the models' rule makes of the values that stand after them, with the same rows and weights.
/// `None` if it cannot say, which is rare when it could combine the models.
fn mixed(
    rule: &dyn Rule,
    context: &Context<'_>,
    models: &[Contribution<'_>],
    beside: &[&[f32]],
) -> Option<Vec<f32>> {
    let rows: Vec<Contribution<'_>> = models
        .iter()
        .zip(beside)
        .map(|(model, beside)| Contribution {
            parameters: beside,
            ..*model
        })
        .collect();
    let context = Context {
        last_aggregate: None,
        own_public: None,
        ..*context
    };
    rule.aggregate(&context, &rows)
        .ok()
        .map(|aggregate| aggregate.parameters)
}

/// This peer's row.
fn own_of<'a>(context: &Context<'_>, beside: &[&'a [f32]]) -> &'a [f32] {
    beside[context.own.expect("a peer combines its own row too")]
}
