//! A graph with mixing weights.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use super::{TopologyError, remainder};

/// A peer's own weight up to this counts as zero: the rounding error of 1 − 1.
const OWN_NOTHING: f64 = 1e-12;

/// Who sends to whom among peers `0..n`, and the mixing matrix W: row `to` says with which weights
/// peer `to` averages its own model and the received ones. Rows sum to 1.
///
/// Senders of a receiver may be alternatives of each other, best first: of those that come only the
/// best counts. W holds the first of each; the one that counts in its place has its weight.
///
/// All lists lie one after the other in a few allocations: 24 bytes per edge end (40 if directed)
/// and 24 per peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Per sender, the receivers.
    sends: Lists,
    /// Per receiver, the senders; `None` if every edge goes both ways, so that these are the
    /// receivers.
    receives: Option<Lists>,
    /// The weight of each sender, in the order of the receivers' lists.
    weights: Vec<f64>,
    /// If senders are alternatives, for each of them: which of its receiver's groups it is in, and
    /// its rank there.
    ranks: Option<Vec<Rank>>,
    own: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    group: u32,
    /// 0 is the best.
    rank: u32,
}

/// A group of senders of which a receiver mixes one model: that of the best that comes, with this
/// weight.
pub type Alternatives = (Vec<usize>, f64);

/// One ascending list of peers for each peer.
#[derive(Clone, Debug, PartialEq)]
struct Lists {
    /// The list of peer p is `peers[starts[p]..starts[p + 1]]`.
    starts: Vec<usize>,
    peers: Vec<usize>,
}

impl Lists {
    /// The second of each pair, in the list of its first; pairs in any order, each kept as often as
    /// it comes.
    fn of(peers: usize, pairs: impl Iterator<Item = (usize, usize)> + Clone) -> Lists {
        let mut starts = vec![0; peers + 1];
        pairs.clone().for_each(|(list, _)| starts[list + 1] += 1);
        (0..peers).for_each(|list| starts[list + 1] += starts[list]);
        let mut next = starts.clone();
        let mut items = vec![0; starts[peers]];
        for (list, peer) in pairs {
            items[next[list]] = peer;
            next[list] += 1;
        }
        (0..peers).for_each(|list| items[starts[list]..starts[list + 1]].sort_unstable());
        Lists {
            starts,
            peers: items,
        }
    }

    /// Without repetitions.
    fn unique(mut self) -> Lists {
        let mut kept = 0;
        let mut start = 0;
        for list in 0..self.starts.len() - 1 {
            let (first, end) = (kept, self.starts[list + 1]);
            for item in start..end {
                if kept == first || self.peers[kept - 1] != self.peers[item] {
                    self.peers[kept] = self.peers[item];
                    kept += 1;
                }
            }
            start = end;
            self.starts[list + 1] = kept;
        }
        self.peers.truncate(kept);
        self.peers.shrink_to_fit();
        self
    }

    fn check_unique(&self) -> Result<(), TopologyError> {
        let twice = |to: &usize| {
            self.list(*to)
                .windows(2)
                .find(|pair| pair[0] == pair[1])
                .map(|pair| pair[0])
        };
        let reason = || "it is named twice".to_owned();
        match (0..self.starts.len() - 1).find_map(|to| Some((twice(&to)?, to))) {
            Some((from, to)) => Err(TopologyError::BadEdge {
                from,
                to,
                reason: reason(),
            }),
            None => Ok(()),
        }
    }

    fn range(&self, peer: usize) -> std::ops::Range<usize> {
        self.starts[peer]..self.starts[peer + 1]
    }

    fn list(&self, peer: usize) -> &[usize] {
        &self.peers[self.range(peer)]
    }
}

