//! Dirichlet label skew: for each class, shares of the peers are drawn from Dir(α, …, α) and the
//! class's rows cut at their running sums. Small α: a peer sees few classes; large α: nearly IID.
//! Quantities become unequal as well.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{PartitionEntry, PartitionError, Partitioner, Rows, rows_by_class};

/// Draws before giving up on `min_rows`; a setting that fails a thousand times is hopeless, not
/// unlucky.
const TRIES_MAX: usize = 1000;

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "dirichlet",
    help: "label skew: each class is cut by a Dirichlet draw; dirichlet:0.1 is strong, dirichlet:100 nearly iid",
    source: "Yurochkin et al., arXiv 1905.12022; as in Flower's DirichletPartitioner",
    main_key: Some("alpha"),
    new: |section| {
        // 1.0: moderate skew, every class at most peers. Fewest rows 10: Flower's default
        // (flwr-datasets 0.6.1).
        Arc::new(Dirichlet {
            alpha: section.number("alpha", Some(1.0), 1e-4..=1e6),
            min_rows: section.integer("min_rows", Some(10), 0..=1 << 40) as usize,
        })
    },
};

#[derive(Debug)]
struct Dirichlet {
    alpha: f64,
    min_rows: usize,
}

impl Partitioner for Dirichlet {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let count = rows.labels.len();
        if self.min_rows.saturating_mul(peers) > count {
            let what = format!(
                "min_rows = {} needs {}",
                self.min_rows,
                self.min_rows.saturating_mul(peers)
            );
            return Err(PartitionError::TooFew {
                rows: count,
                peers,
                what,
            });
        }
        let classes = rows_by_class(rows);
        let counts: Vec<usize> = classes.iter().map(Vec::len).collect();
        for _ in 0..TRIES_MAX {
            let proportions: Vec<Vec<f64>> = classes
                .iter()
                .map(|_| draw_proportions(self.alpha, peers, stream))
                .collect();
            let cuts = cut_classes(&counts, &proportions);
            if cuts.iter().any(|peer| {
                peer.iter().map(std::ops::Range::len).sum::<usize>() < self.min_rows.max(1)
            }) {
                continue;
            }
            let part = |cut: &Vec<std::ops::Range<usize>>| {
                let mut part: Vec<usize> = cut
                    .iter()
                    .zip(&classes)
                    .flat_map(|(range, rows)| &rows[range.clone()])
                    .copied()
                    .collect();
                part.sort_unstable();
                part
            };
            return Ok(cuts.iter().map(part).collect());
        }
        let what = format!(
            "in {TRIES_MAX} draws with alpha = {} some peer always had fewer than {} rows; lower min_rows, raise alpha or take fewer peers",
            self.alpha,
            self.min_rows.max(1)
        );
        Err(PartitionError::TooFew {
            rows: count,
            peers,
            what,
        })
    }
}

/// One draw from the symmetric Dirichlet distribution Dir(α, …, α) over `parts`.
///
/// The gammas are drawn as logarithms and normalised by their largest: for small α all of them
/// would underflow to 0.
pub fn draw_proportions(alpha: f64, parts: usize, stream: &mut Stream) -> Vec<f64> {
    let logs: Vec<f64> = (0..parts).map(|_| log_gamma_draw(alpha, stream)).collect();
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logs.iter().map(|log| (log - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// The logarithm of a draw from Gamma(α, 1): Marsaglia and Tsang (ACM TOMS 26, 2000) for α + 1 or
/// α, and for α below 1 ln G(α) = ln G(α + 1) + ln(U) / α.
fn log_gamma_draw(alpha: f64, stream: &mut Stream) -> f64 {
    if alpha < 1.0 {
        // 1 − unit() lies in (0, 1], so its logarithm is finite.
        return log_gamma_draw(alpha + 1.0, stream) + (1.0 - stream.unit()).ln() / alpha;
    }
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = stream.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - stream.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d.ln() + v.ln();
        }
    }
}

/// Each peer's range of each class's rows: class c is cut at floor(Σ_{j ≤ i} p_c(j) · count_c).
pub fn cut_classes(counts: &[usize], proportions: &[Vec<f64>]) -> Vec<Vec<std::ops::Range<usize>>> {
    let peers = proportions.first().map_or(0, Vec::len);
    let mut cuts = vec![Vec::with_capacity(counts.len()); peers];
    for (count, shares) in counts.iter().zip(proportions) {
        let (mut start, mut sum) = (0, 0.0);
        for (peer, share) in shares.iter().enumerate() {
            sum += share;
            // The last cut is the end: a sum of 0.9999… must not lose a row.
            let end = if peer + 1 == peers {
                *count
            } else {
                ((sum * *count as f64) as usize).min(*count)
            };
            cuts[peer].push(start..end);
            start = end;
        }
    }
    cuts
}
