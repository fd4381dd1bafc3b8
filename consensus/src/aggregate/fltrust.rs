//! FLTrust-like: trust each update by its cosine with the peer's own, and scale all of them to the
//! peer's own norm.
//!
//! Cao et al. 2021, arXiv 2012.13995, where a server has a clean data set; here the peer's own
//! update takes its place. tⱼ = max(0, cos(xⱼ, xᵢ)); result Σ tⱼ (‖xᵢ‖ / ‖xⱼ‖) xⱼ / Σ tⱼ over the
//! neighbours. If nobody is trusted, the result is the zero vector with all influence on the peer's
//! own update, and the caller keeps that update. Needs updates. No fixed n; with f > 0, n ≥ f + 2
//! is required. Cost n·d. No number of attackers can make it larger than the peer's own update, but
//! one that stays within the right half space counts. Under heterogeneous data honest updates may
//! point away.

use super::clipped_gossip::own_and_one_honest;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "fltrust",
    help: "neighbours' updates at its own norm, weighted by their cosine with its own; on updates; n >= f + 2",
    source: "Cao et al. 2021, arXiv 2012.13995",
    main_key: None,
    new: |_, byzantine| Box::new(Trust { byzantine }),
};

#[derive(Debug)]
struct Trust {
    byzantine: usize,
}

impl Rule for Trust {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        own_and_one_honest(self.byzantine)
    }

    fn needs_own(&self) -> bool {
        true
    }

    fn needs_updates(&self) -> bool {
        true
    }

    /// Scores are 1 − t.
    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let own = context.own_row(ENTRY.name)?;
        let norms: Vec<f64> = rows.squared_norms().into_iter().map(f64::sqrt).collect();
        let products = rows.products_with_row(own);
        let trust = |row: usize| {
            let scale = norms[row] * norms[own];
            if row == own || scale == 0.0 {
                0.0
            } else {
                (products[row] / scale).clamp(0.0, 1.0)
            }
        };
        let trusts: Vec<f64> = (0..rows.count()).map(trust).collect();
        let total: f64 = trusts.iter().sum();
        let mut influence = vec![0.0; rows.count()];
        let mut factors = vec![0.0; rows.count()];
        if total > 0.0 {
            for row in (0..rows.count()).filter(|row| trusts[*row] > 0.0) {
                influence[row] = trusts[row] / total;
                factors[row] = influence[row] * norms[own] / norms[row];
            }
        } else {
            influence[own] = 1.0;
        }
        let scores = trusts
            .iter()
            .enumerate()
            .map(|(row, trust)| if row == own { 0.0 } else { 1.0 - trust })
            .collect();
        Ok(Aggregate {
            parameters: rows.weighted_sum(&factors),
            influence,
            scores,
        })
    }
}
