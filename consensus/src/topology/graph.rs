//! A graph with mixing weights.

use super::TopologyError;

/// Who sends to whom among peers `0..n`, and the mixing matrix W: row `to` says with which weights peer `to` averages its own
/// model and what it receives. Rows sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    directed: bool,
    /// Per sender, the receivers, ascending.
    sends: Vec<Vec<usize>>,
    /// Per receiver, the senders, ascending, and the weight of each.
    receives: Vec<Vec<usize>>,
    weights: Vec<Vec<f64>>,
    own: Vec<f64>,
}

impl Graph {
    /// A graph in which every edge carries updates both ways, with Metropolis–Hastings weights 1 / (1 + max(degreeᵢ, degreeⱼ)):
    /// symmetric and doubly stochastic. An edge named twice counts once.
    ///
    /// # Errors
    /// When an edge leaves `0..peers` or is a loop.
    pub fn new_undirected(peers: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Result<Graph, TopologyError> {
        let mut neighbours = vec![Vec::new(); peers];
        for (a, b) in edges {
            check_edge(peers, a, b)?;
            neighbours[a].push(b);
            neighbours[b].push(a);
        }
        for list in &mut neighbours {
            list.sort_unstable();
            list.dedup();
        }
        let weight = |a: usize, b: usize| 1.0 / (1.0 + neighbours[a].len().max(neighbours[b].len()) as f64);
        let weights: Vec<Vec<f64>> = (0..peers).map(|to| neighbours[to].iter().map(|from| weight(to, *from)).collect()).collect();
        let own = weights.iter().map(|row| 1.0 - row.iter().sum::<f64>()).collect();
        Ok(Graph { directed: false, sends: neighbours.clone(), receives: neighbours, weights, own })
    }

    /// A graph from every sender's (receiver, weight) list; what a receiver's weights leave of 1 is its own model's.
    ///
    /// # Errors
    /// When an edge leaves `0..peers`, is a loop or doubled, a weight is not in (0, 1], or a receiver's weights exceed 1.
    pub fn new_directed(out_edges: &[Vec<(usize, f64)>]) -> Result<Graph, TopologyError> {
        let peers = out_edges.len();
        let mut sends = vec![Vec::new(); peers];
        let mut receives = vec![Vec::new(); peers];
        let mut weights = vec![Vec::new(); peers];
        // Senders come in ascending order, so every receiver's list is ascending.
        for (from, edges) in out_edges.iter().enumerate() {
            for (to, weight) in edges {
                check_edge(peers, from, *to)?;
                let bad = |reason: String| TopologyError::BadEdge { from, to: *to, reason };
                if !(*weight > 0.0 && *weight <= 1.0) {
                    return Err(bad(format!("weight {weight} is not in (0, 1]")));
                }
                if receives[*to].last() == Some(&from) {
                    return Err(bad("it is named twice".to_owned()));
                }
                sends[from].push(*to);
                receives[*to].push(from);
                weights[*to].push(*weight);
            }
            sends[from].sort_unstable();
        }
        let own: Vec<f64> = weights.iter().map(|row: &Vec<f64>| 1.0 - row.iter().sum::<f64>()).collect();
        if let Some(to) = own.iter().position(|weight| *weight < -1e-12) {
            let reason = "the receiver's weights exceed 1".to_owned();
            return Err(TopologyError::BadEdge { from: receives[to][0], to, reason });
        }
        Ok(Graph { directed: true, sends, receives, weights, own })
    }

    /// Number of peers.
    pub fn peers(&self) -> usize {
        self.own.len()
    }

    /// The receivers of `peer`'s updates, ascending.
    pub fn sends_to(&self, peer: usize) -> &[usize] {
        &self.sends[peer]
    }

    /// The senders whose updates `peer` mixes, ascending, itself excluded.
    pub fn receives_from(&self, peer: usize) -> &[usize] {
        &self.receives[peer]
    }

    /// W\[to\]\[from\]; the weight of the own model where both are equal; 0 where there is no edge.
    pub fn mixing_weight(&self, to: usize, from: usize) -> f64 {
        if to == from {
            return self.own[to];
        }
        self.receives[to].binary_search(&from).map_or(0.0, |place| self.weights[to][place])
    }

    /// W in full, row by row. `n²` numbers.
    pub fn mixing_matrix(&self) -> Vec<Vec<f64>> {
        let row = |to| (0..self.peers()).map(|from| self.mixing_weight(to, from)).collect();
        (0..self.peers()).map(row).collect()
    }

    /// Every edge once: (sender, receiver) where directed, (lower, higher) where not; ascending.
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.sends.iter().enumerate().flat_map(move |(from, receivers)| {
            receivers.iter().map(move |to| (from, *to)).filter(move |(from, to)| self.directed || from < to)
        })
    }

    /// Whether an edge may carry updates one way only.
    pub fn is_directed(&self) -> bool {
        self.directed
    }
}

/// Whether the edges of all these graphs over the same peers together lead from every peer to every other.
pub fn connected_together(graphs: &[Graph]) -> bool {
    let peers = graphs.first().map_or(0, Graph::peers);
    let reaches_all = |next| reachable(graphs, 0, next).into_iter().all(|reached| reached);
    peers == 0 || (reaches_all(Graph::sends_to) && reaches_all(Graph::receives_from))
}

/// Which peers `start` reaches over the edges `next` of all these graphs.
pub(super) fn reachable(graphs: &[Graph], start: usize, next: fn(&Graph, usize) -> &[usize]) -> Vec<bool> {
    let mut reached = vec![false; graphs[0].peers()];
    let mut open = vec![start];
    reached[start] = true;
    while let Some(peer) = open.pop() {
        for other in graphs.iter().flat_map(|graph| next(graph, peer)) {
            if !std::mem::replace(&mut reached[*other], true) {
                open.push(*other);
            }
        }
    }
    reached
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
