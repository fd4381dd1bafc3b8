//! Tree: peer i exchanges with its parent, (i − 1) / branching, and with at most `branching`
//! children. `branching = 1` is a chain.
//!
//! A tree has n − 1 edges, the fewest that connect n peers. With `branching = b` its diameter is at
//! most 2 log_b n; a chain's is n − 1. All that one half of a tree tells the other passes through
//! one edge, so the spectral gap is O(1/n); a chain's is Θ(1/n²).
//!
//! A tree assumes that its inner peers stay: without one of them, the others fall into parts that
//! train apart. It does not protect against liars: everything that two subtrees exchange passes
//! through one peer, and a leaf mixes two models, which are too few for most rules that tolerate a
//! liar.
//!
//! Vogels et al. 2021, arXiv 2110.04175, compare methods on chains and binary trees.

use super::{Graph, Topology, TopologyEntry, TopologyError};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "tree",
    help: "a parent and a few children each; fewest edges, and each one is needed; key branching",
    source: "Vogels et al. 2021, arXiv 2110.04175",
    main_key: Some("branching"),
    new: |section| {
        Box::new(Tree {
            // 2, a binary tree, as in the paper.
            branching: section.integer("branching", Some(2), 1..=65_535) as usize,
        })
    },
};

#[derive(Debug)]
struct Tree {
    branching: usize,
}

impl Topology for Tree {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, _round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        let edges = (1..peers).map(|peer| ((peer - 1) / self.branching, peer));
        Graph::new_undirected(peers, edges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(branching: usize, peers: usize) -> crate::topology::Analysis {
        let graph = Tree { branching }.graph(peers, 0, &Seed::from_number(0));
        graph.expect("a tree of any size").analyse()
    }

    #[test]
    fn one_edge_less_than_peers_connects_them() {
        for (branching, peers) in [(1, 2), (1, 33), (2, 15), (2, 16), (3, 40), (50, 7)] {
            let analysis = explained(branching, peers);
            assert!(analysis.connected, "{branching} of {peers}");
            assert_eq!(analysis.edge_count, peers - 1, "{branching} of {peers}");
            assert!(
                analysis.max_degree <= branching + 1,
                "{branching} of {peers}"
            );
        }
    }

    #[test]
    fn a_wider_tree_is_flatter_and_mixes_faster() {
        let of = |branching| explained(branching, 31);
        let diameters = [1, 2, 5].map(|branching| of(branching).diameter);
        assert_eq!(diameters, [Some(30), Some(8), Some(4)]);
        assert!(of(1).spectral_gap < of(2).spectral_gap);
    }
}
