//! What the messages that one peer sees tell of another: the accountant of a graph.
//!
//! In *one-shot averaging* every peer contributes a noised value, and rounds of mixing follow: a
//! contribution does not react to messages. Then all that an observer sees is linear in the
//! contributions and their noise, and its view A of them tells of a unit of the peer v as much as
//! one Gaussian release with
//!
//! μ² = (A·δ)ᵀ (A·Σ·Aᵀ)⁺ (A·δ)
//!
//! does, where δ is 1 for each contribution of v, in units of the clip norm, and Σ holds the
//! variances of the noise: σ² for each contribution, 0 for those of the observers, who know their
//! own. If A·δ leaves the range of A·Σ·Aᵀ, some of it comes without noise, and μ² is infinite. After
//! Cyffers et al. 2022 (Muffliato), arXiv 2206.05091, whose bound this replaces by the exact value.
//!
//! Assumes: the rule is a weighted mean with the graph's mixing weights, the encoding is exact,
//! every message arrives, every unit takes part (q = 1), the observers follow the protocol.
//!
//! **Training is no one-shot averaging**: a neighbour's gradient reacts to noisy messages that the
//! observer never sees, which can raise δ by more than 30 times (found by experiment). For training
//! the value is an estimate and no guarantee; the ε of [`super::pld`] over the peer's own releases
//! always holds.
//!
//! Cost: r²·n·t for r messages seen of n peers over t rounds, and r³ for the eigenvectors.

use std::borrow::Borrow;

use nalgebra::{DMatrix, DVector};

use crate::topology::Graph;

/// Most multiplications for one group of observers: a few seconds (guess).
const WORK_MAX: f64 = 4e9;

/// Eigenvalues below this share of the largest are no noise but rounding.
const NOISELESS: f64 = 1e-11;

/// A view too large to analyse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{messages} messages seen over {rounds} rounds among {peers} peers are too many to analyse; look at fewer rounds"
)]
pub struct TooLarge {
    /// Messages that the observers see.
    pub messages: usize,
    /// Rounds looked at.
    pub rounds: usize,
    /// Peers of the graph.
    pub peers: usize,
}

/// A round: which peer sends to which, and whether peers contribute something new before they send.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<G> {
    /// The graph with its mixing weights.
    pub graph: G,
    /// Whether peers add a contribution in this round.
    pub contribution: Contribution,
}

/// Whether peers add something of their own in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contribution {
    /// Each adds a clipped value with noise of its own.
    Noised,
    /// They only mix.
    Nothing,
}

/// μ² for each peer, at σ = 1, of what `observers` see together; for another σ divide by σ². `None`
/// for the observers themselves; infinite where they see something without noise.
///
/// # Errors
/// When the observers see too many messages for this machine.
///
/// # Panics
/// When graphs have different numbers of peers.
pub fn leakage<G: Borrow<Graph>>(
    rounds: &[Exchange<G>],
    observers: &[usize],
) -> Result<Vec<Option<f64>>, TooLarge> {
    let peers = rounds
        .first()
        .map_or(0, |round| round.graph.borrow().peers());
    let view = view(rounds, observers, peers)?;
    let columns = view.ncols();
    let is_seen = |peer: usize| observers.contains(&peer);
    // Columns are rounds of peers, one after the other.
    let mut noised = view.clone();
    for column in (0..columns).filter(|column| is_seen(column % peers)) {
        noised.column_mut(column).fill(0.0);
    }
    let covariance = &noised * noised.transpose();
    let eigen = covariance.symmetric_eigen();
    let least = NOISELESS * eigen.eigenvalues.iter().copied().fold(0.0, f64::max);
    let of = |peer: usize| {
        let own = (peer..columns).step_by(peers);
        let moved = own.fold(DVector::zeros(view.nrows()), |sum, column| {
            sum + view.column(column)
        });
        let along = eigen.eigenvectors.tr_mul(&moved);
        let unseen = 1e-8 * moved.norm();
        along
            .iter()
            .zip(&eigen.eigenvalues)
            .map(|(part, variance)| {
                if *variance > least {
                    part * part / variance
                } else if part.abs() > unseen {
                    f64::INFINITY
                } else {
                    0.0
                }
            })
            .sum::<f64>()
    };
    Ok((0..peers)
        .map(|peer| (!is_seen(peer)).then(|| of(peer)))
        .collect())
}

