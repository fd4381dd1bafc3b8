//! Hypercube: two peers exchange if their numbers differ in one binary digit. Degree and diameter
//! log₂ n.
//!
//! Harary, Hayes and Wu 1988, doi 10.1016/0898-1221(88)90213-1. If n is no power of two, edges to
//! numbers that no peer has are left out; the graph stays connected, since clearing the highest
//! digit leads down to peer 0.

use super::{Graph, Topology, TopologyEntry, TopologyError};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "hypercube",
    help: "exchange with the peers whose number differs in one binary digit; log2 n neighbours",
    source: "Harary, Hayes and Wu 1988, doi 10.1016/0898-1221(88)90213-1",
    main_key: None,
    new: |_| Box::new(Hypercube),
};

#[derive(Debug)]
struct Hypercube;

impl Topology for Hypercube {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, _round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        let digits = peers.next_power_of_two().trailing_zeros();
        let others = |peer: usize| (0..digits).map(move |digit| (peer, peer ^ 1 << digit));
        Graph::new_undirected(
            peers,
            (0..peers)
                .flat_map(others)
                .filter(|(low, high)| low < high && *high < peers),
        )
    }
}
