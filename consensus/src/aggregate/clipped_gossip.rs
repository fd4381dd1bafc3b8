//! ClippedGossip: move towards each neighbour by its mixing weight, but no farther than τ.
//!
//! He, Karimireddy and Jaggi 2022, arXiv 2202.01545. xᵢ ← Σⱼ wᵢⱼ (xᵢ + clip(xⱼ − xᵢ, τ)). Keeps
//! sparse graphs agreeing where median-like rules make dense parts ignore each other. Protects
//! while attackers' weight is small against the spectral gap of the honest graph. There is no fixed
//! n, but with f > 0 at least one neighbour besides the f must be there: n ≥ f + 2. Cost n·d.
//! `tau = 0`: the (f + 1)-th largest distance to a neighbour, so that at least one honest neighbour
//! pulls in full and none pulls farther. The paper's own τ requires knowing which peers are honest.

use super::mean::shares;
use super::static_clip::clip_factor;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "clipped-gossip",
    help: "gossip averaging, each neighbour clipped to tau (0: adaptive); n >= f + 2",
    source: "He, Karimireddy and Jaggi 2022, arXiv 2202.01545",
    main_key: None,
    // 0: a fixed τ that fits one model's size does not fit another's.
    new: |section, byzantine| {
        Box::new(ClippedGossip {
            byzantine,
            tau: section.number("tau", Some(0.0), 0.0..=1e30),
        })
    },
};

#[derive(Debug)]
struct ClippedGossip {
    byzantine: usize,
    /// Clipping radius τ; 0: adaptive.
    tau: f64,
}

impl Rule for ClippedGossip {
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

    fn uses_weights(&self) -> bool {
        true
    }

    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let own = context.own_row(ENTRY.name)?;
        let weights = shares(ENTRY.name, "mixing weight", rows.weights())?;
        let scores: Vec<f64> = rows
            .squared_distances_to_row(own)
            .into_iter()
            .map(f64::sqrt)
            .collect();
        let tau = if self.tau > 0.0 {
            self.tau
        } else {
            adaptive_tau(&scores, own, self.byzantine)
        };
        let mut influence: Vec<f64> = weights
            .iter()
            .zip(&scores)
            .map(|(weight, distance)| weight * clip_factor(*distance, tau))
            .collect();
        influence[own] = 0.0;
        influence[own] = 1.0 - influence.iter().sum::<f64>();
        Ok(Aggregate {
            parameters: rows.weighted_sum(&influence),
            influence,
            scores,
        })
    }
}

/// The peer's own model, the `byzantine` liars, and, if there are any, one honest neighbour.
pub(super) fn own_and_one_honest(byzantine: usize) -> usize {
    if byzantine == 0 { 1 } else { byzantine + 2 }
}

/// The (f + 1)-th largest distance to a neighbour; 0, which keeps the peer's own model, if there is
/// no such neighbour.
fn adaptive_tau(distances: &[f64], own: usize, byzantine: usize) -> f64 {
    let mut others: Vec<f64> = (0..distances.len())
        .filter(|row| *row != own)
        .map(|row| distances[row])
        .collect();
    others.sort_by(|a, b| b.total_cmp(a));
    others.get(byzantine).copied().unwrap_or(0.0)
}