/// The matrix A: a row for each message to an observer from somebody else, and a column for each
/// contribution.
fn view<G: Borrow<Graph>>(
    rounds: &[Exchange<G>],
    observers: &[usize],
    peers: usize,
) -> Result<DMatrix<f64>, TooLarge> {
    let messages = rounds
        .iter()
        .map(|round| senders(round.graph.borrow(), observers).len())
        .sum::<usize>();
    let columns = peers * rounds.len();
    let work = (messages * messages) as f64 * (columns + messages) as f64
        + (peers * columns) as f64 * (peers * rounds.len()) as f64;
    if work > WORK_MAX {
        return Err(TooLarge {
            messages,
            rounds: rounds.len(),
            peers,
        });
    }
    let mut view = DMatrix::zeros(messages, columns);
    let mut states = DMatrix::zeros(peers, columns);
    let mut row = 0;
    for (number, round) in rounds.iter().enumerate() {
        let graph = round.graph.borrow();
        assert_eq!(graph.peers(), peers, "all graphs have the same peers");
        if round.contribution == Contribution::Noised {
            (0..peers).for_each(|peer| states[(peer, number * peers + peer)] += 1.0);
        }
        for from in senders(graph, observers) {
            view.set_row(row, &states.row(from));
            row += 1;
        }
        let mixing = DMatrix::from_fn(peers, peers, |to, from| graph.entry(to, from));
        states = mixing * states;
    }
    Ok(view)
}

/// The peers that send to the observers, themselves excluded, in order.
fn senders(graph: &Graph, observers: &[usize]) -> Vec<usize> {
    let all = observers.iter().flat_map(|to| graph.receives_from(*to));
    let mut senders: Vec<usize> = all
        .copied()
        .filter(|from| !observers.contains(from))
        .collect();
    senders.sort_unstable();
    senders.dedup();
    senders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(graph: &Graph, count: usize) -> Vec<Exchange<&Graph>> {
        let round = Exchange {
            graph,
            contribution: Contribution::Noised,
        };
        vec![round; count]
    }

    fn ring(peers: usize) -> Graph {
        Graph::new_undirected(peers, (0..peers).map(|peer| (peer, (peer + 1) % peers))).unwrap()
    }

    /// Figures of a second reading with other code.
    #[test]
    fn a_ring_of_sixteen_tells_less_with_distance_and_more_to_colluders() {
        let ring = ring(16);
        let found = leakage(&rounds(&ring, 20), &[0]).unwrap();
        assert_eq!(found[0], None);
        for (distance, expected) in [(1, 12.03), (2, 4.86), (5, 0.263)] {
            let [one, other] = [found[distance], found[16 - distance]].map(Option::unwrap);
            assert!((one / expected - 1.0).abs() < 2e-3, "{distance}: {one}");
            assert!(
                (one / other - 1.0).abs() < 1e-6,
                "{distance}: {one} {other}"
            );
        }
        let together = leakage(&rounds(&ring, 20), &[2, 14]).unwrap();
        assert!(
            (together[0].unwrap() / 6.12 - 1.0).abs() < 2e-3,
            "{together:?}"
        );
    }

    #[test]
    fn a_complete_graph_hides_nothing() {
        let edges = (0..8).flat_map(|a| (0..a).map(move |b| (a, b)));
        let graph = Graph::new_undirected(8, edges).unwrap();
        let found = leakage(&rounds(&graph, 20), &[3]).unwrap();
        for (peer, found) in found.iter().enumerate().filter(|(peer, _)| *peer != 3) {
            assert!((found.unwrap() - 20.0).abs() < 1e-6, "{peer}: {found:?}");
        }
    }

    #[test]
    fn one_round_shows_neighbours_alone_and_mixing_more_tells_more() {
        let ring = ring(6);
        let mut all = rounds(&ring, 1);
        let first = leakage(&all, &[0]).unwrap();
        assert_eq!(first[2], Some(0.0));
        assert!((first[1].unwrap() - 1.0).abs() < 1e-12);
        all.push(Exchange {
            contribution: Contribution::Nothing,
            ..all[0]
        });
        let second = leakage(&all, &[0]).unwrap();
        // The neighbour's second message is a mean of three, of which two are known: the third's.
        assert!((second[2].unwrap() - 1.0).abs() < 1e-9, "{second:?}");
        assert!((second[1].unwrap() - 1.0).abs() < 1e-9, "{second:?}");
        assert_eq!(second[3], Some(0.0));
    }

    #[test]
    fn a_view_too_large_is_refused_by_its_sizes() {
        let ring = ring(64);
        let refused = leakage(&rounds(&ring, 1000), &[0]).unwrap_err();
        assert_eq!(
            (refused.messages, refused.rounds, refused.peers),
            (2000, 1000, 64)
        );
    }
}
