//! `gradient-tracking`: K-GT (Liu et al. 2023, arXiv 2301.01313), one exchange a round.
//!
//! Local steps y ← y − η (g + c); z is their mean, and each peer sends its z after its model.
//! Afterwards c ← c − z + Σ w z, which is the half step of `optimization::gradient_tracking`. If
//! everybody mixes with doubly stochastic weights, the corrections' mean stays zero, and over any
//! connected graph everybody reaches the optimum of all data. That rests on a sum over all rounds.
//! An update that a neighbour misses for good shifts the sum, and with it the point where everybody
//! ends. So do codecs that lose values, and robust rules. Twice the bytes.

use std::sync::Arc;

use kith_consensus::Rule;
use kith_consensus::aggregate::{Aggregate, AggregateError, Context, Contribution};
use kith_consensus::optimization::gradient_tracking::tracked_half_step;

use super::{Algorithm, Training, mixed, own_of};
use crate::Parameters;
use crate::effect::Carried;

pub(super) struct GradientTracking {
    correction: Option<Parameters>,
    dimension: usize,
}

impl GradientTracking {
    pub(super) fn new(dimension: usize) -> GradientTracking {
        GradientTracking {
            correction: None,
            dimension,
        }
    }
}

impl Algorithm for GradientTracking {
    fn correction(&self) -> Option<Parameters> {
        self.correction.clone()
    }

    fn added(&self, training: &Training<'_>) -> Vec<f32> {
        training.mean_gradient()
    }

    fn combine(
        &mut self,
        rule: &dyn Rule,
        context: &Context<'_>,
        models: &[Contribution<'_>],
        beside: &[&[f32]],
    ) -> Result<Aggregate, AggregateError> {
        let aggregate = rule.aggregate(context, models)?;
        if let Some(mixed) = mixed(rule, context, models, beside) {
            let before = self
                .correction
                .clone()
                .unwrap_or_else(|| Arc::new(vec![0.0; self.dimension]));
            self.correction = Some(Arc::new(tracked_half_step(
                &before,
                &mixed,
                own_of(context, beside),
            )));
        }
        Ok(aggregate)
    }

    fn carried(&self) -> Carried {
        self.correction
            .iter()
            .map(|correction| ("correction".to_owned(), Arc::clone(correction)))
            .collect()
    }

    fn restore(&mut self, carried: &mut Carried) {
        self.correction = carried.remove("correction");
    }
}
