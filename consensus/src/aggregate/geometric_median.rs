//! Geometric median: the point with the smallest sum of distances to the models.
//!
//! Pillutla, Kakade, Harchaoui 2022 (RFA), arXiv 1912.13445. Protects for n ≥ 2f + 1. The objective
//! is Σ max(‖z − xᵢ‖, ν), inside ν smoothed to ‖z − xᵢ‖² / 2ν + ν / 2. Any candidate z = Σ λᵢ xᵢ
//! has its distances from the n² products of differences ([`Gram`]), so the models are read twice,
//! once for the products and once for the result. (They are read three times if a model that looked
//! central in a sample of coordinates is far from the others.) In between:
//!
//! 1. A model is the optimum itself when the unit forces of all others add up to no more than its
//!    own (Kuhn's condition). The mean of equally good ones is taken.
//! 2. Otherwise it begins with the step of Vardi and Zhang (2000) away from the best model, which
//!    leads below every model for good. It continues with Newton steps, halved until the sum falls,
//!    or, when the curvature is lost, with a Weiszfeld step z ← Σ bᵢ xᵢ / Σ bᵢ, bᵢ = 1 / max(‖z −
//!    xᵢ‖, ν).
//!
//! A short Weiszfeld step says nothing about how far the optimum is: near a model its steps shrink
//! with the distance to that model. A Newton step of at most `tolerance` times the distance to the
//! nearest model does: the optimum is within twice its length, and after the step within about
//! `tolerance` times that. Cost n²·d/2 once, n·d once, n³ a step.
//!
//! Published code (byzfl, RFA) starts at 0, takes plain Weiszfeld steps and stops after a few. For
//! models, which are far from 0, that is far from converged; `start = "zero"`, `nu = 0.1`,
//! `iterations = 3`, `tolerance = 0` reproduces it.

use super::gram::{Gram, dot};
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "geometric-median",
    help: "the point with the smallest sum of distances; n >= 2f + 1",
    source: "Pillutla et al. 2022, arXiv 1912.13445",
    main_key: None,
    new: |section, byzantine| {
        Box::new(GeometricMedian {
            byzantine,
            from_zero: section.choice("start", Some("median"), &["median", "zero"]) == "zero",
            nu: section.number("nu", Some(0.0), 0.0..=1e30),
            // Guesses: Newton steps need about ten; a tolerance of 1e-6 leaves less than 1e-7 of
            // the models' distances.
            iterations: section.integer("iterations", Some(100), 1..=10_000),
            tolerance: section.number("tolerance", Some(1e-6), 0.0..=1.0),
        })
    },
};

/// Keeps weights finite where a model is met exactly.
const FLOOR: f64 = 1e-150;

#[derive(Debug)]
struct GeometricMedian {
    byzantine: usize,
    /// Plain steps from zero, as published code takes them; otherwise it starts at the best model.
    from_zero: bool,
    /// Smaller distances count as `nu`; 0: none is smaller.
    nu: f64,
    /// Most steps taken.
    iterations: u64,
    /// See the module's text. From zero: the sum of distances exceeds the least by at most the
    /// square of this, relative to the sum.
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
        let gram = rows.gram_at_the_medoid();
        let (shares, scores) = if self.from_zero {
            self.plain_steps(&gram, rows)
        } else {
            self.least(&gram)
        };
        Ok(Aggregate {
            parameters: rows.weighted_sum(&shares),
            influence: shares,
            scores,
        })
    }
}

impl GeometricMedian {
    /// The published steps from zero: the last weights, and the distances at the point that they
    /// make.
    fn plain_steps(&self, gram: &Gram, rows: &Rows<'_>) -> (Vec<f64>, Vec<f64>) {
        let norms = rows.squared_norms();
        let nu = self.nu.max(FLOOR);
        let distances: Vec<f64> = norms.iter().map(|square| square.sqrt()).collect();
        let mut place = Place::of_shares(gram, shares_at(&distances, nu), nu);
        for _ in 1..self.iterations {
            if place.excess_bound <= self.tolerance * self.tolerance * place.sum {
                break;
            }
            place = Place::of_shares(gram, shares_at(&place.distances, nu), nu);
        }
        (place.factors, place.distances)
    }

