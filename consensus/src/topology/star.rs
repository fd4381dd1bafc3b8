//! Star: everyone exchanges with peer 0 alone, each way in every round. The slowest graph to mix:
//! with Metropolis–Hastings weights a leaf takes 1/n of the hub's model, and the spectral gap is
//! exactly 1/n. Not federated averaging, which is `centralised`. The hub is a single point of
//! failure and of trust.

use super::{Graph, Topology, TopologyEntry, TopologyError};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "star",
    help: "everyone with the first peer, by Metropolis–Hastings weights; FedAvg with a server is centralised",
    source: "own",
    main_key: None,
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
