//! Rényi differential privacy of the sampled Gaussian, and what (ε, δ) it is worth.
//!
//! Mironov et al. 2019, arXiv 1908.10530: at order α a step costs ln A / (α − 1) with A = E (1 − q +
//! q·e^((2z − 1) / 2σ²))^α over z of N(0, σ²); costs of steps add up. For whole α, A is a sum of
//! α + 1 terms; for others it is integrated by the trapezoid rule, which converges exponentially
//! here and needs no series of alternating signs. Both work on A − 1, whose terms are free of
//! cancellation, since A is close to 1 for the parameters that matter.
//!
//! Cost: some 700 points once and an exponential each for an order, 2 ms for all of [`orders`] at
//! σ = 1.

use std::f64::consts::PI;

use libm::{exp, expm1, log, log1p, sqrt};

use super::{Delta, Phase, PrivacyError, SampledGaussian, canonical};

/// The orders that are tried: 1.1 to 10.9 in tenths, 11 to 63, and powers of two up to 1024 for
/// tiny costs, where a grid up to 63 gives seven times the ε (σ = 20, q = 0.01, 100 steps).
pub fn orders() -> Vec<f64> {
    let tenths = (11..110).map(|tenth| f64::from(tenth) / 10.0);
    let whole = (11..64).chain([128, 256, 512, 1024]);
    tenths.chain(whole.map(f64::from)).collect()
}

/// An ε and the order that gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimum {
    /// ε ≥ 0.
    pub epsilon: f64,
    /// The order α of the smallest ε; the first of several.
    pub order: f64,
}

/// The Rényi cost of a composition at each of some orders.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// The cost of phases at `orders`. No phase costs 0.
    ///
    /// # Errors
    /// An order at or below 1, or no order.
    pub fn of(phases: &[Phase], orders: &[f64]) -> Result<Curve, PrivacyError> {
        let points = orders.iter().map(|order| (*order, 0.0)).collect();
        let mut curve = Curve::new(points)?;
        for phase in canonical(phases) {
            let costs = step_costs(phase.mechanism, orders);
            for ((_, total), cost) in curve.points.iter_mut().zip(costs) {
                *total += phase.steps as f64 * cost;
            }
        }
        Ok(curve)
    }

    /// A curve of known costs: pairs of an order and the cost at it.
    ///
    /// # Errors
    /// An order at or below 1, or no order.
    pub fn new(points: Vec<(f64, f64)>) -> Result<Curve, PrivacyError> {
        let wrong = points
            .iter()
            .find(|(order, _)| !(order.is_finite() && *order > 1.0));
        match wrong {
            Some((order, _)) => Err(PrivacyError::Order { found: *order }),
            None if points.is_empty() => Err(PrivacyError::Order { found: 0.0 }),
            None => Ok(Curve { points }),
        }
    }

    /// Pairs of an order and the cost at it.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The smallest ε at `delta` over the orders.
    pub fn epsilon(&self, delta: Delta) -> Optimum {
        let optima = self.points.iter().map(|(order, cost)| Optimum {
            epsilon: epsilon(*order, *cost, delta),
            order: *order,
        });
        let smaller = |best: Optimum, other: Optimum| {
            if other.epsilon < best.epsilon {
                other
            } else {
                best
            }
        };
        optima.reduce(smaller).expect("a curve has an order")
    }
}

/// ε at `delta` from the cost at one order: Canonne et al. 2020, arXiv 2004.00010, proposition 12;
/// 0 where even the total variation distance is below δ (Bretagnolle and Huber: TV² ≤ 1 − e^(−KL),
/// and KL is at most the cost at any order).
pub fn epsilon(order: f64, cost: f64, delta: Delta) -> f64 {
    let delta = delta.get();
    if delta * delta + expm1(-cost) > 0.0 {
        return 0.0;
    }
    (cost + log1p(-1.0 / order) - log(delta * order) / (order - 1.0)).max(0.0)
}

/// The cost of one step at one order α > 1.
///
/// # Errors
/// An order at or below 1.
pub fn step_cost(mechanism: SampledGaussian, order: f64) -> Result<f64, PrivacyError> {
    Curve::new(vec![(order, 0.0)])?;
    Ok(step_costs(mechanism, &[order])[0])
}

