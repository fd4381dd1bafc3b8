//! Hierarchical: clusters average among themselves, then their heads with each other, then every
//! member takes its head's model.
//!
//! Liu et al. 2020 (HierFAVG), arXiv 1905.06641, without servers: the head is a member, another one
//! in each period of `local_rounds` + 2 rounds. Rounds A (`local_rounds` of them): everybody
//! trains, each cluster is a complete graph with equal weights. Then nobody trains. Round B: the
//! heads combine each other's models, every cluster counting alike; all others keep their own.
//! Round C: members adopt their head's model, so columns of W do not sum to 1 there.
//!
//! Succession: each cluster has `heads` heads, ranked by rendezvous: the lowest hash of seed,
//! period and number comes first. So every peer knows them all without asking. In round B all of
//! them exchange, and each counts the best-ranked of each other cluster whose model came. In round
//! C members, deputies among them, adopt the best-ranked of their own cluster. So a lost head costs
//! at most the wait for it. If all heads of a cluster are lost, the cluster continues alone and is
//! back in the next period.
//!
//! A rule's `byzantine` holds within a cluster and, among heads, for clusters. In round C a member
//! trusts one peer alone: a head that lies leads its cluster for a period.

use std::ops::Range;

use super::{Alternatives, Graph, Topology, TopologyEntry, TopologyError, check_size};
use crate::random::{Seed, Stream};

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "hierarchical",
    help: "clusters, then their heads, then back to the members; keys clusters (0: about √n), local_rounds, heads",
    source: "Liu et al. 2020 (HierFAVG), arXiv 1905.06641",
    main_key: Some("clusters"),
    new: |section| {
        Box::new(Hierarchical {
            // 0: about √n clusters of √n, so that neither level has much more to do than the other.
            clusters: section.integer("clusters", Some(0), 0..=1_000_000) as usize,
            // Guess: the fastest mixing.
            local_rounds: section.integer("local_rounds", Some(1), 1..=1000),
            // Guess: one may be lost at any time.
            heads: section.integer("heads", Some(2), 1..=1000) as usize,
        })
    },
};

#[derive(Debug)]
struct Hierarchical {
    clusters: usize,
    /// Rounds A in each period.
    local_rounds: u64,
    /// Heads of a cluster, the first of them in office and the others in its place.
    heads: usize,
}

impl Hierarchical {
    fn clusters(&self, peers: usize) -> usize {
        if self.clusters > 0 {
            self.clusters
        } else {
            peers.isqrt().max(1)
        }
    }
}

/// The members of each cluster: consecutive numbers, sizes that differ by one at most.
fn members(peers: usize, clusters: usize) -> impl Iterator<Item = Range<usize>> {
    (0..clusters).map(move |cluster| cluster * peers / clusters..(cluster + 1) * peers / clusters)
}

/// A cluster's heads of a period, best first: those with the lowest hashes.
fn ranked(members: Range<usize>, heads: usize, period: u64, seed: &Seed) -> Vec<usize> {
    let hash = |peer: &usize| {
        Stream::derive(
            "kith.v1 topology hierarchical head",
            seed,
            period,
            *peer as u64,
            0,
        )
        .next_u64()
    };
    let mut members: Vec<usize> = members.collect();
    members.sort_by_cached_key(|peer| (hash(peer), *peer));
    members.truncate(heads);
    members
}

impl Topology for Hierarchical {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, round: u64, seed: &Seed) -> Result<Graph, TopologyError> {
        let clusters = self.clusters(peers);
        if clusters > peers {
            let reason = format!("{clusters} clusters need at least {clusters} peers");
            return Err(TopologyError::Impossible {
                kind: ENTRY.name,
                peers,
                reason,
            });
        }
        let smallest = peers.checked_div(clusters).unwrap_or(0);
        if self.heads > smallest && peers > 0 {
            let reason = format!(
                "heads = {} needs clusters of as many; the smallest of {clusters} has {smallest}",
                self.heads
            );
            return Err(TopologyError::Impossible {
                kind: ENTRY.name,
                peers,
                reason,
            });
        }
        check_size(
            ENTRY.name,
            peers,
            peers.div_ceil(clusters.max(1)) - usize::from(peers > 0),
        )?;
        let (period, place) = (round / self.period(peers), round % self.period(peers));
        if place < self.local_rounds {
            let pairs = |cluster: Range<usize>| {
                cluster
                    .clone()
                    .flat_map(move |low| (low + 1..cluster.end).map(move |high| (low, high)))
            };
            return Graph::new_undirected(peers, members(peers, clusters).flat_map(pairs));
        }
        let clusters: Vec<Range<usize>> = members(peers, clusters).collect();
        let heads: Vec<Vec<usize>> = clusters
            .iter()
            .map(|cluster| ranked(cluster.clone(), self.heads, period, seed))
            .collect();
        let mut groups: Vec<Vec<Alternatives>> = vec![Vec::new(); peers];
        if place == self.local_rounds {
            check_size(
                ENTRY.name,
                clusters.len() * self.heads,
                clusters.len() * self.heads,
            )?;
            for (cluster, own) in heads.iter().enumerate() {
                let others = heads
                    .iter()
                    .enumerate()
                    .filter(|(other, _)| *other != cluster);
                let others: Vec<Alternatives> = others
                    .map(|(_, ranked)| (ranked.clone(), 1.0 / clusters.len() as f64))
                    .collect();
                own.iter().for_each(|head| groups[*head] = others.clone());
            }
        } else {
            check_size(ENTRY.name, peers, self.heads)?;
            for (cluster, ranked) in clusters.into_iter().zip(&heads) {
                for member in cluster {
                    let better = ranked
                        .iter()
                        .position(|head| *head == member)
                        .unwrap_or(ranked.len());
                    if better > 0 {
                        groups[member] = vec![(ranked[..better].to_vec(), 1.0)];
                    }
                }
            }
        }
        Graph::new_ranked(&groups)
    }

    fn changes(&self) -> bool {
        true
    }

    fn period(&self, _peers: usize) -> u64 {
        self.local_rounds + 2
    }

    fn trains(&self, round: u64) -> bool {
        round % (self.local_rounds + 2) < self.local_rounds
    }

    /// The clusters never change; only the heads do.
    fn first_alike(&self, peers: usize, round: u64) -> u64 {
        if round % self.period(peers) < self.local_rounds {
            0
        } else {
            round
        }
    }

    fn is_random(&self) -> bool {
        true
    }

    fn doubly_stochastic(&self) -> bool {
        false
    }
}
