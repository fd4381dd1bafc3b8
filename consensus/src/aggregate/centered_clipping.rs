//! Centered clipping: move from the last aggregate towards the models, none of which pulls farther
//! than τ.
//!
//! Karimireddy, He and Jaggi 2021, arXiv 2012.10333. v ← v + (1/n) Σᵢ clip(xᵢ − v, τ), L times,
//! from the last aggregate (from zero if there is none); clip(u, τ) = u · min(1, τ/‖u‖). Works for
//! n ≥ 1; its analysis assumes an honest majority, so n ≥ 2f + 1 is required. Cost L·n·d. Uses
//! history: an attacker moves it by at most τ/n a step, but can do so in the same direction every
//! round. A τ that is large against the honest spread clips nothing; a small one makes everyone
//! slow.

use super::kernel::{self, BLOCK};
use super::static_clip::clip_factor;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "centered-clipping",
    help: "from the last aggregate towards the models, each clipped to tau; keys tau, iterations; n >= 2f + 1",
    source: "Karimireddy, He and Jaggi 2021, arXiv 2012.10333",
    main_key: None,
    new: |section, byzantine| {
        Box::new(CenteredClipping {
            byzantine,
            // Both values as the authors use them with bucketing, arXiv 2006.09365.
            tau: section.number("tau", Some(10.0), 0.0..=1e30),
            iterations: section.integer("iterations", Some(3), 1..=10_000),
        })
    },
};

#[derive(Debug)]
struct CenteredClipping {
    byzantine: usize,
    tau: f64,
    iterations: u64,
}

impl Rule for CenteredClipping {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        2 * self.byzantine + 1
    }

    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let (count, dimension) = (rows.count(), rows.dimension());
        let mut point: Vec<f64> = match context.last_aggregate {
            Some(last) if last.len() != dimension => {
                return Err(AggregateError::Missing {
                    rule: ENTRY.name,
                    what: "a last aggregate as long as the models",
                });
            }
            Some(last) => last.iter().map(|value| f64::from(*value)).collect(),
            None => vec![0.0; dimension],
        };
        let rows = &rows.kept();
        let mut squares = rows.squared_distances_to(&point);
        // How much of the point comes from each row; the rest still comes from the starting point.
        let mut shares = vec![0.0; count];
        for _ in 0..self.iterations {
            let pulls: Vec<(usize, f64)> = squares
                .iter()
                .map(|square| clip_factor(square.sqrt(), self.tau) / count as f64)
                .enumerate()
                .collect();
            let stays = 1.0 - pulls.iter().map(|(_, pull)| pull).sum::<f64>();
            shares
                .iter_mut()
                .zip(&pulls)
                .for_each(|(share, (_, pull))| *share = *share * stays + pull);
            squares = pull(rows, stays, &pulls, &mut point);
        }
        let total: f64 = shares.iter().sum();
        // With τ = 0 no model moves it.
        let influence = shares
            .iter()
            .map(|share| {
                if total > 0.0 {
                    share / total
                } else {
                    1.0 / count as f64
                }
            })
            .collect();
        let scores = squares.iter().map(|square| square.sqrt()).collect();
        Ok(Aggregate {
            parameters: point.iter().map(|value| *value as f32).collect(),
            influence,
            scores,
        })
    }
}

/// Moves `point` to stays · point + Σ pullᵢ · rowᵢ; returns the squared distances of the rows to
/// it. One pass over the rows.
fn pull(rows: &Rows<'_>, stays: f64, pulls: &[(usize, f64)], point: &mut [f64]) -> Vec<f64> {
    let mut squares = vec![0.0; rows.count()];
    rows.tiles(|start, values, tile| {
        let mut new = [0.0; BLOCK];
        kernel::mix(tile, pulls, &mut new);
        let old = &mut point[start..start + values];
        new.iter_mut()
            .zip(old.iter())
            .for_each(|(new, old)| *new += stays * old);
        old.copy_from_slice(&new[..values]);
        kernel::add_distances_to(tile, &new, &mut squares);
    });
    squares
}
