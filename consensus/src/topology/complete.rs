//! Complete: everyone exchanges with everyone. One round averages exactly; each peer's cost grows
//! with the federation.

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "complete",
    help: "everyone with everyone; exact averaging, cost grows with the federation",
    source: "Lian et al. 2017, arXiv 1705.09056",
    main_key: None,
    new: |_| Box::new(Complete),
};

#[derive(Debug)]
struct Complete;

impl Topology for Complete {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, _round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        check_size(ENTRY.name, peers, peers.saturating_sub(1))?;
        Graph::new_undirected(
            peers,
            (0..peers).flat_map(|low| (low + 1..peers).map(move |high| (low, high))),
        )
    }
}
