//! Centralised: the baseline of federated learning, in which one peer is the server.
//!
//! McMahan et al. 2017 (FedAvg), arXiv 1602.05629. Period 2. Even rounds: everybody trains, the
//! leaves send to the hub, which combines all models with equal weights. Odd rounds: nobody trains,
//! the hub sends the result, the leaves take it unchanged. So two rounds are one of the paper's,
//! and schedules over rounds (`learning_rate_decay`) count both. The hub is the first peer in the
//! order of keys; it trains as well. A robust rule judges the models at the hub. The leaves believe
//! whatever the hub sends, and without it each continues alone.

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "centralised",
    help: "FedAvg: all train and send to the first peer, next round it sends back and nobody trains; a baseline",
    source: "McMahan et al. 2017, arXiv 1602.05629",
    main_key: None,
    new: |_| Box::new(Centralised),
};

#[derive(Debug)]
struct Centralised;

impl Topology for Centralised {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        check_size(ENTRY.name, peers, 1)?;
        let mut out_edges = vec![Vec::new(); peers];
        if self.trains(round) {
            out_edges
                .iter_mut()
                .skip(1)
                .for_each(|edges| edges.push((0, 1.0 / peers as f64)));
        } else if let Some(hub) = out_edges.first_mut() {
            hub.extend((1..peers).map(|leaf| (leaf, 1.0)));
        }
        Graph::new_directed(&out_edges)
    }

    fn changes(&self) -> bool {
        true
    }

    fn period(&self, _peers: usize) -> u64 {
        2
    }

    fn trains(&self, round: u64) -> bool {
        round.is_multiple_of(2)
    }

    fn doubly_stochastic(&self) -> bool {
        false
    }
}
