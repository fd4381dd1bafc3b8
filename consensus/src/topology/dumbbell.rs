//! Dumbbell: two complete halves joined by a few edges. A hard case, not a recommendation: each
//! half agrees at once, the whole hardly at all. Rules that drop models far from the peer's own
//! neighbourhood never let the halves meet.
//!
//! He, Karimireddy and Jaggi 2022, arXiv 2202.01545, figure 4.

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "dumbbell",
    help: "two complete halves joined by a few edges, a hard case; key bridges",
    source: "He, Karimireddy and Jaggi 2022, arXiv 2202.01545",
    main_key: Some("bridges"),
    new: |section| {
        Box::new(Dumbbell {
            bridges: section.integer("bridges", Some(1), 1..=65_535) as usize,
        })
    }, // one, as in the paper
};

#[derive(Debug)]
struct Dumbbell {
    bridges: usize,
}

impl Topology for Dumbbell {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, _round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        let half = peers.div_ceil(2);
        if self.bridges > peers - half {
            let reason = format!(
                "{} bridges need as many peers on each side; expected at least {} peers",
                self.bridges,
                2 * self.bridges
            );
            return Err(TopologyError::Impossible {
                kind: ENTRY.name,
                peers,
                reason,
            });
        }
        check_size(ENTRY.name, peers, half)?;
        let side = |range: std::ops::Range<usize>| {
            range
                .clone()
                .flat_map(move |low| (low + 1..range.end).map(move |high| (low, high)))
        };
        let bridges = (0..self.bridges).map(|bridge| (bridge, peers - 1 - bridge));
        Graph::new_undirected(peers, side(0..half).chain(side(half..peers)).chain(bridges))
    }
}
