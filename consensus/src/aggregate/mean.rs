//! Weighted mean: Σ wᵢ xᵢ / Σ wᵢ with the mixing weights as given, which is FedAvg with sample
//! weights and gossip averaging with Metropolis–Hastings weights.
//!
//! McMahan et al. 2017, arXiv 1602.05629. Cost n·d. One arbitrary model moves the result anywhere.

use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "mean",
    help: "average by mixing weight; tolerates no arbitrary model",
    source: "McMahan et al. 2017, arXiv 1602.05629",
    main_key: None,
    new: |_, byzantine| Box::new(Mean { byzantine }),
};

#[derive(Debug)]
struct Mean {
    byzantine: usize,
}

impl Rule for Mean {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        1
    }

    fn uses_weights(&self) -> bool {
        true
    }

    fn combine(&self, _: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let influence = shares(ENTRY.name, "mixing weight", rows.weights())?;
        Ok(Aggregate {
            parameters: rows.weighted_sum(&influence),
            influence,
            scores: Vec::new(),
        })
    }
}

/// `weights` scaled to sum to 1.
pub(super) fn shares(
    rule: &'static str,
    parameter: &'static str,
    weights: &[f64],
) -> Result<Vec<f64>, AggregateError> {
    let invalid = |reason: String| AggregateError::InvalidParameter {
        rule,
        parameter,
        reason,
    };
    if let Some(weight) = weights
        .iter()
        .find(|weight| !weight.is_finite() || **weight < 0.0)
    {
        return Err(invalid(format!(
            "{weight} is not a weight; expected a finite number, at least 0"
        )));
    }
    let sum: f64 = weights.iter().sum();
    if !(sum.is_finite() && sum > 0.0) {
        return Err(invalid(format!(
            "the weights sum to {sum}; expected a positive, finite sum"
        )));
    }
    Ok(weights.iter().map(|weight| weight / sum).collect())
}
