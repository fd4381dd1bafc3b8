//! Edges: the charter itself lists who exchanges with whom. Peers are numbered from 0 in the order
//! of their keys.
//!
//! With `directed` a pair is sender and receiver, and a receiver averages all models that it got
//! and its own equally. Rows of W sum to 1, columns do not. So plain mixing moves the mean and
//! `push-sum` does not.
//!
//! [`edges_from_text`] reads the same from a file of pairs, as other programs write them.

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size};
use crate::random::Seed;
use crate::section::Problem;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "edges",
    help: "listed in the charter: edges = [[0, 1], [1, 2], …], directed or not; peers are numbered in the order of their keys",
    source: "own",
    main_key: None,
    new: |section| {
        Box::new(Edges {
            edges: section.pairs("edges", None, 0..=PEER_MAX),
            directed: section.flag("directed", Some(false)),
        })
    },
};

/// Largest number of a peer that a list may name.
const PEER_MAX: u64 = 1_000_000;

#[derive(Debug)]
struct Edges {
    edges: Vec<(u64, u64)>,
    /// Whether an edge carries updates one way, from its first peer to its second.
    directed: bool,
}

impl Topology for Edges {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, _round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        check_size(ENTRY.name, 2, self.edges.len())?;
        let mut edges: Vec<(usize, usize)> = self
            .edges
            .iter()
            .map(|(a, b)| (*a as usize, *b as usize))
            .collect();
        if !self.directed {
            return Graph::new_undirected(peers, edges);
        }
        edges.sort_unstable();
        edges.dedup();
        let mut received = vec![0usize; peers];
        edges
            .iter()
            .filter(|(_, to)| *to < peers)
            .for_each(|(_, to)| received[*to] += 1);
        let mut out_edges = vec![Vec::new(); peers];
        for (from, to) in edges {
            let reason = || format!("it leaves 0..{peers}");
            let list = out_edges
                .get_mut(from)
                .ok_or_else(|| TopologyError::BadEdge {
                    from,
                    to,
                    reason: reason(),
                })?;
            list.push((
                to,
                received
                    .get(to)
                    .map_or(1.0, |received| 1.0 / (1 + received) as f64),
            ));
        }
        Graph::new_directed(&out_edges)
    }

    fn doubly_stochastic(&self) -> bool {
        !self.directed
    }
}

/// The pairs of an edge list: one `a b` or `a,b` a line, peers numbered from 0; `#` begins a
/// comment. `name` is what the text is called in the message.
///
/// # Errors
/// The first line that holds something else, with its number, what it holds and what was expected.
pub fn edges_from_text(name: &str, text: &str) -> Result<Vec<(usize, usize)>, Problem> {
    let mut edges = Vec::new();
    let mut start = 0;
    for (index, line) in text.split('\n').enumerate() {
        let span = start..start + line.len();
        start = span.end + 1;
        let content = line.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let problem = |what: String| Problem {
            key: name.to_owned(),
            line: index + 1,
            column: 1,
            span: Some(span.clone()),
            what,
        };
        let number = |word: &str| match word.parse() {
            Ok(peer) if peer <= PEER_MAX as usize => Ok(peer),
            _ => Err(problem(format!(
                "{word:?} is not a peer's number; expected an integer from 0 to {PEER_MAX}"
            ))),
        };
        let words: Vec<&str> = content
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .collect();
        let [a, b] = words[..] else {
            return Err(problem(format!(
                "{content:?} is not an edge; expected two peers' numbers, for example \"0 1\" or \"0,1\""
            )));
        };
        let (a, b): (usize, usize) = (number(a)?, number(b)?);
        if a == b {
            return Err(problem(format!(
                "{content:?} joins a peer to itself; expected two different numbers"
            )));
        }
        edges.push((a, b));
    }
    Ok(edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directed_edges_carry_one_way_and_who_receives_averages_equally() {
        let graph = |pairs: &[(u64, u64)]| {
            let edges = Edges {
                edges: pairs.to_vec(),
                directed: true,
            };
            edges.graph(3, 0, &Seed::from_number(0))
        };
        let found = graph(&[(2, 0), (0, 1), (0, 2), (1, 2), (0, 1)]).unwrap();
        assert!(found.is_directed());
        assert_eq!(found.sends_to(0), [1, 2]);
        assert_eq!(found.receives_from(2), [0, 1]);
        let third = 1.0 / 3.0;
        for (row, expected) in
            found
                .mixing_matrix()
                .iter()
                .zip([[0.5, 0.0, 0.5], [0.5, 0.5, 0.0], [third; 3]])
        {
            assert!(
                row.iter()
                    .zip(expected)
                    .all(|(found, expected)| (found - expected).abs() < 1e-12),
                "{row:?}"
            );
        }
        assert_eq!(
            graph(&[(0, 3)]).unwrap_err().to_string(),
            "edge from 0 to 3: it leaves 0..3"
        );
        assert_eq!(
            graph(&[(4, 1)]).unwrap_err().to_string(),
            "edge from 4 to 1: it leaves 0..3"
        );
    }

    #[test]
    fn an_edge_list_is_read_or_refused_with_its_line() {
        let text = "# a triangle\n0 1\n1,2 # and\r\n\n  2 ,\t0\n";
        assert_eq!(
            edges_from_text("graph.txt", text).unwrap(),
            [(0, 1), (1, 2), (2, 0)]
        );
        let refused = |text: &str| edges_from_text("graph.txt", text).unwrap_err().to_string();
        assert_eq!(
            refused("0 1\n1 two\n"),
            "line 2, column 1: graph.txt: \"two\" is not a peer's number; expected an integer from 0 to 1000000"
        );
        assert_eq!(
            refused("0 1 2"),
            "line 1, column 1: graph.txt: \"0 1 2\" is not an edge; expected two peers' numbers, for example \"0 1\" or \"0,1\""
        );
        assert!(
            refused("\n#\n3 3")
                .starts_with("line 3, column 1: graph.txt: \"3 3\" joins a peer to itself")
        );
        assert!(refused("0 -1").contains("\"-1\" is not a peer's number"));
        assert!(refused("7").contains("is not an edge"));
    }
}