impl Graph {
    /// A graph in which every edge carries updates both ways, with Metropolis–Hastings weights 1 /
    /// (1 + max(degreeᵢ, degreeⱼ)): symmetric and doubly stochastic. An edge named twice counts
    /// once.
    ///
    /// # Errors
    /// When an edge leaves `0..peers` or is a loop.
    pub fn new_undirected(
        peers: usize,
        edges: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<Graph, TopologyError> {
        let edges: Vec<(usize, usize)> = edges.into_iter().collect();
        edges
            .iter()
            .try_for_each(|(a, b)| check_edge(peers, *a, *b))?;
        let both = edges.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        let neighbours = Lists::of(peers, both).unique();
        let degree = |peer: usize| neighbours.range(peer).len();
        let weight = |a: usize, b: usize| 1.0 / (1.0 + degree(a).max(degree(b)) as f64);
        let weights = (0..peers)
            .flat_map(|to| {
                neighbours
                    .list(to)
                    .iter()
                    .map(move |from| weight(to, *from))
            })
            .collect();
        Ok(Graph::of(neighbours, None, weights, None))
    }

    /// A graph from every sender's (receiver, weight) list; the rest of a receiver's weights to 1
    /// is its own model's.
    ///
    /// # Errors
    /// When an edge leaves `0..peers`, is a loop or doubled, a weight is not in (0, 1], or a
    /// receiver's weights exceed 1.
    pub fn new_directed(out_edges: &[Vec<(usize, f64)>]) -> Result<Graph, TopologyError> {
        let peers = out_edges.len();
        let edges = || {
            out_edges
                .iter()
                .enumerate()
                .flat_map(|(from, list)| list.iter().map(move |(to, weight)| (from, *to, *weight)))
        };
        for (from, to, weight) in edges() {
            check_edge(peers, from, to)?;
            check_weight(from, to, weight)?;
        }
        let sends = Lists::of(peers, edges().map(|(from, to, _)| (from, to)));
        let receives = Lists::of(peers, edges().map(|(from, to, _)| (to, from)));
        receives.check_unique()?;
        let mut weights = vec![0.0; receives.peers.len()];
        let mut next = receives.starts.clone();
        // Senders come in ascending order, as they stand in every receiver's list.
        for (_, to, weight) in edges() {
            weights[next[to]] = weight;
            next[to] += 1;
        }
        Graph::of(sends, Some(receives), weights, None).checked()
    }

    /// A graph from every receiver's groups of senders, best first, each with its weight; the rest
    /// of a receiver's weights to 1 is its own model's.
    ///
    /// # Errors
    /// When an edge leaves `0..peers`, is a loop or doubled, a weight is not in (0, 1], or a
    /// receiver's weights exceed 1.
    pub fn new_ranked(groups: &[Vec<Alternatives>]) -> Result<Graph, TopologyError> {
        let peers = groups.len();
        let mut ends: Vec<(usize, usize, f64, Rank)> = Vec::new();
        for (to, groups) in groups.iter().enumerate() {
            for (group, (senders, weight)) in (0..).zip(groups) {
                ends.extend(
                    (0..)
                        .zip(senders)
                        .map(|(rank, from)| (to, *from, *weight, Rank { group, rank })),
                );
            }
        }
        for (to, from, weight, _) in &ends {
            check_edge(peers, *from, *to)?;
            check_weight(*from, *to, *weight)?;
        }
        ends.sort_by_key(|(to, from, ..)| (*to, *from));
        let sends = Lists::of(peers, ends.iter().map(|(to, from, ..)| (*from, *to)));
        let receives = Lists::of(peers, ends.iter().map(|(to, from, ..)| (*to, *from)));
        receives.check_unique()?;
        let weights = ends.iter().map(|(_, _, weight, _)| *weight).collect();
        let ranks = ends.iter().map(|(.., rank)| *rank).collect();
        Graph::of(sends, Some(receives), weights, Some(ranks)).checked()
    }

    fn checked(self) -> Result<Graph, TopologyError> {
        let graph = self;
        if let Some(to) = graph.own.iter().position(|weight| *weight < -OWN_NOTHING) {
            let reason = "the receiver's weights exceed 1".to_owned();
            return Err(TopologyError::BadEdge {
                from: graph.receives_from(to)[0],
                to,
                reason,
            });
        }
        Ok(graph)
    }

    fn of(
        sends: Lists,
        receives: Option<Lists>,
        weights: Vec<f64>,
        ranks: Option<Vec<Rank>>,
    ) -> Graph {
        let lists = receives.as_ref().unwrap_or(&sends);
        let first = |place: &usize| ranks.as_ref().is_none_or(|ranks| ranks[*place].rank == 0);
        let taken = |to| lists.range(to).filter(first).map(|place| weights[place]);
        let own = (0..lists.starts.len() - 1)
            .map(|to| remainder(taken(to)))
            .collect();
        Graph {
            sends,
            receives,
            weights,
            ranks,
            own,
        }
    }

    fn receiving(&self) -> &Lists {
        self.receives.as_ref().unwrap_or(&self.sends)
    }

    /// Number of peers.
    pub fn peers(&self) -> usize {
        self.own.len()
    }

    /// The receivers of `peer`'s updates, ascending.
    pub fn sends_to(&self, peer: usize) -> &[usize] {
        self.sends.list(peer)
    }

    /// The senders whose updates `peer` mixes, ascending, itself excluded.
    pub fn receives_from(&self, peer: usize) -> &[usize] {
        self.receiving().list(peer)
    }

    /// The weight with which the model of `from` enters that of `to`, if it counts. The weight of
    /// the peer's own model if both are equal; 0 if there is no edge.
    pub fn mixing_weight(&self, to: usize, from: usize) -> f64 {
        if to == from {
            return self.own[to];
        }
        self.place(to, from)
            .map_or(0.0, |place| self.weights[place])
    }

    /// W\[to\]\[from\]: the mixing weight, which the first of alternatives has.
    pub fn entry(&self, to: usize, from: usize) -> f64 {
        if to != from && self.rank(to, from) > 0 {
            0.0
        } else {
            self.mixing_weight(to, from)
        }
    }

    fn place(&self, to: usize, from: usize) -> Option<usize> {
        let lists = self.receiving();
        lists
            .list(to)
            .binary_search(&from)
            .ok()
            .map(|place| lists.starts[to] + place)
    }

    /// How many of the senders to `to` count before `from`, whichever of them comes; 0 if it has no
    /// better alternative.
    pub fn rank(&self, to: usize, from: usize) -> usize {
        let ranks = self.ranks.as_ref().zip(self.place(to, from));
        ranks.map_or(0, |(ranks, place)| ranks[place].rank as usize)
    }

    /// The senders to `to` in groups of alternatives, best first: of each group the best that comes
    /// counts. If there are no alternatives, each sender stands alone.
    pub fn alternatives(&self, to: usize) -> Vec<Vec<usize>> {
        let senders = self.receives_from(to);
        let Some(ranks) = &self.ranks else {
            return senders.iter().map(|from| vec![*from]).collect();
        };
        let mut ranked: Vec<(Rank, usize)> = ranks[self.receiving().range(to)]
            .iter()
            .copied()
            .zip(senders.iter().copied())
            .collect();
        ranked.sort_unstable();
        ranked
            .chunk_by(|(a, _), (b, _)| a.group == b.group)
            .map(|group| group.iter().map(|(_, from)| *from).collect())
            .collect()
    }

    /// How many models `to` receives; a group of alternatives counts as one.
    pub fn models_received(&self, to: usize) -> usize {
        match &self.ranks {
            None => self.receives_from(to).len(),
            Some(ranks) => ranks[self.receiving().range(to)]
                .iter()
                .filter(|rank| rank.rank == 0)
                .count(),
        }
    }

    /// Whether some senders are alternatives of each other.
    pub fn has_alternatives(&self) -> bool {
        self.ranks
            .as_ref()
            .is_some_and(|ranks| ranks.iter().any(|rank| rank.rank > 0))
    }

    /// Whether `to` takes a model unchanged: it receives a single one, and its own weighs nothing.
    pub fn adopts(&self, to: usize) -> bool {
        self.own[to].abs() <= OWN_NOTHING && self.models_received(to) == 1
    }

    /// W in full, row by row. `n²` numbers.
    pub fn mixing_matrix(&self) -> Vec<Vec<f64>> {
        let row = |to| (0..self.peers()).map(|from| self.entry(to, from)).collect();
        (0..self.peers()).map(row).collect()
    }

    /// Every edge once: (sender, receiver) if directed, (lower, higher) if not; ascending.
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.peers()).flat_map(move |from| {
            let receivers = self.sends_to(from).iter().map(move |to| (from, *to));
            receivers.filter(move |(from, to)| self.is_directed() || from < to)
        })
    }

    /// Number of (sender, receiver) pairs; an edge that carries both ways has two.
    pub fn edge_ends(&self) -> usize {
        self.sends.peers.len()
    }

    /// Whether the receivers of this peer's updates can compare what they were told, however it splits
    /// them: two can if they exchange with each other, or both with another peer, and all are linked
    /// by such pairs. If not, a peer that tells them different things may not be found out. True of a
    /// peer with one receiver, which has nobody to differ from.
    pub fn contradictions_show(&self, sender: usize) -> bool {
        let around = |peer: usize| -> BTreeSet<usize> {
            let both = self.sends_to(peer).iter().chain(self.receives_from(peer));
            both.copied().filter(|other| *other != sender).collect()
        };
        // Receivers are reached from the first one, over peers that two of them have in common.
        let receivers: BTreeSet<usize> = self.sends_to(sender).iter().copied().collect();
        let mut linked: BTreeSet<usize> = receivers.first().copied().into_iter().collect();
        let mut next: Vec<usize> = linked.iter().copied().collect();
        let mut passed = BTreeSet::new();
        while let Some(receiver) = next.pop() {
            if linked.len() == receivers.len() {
                return true;
            }
            let near = around(receiver);
            let further = near.iter().filter(|peer| passed.insert(**peer));
            let beyond = further.flat_map(|peer| around(*peer));
            let reached: BTreeSet<usize> = near.iter().copied().chain(beyond).collect();
            for other in reached.intersection(&receivers) {
                if linked.insert(*other) {
                    next.push(*other);
                }
            }
        }
        linked.len() == receivers.len()
    }

    /// Whether an edge may carry updates one way only.
    pub fn is_directed(&self) -> bool {
        self.receives.is_some()
    }
}

