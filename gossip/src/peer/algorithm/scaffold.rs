//! `scaffold`: SCAFFOLD, option II (Karimireddy et al. 2020, arXiv 1910.06378), without a server.
//!
//! Peer i holds a control cᵢ. Local steps y ← y − η (g − cᵢ + c); afterwards cᵢ ← cᵢ − c + (x − y)
//! / (K η), the mean of the round's own gradients. The peer sends cᵢ after its model. c is what the
//! rule makes of the neighbourhood's controls. With a global step size η_g other than 1 the model
//! that it sends and mixes is x + η_g (y − x): in a complete graph the paper's server step.
//!
//! In a complete graph this is the paper's algorithm with everybody taking part: the exact optimum.
//! In a sparse graph c is the mean of a neighbourhood and not of all. That undoes the drift of many
//! local steps, but not the difference between unlike neighbourhoods: gradient tracking removes
//! more there. Its advantage over gradient tracking is that nothing is summed up over rounds. A
//! missed update spoils one round's correction and no other, and a rule that withstands liars
//! withstands them among controls too: the rule is the same, and so is `byzantine`. Twice the
//! bytes.

use std::sync::Arc;

use kith_consensus::Rule;
use kith_consensus::aggregate::{Aggregate, AggregateError, Context, Contribution};
use kith_consensus::optimization::scaffold::{corrected_gradient, scaled_end, updated_control};

use super::{Algorithm, Training, mixed, own_of};
use crate::Parameters;
use crate::effect::Carried;

pub(super) struct Scaffold {
    /// cᵢ
    own: Parameters,
    /// c
    all: Parameters,
    /// c − cᵢ; nothing before the first round is over.
    correction: Option<Parameters>,
    /// η_g
    global_learning_rate: f64,
}

impl Scaffold {
    pub(super) fn new(dimension: usize, global_learning_rate: f64) -> Scaffold {
        let zero = Arc::new(vec![0.0; dimension]);
        Scaffold {
            own: Arc::clone(&zero),
            all: zero,
            correction: None,
            global_learning_rate,
        }
    }

    fn set(&mut self, own: Parameters, all: Parameters) {
        (self.own, self.all) = (own, all);
        self.correction = Some(Arc::new(corrected_gradient(
            &vec![0.0; self.own.len()],
            &self.own,
            &self.all,
        )));
    }
}

impl Algorithm for Scaffold {
    fn correction(&self) -> Option<Parameters> {
        self.correction.clone()
    }

    fn model(&self, training: &Training<'_>) -> Parameters {
        if training.reach == 0.0 || self.global_learning_rate == 1.0 {
            return Arc::clone(training.end);
        }
        Arc::new(scaled_end(
            training.start,
            training.end,
            self.global_learning_rate,
        ))
    }

    fn added(&self, training: &Training<'_>) -> Vec<f32> {
        if training.reach == 0.0 {
            return self.own.to_vec(); // it repeats its last control
        }
        updated_control(
            &self.own,
            &self.all,
            training.start,
            training.end,
            1,
            training.reach,
        )
    }

    fn combine(
        &mut self,
        rule: &dyn Rule,
        context: &Context<'_>,
        models: &[Contribution<'_>],
        beside: &[&[f32]],
    ) -> Result<Aggregate, AggregateError> {
        let aggregate = rule.aggregate(context, models)?;
        let own = Arc::new(own_of(context, beside).to_vec());
        // If the controls cannot be combined, there is nothing to correct towards.
        let all = mixed(rule, context, models, beside).map_or_else(|| Arc::clone(&own), Arc::new);
        self.set(own, all);
        Ok(aggregate)
    }

    fn carried(&self) -> Carried {
        match self.correction {
            None => Carried::new(),
            Some(_) => Carried::from([
                ("control".to_owned(), Arc::clone(&self.own)),
                ("controls".to_owned(), Arc::clone(&self.all)),
            ]),
        }
    }

    fn restore(&mut self, carried: &mut Carried) {
        if let (Some(own), Some(all)) = (carried.remove("control"), carried.remove("controls")) {
            self.set(own, all);
        }
    }
}
