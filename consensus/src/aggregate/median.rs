//! Coordinate-wise median; of an even number the mean of the two middle values.
//!
//! Yin et al. 2018, arXiv 1803.01498. Works for n ≥ 1, protects for n ≥ 2f + 1, which is therefore
//! required. Cost d · n log² n. The result can be far from every model when data is heterogeneous
//! (combine with `nnm`).

use super::trimmed_mean::{middle_influence, middle_mean};
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "median",
    help: "per coordinate the median; n >= 2f + 1",
    source: "Yin et al. 2018, arXiv 1803.01498",
    main_key: None,
    new: |_, byzantine| Box::new(Median { byzantine }),
};

#[derive(Debug)]
struct Median {
    byzantine: usize,
}

impl Rule for Median {
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
        // The median is what remains when all but the middle one or two are trimmed.
        let dropped = (rows.count() - 1) / 2;
        Ok(Aggregate {
            parameters: middle_mean(rows, dropped),
            influence: middle_influence(rows, dropped),
            scores: Vec::new(),
        })
    }
}
