//! How unlike the peers of a partition are, for the report of an experiment.
//!
//! Distances compare a peer's shares of the classes p with those of all peers together q. They say
//! nothing about unlike features or unlike meanings of one label.

use serde::Serialize;

use crate::data::Dataset;

/// How far one peer's labels are from everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LabelSkew {
    /// Σ |p − q| over the classes, 0 to 2; half of it is the total variation distance.
    pub l1: f64,
    /// Hellinger distance, 0 to 1.
    pub hellinger: f64,
    /// Jensen–Shannon divergence in nats, 0 to ln 2.
    pub js_divergence: f64,
    /// Entropy of the peer's own labels in nats, 0 for a single class.
    pub entropy: f64,
}

/// A partition's class counts, and the means over its peers of their distances from the whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SkewReport {
    /// Rows of each class, for each peer.
    pub class_counts: Vec<Vec<u64>>,
    /// Mean of [`LabelSkew::l1`].
    pub l1: f64,
    /// Mean of [`LabelSkew::hellinger`].
    pub hellinger: f64,
    /// Mean of the Jensen–Shannon distance, the square root of [`LabelSkew::js_divergence`], 0 to
    /// √(ln 2) = 0.833.
    pub jensen_shannon: f64,
    /// Training rows that the partition deals to nobody.
    pub left_over: u64,
}

impl SkewReport {
    /// The report of these rows of each class, for each peer, of `rows` rows in all.
    pub fn new(class_counts: Vec<Vec<u64>>, rows: u64) -> SkewReport {
        let skews = label_skew(&class_counts);
        let count = skews.len().max(1) as f64;
        let mean = |value: fn(&LabelSkew) -> f64| skews.iter().map(value).sum::<f64>() / count;
        SkewReport {
            l1: mean(|skew| skew.l1),
            hellinger: mean(|skew| skew.hellinger),
            // Rounding can leave a divergence of 0 a little below it.
            jensen_shannon: mean(|skew| skew.js_divergence.max(0.0).sqrt()),
            left_over: rows.saturating_sub(class_counts.iter().flatten().sum()),
            class_counts,
        }
    }

    /// The report of the peers' rows, with the number of rows in all.
    pub fn of<'a>(
        peers: impl IntoIterator<Item = &'a Dataset>,
        classes: usize,
        rows: usize,
    ) -> SkewReport {
        SkewReport::new(
            peers
                .into_iter()
                .map(|peer| peer.class_counts(classes))
                .collect(),
            rows as u64,
        )
    }
}

/// The skew of each peer, from its rows of each class, against the classes of all peers together.
pub fn label_skew(counts: &[Vec<u64>]) -> Vec<LabelSkew> {
    let classes = counts.first().map_or(0, Vec::len);
    let all: Vec<u64> = (0..classes)
        .map(|class| counts.iter().map(|peer| peer[class]).sum())
        .collect();
    let shares = |counts: &[u64]| {
        let sum = counts.iter().sum::<u64>().max(1) as f64;
        counts
            .iter()
            .map(|count| *count as f64 / sum)
            .collect::<Vec<f64>>()
    };
    // p·ln(p/q), which is 0 if p is.
    let term = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    let q = shares(&all);
    let skew = |peer: &Vec<u64>| {
        let p = shares(peer);
        let pairs = || p.iter().zip(&q).map(|(p, q)| (*p, *q));
        LabelSkew {
            l1: pairs().map(|(p, q)| (p - q).abs()).sum(),
            hellinger: (pairs()
                .map(|(p, q)| (p.sqrt() - q.sqrt()).powi(2))
                .sum::<f64>()
                / 2.0)
                .sqrt(),
            js_divergence: pairs()
                .map(|(p, q)| (term(p, (p + q) / 2.0) + term(q, (p + q) / 2.0)) / 2.0)
                .sum(),
            entropy: p.iter().map(|p| -term(*p, 1.0)).sum(),
        }
    };
    counts.iter().map(skew).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_the_mean_over_the_peers() {
        let even = SkewReport::new(vec![vec![5, 5], vec![20, 20]], 53);
        assert_eq!(
            (even.l1, even.hellinger, even.jensen_shannon),
            (0.0, 0.0, 0.0)
        );
        let apart = SkewReport::new(vec![vec![10, 0], vec![0, 10]], 20);
        assert_eq!(apart.l1, 1.0);
        // Σ (√p − √q)² / 2 with p = (1, 0), q = (½, ½) is 1 − √½.
        assert!((apart.hellinger - (1.0 - 0.5f64.sqrt()).sqrt()).abs() < 1e-12);
        // ½·ln(1 / ¾) + ½·(½·ln(½ / ¾) + ½·ln(½ / ¼)) = 0.215762.
        assert!((apart.jensen_shannon.powi(2) - 0.215_761_55).abs() < 1e-8);
        let rows = Dataset::from_numbers(vec![0.0; 4], vec![0, 2, 2, 2], 1);
        let report = SkewReport::of([&rows, &rows], 3, 10);
        assert_eq!(report.class_counts, [[1, 0, 3], [1, 0, 3]]);
        assert_eq!(report.left_over, 2);
    }
}
