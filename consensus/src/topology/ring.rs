//! Ring: peer i exchanges with i − 1 and i + 1. Degree 2, diameter n/2, spectral gap Θ(1/n²): the
//! cheapest and the slowest.

use super::{Graph, Topology, TopologyEntry, TopologyError};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "ring",
    help: "two neighbours each; cheapest, mixes slowly",
    source: "Lian et al. 2017, arXiv 1705.09056",
    main_key: None,
    new: |_| Box::new(Ring),
};

#[derive(Debug)]
struct Ring;

impl Topology for Ring {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, _round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        // A lone peer has no neighbour; two share one edge.
        let last = if peers > 2 {
            peers
        } else {
            peers.saturating_sub(1)
        };
        Graph::new_undirected(peers, (0..last).map(|peer| (peer, (peer + 1) % peers)))
    }
}
