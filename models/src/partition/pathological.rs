//! Exactly k classes per peer; the rows of each class are split evenly among the peers that hold
//! it.
//!
//! Each peer takes the k classes with the fewest holders so far, ties at random. So the numbers of
//! holders differ by at most one, and every class has a holder if peers · k reaches the number of
//! classes. Otherwise the rows of the classes without one are not dealt. Classes without rows do
//! not count.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{PartitionEntry, PartitionError, Partitioner, Rows, near_equal, rows_by_class};

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "pathological",
    help: "each peer holds rows of k classes only, each class split evenly among its holders; pathological:2",
    source: "McMahan et al., arXiv 1602.05629, section 3, with exact numbers of classes",
    main_key: Some("classes_per_peer"),
    // 2: the paper's.
    new: |section| {
        Arc::new(Pathological {
            classes_per_peer: section.integer("classes_per_peer", Some(2), 1..=1 << 20) as usize,
        })
    },
};

#[derive(Debug)]
struct Pathological {
    classes_per_peer: usize,
}

impl Partitioner for Pathological {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let too_few = |what| PartitionError::TooFew {
            rows: rows.labels.len(),
            peers,
            what,
        };
        let mut classes: Vec<Vec<usize>> = rows_by_class(rows)
            .into_iter()
            .filter(|class| !class.is_empty())
            .collect();
        if self.classes_per_peer > classes.len() {
            return Err(too_few(format!(
                "{} classes per peer, and {} have rows",
                self.classes_per_peer,
                classes.len()
            )));
        }
        let mut holders = vec![Vec::new(); classes.len()];
        for peer in 0..peers {
            let mut order: Vec<usize> = (0..classes.len()).collect();
            stream.shuffle(&mut order);
            order.sort_by_key(|class| holders[*class].len());
            order[..self.classes_per_peer]
                .iter()
                .for_each(|class| holders[*class].push(peer));
        }
        let mut parts = vec![Vec::new(); peers];
        for (class, holders) in classes.iter_mut().zip(&holders) {
            if class.len() < holders.len() {
                return Err(too_few(format!(
                    "a class of {} rows has {} holders",
                    class.len(),
                    holders.len()
                )));
            }
            stream.shuffle(class);
            let mut rest = class.as_slice();
            for (peer, size) in holders
                .iter()
                .zip(near_equal(class.len(), holders.len().max(1)))
            {
                let (part, other) = rest.split_at(size);
                parts[*peer].extend_from_slice(part);
                rest = other;
            }
        }
        parts.iter_mut().for_each(|part| part.sort_unstable());
        Ok(parts)
    }
}
