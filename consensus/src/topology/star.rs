//! Star: everyone exchanges with peer 0 alone. The researcher's centralised baseline; the hub is a single point of failure
//! and of trust. Spectral gap with Metropolis–Hastings weights exactly 1/n.

use super::{Graph, Topology, TopologyEntry, TopologyError};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "star",
    help: "everyone with the first peer; a centralised baseline",
    source: "McMahan et al. 2017, arXiv 1602.05629",
    new: |_| Box::new(Star),
};

#[derive(Debug)]
struct Star;

impl Topology for Star {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, _round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        Graph::new_undirected(peers, (1..peers).map(|peer| (0, peer)))
    }
}