    /// The shares of the models in the optimum, and its distances to them. `gram` is seen from the
    /// model with the least sum.
    fn least(&self, gram: &Gram) -> (Vec<f64>, Vec<f64>) {
        let (best, sums) = gram.medoid();
        let pull = Pull::on(gram, best);
        if self.nu == 0.0 && pull.holds() {
            // If several models are equally good, so are the points between them.
            const ROUNDING: f64 = 1e-12;
            let good: Vec<bool> = sums
                .iter()
                .map(|sum| *sum <= sums[best] * (1.0 + ROUNDING))
                .collect();
            let share = 1.0 / good.iter().filter(|good| **good).count() as f64;
            let shares: Vec<f64> = good
                .iter()
                .map(|good| if *good { share } else { 0.0 })
                .collect();
            let distances = Place::of_shares(gram, shares.clone(), 0.0).distances;
            return (shares, distances);
        }
        let mut place = Place::of_shares(
            gram,
            if self.nu > 0.0 {
                unit(gram, best)
            } else {
                pull.first_step(gram)
            },
            self.nu,
        );
        let mut shortest = f64::INFINITY;
        for _ in 0..self.iterations {
            let step = place
                .newton_step(gram)
                .unwrap_or_else(|| place.plain_step(gram));
            let near = place
                .distances
                .iter()
                .copied()
                .filter(|distance| *distance > self.nu)
                .fold(f64::INFINITY, f64::min);
            let last = step.length <= self.tolerance * near;
            let hidden = place.hides(&step);
            if hidden && step.length >= shortest {
                break; // rounding makes it alternate
            }
            shortest = step.length;
            let next = place.descend(gram, &step, last || hidden);
            let Some(next) = next.or_else(|| place.descend(gram, &place.plain_step(gram), false))
            else {
                break;
            };
            place = next;
            if last {
                break;
            }
        }
        // In the optimum z = Σ bᵢ xᵢ / Σ bᵢ: shares that are positive.
        (shares_at(&place.distances, self.nu), place.distances)
    }
}

