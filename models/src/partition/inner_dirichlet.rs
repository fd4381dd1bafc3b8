//! Label skew at equal sizes: each peer draws its own label proportions from Dir(α, …, α) over the
//! classes and fills its fixed number of rows by them. Unlike `dirichlet`, no peer is poor in rows,
//! so it measures label skew alone.
//!
//! The peers take one row each in turn, so that a class runs out for all peers alike. A peer then
//! continues with the remaining classes, in its own proportions.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{
    PartitionEntry, PartitionError, Partitioner, Rows, draw_proportions, equal_sizes, rows_by_class,
};

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "inner-dirichlet",
    help: "label skew at equal sizes: each peer draws its label proportions; inner-dirichlet:0.1 is strong",
    source: "Hsu, Qi and Brown, arXiv 1909.06335, with a uniform prior",
    main_key: Some("alpha"),
    new: |section| {
        Arc::new(InnerDirichlet {
            // 1.0: as for `dirichlet`.
            alpha: section.number("alpha", Some(1.0), 1e-4..=1e6),
            rows_per_peer: section.integer("rows_per_peer", Some(0), 0..=1 << 40) as usize,
        })
    },
};

/// `alpha` is the concentration of each class; `rows_per_peer` 0: all rows are dealt, in near-equal
/// parts.
#[derive(Debug)]
struct InnerDirichlet {
    alpha: f64,
    rows_per_peer: usize,
}

impl Partitioner for InnerDirichlet {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let sizes = equal_sizes(rows.labels.len(), peers, self.rows_per_peer)?;
        let proportions: Vec<Vec<f64>> = (0..peers)
            .map(|_| draw_proportions(self.alpha, rows.classes, stream))
            .collect();
        let mut left = rows_by_class(rows);
        left.iter_mut().for_each(|class| stream.shuffle(class));
        let mut parts = vec![Vec::new(); peers];
        for turn in 0..sizes[0] {
            for peer in (0..peers).filter(|peer| turn < sizes[*peer]) {
                let class = choose(&proportions[peer], &left, stream.unit());
                parts[peer].extend(left[class].pop());
            }
        }
        parts.iter_mut().for_each(|part| part.sort_unstable());
        Ok(parts)
    }
}

/// The class at `point` in [0, 1) of the shares of the classes that have rows; if these shares
/// vanish, by the remaining rows.
fn choose(shares: &[f64], left: &[Vec<usize>], point: f64) -> usize {
    let mut weights: Vec<f64> = shares
        .iter()
        .zip(left)
        .map(|(share, rows)| if rows.is_empty() { 0.0 } else { *share })
        .collect();
    if weights.iter().sum::<f64>() < f64::MIN_POSITIVE {
        weights = left.iter().map(|rows| rows.len() as f64).collect();
    }
    let target = point * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let mut last = 0;
    for (class, weight) in weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0.0)
    {
        sum += weight;
        last = class;
        if target < sum {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_chosen_by_its_share_among_those_that_have_rows() {
        let full = vec![vec![0]; 3];
        let chosen = |shares: &[f64], left: &[Vec<usize>]| -> Vec<usize> {
            (0..10)
                .map(|tenth| choose(shares, left, f64::from(tenth) / 10.0 + 0.05))
                .collect()
        };
        assert_eq!(
            chosen(&[0.2, 0.3, 0.5], &full),
            [0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
        );
        let without_last = [vec![0], vec![1], vec![]];
        assert_eq!(
            chosen(&[0.2, 0.3, 0.5], &without_last),
            [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
        );
        // A tiny α can leave no share at all to the classes that have rows.
        assert_eq!(
            chosen(&[0.0, 0.0, 1.0], &without_last),
            [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
        );
    }
}
