//! BALANCE: average with those neighbours whose model is near the peer's own, nearer as training
//! continues.
//!
//! Fang et al. 2024, arXiv 2406.10416. Neighbour j counts while ‖xᵢ − xⱼ‖ ≤ γ e^(−κ t/T) ‖xᵢ‖ in
//! round t of T; xᵢ ← α xᵢ + (1 − α) · mean of those; the peer keeps its own model if no neighbour
//! counts. Needs models: its radius grows with the norm of the peer's own model, so it means
//! nothing for updates near 0. No fixed n; with f > 0, n ≥ f + 2 is required. Cost n·d. Under
//! heterogeneous data, a radius that shrinks faster than honest models come together isolates
//! peers.

use super::clipped_gossip::own_and_one_honest;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};
use crate::arithmetic::exp;

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "balance",
    help: "mean with neighbours within a shrinking radius of its own model; keys alpha, gamma, kappa; n >= f + 2",
    source: "Fang et al. 2024, arXiv 2406.10416",
    main_key: None,
    new: |section, byzantine| {
        Box::new(Balance {
            byzantine,
            // The paper's values, from memory.
            alpha: section.number("alpha", Some(0.5), 0.0..=1.0),
            gamma: section.number("gamma", Some(0.3), 0.0..=1e30),
            kappa: section.number("kappa", Some(1.0), 0.0..=1e6),
        })
    },
};

#[derive(Debug)]
struct Balance {
    byzantine: usize,
    /// Share of the peer's own model.
    alpha: f64,
    /// Radius in round 0, in norms of the peer's own model.
    gamma: f64,
    /// The radius ends at e^(−κ) of that.
    kappa: f64,
}

impl Rule for Balance {
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

    fn needs_models(&self) -> bool {
        true
    }

    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let own = context.own_row(ENTRY.name)?;
        let scores: Vec<f64> = rows
            .squared_distances_to_row(own)
            .into_iter()
            .map(f64::sqrt)
            .collect();
        let progress = context.round as f64 / context.rounds.max(1) as f64;
        let radius = self.gamma * exp(-self.kappa * progress) * rows.squared_norms()[own].sqrt();
        let accepted: Vec<usize> = (0..rows.count())
            .filter(|row| *row != own && scores[*row] <= radius)
            .collect();
        let influence = own_and_mean(rows.count(), own, self.alpha, &accepted);
        Ok(Aggregate {
            parameters: rows.weighted_sum(&influence),
            influence,
            scores,
        })
    }
}

/// Shares of α for row `own` and (1 − α) for the mean of `accepted`; all for row `own` if none is
/// accepted.
pub(super) fn own_and_mean(rows: usize, own: usize, alpha: f64, accepted: &[usize]) -> Vec<f64> {
    let mut shares = vec![0.0; rows];
    accepted
        .iter()
        .for_each(|row| shares[*row] = (1.0 - alpha) / accepted.len() as f64);
    shares[own] = if accepted.is_empty() { 1.0 } else { alpha };
    shares
}
