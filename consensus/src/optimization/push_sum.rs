//! Push-sum: averaging over edges that carry updates one way, where no weights make every column
//! and every row sum to 1.
//!
//! Kempe, Dobra and Gehrke 2003; for training Assran et al. 2019 (SGP), arXiv 1811.10792. Each peer
//! splits its vector and a mass, 1 at first, evenly over its receivers and itself, and adds up what
//! it gets: x ← P x, w ← P w with columns of P that sum to 1. The estimate of the mean is x / w. A
//! lost message is lost mass: send cumulative sums if messages can get lost. One liar moves the
//! result anywhere, by mass as well.

use crate::topology::Graph;

/// The part of its vector and mass that `sender` gives to each receiver and keeps itself.
pub fn share(graph: &Graph, sender: usize) -> f64 {
    1.0 / (1 + graph.sends_to(sender).len()) as f64
}

/// The masses that all peers have after `rounds` rounds in which nothing is lost, from 1 each: if
/// only the graph's columns sum to 1, some peers hold more than others for good. Ends early if the
/// masses no longer change.
pub fn settled_masses(graph: &Graph, rounds: usize) -> Vec<f64> {
    let mut masses = vec![1.0; graph.peers()];
    for _ in 0..rounds {
        let given: Vec<f64> = (0..graph.peers())
            .map(|peer| share(graph, peer) * masses[peer])
            .collect();
        let next = |peer: usize| {
            given[peer]
                + graph
                    .receives_from(peer)
                    .iter()
                    .map(|from| given[*from])
                    .sum::<f64>()
        };
        let next: Vec<f64> = (0..graph.peers()).map(next).collect();
        let moved = masses
            .iter()
            .zip(&next)
            .map(|(before, after)| (after - before).abs())
            .fold(0.0, f64::max);
        masses = next;
        if moved < 1e-9 {
            break;
        }
    }
    masses
}

/// Vector and mass of a sender, and the share of them that is taken.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// x of the sender, `d` values.
    pub values: &'a [f32],
    /// w of the sender, positive.
    pub mass: f64,
    /// Its [`share`].
    pub share: f64,
}

/// x and w after a round: the sum of the parts, the peer's own among them.
///
/// # Panics
/// When lengths differ, or there is no part.
pub fn gather(parts: &[Part<'_>]) -> (Vec<f32>, f64) {
    let dimension = parts
        .first()
        .expect("the own part is always there")
        .values
        .len();
    assert!(
        parts.iter().all(|part| part.values.len() == dimension),
        "the vectors of a step have one length"
    );
    let value = |place: usize| {
        parts
            .iter()
            .map(|part| part.share * f64::from(part.values[place]))
            .sum::<f64>() as f32
    };
    (
        (0..dimension).map(value).collect(),
        parts.iter().map(|part| part.share * part.mass).sum(),
    )
}

/// x / w: the peer's estimate of the mean, from which it trains.
///
/// # Panics
/// When the mass is not positive. Even shares of positive masses never make it so.
pub fn estimate(values: &[f32], mass: f64) -> Vec<f32> {
    assert!(mass > 0.0, "a mass of {mass} was never given");
    values
        .iter()
        .map(|value| (f64::from(*value) / mass) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masses_settle_where_what_comes_is_what_goes() {
        // 0 sends to 1 and 2, 1 to 2, 2 to 0.
        let edges = [vec![(1, 0.5), (2, 0.3)], vec![(2, 0.3)], vec![(0, 0.5)]];
        let graph = Graph::new_directed(&edges).unwrap();
        let masses = settled_masses(&graph, 1000);
        // m₁ = m₀/3 + m₁/2, m₂ = m₀/3 + m₁/2 + m₂/2, m₀ = m₀/3 + m₂/2, and 3 in all.
        for (found, expected) in masses.iter().zip([1.0, 2.0 / 3.0, 4.0 / 3.0]) {
            assert!((found - expected).abs() < 1e-6, "{masses:?}");
        }
        let ring = Graph::new_undirected(5, (0..5).map(|peer| (peer, (peer + 1) % 5))).unwrap();
        assert_eq!(settled_masses(&ring, 1000), [1.0; 5]);
    }
}
