//! γ-similarity: a share γ of all rows is dealt IID, the rest is sorted by label and cut in order.
//! 1 is IID, 0 as unlike as possible: one number covers the whole range.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{PartitionEntry, PartitionError, Partitioner, Rows, cut, near_equal};

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "gamma-similarity",
    help: "a share of the rows IID, the rest sorted by label and cut: gamma-similarity:0.5",
    source: "Karimireddy et al., SCAFFOLD, arXiv 1910.06378, section 7 (s % similar data)",
    main_key: Some("gamma"),
    // 0.5: a guess, the middle.
    new: |section| {
        Arc::new(GammaSimilarity {
            gamma: section.number("gamma", Some(0.5), 0.0..=1.0),
        })
    },
};

#[derive(Debug)]
struct GammaSimilarity {
    gamma: f64,
}

impl Partitioner for GammaSimilarity {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let count = rows.labels.len();
        let mut order: Vec<usize> = (0..count).collect();
        stream.shuffle(&mut order);
        let (alike, sorted) = order.split_at_mut((self.gamma * count as f64) as usize);
        sorted.sort_by_key(|row| (rows.labels[*row], *row));
        // The larger parts of the second deal go to the last peers, so that sizes stay near-equal
        // together.
        let mut sizes = near_equal(sorted.len(), peers);
        sizes.reverse();
        let parts = cut(alike, &near_equal(alike.len(), peers))
            .into_iter()
            .zip(cut(sorted, &sizes));
        let join = |(mut part, other): (Vec<usize>, Vec<usize>)| {
            part.extend(other);
            part.sort_unstable();
            part
        };
        Ok(parts.map(join).collect())
    }
}
