//! Independent and identically distributed: shuffle, then cut.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{Deal, PartitionEntry, PartitionError, Rows};

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "iid",
    help: "shuffled and cut in near-equal parts; iid:600 gives each peer 600 rows",
    source: "McMahan et al., arXiv 1602.05629",
    parameter: Some("rows_per_peer"),
    new: |section| Arc::new(Iid { rows_per_peer: section.integer("rows_per_peer", Some(0), 0..=1 << 40) as usize }),
};

/// Each peer gets `rows_per_peer` rows; 0: all rows are dealt.
#[derive(Debug)]
struct Iid {
    rows_per_peer: usize,
}

impl Deal for Iid {
    fn split(&self, rows: Rows<'_>, peers: usize, stream: &mut Stream) -> Result<Vec<Vec<usize>>, PartitionError> {
        let rows = rows.labels.len();
        if self.rows_per_peer.saturating_mul(peers) > rows {
            let what = format!("{} rows per peer need {}", self.rows_per_peer, self.rows_per_peer.saturating_mul(peers));
            return Err(PartitionError::TooFew { rows, peers, what });
        }
        let mut order: Vec<usize> = (0..rows).collect();
        stream.shuffle(&mut order);
        let sizes = if self.rows_per_peer > 0 { vec![self.rows_per_peer; peers] } else { near_equal(rows, peers) };
        let mut rest = order.as_slice();
        let deal = |size: usize| {
            let (part, other) = rest.split_at(size);
            rest = other;
            let mut part = part.to_vec();
            part.sort_unstable();
            part
        };
        Ok(sizes.into_iter().map(deal).collect())
    }
}

/// Near-equal whole parts of `total`, the first ones larger by one.
pub fn near_equal(total: usize, parts: usize) -> Vec<usize> {
    (0..parts).map(|part| total / parts + usize::from(part < total % parts)).collect()
}
