//! Scale-free: peers come one after the other and join `attach` others, preferring those with many
//! neighbours.
//!
//! Barabási and Albert 1999, doi 10.1126/science.286.5439.509, starting from a star of attach + 1
//! peers. Always connected; a few hubs with many neighbours, many peers with `attach`.
//! Metropolis–Hastings weights keep the hubs from dominating; their loss, or their dishonesty,
//! hurts most.

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size};
use crate::random::{Seed, Stream};

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "scale-free",
    help: "a few hubs, many peers with attach neighbours; key attach",
    source: "Barabási and Albert 1999, doi 10.1126/science.286.5439.509",
    main_key: Some("attach"),
    // A guess: the smallest number with which the loss of one peer need not split the graph.
    new: |section| {
        Box::new(ScaleFree {
            attach: section.integer("attach", Some(2), 1..=65_535) as usize,
        })
    },
};

#[derive(Debug)]
struct ScaleFree {
    attach: usize,
}

impl Topology for ScaleFree {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, round: u64, seed: &Seed) -> Result<Graph, TopologyError> {
        let attach = self.attach;
        if peers <= attach {
            let reason = format!("attach = {attach} needs more than {attach} peers");
            return Err(TopologyError::Impossible {
                kind: ENTRY.name,
                peers,
                reason,
            });
        }
        check_size(ENTRY.name, peers, 2 * attach)?;
        let mut stream = Stream::derive("kith.v1 topology scale-free", seed, round, 0, 0);
        let mut edges: Vec<(usize, usize)> = (1..=attach).map(|peer| (0, peer)).collect();
        // Every edge has two ends here, so that drawing one finds a peer in proportion to its
        // neighbours.
        let mut ends: Vec<usize> = edges.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let mut joined_by = vec![0; peers];
        for peer in attach + 1..peers {
            let before = ends.len() as u64;
            let mut missing = attach;
            while missing > 0 {
                let other = ends[stream.bounded(before) as usize];
                if std::mem::replace(&mut joined_by[other], peer) != peer {
                    edges.push((other, peer));
                    ends.extend([other, peer]);
                    missing -= 1;
                }
            }
        }
        Graph::new_undirected(peers, edges)
    }

    fn is_random(&self) -> bool {
        true
    }
}
