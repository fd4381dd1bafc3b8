//! Each peer draws its rows from the whole table, independently of the others: two peers may hold
//! the same row, one peer never holds it twice. So thousands of peers can share a table with fewer
//! rows than they need together.
//!
//! The overlap makes peers more alike than a federation's own rows would be: for questions of
//! scale, not of heterogeneity.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{PartitionEntry, PartitionError, Partitioner, Rows};

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "draw",
    help: "each peer draws a number of rows from all of them, with overlap between peers: draw:18",
    source: "Kith's own, for thousands of peers over a small table",
    main_key: Some("rows"),
    // 18: a hundredth of the 1,797 digits (a guess).
    new: |section| {
        Arc::new(Draw {
            rows: section.integer("rows", Some(18), 1..=1 << 31) as usize,
        })
    },
};

#[derive(Debug)]
struct Draw {
    rows: usize,
}

impl Partitioner for Draw {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let count = rows.labels.len();
        if self.rows > count {
            return Err(PartitionError::TooFew {
                rows: count,
                peers,
                what: format!("each draws {} different ones", self.rows),
            });
        }
        // The beginning of a Fisher–Yates shuffle from any order is a uniform draw, so one order
        // serves all peers.
        let mut order: Vec<usize> = (0..count).collect();
        let draw = |_| {
            for place in 0..self.rows {
                order.swap(
                    place,
                    place + stream.bounded((count - place) as u64) as usize,
                );
            }
            let mut part = order[..self.rows].to_vec();
            part.sort_unstable();
            part
        };
        Ok((0..peers).map(draw).collect())
    }

    fn overlaps(&self) -> bool {
        true
    }
}
