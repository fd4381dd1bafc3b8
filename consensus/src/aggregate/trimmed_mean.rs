//! Trimmed mean: per coordinate drop the f smallest and the f largest values and average the rest.
//!
//! Yin et al. 2018, arXiv 1803.01498. Needs n ≥ 2f + 1. Cost d · n log² n, by a sorting network on
//! whole tiles. Each coordinate is judged alone: an attacker that stays within the honest spread of
//! every coordinate is not noticed, and under heterogeneous data honest extremes are lost (combine
//! with `nnm`).

use super::kernel::{self, BLOCK};
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};
use crate::mutant::{Mutant, planted};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "trimmed-mean",
    help: "per coordinate drop the f smallest and largest, average the rest; n >= 2f + 1",
    source: "Yin et al. 2018, arXiv 1803.01498",
    main_key: None,
    new: |_, byzantine| Box::new(TrimmedMean { byzantine }),
};

#[derive(Debug)]
struct TrimmedMean {
    byzantine: usize,
}

impl Rule for TrimmedMean {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        2 * self.byzantine + 1
    }

    fn stays_in_honest_range(&self) -> bool {
        true
    }

    fn combine(&self, _: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        Ok(Aggregate {
            parameters: middle_mean(
                rows,
                self.byzantine
                    .saturating_sub(usize::from(planted(Mutant::TrimOneTooFew))),
            ),
            influence: middle_influence(rows, self.byzantine),
            scores: Vec::new(),
        })
    }
}

/// Per coordinate, the mean without the `dropped` smallest and largest values.
pub(super) fn middle_mean(rows: &Rows<'_>, dropped: usize) -> Vec<f32> {
    let network = kernel::middle_network(rows.count(), dropped);
    let kept = dropped * BLOCK..(rows.count() - dropped) * BLOCK;
    let mut result = vec![0.0; rows.dimension()];
    rows.narrow_tiles(|start, values, tile| {
        kernel::sort_columns(tile, &network);
        kernel::mean_rows(&tile[kept.clone()], &mut result[start..start + values]);
    });
    result
}

/// How often each row is among the kept, estimated.
pub(super) fn middle_influence(rows: &Rows<'_>, dropped: usize) -> Vec<f64> {
    let mut order: Vec<usize> = Vec::with_capacity(rows.count());
    rows.sampled_influence(|column, shares| {
        order.clear();
        order.extend(0..column.len());
        order.sort_unstable_by(|a, b| column[*a].total_cmp(&column[*b]).then(a.cmp(b)));
        order[dropped..column.len() - dropped]
            .iter()
            .for_each(|row| shares[*row] += 1.0);
    })
}
