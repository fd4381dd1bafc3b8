//! A drawing of a graph: which peers exchange updates.
//!
//! Kinds with a shape of their own are laid out by it: circles, the torus as its grid, clusters
//! apart. Everything else is laid out by forces (Fruchterman and Reingold 1991, doi
//! 10.1002/spe.4380211102) from a fixed start in a fixed number of steps, so that the same graph
//! always looks the same. Cost n² a step.

use std::f64::consts::TAU;
use std::fmt::Write as _;

use kith_consensus::topology::Graph;

use super::{TOP, open};

const SIDE: f64 = 460.0;
/// Larger graphs are drawn without numbers.
const NUMBERED_MAX: usize = 64;
/// Products of peers, peers and steps that forces may take: about a second.
const FORCES_MAX: usize = 100_000_000;

/// A graph as an `<svg>` element without its style. `kind` is the topology's name; `lies` marks
/// liars, and may be empty.
pub fn svg(title: &str, kind: &str, graph: &Graph, lies: &[bool]) -> String {
    let peers = graph.peers();
    let radius = if peers <= NUMBERED_MAX {
        10.0
    } else {
        (180.0 / (peers as f64).sqrt()).clamp(1.5, 8.0)
    };
    let margin = radius + 8.0;
    let places: Vec<(f64, f64)> = places(kind, graph)
        .into_iter()
        .map(|(x, y)| {
            (
                margin + x * (SIDE - 2.0 * margin),
                TOP + margin + y * (SIDE - 2.0 * margin),
            )
        })
        .collect();
    let liars = lies.iter().any(|lies| *lies);
    let mut svg = open(
        SIDE,
        TOP + SIDE + if liars { 24.0 } else { 0.0 },
        10.0,
        title,
    );
    for (from, to) in graph.edges() {
        let ((x, y), (to_x, to_y)) = (places[from], places[to]);
        let _ = write!(
            svg,
            "<path class=\"edge\" d=\"M{x:.1} {y:.1}L{to_x:.1} {to_y:.1}\"/>"
        );
        if graph.is_directed() {
            let length = (to_x - x).hypot(to_y - y).max(1e-9);
            let (ahead_x, ahead_y) = ((to_x - x) / length, (to_y - y) / length);
            let (tip_x, tip_y) = (to_x - radius * ahead_x, to_y - radius * ahead_y);
            let corner = |side: f64| {
                (
                    tip_x - 7.0 * ahead_x + side * ahead_y,
                    tip_y - 7.0 * ahead_y - side * ahead_x,
                )
            };
            let (left, right) = (corner(3.0), corner(-3.0));
            let (left, right) = (
                format!("{:.1} {:.1}", left.0, left.1),
                format!("{:.1} {:.1}", right.0, right.1),
            );
            let _ = write!(
                svg,
                "<path class=\"arrow\" d=\"M{tip_x:.1} {tip_y:.1}L{left}L{right}Z\"/>"
            );
        }
    }
    for (peer, (x, y)) in places.iter().enumerate() {
        node(&mut svg, (*x, *y), radius, lies.get(peer) == Some(&true));
        if peers <= NUMBERED_MAX {
            let _ = write!(
                svg,
                "<text class=\"inside\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{peer}</text>",
                y + 3.5
            );
        }
    }
    if liars {
        let at = TOP + SIDE + 8.0;
        for (left, lies, text) in [(24.0, false, "honest"), (120.0, true, "lies")] {
            node(&mut svg, (left, at), 7.0, lies);
            let _ = write!(
                svg,
                "<text x=\"{}\" y=\"{}\">{text}</text>",
                left + 14.0,
                at + 4.0
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// A circle; a square if the peer lies.
fn node(svg: &mut String, (x, y): (f64, f64), radius: f64, lies: bool) {
    let _ = match lies {
        false => write!(
            svg,
            "<circle class=\"s0\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>"
        ),
        true => {
            let (left, top, side) = (x - radius, y - radius, 2.0 * radius);
            write!(
                svg,
                "<rect class=\"s1\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{side:.1}\" height=\"{side:.1}\"/>"
            )
        }
    };
}

/// Moved and stretched into the unit square, both ways alike.
fn fitted(places: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let ends = |pick: fn(&(f64, f64)) -> f64| {
        let values = places.iter().map(pick);
        (
            values.clone().fold(f64::INFINITY, f64::min),
            values.fold(f64::NEG_INFINITY, f64::max),
        )
    };
    let ((left, right), (top, bottom)) = (ends(|place| place.0), ends(|place| place.1));
    let side = (right - left).max(bottom - top).max(1e-9);
    let centred = |value: f64, low: f64, high: f64| 0.5 + (value - (low + high) / 2.0) / side;
    places
        .iter()
        .map(|(x, y)| (centred(*x, left, right), centred(*y, top, bottom)))
        .collect()
}

/// Where each peer is drawn: across and down, each in [0, 1]. `kind` is the topology's name.
pub fn places(kind: &str, graph: &Graph) -> Vec<(f64, f64)> {
    fitted(laid_out(kind, graph))
}

fn laid_out(kind: &str, graph: &Graph) -> Vec<(f64, f64)> {
    let peers = graph.peers();
    match kind {
        "ring"
        | "complete"
        | "exponential"
        | "one-peer-exponential"
        | "base-k"
        | "small-world"
        | "epidemic-local" => circle(peers),
        "star" | "centralised" => std::iter::once((0.0, 0.0))
            .chain(circle(peers.saturating_sub(1)))
            .take(peers)
            .collect(),
        "torus" => columns(graph).map_or_else(|| forces(graph), |columns| grid(peers, columns)),
        "dumbbell" => clusters(peers, &[0..peers.div_ceil(2), peers.div_ceil(2)..peers]),
        "hierarchical" => {
            consecutive(graph).map_or_else(|| circle(peers), |found| clusters(peers, &found))
        }
        _ => forces(graph),
    }
}

fn circle(peers: usize) -> Vec<(f64, f64)> {
    let angle = |peer: usize| TAU * peer as f64 / peers as f64 - TAU / 4.0;
    (0..peers)
        .map(|peer| (angle(peer).cos(), angle(peer).sin()))
        .collect()
}

fn grid(peers: usize, columns: usize) -> Vec<(f64, f64)> {
    // Rows and columns are bent a little, so that edges around the back do not hide behind those
    // between.
    let bend =
        |at: usize, of: usize| 0.35 * (std::f64::consts::PI * (at as f64 + 0.5) / of as f64).sin();
    let rows = peers / columns;
    let place = |row: usize, column: usize| {
        (
            column as f64 + bend(row, rows),
            row as f64 + bend(column, columns),
        )
    };
    (0..peers)
        .map(|peer| place(peer / columns, peer % columns))
        .collect()
}

/// The columns of a grid whose peers are numbered row by row: the smallest step that is an edge
/// from everywhere.
fn columns(graph: &Graph) -> Option<usize> {
    let peers = graph.peers();
    let everywhere = |step: usize| {
        (0..peers).all(|peer| graph.sends_to(peer).contains(&((peer + step) % peers)))
    };
    (2..peers).find(|step| peers.is_multiple_of(*step) && everywhere(*step))
}

/// Runs of consecutive peers that are linked to each other and to nobody else.
fn consecutive(graph: &Graph) -> Option<Vec<std::ops::Range<usize>>> {
    let mut found = Vec::new();
    let mut start = 0;
    for peer in 0..graph.peers() {
        let last = graph
            .sends_to(peer)
            .last()
            .copied()
            .unwrap_or(peer)
            .max(peer);
        if last == peer {
            found.push(start..peer + 1);
            start = peer + 1;
        }
    }
    (found.len() > 1 && start == graph.peers()).then_some(found)
}

/// Each cluster a circle, their centres on a larger one.
fn clusters(peers: usize, clusters: &[std::ops::Range<usize>]) -> Vec<(f64, f64)> {
    let mut places = vec![(0.0, 0.0); peers];
    let count = clusters.len() as f64;
    let radius = (TAU / 2.0 / count).sin().min(0.75) * 0.62;
    for (number, members) in clusters.iter().enumerate() {
        let angle = TAU * number as f64 / count + TAU / 2.0;
        for ((x, y), peer) in circle(members.len()).into_iter().zip(members.clone()) {
            places[peer] = (angle.cos() + radius * x, angle.sin() + radius * y);
        }
    }
    places
}

fn forces(graph: &Graph) -> Vec<(f64, f64)> {
    let peers = graph.peers();
    // The golden angle puts no two peers into one place and no three on a line.
    let start = |peer: usize| {
        (
            (peer as f64 + 0.5).sqrt(),
            2.399_963_229_728_653 * peer as f64,
        )
    };
    let mut places: Vec<(f64, f64)> = (0..peers)
        .map(start)
        .map(|(radius, angle)| (radius * angle.cos(), radius * angle.sin()))
        .collect();
    let steps = (FORCES_MAX / (peers * peers).max(1)).clamp(8, 400);
    for step in 0..steps {
        let mut moves = vec![(0.0, 0.0); peers];
        for a in 0..peers {
            for b in a + 1..peers {
                let (x, y) = (places[a].0 - places[b].0, places[a].1 - places[b].1);
                let push = 1.5 / (x * x + y * y).max(1e-4);
                (moves[a].0, moves[a].1) = (moves[a].0 + push * x, moves[a].1 + push * y);
                (moves[b].0, moves[b].1) = (moves[b].0 - push * x, moves[b].1 - push * y);
            }
        }
        for (a, b) in graph.edges() {
            let (x, y) = (places[a].0 - places[b].0, places[a].1 - places[b].1);
            let pull = 0.7 * x.hypot(y);
            (moves[a].0, moves[a].1) = (moves[a].0 - pull * x, moves[a].1 - pull * y);
            (moves[b].0, moves[b].1) = (moves[b].0 + pull * x, moves[b].1 + pull * y);
        }
        let warmth = 0.12 * (peers as f64).sqrt() * (1.0 - step as f64 / steps as f64);
        for ((x, y), (by_x, by_y)) in places.iter_mut().zip(moves) {
            let length = by_x.hypot(by_y).max(1e-9);
            let share = length.min(warmth) / length;
            (*x, *y) = (*x + share * by_x, *y + share * by_y);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_of_every_layout_stand_apart() {
        let torus = |columns: usize| {
            let right = |peer: usize| peer / columns * columns + (peer + 1) % columns;
            Graph::new_undirected(
                12,
                (0..12).flat_map(|peer| [(peer, right(peer)), (peer, (peer + columns) % 12)]),
            )
            .unwrap()
        };
        assert_eq!((columns(&torus(4)), columns(&torus(6))), (Some(4), Some(6)));
        let pair = |first: usize| {
            [
                (first, first + 1),
                (first + 1, first + 2),
                (first, first + 2),
            ]
        };
        let apart = Graph::new_undirected(6, pair(0).into_iter().chain(pair(3))).unwrap();
        assert_eq!(consecutive(&apart), Some(vec![0..3, 3..6]));
        for (kind, graph) in [
            ("torus", &torus(4)),
            ("hierarchical", &apart),
            ("dumbbell", &torus(4)),
            ("ring", &apart),
            ("edges", &torus(4)),
        ] {
            let places = places(kind, graph);
            for (peer, (x, y)) in places.iter().enumerate() {
                assert!(
                    (-1e-9..=1.0 + 1e-9).contains(x) && (-1e-9..=1.0 + 1e-9).contains(y),
                    "{kind} {peer}"
                );
                assert!(
                    places[..peer]
                        .iter()
                        .all(|(a, b)| (a - x).hypot(b - y) > 0.02),
                    "{kind} {peer}"
                );
            }
        }
    }
}