/// Whether the edges of all these graphs over the same peers together lead from every peer to every
/// other.
pub fn connected_together<G: Borrow<Graph>>(graphs: &[G]) -> bool {
    let peers = graphs.first().map_or(0, |graph| graph.borrow().peers());
    let reaches_all = |next| {
        reachable(graphs, 0, next)
            .into_iter()
            .all(|reached| reached)
    };
    peers == 0 || (reaches_all(Graph::sends_to) && reaches_all(Graph::receives_from))
}

/// Which peers `start` reaches over the edges `next` of all these graphs.
pub(super) fn reachable<G: Borrow<Graph>>(
    graphs: &[G],
    start: usize,
    next: fn(&Graph, usize) -> &[usize],
) -> Vec<bool> {
    let mut reached = vec![false; graphs[0].borrow().peers()];
    let mut open = vec![start];
    reached[start] = true;
    while let Some(peer) = open.pop() {
        for other in graphs.iter().flat_map(|graph| next(graph.borrow(), peer)) {
            if !std::mem::replace(&mut reached[*other], true) {
                open.push(*other);
            }
        }
    }
    reached
}

fn check_weight(from: usize, to: usize, weight: f64) -> Result<(), TopologyError> {
    let reason = || format!("weight {weight} is not in (0, 1]");
    if weight > 0.0 && weight <= 1.0 {
        Ok(())
    } else {
        Err(TopologyError::BadEdge {
            from,
            to,
            reason: reason(),
        })
    }
}

fn check_edge(peers: usize, from: usize, to: usize) -> Result<(), TopologyError> {
    let reason = if from >= peers || to >= peers {
        format!("it leaves 0..{peers}")
    } else if from == to {
        "it is a loop".to_owned()
    } else {
        return Ok(());
    };
    Err(TopologyError::BadEdge { from, to, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_show_where_two_receivers_meet_or_have_a_peer_in_common() {
        let ring = |peers: usize| (0..peers).map(move |peer| (peer, (peer + 1) % peers));
        let shows = |peers: usize, edges: Vec<(usize, usize)>| {
            let graph = Graph::new_undirected(peers, edges).expect("a connected graph");
            (0..peers).all(|peer| graph.contradictions_show(peer))
        };
        assert!(
            shows(3, ring(3).collect()),
            "the two receivers are neighbours"
        );
        assert!(shows(4, ring(4).collect()), "both have the peer opposite");
        assert!(!shows(5, ring(5).collect()));
        assert!(
            shows(2, vec![(0, 1)]),
            "one receiver has nobody to differ from"
        );
    }
}