fn step_costs(mechanism: SampledGaussian, orders: &[f64]) -> Vec<f64> {
    let SampledGaussian {
        noise_multiplier: sigma,
        sampling_rate: rate,
    } = mechanism;
    if rate == 1.0 {
        let cost = |order: &f64| order / (2.0 * sigma * sigma);
        return orders.iter().map(cost).collect();
    }
    let is_whole = |order: f64| order.fract() == 0.0 && order <= WHOLE_MAX;
    let largest = orders
        .iter()
        .copied()
        .filter(|order| !is_whole(*order))
        .fold(0.0, f64::max);
    let grid = (largest > 0.0).then(|| Grid::new(mechanism, largest));
    let cost = |order: f64| match &grid {
        Some(grid) if !is_whole(order) => grid.ln_moment(order),
        _ => whole_ln_moment(mechanism, order as u64),
    };
    orders
        .iter()
        .map(|order| (cost(*order) / (order - 1.0)).max(0.0))
        .collect()
}

/// Largest order that is summed term by term; larger ones are integrated (guess).
const WHOLE_MAX: f64 = 65_536.0;

/// ln A for a whole order: A − 1 = Σ_{k ≥ 2} C(α, k) (1 − q)^(α − k) q^k (e^((k² − k) / 2σ²) − 1),
/// because the coefficients sum to 1 and the first two exponents are 0.
fn whole_ln_moment(mechanism: SampledGaussian, order: u64) -> f64 {
    let (sigma, rate) = (mechanism.noise_multiplier, mechanism.sampling_rate);
    let (ln_rate, ln_rest) = (log(rate), log1p(-rate));
    let mut ln_choices = log(order as f64);
    let mut terms = Vec::with_capacity(order as usize);
    for k in 2..=order {
        ln_choices += log((order - k + 1) as f64 / k as f64);
        let exponent = (k * (k - 1)) as f64 / (2.0 * sigma * sigma);
        let ln_power = exponent + log(-expm1(-exponent));
        terms.push(ln_choices + (order - k) as f64 * ln_rest + k as f64 * ln_rate + ln_power);
    }
    ln_one_plus(ln_sum(terms.into_iter()))
}

/// ln(1 + eˣ).
fn ln_one_plus(x: f64) -> f64 {
    if x > 0.0 {
        x + log1p(exp(-x))
    } else {
        log1p(exp(x))
    }
}

/// ln Σ eˣ.
fn ln_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    largest + log(terms.map(|term| exp(term - largest)).sum())
}

/// What integrals over the noise need, at the points of the trapezoid rule.
struct Grid {
    /// ln of a point's weight, and ln of the ratio of the two densities there.
    points: Vec<(f64, f64)>,
}

/// Standard deviations to either side: what lies beyond is below e^(−72) of the integral.
const REACH: f64 = 12.0;

/// Steps of the trapezoid rule in the smaller of σ and σ², which leave 10⁻⁹ of the result
/// (measured against 80-bit arithmetic).
const STEPS: f64 = 20.0;

impl Grid {
    /// For orders up to `largest`: a moment of order α has its mass around z = α at most.
    fn new(mechanism: SampledGaussian, largest: f64) -> Grid {
        let (sigma, rate) = (mechanism.noise_multiplier, mechanism.sampling_rate);
        let step = sigma.min(sigma * sigma) / STEPS;
        let (from, to) = (-REACH * sigma, largest + REACH * sigma);
        let ln_scale = log(step / (sigma * sqrt(2.0 * PI)));
        let count = ((to - from) / step).ceil() as usize;
        let point = |index: usize| {
            let z = from + step * index as f64;
            let weight = ln_scale - z * z / (2.0 * sigma * sigma);
            (
                weight,
                ln_ratio(rate, (2.0 * z - 1.0) / (2.0 * sigma * sigma)),
            )
        };
        Grid {
            points: (0..=count).map(point).collect(),
        }
    }

    /// ln A. Since the ratio x has mean 1, A − 1 is the mean of x^α − 1 − α·(x − 1), which is not
    /// negative.
    fn ln_moment(&self, order: f64) -> f64 {
        let whole = self.points.iter().map(|(weight, ln)| weight + order * ln);
        let largest = whole.clone().fold(f64::NEG_INFINITY, f64::max);
        if largest > 0.0 {
            return ln_sum(whole);
        }
        let term = |(weight, ln): &(f64, f64)| {
            if order * ln > 1.0 {
                let density = exp(*weight);
                let linear = density + order * (exp(weight + ln) - density);
                exp(weight + order * ln) - linear
            } else {
                exp(*weight) * (expm1(order * ln) - order * expm1(*ln))
            }
        };
        log1p(self.points.iter().map(term).sum::<f64>().max(0.0))
    }
}

/// ln(1 − q + q·eᵗ).
pub(super) fn ln_ratio(rate: f64, t: f64) -> f64 {
    if t > 30.0 {
        t + log(rate) + log1p((1.0 - rate) / rate * exp(-t))
    } else {
        log1p(rate * expm1(t))
    }
}
