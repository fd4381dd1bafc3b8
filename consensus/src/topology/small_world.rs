//! Small world: a ring of near neighbours of which some edges are rewired to random peers: local,
//! yet of small diameter.
//!
//! Watts and Strogatz 1998, doi 10.1038/30918. Peer i is joined to the degree/2 next ones on each
//! side; each of these edges keeps its near end and, with probability `rewire`, gets a random far
//! end instead. 0 is the ring, 1 nearly a random graph. Drawn again until connected.

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size, connected_together};
use crate::random::{Seed, Stream};

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "small-world",
    help: "a ring of near neighbours, some edges rewired at random; keys degree, rewire",
    source: "Watts and Strogatz 1998, doi 10.1038/30918",
    main_key: Some("degree"),
    new: |section| {
        // Four as in random-regular; a tenth is the middle of the paper's range in which paths are
        // short and circles many.
        let (degree, rewire) = (
            section.integer("degree", Some(4), 2..=65_534),
            section.number("rewire", Some(0.1), 0.0..=1.0),
        );
        if degree % 2 == 1 {
            section.note(
                "degree",
                format!("{degree} neighbours cannot be half on each side; expected an even number"),
            );
        }
        Box::new(SmallWorld {
            degree: degree as usize,
            rewire,
        })
    },
};

#[derive(Debug)]
struct SmallWorld {
    degree: usize,
    rewire: f64,
}

/// Draws before giving up; a disconnected one is rare from degree 4 on.
const DRAWS: usize = 100;

impl Topology for SmallWorld {
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
        check_size(ENTRY.name, peers, degree)?;
        let mut stream = Stream::derive("kith.v1 topology small-world", seed, round, 0, 0);
        for _ in 0..DRAWS {
            let graph =
                Graph::new_undirected(peers, draw(peers, degree, self.rewire, &mut stream))?;
            if connected_together(std::slice::from_ref(&graph)) {
                return Ok(graph);
            }
        }
        impossible(format!(
            "no connected graph of degree {degree} in {DRAWS} draws; expected a larger degree or less rewire"
        ))
    }

    fn is_random(&self) -> bool {
        true
    }
}

fn draw(peers: usize, degree: usize, rewire: f64, stream: &mut Stream) -> Vec<(usize, usize)> {
    let mut neighbours: Vec<Vec<usize>> = vec![Vec::with_capacity(degree); peers];
    for hop in 1..=degree / 2 {
        for peer in 0..peers {
            let next = (peer + hop) % peers;
            neighbours[peer].push(next);
            neighbours[next].push(peer);
        }
    }
    // As in the paper, hop by hop around the ring.
    for hop in 1..=degree / 2 {
        for peer in 0..peers {
            // A peer that has everybody as a neighbour has no other end to choose.
            if stream.unit() >= rewire || neighbours[peer].len() >= peers - 1 {
                continue;
            }
            let old = (peer + hop) % peers;
            let new = loop {
                let other = stream.bounded(peers as u64) as usize;
                if other != peer && !neighbours[peer].contains(&other) {
                    break other;
                }
            };
            neighbours[peer].retain(|other| *other != old);
            neighbours[old].retain(|other| *other != peer);
            neighbours[peer].push(new);
            neighbours[new].push(peer);
        }
    }
    let upper = |low: usize| {
        neighbours[low]
            .iter()
            .filter(move |high| low < **high)
            .map(move |high| (low, *high))
    };
    (0..peers).flat_map(upper).collect()
}
