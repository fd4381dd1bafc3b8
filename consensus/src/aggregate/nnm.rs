//! Nearest-neighbour mixing: replace each model by the mean of the n − f models nearest to it,
//! itself included.
//!
//! Allouah et al. 2023, arXiv 2302.01772. Brings honest models together before a rule judges them,
//! which makes trimmed mean, median, Krum and geometric median robust under heterogeneous data with
//! the best possible order, κ = O(f/n). Needs n ≥ 2f + 1. Cost n²·d.

use super::rows::Mixing;
use super::{Context, PreAggregator, PreEntry, Rows};

pub(super) const ENTRY: PreEntry = PreEntry {
    name: "nnm",
    help: "replace each model by the mean of its n - f nearest; n >= 2f + 1",
    source: "Allouah et al. 2023, arXiv 2302.01772",
    main_key: None,
    new: |_, byzantine| Box::new(NearestNeighbourMixing { byzantine }),
};

#[derive(Debug)]
struct NearestNeighbourMixing {
    byzantine: usize,
}

impl PreAggregator for NearestNeighbourMixing {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self, needed: usize) -> usize {
        needed.max(2 * self.byzantine + 1)
    }

    fn mixing(&self, _: &Context<'_>, rows: &Rows<'_>) -> Mixing {
        let distances = rows.distances();
        let mixed = rows.count() - self.byzantine;
        let nearest = |row: usize| {
            let mut members = distances.neighbours(row);
            members.truncate(mixed - 1);
            members.push(row);
            members.sort_unstable();
            members
                .into_iter()
                .map(|member| (member, 1.0 / mixed as f64))
                .collect()
        };
        (0..rows.count()).map(nearest).collect()
    }
}
