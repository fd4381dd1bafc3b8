//! Groups of peers with disjoint classes: group g of consecutive peers holds its own consecutive
//! classes, IID within the group. On a graph whose halves are joined by one edge (a dumbbell) each
//! half then knows half of the classes, and shows whether a rule lets the other half's knowledge
//! through.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{PartitionEntry, PartitionError, Partitioner, Rows, cut, near_equal};

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "class-groups",
    help: "groups of consecutive peers, each with its own classes, IID within: class-groups:2",
    source: "He, Karimireddy and Jaggi, arXiv 2202.01545, figure 4",
    main_key: Some("groups"),
    // 2: the paper's dumbbell.
    new: |section| {
        Arc::new(ClassGroups {
            groups: section.integer("groups", Some(2), 1..=1 << 20) as usize,
        })
    },
};

#[derive(Debug)]
struct ClassGroups {
    groups: usize,
}

impl Partitioner for ClassGroups {
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
        if self.groups > peers.min(rows.classes) {
            return Err(too_few(format!(
                "{} groups need as many peers and classes ({})",
                self.groups, rows.classes
            )));
        }
        let mut parts = Vec::with_capacity(peers);
        let mut first = 0;
        for (members, classes) in near_equal(peers, self.groups)
            .into_iter()
            .zip(near_equal(rows.classes, self.groups))
        {
            let held = first..first + classes;
            let mut order: Vec<usize> = (0..rows.labels.len())
                .filter(|row| held.contains(&(rows.labels[*row] as usize)))
                .collect();
            if order.len() < members {
                return Err(too_few(format!(
                    "classes {held:?} have {} rows for {members} peers",
                    order.len()
                )));
            }
            stream.shuffle(&mut order);
            parts.extend(cut(&order, &near_equal(order.len(), members)));
            first += classes;
        }
        Ok(parts)
    }
}
