//! Minimum-diameter averaging: the mean of those n − f models that lie closest together.
//!
//! El-Mhamdi et al. 2019, arXiv 1905.03853, after Rousseeuw 1985. Of all subsets of n − f models
//! the one whose two farthest members are nearest to each other; the first in lexicographic order
//! wins ties. Needs n ≥ 2f + 1. Cost n²·d and up to C(n, f) subsets, of which at most 100 000 are
//! accepted. Tight against few attackers, hopeless for many peers.

use super::rows::Distances;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "mda",
    help: "mean of the n - f models with the smallest diameter, by search; n >= 2f + 1",
    source: "El-Mhamdi et al. 2019, arXiv 1905.03853",
    main_key: None,
    new: |_, byzantine| Box::new(MinimumDiameter { byzantine }),
};

/// Most subsets searched: some tenths of a second.
const SUBSETS_MAX: u64 = 100_000;

#[derive(Debug)]
struct MinimumDiameter {
    byzantine: usize,
}

impl Rule for MinimumDiameter {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        2 * self.byzantine + 1
    }

    fn fits(&self, models: usize) -> Result<(), AggregateError> {
        let subsets = subsets(models, self.byzantine);
        let too_many = AggregateError::TooExpensive {
            rule: ENTRY.name,
            subset_bits: subsets.to_bits(),
            limit: SUBSETS_MAX,
        };
        if subsets > SUBSETS_MAX as f64 {
            Err(too_many)
        } else {
            Ok(())
        }
    }

    fn combine(&self, _: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let distances = rows.distances();
        let size = rows.count() - self.byzantine;
        let mut search = Search {
            distances: &distances,
            count: rows.count(),
            size,
            members: Vec::new(),
            best: None,
        };
        search.extend(0, 0.0);
        let (_, best) = search.best.expect("there is a first subset");
        let mut influence = vec![0.0; rows.count()];
        best.iter()
            .for_each(|row| influence[*row] = 1.0 / size as f64);
        Ok(Aggregate {
            parameters: rows.weighted_sum(&influence),
            influence,
            scores: Vec::new(),
        })
    }
}

/// C(n, f), rounded if it is beyond 2⁵³.
fn subsets(count: usize, left_out: usize) -> f64 {
    (0..left_out).fold(1.0, |product, index| {
        product * count.saturating_sub(index) as f64 / (index + 1) as f64
    })
}

/// Depth first in lexicographic order; a prefix that is already no better than the best is
/// abandoned at once.
struct Search<'a> {
    distances: &'a Distances,
    count: usize,
    size: usize,
    members: Vec<usize>,
    best: Option<(f64, Vec<usize>)>,
}

impl Search<'_> {
    fn extend(&mut self, next: usize, diameter: f64) {
        if self
            .best
            .as_ref()
            .is_some_and(|(best, _)| diameter >= *best)
        {
            return;
        }
        if self.members.len() == self.size {
            self.best = Some((diameter, self.members.clone()));
            return;
        }
        let missing = self.size - self.members.len();
        for row in next..=self.count - missing {
            let farthest = self
                .members
                .iter()
                .map(|member| self.distances.between(*member, row))
                .fold(diameter, f64::max);
            self.members.push(row);
            self.extend(row + 1, farthest);
            self.members.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Contribution;
    use super::*;
    use crate::PeerId;

    #[test]
    fn too_many_subsets_are_refused_before_the_search() {
        let model = [0.0f32];
        let contribution = |sender: u8| Contribution::of(PeerId([sender; 32]), &model);
        let contributions: Vec<Contribution<'_>> = (0..41).map(contribution).collect();
        let error = MinimumDiameter { byzantine: 20 }
            .aggregate(&Context::offline(), &contributions)
            .unwrap_err();
        assert_eq!(error.code(), "too_expensive");
        assert_eq!(
            error.to_string(),
            "rule \"mda\" would search 269128937220 subsets, at most 100000 are accepted"
        );
    }
}
