//! How far ahead a peer can be of one that it sends to, while nobody fails and every round waits
//! for all its senders.
//!
//! A peer opens a round once it has closed the one before, and for that it needs every peer that
//! sends to it there. A peer that is held up therefore holds up, round by round, ever more others.
//! A peer that is not held up yet advances; the lead is that of the farthest one that sends to the
//! peer that is held up. If edges go both ways and never change, the lead is 1. If rounds have
//! different graphs, it is more: a cluster of a hierarchy advances without a deputy of another one.
//!
//! A receiver keeps early updates, and a sender its sent ones, for as many rounds as the lead. A
//! peer that is behind by more has missed something.

use super::{Graph, TopologySection};

/// Largest lead that is reported, and so the most that a peer keeps. A guess: an announcement has
/// at most 64 KiB.
pub const LEAD_MAX: u64 = 16;

/// Peers, and rounds of random kinds, that are looked at; the kinds treat all alike or draw them by
/// chance. A guess.
const ORIGINS_MAX: usize = 32;
const STARTS_MAX: u64 = 8;

/// The lead over `peers` peers, from 1 to [`LEAD_MAX`]; 1 if there is no such graph.
pub(super) fn lead(topology: &TopologySection, peers: usize) -> u64 {
    let step = peers.div_ceil(ORIGINS_MAX).max(1);
    let mut largest = 1;
    for start in starts(topology, peers) {
        let mut held: Vec<Held> = (0..peers)
            .step_by(step)
            .map(|origin| Held::new(origin, peers))
            .collect();
        for ahead in 1..=LEAD_MAX {
            let Ok(graph) = topology.graph(peers, start + ahead) else {
                return largest;
            };
            held.retain_mut(|held| {
                if held.is_overtaken(&graph) {
                    largest = largest.max(ahead);
                } else if !topology.changes() {
                    // Peers that are held up stay so, and the senders are always the same.
                    return false;
                }
                held.spread(&graph);
                held.others > 0
            });
        }
    }
    largest
}

/// The rounds in which a peer is assumed to be held up.
fn starts(topology: &TopologySection, peers: usize) -> Vec<u64> {
    match topology.redraw_every {
        0 if !topology.changes() => vec![0],
        0 if topology.kind.is_random() => (0..STARTS_MAX).collect(),
        0 => (0..topology.kind.period(peers).min(LEAD_MAX)).collect(),
        // What counts is the number of rounds until the graph changes.
        every => (1..=STARTS_MAX / 2)
            .flat_map(|draw| (0..every.min(3)).map(move |before| draw * every - 1 - before))
            .collect(),
    }
}

/// The peers that cannot have opened a round that one peer, the origin, has not opened.
struct Held {
    origin: usize,
    peers: Vec<bool>,
    /// Peers that are not held up.
    others: usize,
}

impl Held {
    fn new(origin: usize, peers: usize) -> Held {
        let mut held = vec![false; peers];
        held[origin] = true;
        Held {
            origin,
            peers: held,
            others: peers - 1,
        }
    }

    /// Whether a peer that is not held up before this round sends to the origin in it.
    fn is_overtaken(&self, graph: &Graph) -> bool {
        graph
            .receives_from(self.origin)
            .iter()
            .any(|sender| !self.peers[*sender])
    }

    /// Peers that wait for a held-up peer cannot close the round; of alternatives, only the best is
    /// waited for.
    fn spread(&mut self, graph: &Graph) {
        let waits = |peer: usize| {
            let any = graph
                .receives_from(peer)
                .iter()
                .any(|sender| self.peers[*sender] && graph.rank(peer, *sender) == 0);
            any && !self.peers[peer]
        };
        let held = (0..self.peers.len()).filter(|peer| self.peers[*peer]);
        let mut more: Vec<usize> = held
            .flat_map(|peer| graph.sends_to(peer))
            .copied()
            .filter(|peer| waits(*peer))
            .collect();
        more.sort_unstable();
        more.dedup();
        self.others -= more.len();
        more.into_iter().for_each(|peer| self.peers[peer] = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Seed, Stream};
    use crate::section::Document;

    fn topology(text: &str) -> TopologySection {
        Document::parse(&format!("[topology]\n{text}"))
            .unwrap()
            .section("topology", TopologySection::read)
    }

    /// Peers that advance in any order as far as their senders let them: how far ahead an update
    /// comes at most.
    fn observed(topology: &TopologySection, peers: usize, rounds: u64, random: &mut Stream) -> u64 {
        // The round that each peer has opened and published in.
        let mut at = vec![0u64; peers];
        let mut largest = 0;
        for _ in 0..rounds as usize * peers * 4 {
            // Mostly one half advances, so that some fall behind as far as they can.
            let place = random.bounded(peers as u64) as usize;
            let place = if random.bounded(8) > 0 {
                place / 2
            } else {
                place
            };
            let graph = topology.graph(peers, at[place]).unwrap();
            let waits = |sender: &usize| graph.rank(place, *sender) == 0 && at[*sender] < at[place];
            if at[place] >= rounds || graph.receives_from(place).iter().any(waits) {
                continue;
            }
            at[place] += 1;
            let graph = topology.graph(peers, at[place]).unwrap();
            let leads = graph
                .sends_to(place)
                .iter()
                .map(|receiver| at[place].saturating_sub(at[*receiver]));
            largest = leads.max().unwrap_or(0).max(largest);
        }
        largest
    }

    #[test]
    fn nobody_is_farther_ahead_than_the_lead_says() {
        let mut random = Seed::from_number(7).stream("lead");
        let kinds = [
            ("kind = \"ring\"", 9),
            ("kind = \"complete\"", 6),
            ("kind = \"star\"", 7),
            ("kind = \"centralised\"", 7),
            ("kind = \"hierarchical\"", 12),
            ("kind = \"hierarchical\"\nclusters = 3", 9),
            (
                "kind = \"hierarchical\"\nclusters = 3\nlocal_rounds = 2\nheads = 3",
                12,
            ),
            ("kind = \"base-k\"\nk = 2", 9),
            ("kind = \"one-peer-exponential\"", 8),
            ("kind = \"exponential\"", 10),
            (
                "kind = \"random-regular\"\ndegree = 4\nredraw_every = 1",
                12,
            ),
            (
                "kind = \"random-regular\"\ndegree = 4\nredraw_every = 5",
                12,
            ),
            ("kind = \"epidemic-local\"\nneighbours = 3", 12),
        ];
        for (text, peers) in kinds {
            let topology = topology(text);
            let told = topology.lead(peers);
            let seen = (0..20)
                .map(|_| observed(&topology, peers, 40, &mut random))
                .max()
                .unwrap();
            assert!(seen <= told, "{text}: {seen} rounds ahead, {told} told");
            assert!(
                told <= seen + 2,
                "{text}: {told} told, {seen} seen: what is kept is kept for something"
            );
        }
    }

    #[test]
    fn where_edges_go_both_ways_and_never_change_the_lead_is_one() {
        for text in [
            "kind = \"ring\"",
            "kind = \"complete\"",
            "kind = \"torus\"",
            "kind = \"random-regular\"\ndegree = 4",
        ] {
            assert_eq!(topology(text).lead(16), 1, "{text}");
        }
        assert!(topology("kind = \"hierarchical\"").lead(12) > 2);
    }
}
