//! Independent and identically distributed: shuffle, then cut.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{PartitionEntry, PartitionError, Partitioner, Rows, equal_sizes, shuffled};

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "iid",
    help: "shuffled and cut in near-equal parts; iid:600 gives each peer 600 rows",
    source: "McMahan et al., arXiv 1602.05629",
    main_key: Some("rows_per_peer"),
    new: |section| {
        Arc::new(Iid {
            rows_per_peer: section.integer("rows_per_peer", Some(0), 0..=1 << 40) as usize,
        })
    },
};

/// Each peer gets `rows_per_peer` rows; 0: all rows are dealt.
#[derive(Debug)]
struct Iid {
    rows_per_peer: usize,
}

impl Partitioner for Iid {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let rows = rows.labels.len();
        shuffled(rows, &equal_sizes(rows, peers, self.rows_per_peer)?, stream)
    }
}
