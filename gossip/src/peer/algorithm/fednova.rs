//! `fednova`: everybody's change counts as if everybody had taken the same number of local steps.
//!
//! Wang et al. 2020 (FedNova), arXiv 2007.07481. Peers with many rows take many steps a round, and
//! plain averaging lets them pull the model to their own optimum. Here a peer sends x₀ +
//! ‖a(reference)‖₁ / ‖a(τ)‖₁ (x − x₀): what its mean gradient would have done in the charter's
//! `reference_steps`. If all start a round alike, the mean of these is the paper's x⁺ with its free
//! τ_eff set to that. ‖a‖₁ takes in momentum, dampening and the proximal pull of the charter's
//! `[training]` (not weight decay).
//!
//! The paper's server divides by the steps that a client claims. Among peers that would be unsound
//! twice. A peer that claims few steps gets a large weight. And a receiver does not know where the
//! sender started, so dividing x − (its own start) also multiplies the difference between the two
//! starts. With steps τ the disagreement changes by 1 − mean τ · mean 1/τ a round, below −1 for 1
//! step against 20, and one lost message ends in divergence. The sender knows its start and its
//! steps, so it divides. No claim counts, and the method works with every graph, rule, codec and
//! mode. A liar lies with its vector alone, as ever.
//!
//! A drift of order η τ within the steps remains; it shrinks with the learning rate.

use std::sync::Arc;

use kith_consensus::optimization::fednova::average;

use kith_consensus::optimization::Optimizer;

use super::{Algorithm, Training};
use crate::Parameters;

pub(super) struct FedNova {
    optimizer: Optimizer,
    reference_steps: u64,
}

impl FedNova {
    pub(super) fn new(optimizer: Optimizer, reference_steps: u64) -> FedNova {
        FedNova {
            optimizer,
            reference_steps,
        }
    }
}

impl Algorithm for FedNova {
    fn model(&self, training: &Training<'_>) -> Parameters {
        if training.reach == 0.0 {
            return Arc::clone(training.end);
        }
        let reference = training.rate
            * self
                .optimizer
                .effective_steps(self.reference_steps, training.rate);
        let scale = reference / training.reach;
        if scale == 1.0 {
            return Arc::clone(training.end);
        }
        Arc::new(average(training.start, &[training.end], &[scale]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_as_that_of_the_reference_steps() {
        let optimizer = Optimizer {
            momentum: 0.5,
            dampening: 0.0,
            prox: 0.0,
            is_lasting: false,
        };
        let (start, end) = (Arc::new(vec![1.0f32, 0.0]), Arc::new(vec![2.0f32, -4.25]));
        let model = |steps| {
            let reach = 0.1 * optimizer.effective_steps(steps, 0.1);
            FedNova::new(optimizer, 3).model(&Training {
                start: &start,
                end: &end,
                reach,
                rate: 0.1,
            })
        };
        assert!(Arc::ptr_eq(&model(3), &end), "three steps are three steps");
        // One step amounts to 1, three amount to 4.25.
        assert_eq!(*model(1), [5.25, -4.25 * 4.25]);
        assert_eq!(*model(0), *end, "what was not trained is not scaled");
    }
}