/// bᵢ / Σ b for these distances; models at distance 0 share everything if nothing is smoothed.
fn shares_at(distances: &[f64], nu: f64) -> Vec<f64> {
    let floor = nu.max(FLOOR);
    let nearest = distances
        .iter()
        .copied()
        .fold(f64::INFINITY, f64::min)
        .max(floor);
    let weights: Vec<f64> = distances
        .iter()
        .map(|distance| nearest / distance.max(floor))
        .collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// The point at which a row lies.
fn unit(gram: &Gram, row: usize) -> Vec<f64> {
    (0..gram.count())
        .map(|other| if other == row { 1.0 } else { 0.0 })
        .collect()
}

/// What the other models do to the one that a Gram is seen from: R = Σ (xᵢ − x) / ‖xᵢ − x‖ over
/// those elsewhere.
struct Pull {
    row: usize,
    /// How many models lie at that point.
    here: f64,
    /// 1 / ‖xᵢ − x‖; 0 for those that lie at that point.
    weights: Vec<f64>,
    /// ‖R‖
    strength: f64,
}

impl Pull {
    fn on(gram: &Gram, row: usize) -> Pull {
        let distance = |other: usize| gram.squared_distance(row, other).sqrt();
        let weight = |distance: f64| if distance > 0.0 { 1.0 / distance } else { 0.0 };
        let weights: Vec<f64> = (0..gram.count())
            .map(|other| weight(distance(other)))
            .collect();
        let here = weights.iter().filter(|weight| **weight == 0.0).count() as f64;
        let strength = dot(&gram.times(&weights), &weights).max(0.0).sqrt();
        Pull {
            row,
            here,
            weights,
            strength,
        }
    }

    /// Whether the model is an optimum: its own unit force (one for each model there) withstands
    /// the pull, except for rounding.
    fn holds(&self) -> bool {
        self.strength <= self.here * (1.0 + 4.0 * self.weights.len() as f64 * f64::EPSILON)
    }

    /// Vardi and Zhang's step: the shares of a point whose sum is less than the model's.
    fn first_step(&self, gram: &Gram) -> Vec<f64> {
        let total: f64 = self.weights.iter().sum();
        let length = 1.0 - self.here / self.strength;
        let mut shares: Vec<f64> = self
            .weights
            .iter()
            .map(|weight| length * weight / total)
            .collect();
        // The rest is the model's own share. As everything is seen from there, the number is never
        // used.
        debug_assert_eq!(gram.origin(), self.row);
        shares[self.row] = 1.0 - length;
        shares
    }
}

/// A point Σ λᵢ xᵢ and what is known about it. All sums leave out the origin of the Gram, which is
/// 0 there, so that a point close to it is as exact as one far away.
struct Place {
    nu: f64,
    /// λ; the origin's is not used.
    factors: Vec<f64>,
    /// ⟨z − o, xᵢ − o⟩
    products: Vec<f64>,
    /// ‖z − o‖²
    square: f64,
    /// ‖z − xᵢ‖
    distances: Vec<f64>,
    /// bᵢ
    weights: Vec<f64>,
    /// Σ bᵢ
    total: f64,
    /// The smoothed sum of distances.
    sum: f64,
    /// The gradient Σ bᵢ (z − xᵢ), as factors of the rows.
    gradient: Vec<f64>,
    /// The sum is at most this above the least: ‖gradient‖ times a bound of the way to the optimum.
    excess_bound: f64,
}

/// A direction, as factors of the rows.
struct Step {
    factors: Vec<f64>,
    length: f64,
    /// How the sum begins to change along it, at most 0.
    slope: f64,
}

impl Place {
    fn of_shares(gram: &Gram, factors: Vec<f64>, nu: f64) -> Place {
        let (origin, count) = (gram.origin(), gram.count());
        let products = gram.times(&factors);
        let square = dot(&products, &factors).max(0.0);
        let to = |row: usize| match row == origin {
            true => square,
            false => ((square - products[row]) + (gram.product(row, row) - products[row])).max(0.0),
        };
        let distances: Vec<f64> = (0..count).map(|row| to(row).sqrt()).collect();
        let floor = nu.max(FLOOR);
        let weights: Vec<f64> = distances
            .iter()
            .map(|distance| 1.0 / distance.max(floor))
            .collect();
        let total: f64 = weights.iter().sum();
        let smoothed = |distance: &f64| {
            if *distance >= nu {
                *distance
            } else {
                distance * distance / (2.0 * nu) + nu / 2.0
            }
        };
        let sum: f64 = distances.iter().map(smoothed).sum();
        let gradient: Vec<f64> = factors
            .iter()
            .zip(&weights)
            .map(|(factor, weight)| total * factor - weight)
            .collect();
        let slope = dot(&gram.times(&gradient), &gradient).max(0.0).sqrt();
        // The optimum's sum is less than this one, so that both are within sum / n of the models,
        // on average.
        let excess_bound = slope * 2.0 * sum / count as f64;
        Place {
            nu,
            factors,
            products,
            square,
            distances,
            weights,
            total,
            sum,
            gradient,
            excess_bound,
        }
    }

    fn step(&self, gram: &Gram, factors: Vec<f64>) -> Step {
        let products = gram.times(&factors);
        let length = dot(&products, &factors).max(0.0).sqrt();
        Step {
            slope: dot(&products, &self.gradient),
            length,
            factors,
        }
    }

    /// −gradient / Σ b: leads to Σ bᵢ xᵢ / Σ b.
    fn plain_step(&self, gram: &Gram) -> Step {
        self.step(
            gram,
            self.gradient
                .iter()
                .map(|factor| -factor / self.total)
                .collect(),
        )
    }

    /// −H⁻¹ gradient with H = Σ bᵢ (I − uᵢ uᵢᵀ), uᵢ the direction to row i (bᵢ I for those that are
    /// smoothed). `None` if H is singular to rounding, or the direction leads uphill.
    ///
    /// With V = (z − xᵢ) and C² = diag(bᵢ³): H = (Σ b) I − V C² Vᵀ, and p = V q where ((Σ b) I − C²
    /// VᵀV) q = −b; q = C y makes that symmetric.
    fn newton_step(&self, gram: &Gram) -> Option<Step> {
        let count = self.factors.len();
        let curved: Vec<usize> = (0..count)
            .filter(|row| self.distances[*row] > self.nu)
            .collect();
        let scale = |row: usize| self.weights[row] * self.weights[row].sqrt();
        let mut q: Vec<f64> = self
            .weights
            .iter()
            .map(|weight| -weight / self.total)
            .collect();
        let flat: Vec<usize> = (0..count)
            .filter(|row| self.distances[*row] <= self.nu)
            .collect();
        let size = curved.len();
        let mut matrix = vec![0.0; size * size];
        let mut right = vec![0.0; size];
        for (i, row) in curved.iter().enumerate() {
            for (j, other) in curved[..i].iter().enumerate() {
                matrix[i * size + j] =
                    -scale(*row) * scale(*other) * self.product_of(gram, *row, *other);
            }
            // Σ b without bᵢ, which is what bᵢ³ ‖z − xᵢ‖² takes away.
            matrix[i * size + i] = (0..count)
                .filter(|other| other != row)
                .map(|other| self.weights[other])
                .sum();
            let beside: f64 = flat
                .iter()
                .map(|other| self.product_of(gram, *row, *other) * q[*other])
                .sum();
            right[i] = -self.weights[*row] / scale(*row) + scale(*row) * beside;
        }
        solve(&mut matrix, &mut right)?;
        curved
            .iter()
            .zip(&right)
            .for_each(|(row, y)| q[*row] = scale(*row) * y);
        let total: f64 = q.iter().sum();
        let step = self.step(
            gram,
            self.factors
                .iter()
                .zip(&q)
                .map(|(factor, q)| total * factor - q)
                .collect(),
        );
        (step.slope < 0.0 && step.length.is_finite()).then_some(step)
    }

    /// ⟨z − xᵢ, z − xⱼ⟩
    fn product_of(&self, gram: &Gram, a: usize, b: usize) -> f64 {
        let from = |row: usize| {
            if row == gram.origin() {
                0.0
            } else {
                self.products[row]
            }
        };
        (self.square - from(a)) + (gram.product(a, b) - from(b))
    }

    /// Whether the step's gain is too small for the sum to show it.
    fn hides(&self, step: &Step) -> bool {
        -step.slope <= 64.0 * self.distances.len() as f64 * f64::EPSILON * self.sum
    }

    /// The place along the step, halved until the sum has fallen by a part of what its slope
    /// predicts; `None` if it never does. A step so short that rounding hides its gain is taken if
    /// `trusted`.
    fn descend(&self, gram: &Gram, step: &Step, trusted: bool) -> Option<Place> {
        /// Armijo's constant (Nocedal and Wright 2006, section 3.1), and 2⁻⁴⁰ for the shortest part
        /// of a step.
        const SHARE: f64 = 1e-4;
        const HALVINGS: u32 = 40;
        let mut part = 1.0;
        for _ in 0..HALVINGS {
            let at = |(factor, step): (&f64, &f64)| factor + part * step;
            let next = Place::of_shares(
                gram,
                self.factors.iter().zip(&step.factors).map(at).collect(),
                self.nu,
            );
            if trusted || next.sum <= self.sum + SHARE * part * step.slope {
                return (trusted || next.sum < self.sum).then_some(next);
            }
            part /= 2.0;
        }
        None
    }
}

/// Solves a symmetric system by Cholesky; `matrix` holds the lower triangle, row by row, `right`
/// becomes the solution. `None` if it is not positive definite to rounding.
fn solve(matrix: &mut [f64], right: &mut [f64]) -> Option<()> {
    let size = right.len();
    for i in 0..size {
        for j in 0..=i {
            let before = dot(
                &matrix[i * size..i * size + j],
                &matrix[j * size..j * size + j],
            );
            let left = matrix[i * size + j] - before;
            if i == j {
                if left.is_nan() || left <= 4.0 * size as f64 * f64::EPSILON * matrix[i * size + i]
                {
                    return None;
                }
                matrix[i * size + i] = left.sqrt();
            } else {
                matrix[i * size + j] = left / matrix[j * size + j];
            }
        }
    }
    for i in 0..size {
        right[i] =
            (right[i] - dot(&matrix[i * size..i * size + i], &right[..i])) / matrix[i * size + i];
    }
    for i in (0..size).rev() {
        let after: f64 = (i + 1..size).map(|j| matrix[j * size + i] * right[j]).sum();
        right[i] = (right[i] - after) / matrix[i * size + i];
    }
    Some(())
}
