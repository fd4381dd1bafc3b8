//! `logistic`: regularised logistic regression on each peer's own Gaussian rows, exact gradients.
//!
//! fᵢ(x) = mean over rows of log(1 + exp(−y·⟨a, x⟩)) + λ/2 ‖x‖². The optimum of the mean is found
//! by Newton's method in f64 until the gradient is below 10⁻¹². `spread` moves each peer's rows by
//! a vector of its own, which makes the peers unlike.

use std::sync::Arc;

use kith_consensus::{Section, Seed, Stream};

use super::{Family, Objective, TrainerEntry};

pub(super) const ENTRY: TrainerEntry = TrainerEntry {
    name: "logistic",
    help: "each peer has its own logistic regression, regularised, exact gradients",
    source: "own",
    main_key: None,
    new: |section: &mut Section<'_>| {
        Arc::new(Logistics {
            // Newton's system is dimension².
            dimension: section.integer("dimension", Some(8), 1..=256) as usize,
            rows: section.integer("rows", Some(20), 1..=100_000) as usize,
            // Guess: well conditioned.
            regularisation: section.number("regularisation", Some(0.1), 1e-6..=1e3),
            spread: section.number("spread", Some(1.0), 0.0..=1e3),
        })
    },
};

/// Newton's steps; from zero it converges in fewer than ten.
const NEWTON_STEPS: usize = 100;

#[derive(Debug)]
struct Logistics {
    dimension: usize,
    rows: usize,
    regularisation: f64,
    spread: f64,
}

struct Logistic {
    /// Row after row, each already multiplied with its label ±1.
    rows: Vec<f64>,
    regularisation: f64,
}

impl Family for Logistics {
    fn dimension(&self) -> usize {
        self.dimension
    }

    fn draw(&self, lies: &[bool], seed: &Seed) -> (Vec<Arc<dyn Objective>>, Vec<f64>) {
        let mut shared = seed.stream("kith.v1 logistic");
        let truth: Vec<f64> = (0..self.dimension).map(|_| shared.normal()).collect();
        let draw = |peer: u64| {
            let mut random = Stream::derive("kith.v1 logistic rows", seed, 0, peer, 0);
            let own: Vec<f64> = (0..self.dimension)
                .map(|_| self.spread * random.normal())
                .collect();
            let mut rows = Vec::with_capacity(self.rows * self.dimension);
            for _ in 0..self.rows {
                let row: Vec<f64> = own.iter().map(|own| own + random.normal()).collect();
                let score: f64 = row
                    .iter()
                    .zip(&truth)
                    .map(|(value, truth)| value * truth)
                    .sum();
                let label = if random.unit() < sigmoid(score) {
                    1.0
                } else {
                    -1.0
                };
                rows.extend(row.into_iter().map(|value| label * value));
            }
            Logistic {
                rows,
                regularisation: self.regularisation,
            }
        };
        let drawn: Vec<Logistic> = (0..lies.len() as u64).map(draw).collect();
        let honest: Vec<&Logistic> = drawn
            .iter()
            .zip(lies)
            .filter(|(_, lies)| !**lies)
            .map(|(objective, _)| objective)
            .collect();
        assert!(!honest.is_empty(), "somebody does not lie");
        let optimum = newton(&honest, self.dimension, self.regularisation);
        (
            drawn
                .into_iter()
                .map(|logistic| Arc::new(logistic) as Arc<dyn Objective>)
                .collect(),
            optimum,
        )
    }
}

fn sigmoid(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

impl Objective for Logistic {
    fn gradient(&self, at: &[f64], gradient: &mut [f64]) -> f64 {
        gradient
            .iter_mut()
            .zip(at)
            .for_each(|(gradient, at)| *gradient = self.regularisation * at);
        let share = at.len() as f64 / self.rows.len() as f64;
        let mut value = 0.5 * self.regularisation * at.iter().map(|at| at * at).sum::<f64>();
        for row in self.rows.chunks_exact(at.len()) {
            let margin: f64 = row.iter().zip(at).map(|(row, at)| row * at).sum();
            value += share * softplus(-margin);
            let factor = share * sigmoid(-margin);
            gradient
                .iter_mut()
                .zip(row)
                .for_each(|(gradient, row)| *gradient -= factor * row);
        }
        value
    }
}

/// log(1 + eˣ) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The point at which the mean of the objectives is least.
fn newton(objectives: &[&Logistic], dimension: usize, regularisation: f64) -> Vec<f64> {
    let mut at = vec![0.0; dimension];
    for _ in 0..NEWTON_STEPS {
        let (mut gradient, mut own) = (vec![0.0; dimension], vec![0.0; dimension]);
        let mut hessian = vec![0.0; dimension * dimension];
        (0..dimension).for_each(|index| hessian[index * dimension + index] = regularisation);
        for objective in objectives {
            objective.gradient(&at, &mut own);
            gradient
                .iter_mut()
                .zip(&own)
                .for_each(|(sum, own)| *sum += own / objectives.len() as f64);
            let share = dimension as f64 / objective.rows.len() as f64 / objectives.len() as f64;
            for row in objective.rows.chunks_exact(dimension) {
                let score: f64 = row.iter().zip(&at).map(|(row, at)| row * at).sum();
                let factor = share * sigmoid(score) * sigmoid(-score);
                for (left, value) in row.iter().enumerate() {
                    for (right, other) in row.iter().enumerate() {
                        hessian[left * dimension + right] += factor * value * other;
                    }
                }
            }
        }
        if gradient
            .iter()
            .map(|value| value * value)
            .sum::<f64>()
            .sqrt()
            < 1e-12
        {
            break;
        }
        let step = solve(hessian, gradient);
        at.iter_mut().zip(step).for_each(|(at, step)| *at -= step);
    }
    at
}

/// Solves a positive definite system by elimination; its matrix needs no exchange of rows.
fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for pivot in 0..size {
        for row in pivot + 1..size {
            let factor = matrix[row * size + pivot] / matrix[pivot * size + pivot];
            for column in pivot..size {
                matrix[row * size + column] -= factor * matrix[pivot * size + column];
            }
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size)
            .map(|column| matrix[row * size + column] * right[column])
            .sum();
        right[row] = (right[row] - known) / matrix[row * size + row];
    }
    right
}
