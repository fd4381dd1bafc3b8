//! Random regular: a connected simple graph, drawn from the seed, in which every peer has the same
//! degree. Mixes nearly as fast as a complete graph at a constant cost per peer.
//!
//! Drawn by the pairing model with collisions re-paired (Steger and Wormald 1999, doi
//! 10.1017/S0963548399003867), close to uniform for small degrees; degrees above half are drawn as
//! the complement of a small one. Drawn again until connected, which for degree ≥ 3 the first draw
//! nearly always is.

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size, connected_together};
use crate::random::{Seed, Stream};

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "random-regular",
    help: "a random connected graph of equal degree; key degree",
    source: "Steger and Wormald 1999; in De Vos et al. 2023 (epidemic learning), arXiv 2310.01972",
    main_key: Some("degree"),
    new: |section| {
        // Four neighbours carry f = 1 for Krum and trimmed mean. A guess for everything else.
        Box::new(RandomRegular {
            degree: section.integer("degree", Some(4), 1..=65_535) as usize,
        })
    },
};

#[derive(Debug)]
struct RandomRegular {
    degree: usize,
}

/// Draws before giving up. A draw fails or is disconnected with small probability, except for
/// degree 2, where a random 2-regular graph over n peers is one cycle with probability about
/// 1.6/√n: 1000 draws find one beyond 10 000 peers.
const DRAWS: usize = 1000;

impl Topology for RandomRegular {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, round: u64, seed: &Seed) -> Result<Graph, TopologyError> {
        let degree = self.degree;
        let impossible = |reason| {
            Err(TopologyError::Impossible {
                kind: ENTRY.name,
                peers,
                reason,
            })
        };
        if degree >= peers {
            return impossible(format!("degree {degree} needs more than {degree} peers"));
        }
        if degree % 2 == 1 && peers % 2 == 1 {
            return impossible(format!(
                "degree {degree} × {peers} peers is odd; expected an even degree or number of peers"
            ));
        }
        if degree == 1 && peers > 2 {
            return impossible(
                "degree 1 makes pairs that never meet; expected degree 2 or more".to_owned(),
            );
        }
        check_size(ENTRY.name, peers, degree)?;
        let mut stream = Stream::derive("kith.v1 topology random-regular", seed, round, 0, 0);
        for _ in 0..DRAWS {
            let dense = 2 * degree > peers;
            let drawn = draw(
                peers,
                if dense { peers - 1 - degree } else { degree },
                &mut stream,
            );
            let Some(drawn) = drawn else { continue };
            let graph = Graph::new_undirected(peers, edges(&drawn, dense))?;
            if connected_together(std::slice::from_ref(&graph)) {
                return Ok(graph);
            }
        }
        impossible(format!(
            "no connected graph of degree {degree} in {DRAWS} draws; expected a larger degree"
        ))
    }

    fn is_random(&self) -> bool {
        true
    }
}

/// The neighbours of each peer in a graph that is being drawn.
struct Drawn {
    degree: usize,
    /// `degree` places for each peer, of which the first `counts` are taken.
    places: Vec<usize>,
    counts: Vec<usize>,
}

impl Drawn {
    fn of(&self, peer: usize) -> &[usize] {
        &self.places[peer * self.degree..][..self.counts[peer]]
    }

    fn join(&mut self, a: usize, b: usize) {
        for (peer, other) in [(a, b), (b, a)] {
            self.places[peer * self.degree + self.counts[peer]] = other;
            self.counts[peer] += 1;
        }
    }

    fn may_join(&self, a: usize, b: usize) -> bool {
        a != b && !self.of(a).contains(&b)
    }
}

/// One draw, or `None` if the last ends could not be paired.
fn draw(peers: usize, degree: usize, stream: &mut Stream) -> Option<Drawn> {
    let mut drawn = Drawn {
        degree,
        places: vec![0; peers * degree],
        counts: vec![0; peers],
    };
    let mut ends: Vec<usize> = (0..peers * degree).map(|end| end / degree).collect();
    while !ends.is_empty() {
        stream.shuffle(&mut ends);
        let mut left = Vec::new();
        for pair in ends.chunks_exact(2) {
            if drawn.may_join(pair[0], pair[1]) {
                drawn.join(pair[0], pair[1]);
            } else {
                left.extend(pair);
            }
        }
        let possible = || {
            left.iter()
                .any(|a| left.iter().any(|b| drawn.may_join(*a, *b)))
        };
        if left.len() == ends.len() && !possible() {
            return None;
        }
        ends = left;
    }
    Some(drawn)
}

/// The edges drawn, or those that were not.
fn edges(drawn: &Drawn, complement: bool) -> Vec<(usize, usize)> {
    let peers = drawn.counts.len();
    let mut edges = Vec::new();
    let mut last_met = vec![usize::MAX; peers];
    for low in 0..peers {
        if complement {
            drawn
                .of(low)
                .iter()
                .for_each(|other| last_met[*other] = low);
            edges.extend(
                (low + 1..peers)
                    .filter(|high| last_met[*high] != low)
                    .map(|high| (low, high)),
            );
        } else {
            edges.extend(
                drawn
                    .of(low)
                    .iter()
                    .filter(|high| low < **high)
                    .map(|high| (low, *high)),
            );
        }
    }
    edges
}
