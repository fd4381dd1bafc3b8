//! UBAR (also called Mozi): of the nearest neighbours keep those whose model does better on the
//! peer's data than its own model.
//!
//! Guo et al. 2020, arXiv 2002.08569. A shortlist of ⌊ρ·|N|⌋ neighbours nearest the peer's own
//! model; of these the ones whose loss on the peer's data is at most the peer's own loss (the
//! single nearest if there is none); xᵢ ← α xᵢ + (1 − α) · mean of those. The local training that
//! follows is the peer's. Needs models, since it needs their losses. No fixed n, but f > 0 requires
//! n ≥ f + 2. Cost n·d and |N| passes over the peer's data. Strong where all peers' data is alike;
//! under heterogeneous data honest models do badly on the peer's data and are left out.

use super::balance::own_and_mean;
use super::clipped_gossip::own_and_one_honest;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "ubar",
    help: "of the nearest neighbours, the mean of those that do no worse on its own data; keys rho, alpha; n >= f + 2",
    source: "Guo et al. 2020, arXiv 2002.08569",
    main_key: None,
    new: |section, byzantine| {
        Box::new(Ubar {
            byzantine,
            // 0: all but `byzantine` neighbours, which the paper takes for the honest share.
            rho: section.number("rho", Some(0.0), 0.0..=1.0),
            alpha: section.number("alpha", Some(0.5), 0.0..=1.0), // guess
        })
    },
};

#[derive(Debug)]
struct Ubar {
    byzantine: usize,
    /// Share of the neighbours on the shortlist; 0: all but f.
    rho: f64,
    /// Share of the peer's own model.
    alpha: f64,
}

impl Rule for Ubar {
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

    fn needs_losses(&self) -> bool {
        true
    }

    fn needs_models(&self) -> bool {
        true
    }

    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let own = context.own_row(ENTRY.name)?;
        let losses = context.losses.ok_or(AggregateError::Missing {
            rule: ENTRY.name,
            what: "the models' losses on own data",
        })?;
        let scores: Vec<f64> = rows
            .squared_distances_to_row(own)
            .into_iter()
            .map(f64::sqrt)
            .collect();
        let mut shortlist: Vec<usize> = (0..rows.count()).filter(|row| *row != own).collect();
        shortlist.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let listed = match self.rho > 0.0 {
            true => (self.rho * shortlist.len() as f64).floor() as usize,
            false => shortlist.len().saturating_sub(self.byzantine),
        };
        shortlist.truncate(listed.max(1));
        // A loss that is not a number is better than none.
        let good = shortlist
            .iter()
            .copied()
            .filter(|row| losses[*row] <= losses[own]);
        let mut accepted: Vec<usize> = good.collect();
        if accepted.is_empty() {
            accepted.extend(shortlist.first());
        }
        let influence = own_and_mean(rows.count(), own, self.alpha, &accepted);
        Ok(Aggregate {
            parameters: rows.weighted_sum(&influence),
            influence,
            scores,
        })
    }
}
