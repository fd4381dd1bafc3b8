//! Nearest-neighbour averaging: the mean of the n − f models nearest the peer's own, which is
//! always among them.
//!
//! Farhadkhani et al. 2023 (MoNNA), arXiv 2209.10931. Trusts the peer's own model and needs only
//! distances to it. Works for n > f; n ≥ 2f + 1 is required. The theory assumes about n > 11f, and
//! worker momentum of 0.9 to 0.99, which brings honest models together. Cost n·d. An attacker that
//! stays nearer than the honest peers counts in full.

use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "nna",
    help: "mean of the n - f models nearest its own; n >= 2f + 1",
    source: "Farhadkhani et al. 2023, arXiv 2209.10931",
    main_key: None,
    new: |_, byzantine| Box::new(NearestNeighbourAveraging { byzantine }),
};

#[derive(Debug)]
struct NearestNeighbourAveraging {
    byzantine: usize,
}

impl Rule for NearestNeighbourAveraging {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        2 * self.byzantine + 1
    }

    fn needs_own(&self) -> bool {
        true
    }

    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let own = context.own_row(ENTRY.name)?;
        let scores: Vec<f64> = rows
            .squared_distances_to_row(own)
            .into_iter()
            .map(f64::sqrt)
            .collect();
        let mut order: Vec<usize> = (0..rows.count()).collect();
        order.sort_by(|a, b| {
            (*a != own)
                .cmp(&(*b != own))
                .then(scores[*a].total_cmp(&scores[*b]))
        });
        let kept = rows.count() - self.byzantine;
        let mut influence = vec![0.0; rows.count()];
        order[..kept]
            .iter()
            .for_each(|row| influence[*row] = 1.0 / kept as f64);
        Ok(Aggregate {
            parameters: rows.weighted_sum(&influence),
            influence,
            scores,
        })
    }
}
