//! Mean with explicit weights, one per model in the order of senders: for models combined by hand.
//!
//! Σ wᵢ xᵢ / Σ wᵢ. Cost n·d. One arbitrary model moves the result anywhere. In a federation use
//! `mean`, whose weights come from the topology.

use super::mean::shares;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "weighted-mean",
    help: "average by a list of weights, one per model; tolerates no arbitrary model",
    source: "McMahan et al. 2017, arXiv 1602.05629",
    main_key: None,
    new: |section, byzantine| {
        Box::new(WeightedMean {
            byzantine,
            weights: section.numbers("weights", None),
        })
    },
};

#[derive(Debug)]
struct WeightedMean {
    byzantine: usize,
    weights: Vec<f64>,
}

impl Rule for WeightedMean {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        self.weights.len().max(1)
    }

    fn fits(&self, models: usize) -> Result<(), AggregateError> {
        if self.weights.len() == models {
            return Ok(());
        }
        Err(AggregateError::InvalidParameter {
            rule: ENTRY.name,
            parameter: "weights",
            reason: format!(
                "{} weights for {models} models; expected one each",
                self.weights.len()
            ),
        })
    }

    fn combine(&self, _: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let influence = shares(ENTRY.name, "weights", &self.weights)?;
        Ok(Aggregate {
            parameters: rows.weighted_sum(&influence),
            influence,
            scores: Vec::new(),
        })
    }
}
