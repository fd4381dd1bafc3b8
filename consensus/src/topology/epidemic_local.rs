//! EL-Local: each round every peer sends to s others that it draws itself; a receiver averages all
//! models that it got and its own equally.
//!
//! De Vos et al. 2023 (epidemic learning), arXiv 2310.01972. Directed, another graph each round.
//! Weight 1 / (1 + received) each, so rows of W sum to 1 and columns do not: the mean moves a
//! little each round, as in the paper. A peer receives from nobody with probability about e^(−s),
//! so no number of neighbours is certain and rules that need some are refused. EL-Oracle, where
//! everyone has s neighbours, is `random-regular` with degree = s and redraw_every = 1.

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size};
use crate::random::{Seed, Stream};

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "epidemic-local",
    help: "EL-Local: each sends to s random others a round, key s; EL-Oracle: random-regular with redraw_every = 1",
    source: "De Vos et al. 2023, arXiv 2310.01972",
    main_key: Some("s"),
    // The number of the paper's experiments.
    new: |section| {
        Box::new(EpidemicLocal {
            sends: section.integer("s", Some(7), 1..=65_535) as usize,
        })
    },
};

#[derive(Debug)]
struct EpidemicLocal {
    sends: usize,
}

impl Topology for EpidemicLocal {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, round: u64, seed: &Seed) -> Result<Graph, TopologyError> {
        let sends = self.sends;
        if sends >= peers {
            let reason = format!("s = {sends} needs more than {sends} peers");
            return Err(TopologyError::Impossible {
                kind: ENTRY.name,
                peers,
                reason,
            });
        }
        check_size(ENTRY.name, peers, sends)?;
        let mut stream = Stream::derive("kith.v1 topology epidemic-local", seed, round, 0, 0);
        let mut received = vec![0usize; peers];
        let mut out_edges: Vec<Vec<(usize, f64)>> = Vec::with_capacity(peers);
        let mut chosen_by = vec![usize::MAX; peers];
        for peer in 0..peers {
            // Floyd's draw without replacement: the last numbers replace those that are drawn
            // twice.
            let others = peers - 1;
            let drawn = (others - sends..others).map(|last| {
                let other = stream.bounded(last as u64 + 1) as usize;
                let other = if chosen_by[other] == peer {
                    last
                } else {
                    other
                };
                chosen_by[other] = peer;
                other
            });
            // The others are numbered without the peer itself.
            let receivers: Vec<(usize, f64)> = drawn
                .map(|other| (other + usize::from(other >= peer), 0.0))
                .collect();
            receivers.iter().for_each(|(to, _)| received[*to] += 1);
            out_edges.push(receivers);
        }
        for (to, weight) in out_edges.iter_mut().flatten() {
            *weight = 1.0 / (1 + received[*to]) as f64;
        }
        Graph::new_directed(&out_edges)
    }

    fn changes(&self) -> bool {
        true
    }

    /// It never begins again. This is the number of rounds until a peer that nobody has sent to is
    /// rarer than one in a million federations: n e^(−s · rounds) < 2⁻²⁰ with room to spare.
    fn period(&self, peers: usize) -> u64 {
        (u64::from(peers.max(1).ilog2()) + 21).div_ceil(self.sends as u64)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn doubly_stochastic(&self) -> bool {
        false
    }
}
