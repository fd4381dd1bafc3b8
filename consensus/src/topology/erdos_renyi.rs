//! Erdős–Rényi: every pair exchanges with the same probability p, drawn again until connected.
//!
//! Gilbert 1959, doi 10.1214/aoms/1177706098; connected with high probability above p = ln n / n
//! (Erdős and Rényi 1960). Drawn in steps over pairs without an edge (Batagelj and Brandes 2005,
//! doi 10.1103/PhysRevE.71.036113), so in time proportional to the edges. Degrees differ, so
//! somebody has few neighbours: look at the smallest before choosing f.

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size, connected_together};
use crate::random::{Seed, Stream};

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "erdos-renyi",
    help: "every pair with the same probability; key probability (0: twice what connects)",
    source: "Gilbert 1959; Erdős and Rényi 1960",
    main_key: Some("probability"),
    new: |section| {
        // 0, so that the same line of a charter fits any number of peers.
        Box::new(ErdosRenyi {
            probability: section.number("probability", Some(0.0), 0.0..=1.0),
        })
    },
};

#[derive(Debug)]
struct ErdosRenyi {
    /// 0: about twice ln n / n.
    probability: f64,
}

/// Draws before giving up: with half of the draws connected this is never reached, with a
/// thousandth nearly always.
const DRAWS: usize = 100;

/// About ln n / n, where half of the graphs are connected; from integers, so that all machines
/// agree.
fn threshold(peers: usize) -> f64 {
    let binary_digits = f64::from(peers.max(2).ilog2()) + 0.5;
    (std::f64::consts::LN_2 * binary_digits / peers.max(1) as f64).min(1.0)
}

impl Topology for ErdosRenyi {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, round: u64, seed: &Seed) -> Result<Graph, TopologyError> {
        let probability = if self.probability > 0.0 {
            self.probability
        } else {
            (2.0 * threshold(peers)).min(1.0)
        };
        check_size(
            ENTRY.name,
            peers,
            (probability * peers as f64).ceil() as usize,
        )?;
        let mut stream = Stream::derive("kith.v1 topology erdos-renyi", seed, round, 0, 0);
        for _ in 0..DRAWS {
            let graph = Graph::new_undirected(peers, draw(peers, probability, &mut stream))?;
            if connected_together(std::slice::from_ref(&graph)) {
                return Ok(graph);
            }
        }
        let reason = format!(
            "no connected graph of probability {probability} in {DRAWS} draws; expected a probability above {:.4}",
            2.0 * threshold(peers)
        );
        Err(TopologyError::Impossible {
            kind: ENTRY.name,
            peers,
            reason,
        })
    }

    fn is_random(&self) -> bool {
        true
    }
}

/// The pairs (low, high) in the order (0,1), (0,2), (1,2), (0,3), …, of which each is kept with
/// `probability`.
fn draw(peers: usize, probability: f64, stream: &mut Stream) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    let (mut low, mut high) = (0u64, 1u64);
    let peers = peers as u64;
    loop {
        low = low.saturating_add(stream.failures_before_success(probability));
        while high < peers && low >= high {
            low -= high;
            high += 1;
        }
        if high >= peers {
            return edges;
        }
        edges.push((low as usize, high as usize));
        low += 1;
    }
}
