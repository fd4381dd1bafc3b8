//! Concept shift: rows are dealt IID, then each group of consecutive peers renames the classes by a
//! permutation of its own. A 3 to one group is a 7 to another, so no one model suits all, and peers
//! gain by finding their own kind.
//!
//! The first group keeps the names, so rows held out from all suit it. For another group's,
//! transform them with one of its places.

use std::sync::Arc;

use kith_consensus::{Seed, Stream};

use super::{PartitionEntry, PartitionError, Partitioner, Place, Rows, equal_sizes, shuffled};
use crate::data::Dataset;

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "concept-shift",
    help: "IID rows, but each group of consecutive peers permutes the labels in its own way: concept-shift:2",
    source: "Sattler, Müller and Samek, arXiv 1910.01991 (clustered federated learning)",
    main_key: Some("clusters"),
    // 2: the smallest number with a difference.
    new: |section| {
        Arc::new(ConceptShift {
            clusters: section.integer("clusters", Some(2), 1..=1 << 16) as usize,
        })
    },
};

#[derive(Debug)]
struct ConceptShift {
    clusters: usize,
}

impl Partitioner for ConceptShift {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let orders = (1..=rows.classes)
            .try_fold(1usize, |product, class| product.checked_mul(class))
            .unwrap_or(usize::MAX);
        if self.clusters > peers.min(orders) {
            let what = format!(
                "{} groups need as many peers, and {} classes have {orders} orders",
                self.clusters, rows.classes
            );
            return Err(PartitionError::TooFew {
                rows: rows.labels.len(),
                peers,
                what,
            });
        }
        shuffled(
            rows.labels.len(),
            &equal_sizes(rows.labels.len(), peers, 0)?,
            stream,
        )
    }

    fn changes_rows(&self) -> bool {
        true
    }

    fn transform(&self, place: &Place<'_>, data: &Dataset) -> Dataset {
        let group = place.peer * self.clusters / place.peers;
        let names = permutations(place.classes, group + 1, place.seed).swap_remove(group);
        data.relabelled(|label| names[label as usize])
    }
}

/// The names of the classes in each of `groups` groups, no two alike, the first unchanged.
fn permutations(classes: usize, groups: usize, seed: &Seed) -> Vec<Vec<u32>> {
    let mut stream = Stream::derive("kith.v1 concept shift", seed, 0, 0, 0);
    let mut all: Vec<Vec<u32>> = vec![(0..classes as u32).collect()];
    while all.len() < groups {
        let mut names = all[0].clone();
        stream.shuffle(&mut names);
        if !all.contains(&names) {
            all.push(names);
        }
    }
    all
}
