//! Comparative gradient elimination: the mean of the n − f updates with the smallest norm.
//!
//! Gupta, Liu and Vaidya 2020, arXiv 2008.04699. Needs updates: the norm of a whole model says
//! nothing about the update. Works for n > f, protects for n ≥ 2f + 1, which is therefore required.
//! Cost n·d. Notices only large updates: an attacker with an honest norm and the wrong direction
//! counts in full.

use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "cge",
    help: "mean of the n - f updates with the smallest norm; on updates; n >= 2f + 1",
    source: "Gupta, Liu and Vaidya 2020, arXiv 2008.04699",
    main_key: None,
    new: |_, byzantine| Box::new(Elimination { byzantine }),
};

#[derive(Debug)]
struct Elimination {
    byzantine: usize,
}

impl Rule for Elimination {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        2 * self.byzantine + 1
    }

    fn needs_updates(&self) -> bool {
        true
    }

    fn combine(&self, _: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let scores: Vec<f64> = rows.squared_norms().into_iter().map(f64::sqrt).collect();
        let mut order: Vec<usize> = (0..rows.count()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
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
