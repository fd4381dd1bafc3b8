//! Hierarchical: clusters average among themselves, then their heads with each other, then every member takes its head's model.
//!
//! Liu et al. 2020 (HierFAVG), arXiv 1905.06641, without servers: the head is a member, another one in each period of
//! `local_rounds` + 2 rounds. Rounds A (`local_rounds` of them): each cluster is a complete graph with equal weights. Round B: the
//! heads average over a complete graph; all others keep their model. Round C: members take their head's model, with weight 1, so
//! columns of W do not sum to 1 there. Heads are drawn by rendezvous: the member with the lowest hash of seed, period and number;
//! so every peer knows all heads without asking, and a lost head costs its cluster one exchange.
//! In round C a member trusts one peer alone: no robust rule can help, and a charter that names one is refused.

use std::ops::Range;

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size};
use crate::random::{Seed, Stream};

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "hierarchical",
    help: "clusters, then their heads, then back to the members; keys clusters (0: about √n), local_rounds",
    source: "Liu et al. 2020 (HierFAVG), arXiv 1905.06641",
    new: |section| {
        Box::new(Hierarchical {
            // 0: about √n clusters of √n, where neither level has much more to do than the other.
            clusters: section.integer("clusters", Some(0), 0..=1_000_000) as usize,
            local_rounds: section.integer("local_rounds", Some(1), 1..=1000), // guess: the fastest mixing
        })
    },
};

#[derive(Debug)]
struct Hierarchical {
    clusters: usize,
    /// Rounds A in each period.
    local_rounds: u64,
}

impl Hierarchical {
    fn clusters(&self, peers: usize) -> usize {
        if self.clusters > 0 { self.clusters } else { peers.isqrt().max(1) }
    }
}

/// The members of each cluster: consecutive numbers, sizes that differ by one at most.
fn members(peers: usize, clusters: usize) -> impl Iterator<Item = Range<usize>> {
    (0..clusters).map(move |cluster| cluster * peers / clusters..(cluster + 1) * peers / clusters)
}

/// The member with the lowest hash.
fn head(members: Range<usize>, period: u64, seed: &Seed) -> usize {
    let hash = |peer: &usize| Stream::derive("kith.v1 topology hierarchical head", seed, period, *peer as u64, 0).next_u64();
    let start = members.start;
    members.min_by_key(hash).unwrap_or(start)
}

impl Topology for Hierarchical {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, round: u64, seed: &Seed) -> Result<Graph, TopologyError> {
        let clusters = self.clusters(peers);
        if clusters > peers {
            let reason = format!("{clusters} clusters need at least {clusters} peers");
            return Err(TopologyError::Impossible { kind: ENTRY.name, peers, reason });
        }
        check_size(ENTRY.name, peers, peers.div_ceil(clusters.max(1)) - usize::from(peers > 0))?;
        let (period, place) = (round / self.period(peers), round % self.period(peers));
        if place < self.local_rounds {
            let pairs =
                |cluster: Range<usize>| cluster.clone().flat_map(move |low| (low + 1..cluster.end).map(move |high| (low, high)));
            return Graph::new_undirected(peers, members(peers, clusters).flat_map(pairs));
        }
        let heads: Vec<usize> = members(peers, clusters).map(|cluster| head(cluster, period, seed)).collect();
        if place == self.local_rounds {
            check_size(ENTRY.name, clusters, clusters)?;
            let pairs =
                heads.iter().enumerate().flat_map(|(place, low)| heads[place + 1..].iter().map(move |high| (*low, *high)));
            return Graph::new_undirected(peers, pairs);
        }
        let mut out_edges = vec![Vec::new(); peers];
        for (head, cluster) in heads.into_iter().zip(members(peers, clusters)) {
            out_edges[head] = cluster.filter(|member| *member != head).map(|member| (member, 1.0)).collect();
        }
        Graph::new_directed(&out_edges)
    }

    fn changes(&self) -> bool {
        true
    }

    fn period(&self, _peers: usize) -> u64 {
        self.local_rounds + 2
    }

    /// The clusters never change; only the heads do.
    fn first_alike(&self, peers: usize, round: u64) -> u64 {
        if round % self.period(peers) < self.local_rounds { 0 } else { round }
    }

    fn is_random(&self) -> bool {
        true
    }

    fn doubly_stochastic(&self) -> bool {
        false
    }
}
