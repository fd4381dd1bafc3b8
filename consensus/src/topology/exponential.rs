//! Exponential graphs: peer i sends to i + 1, i + 2, i + 4, … (mod n).
//!
//! Ying et al. 2021, arXiv 2110.13363. Static: all hops every round, weight 1 / (⌈log₂ n⌉ + 1)
//! each; spectral gap about 2 / (⌈log₂ n⌉ + 1). One-peer: round t uses hop 2^(t mod ⌈log₂ n⌉) alone
//! with weight 1/2; averages exactly after ⌈log₂ n⌉ rounds if n is a power of two, and only then.
//! Both are directed and doubly stochastic. With one neighbour at a time a robust rule has nothing
//! to compare.

use super::{Graph, Topology, TopologyEntry, TopologyError};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "exponential",
    help: "send to the peers 1, 2, 4, … further on; about log2 n neighbours, mixes fast",
    source: "Ying et al. 2021, arXiv 2110.13363",
    main_key: None,
    new: |_| Box::new(Exponential),
};

pub(super) const ONE_PEER_ENTRY: TopologyEntry = TopologyEntry {
    name: "one-peer-exponential",
    help: "one of the exponential graph's hops a round; exact average after log2 n rounds if n is a power of two",
    source: "Ying et al. 2021, arXiv 2110.13363",
    main_key: None,
    new: |_| Box::new(OnePeerExponential),
};

#[derive(Debug)]
struct Exponential;

#[derive(Debug)]
struct OnePeerExponential;

/// ⌈log₂ n⌉: how many hops are shorter than `n`.
fn hops(peers: usize) -> u32 {
    peers.next_power_of_two().trailing_zeros()
}

fn graph(peers: usize, hops: &[usize]) -> Result<Graph, TopologyError> {
    let weight = 1.0 / (hops.len() + 1) as f64;
    let out_edges: Vec<Vec<(usize, f64)>> = (0..peers)
        .map(|peer| {
            hops.iter()
                .map(|hop| ((peer + hop) % peers, weight))
                .collect()
        })
        .collect();
    Graph::new_directed(&out_edges)
}

impl Topology for Exponential {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, _round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        graph(
            peers,
            &(0..hops(peers)).map(|hop| 1 << hop).collect::<Vec<_>>(),
        )
    }
}

impl Topology for OnePeerExponential {
    fn name(&self) -> &'static str {
        ONE_PEER_ENTRY.name
    }

    fn graph(&self, peers: usize, round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        match hops(peers) {
            0 => graph(peers, &[]),
            hops => graph(peers, &[1 << (round % u64::from(hops))]),
        }
    }

    fn changes(&self) -> bool {
        true
    }

    fn period(&self, peers: usize) -> u64 {
        u64::from(hops(peers)).max(1)
    }
}
