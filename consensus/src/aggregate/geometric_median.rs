//! Geometric median: the point with the smallest sum of distances to the models, by smoothed Weiszfeld steps.
//!
//! Pillutla, Kakade, Harchaoui 2022 (RFA), arXiv 1912.13445. bᵢ = 1 / max(‖z − xᵢ‖, ν), z ← Σ bᵢ xᵢ / Σ bᵢ. Protects for
//! n ≥ 2f + 1. Cost n·d per step.
//! Starts at the coordinate-wise median and measures steps against the models' spread, so that moving all models moves the
//! result equally. Published code (byzfl, RFA) starts at 0 and stops after a few steps, which for models, being far from 0, is
//! far from converged; `start = "zero"`, `nu = 0.1`, `iterations = 3`, `tolerance = 0` reproduces it.

use super::kernel::{self, BLOCK};
use super::trimmed_mean::middle_mean;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "geometric-median",
    help: "the point with the smallest sum of distances; n >= 2f + 1",
    source: "Pillutla et al. 2022, arXiv 1912.13445",
    new: |section, byzantine| {
        Box::new(GeometricMedian {
            byzantine,
            from_zero: section.choice("start", Some("median"), &["median", "zero"]) == "zero",
            nu: section.number("nu", Some(0.0), 0.0..=1e30),
            // Guesses: far below what a training round changes, at a cost of some ten steps.
            iterations: section.integer("iterations", Some(100), 1..=10_000),
            tolerance: section.number("tolerance", Some(1e-6), 0.0..=1.0),
        })
    },
};

#[derive(Debug)]
struct GeometricMedian {
    byzantine: usize,
    from_zero: bool,
    /// Distances below it count as it; 0: a millionth of the median distance at the start.
    nu: f64,
    iterations: u64,
    /// A step shorter than this part of the median distance at the start is the last.
    tolerance: f64,
}

impl Rule for GeometricMedian {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        2 * self.byzantine + 1
    }

    fn combine(&self, _: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let rows = &rows.kept();
        let mut point = vec![0.0; rows.dimension()];
        if !self.from_zero {
            point.iter_mut().zip(middle_mean(rows, (rows.count() - 1) / 2)).for_each(|(slot, value)| *slot = f64::from(value));
        }
        let mut squares = rows.squared_distances_to(&point);
        let spread = median(squares.iter().map(|square| square.sqrt()).collect());
        // The least value keeps the weights finite when most models are equal, where the start is already the answer.
        let nu = if self.nu > 0.0 { self.nu } else { (1e-6 * spread).max(1e-150) };
        let mut shares = Vec::new();
        for _ in 0..self.iterations {
            let weights: Vec<f64> = squares.iter().map(|square| 1.0 / square.sqrt().max(nu)).collect();
            let total: f64 = weights.iter().sum();
            shares = weights.iter().map(|weight| weight / total).collect();
            let step;
            (step, squares) = weiszfeld_step(rows, &shares, &mut point);
            if step.sqrt() <= self.tolerance * spread {
                break;
            }
        }
        let scores = squares.iter().map(|square| square.sqrt()).collect();
        Ok(Aggregate { parameters: point.iter().map(|value| *value as f32).collect(), influence: shares, scores })
    }
}

/// Moves `point` to Σ shareᵢ · rowᵢ; returns the square of the distance moved and of the new distances to the rows. One pass
/// over the rows.
fn weiszfeld_step(rows: &Rows<'_>, shares: &[f64], point: &mut [f64]) -> (f64, Vec<f64>) {
    let terms: Vec<(usize, f64)> = shares.iter().copied().enumerate().collect();
    let mut moved = [0.0];
    let mut squares = vec![0.0; rows.count()];
    rows.tiles(|start, values, tile| {
        let (mut old, mut new) = ([0.0; BLOCK], [0.0; BLOCK]);
        kernel::mix(tile, &terms, &mut new);
        old[..values].copy_from_slice(&point[start..start + values]);
        kernel::add_distances_to(&new, &old, &mut moved);
        kernel::add_distances_to(tile, &new, &mut squares);
        point[start..start + values].copy_from_slice(&new[..values]);
    });
    (moved[0], squares)
}

/// The lower median.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}
