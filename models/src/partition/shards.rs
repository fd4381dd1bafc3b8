//! Shards: rows sorted by label are cut in peers × s equal shards, and each peer gets s of them at
//! random; so most peers see about s classes. Rows left over by the division are not dealt.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{PartitionEntry, PartitionError, Partitioner, Rows};

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "shards",
    help: "sorted by label, cut in equal shards, shards:2 gives each peer two: about two classes; rows left over by the division go to nobody",
    source: "McMahan et al., arXiv 1602.05629, section 3",
    main_key: Some("per_peer"),
    // 2: the paper's.
    new: |section| {
        Arc::new(Shards {
            per_peer: section.integer("per_peer", Some(2), 1..=1 << 20) as usize,
        })
    },
};

#[derive(Debug)]
struct Shards {
    per_peer: usize,
}

impl Partitioner for Shards {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let count = rows.labels.len();
        let shards = self.per_peer.saturating_mul(peers);
        if shards > count {
            let what = format!("{} shards per peer need {shards} rows", self.per_peer);
            return Err(PartitionError::TooFew {
                rows: count,
                peers,
                what,
            });
        }
        let mut sorted: Vec<usize> = (0..count).collect();
        sorted.sort_by_key(|row| rows.labels[*row]);
        let mut order: Vec<usize> = (0..shards).collect();
        stream.shuffle(&mut order);
        let mut parts = assign_shards(count, self.per_peer, &order);
        for part in &mut parts {
            part.iter_mut().for_each(|place| *place = sorted[*place]);
            part.sort_unstable();
        }
        Ok(parts)
    }
}

/// Places in the label-sorted order, ascending, for each peer: peer i has the shards `order[i·s ..
/// (i+1)·s]`.
pub fn assign_shards(rows: usize, per_peer: usize, order: &[usize]) -> Vec<Vec<usize>> {
    let size = rows / order.len();
    let places = |shards: &[usize]| {
        let mut places: Vec<usize> = shards
            .iter()
            .flat_map(|shard| shard * size..(shard + 1) * size)
            .collect();
        places.sort_unstable();
        places
    };
    order.chunks(per_peer).map(places).collect()
}
