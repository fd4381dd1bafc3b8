//! The noise for a budget: the smallest noise multiplier whose ε is within it.
//!
//! Cost: some twenty accountings; 0.1 s by [`super::rdp`], and by [`super::pld`] up to
//! half a second more.

use libm::{exp, log};

use super::{Delta, Epsilon, NOISE_MULTIPLIERS, Phase, PrivacyError, SampledGaussian, pld, rdp};

/// Which accounting has to be within the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accountant {
    /// Rényi: also for choices on the way. The noise is a few per cent larger.
    Rdp,
    /// Privacy loss distributions: tight, for steps fixed beforehand.
    Pld,
}

/// Relative width of the interval whose upper end is the result: more digits than people write
/// (guess).
const WIDTH: f64 = 1e-4;

/// The smallest noise multiplier, up to a relative 10⁻⁴ and never below it, with which `steps` steps
/// at `sampling_rate` stay within the budget.
///
/// # Errors
/// A rate outside (0, 1], no step, a budget that no noise multiplier from 0.01 to 10⁶ gives.
pub fn noise_multiplier(
    epsilon: Epsilon,
    delta: Delta,
    sampling_rate: f64,
    steps: u64,
    accountant: Accountant,
) -> Result<f64, PrivacyError> {
    let phase = |sigma: f64| Phase::new(SampledGaussian::new(sigma, sampling_rate)?, steps);
    let orders = rdp::orders();
    let by_rdp = |sigma: f64| {
        let curve = rdp::Curve::of(&[phase(sigma)?], &orders)?;
        Ok(curve.epsilon(delta).epsilon)
    };
    let unreachable = PrivacyError::Unreachable {
        epsilon: epsilon.get(),
        delta: delta.get(),
    };
    let search = Search {
        goal: epsilon.get(),
        unreachable,
    };
    let least = *NOISE_MULTIPLIERS.start();
    let found = search.smallest(1.0, 2.0, &by_rdp)?;
    match accountant {
        Accountant::Rdp => Ok(found),
        Accountant::Pld => {
            let by_pld = |sigma: f64| pld::epsilon(&[phase(sigma.max(least))?], delta);
            // It is seldom below three quarters of what the other says.
            search.smallest(found, 1.3, &by_pld)
        }
    }
}

struct Search {
    goal: f64,
    unreachable: PrivacyError,
}

impl Search {
    /// The smallest σ with ε(σ) ≤ the goal; the interval that holds it is looked for from `start`
    /// by `factor`.
    fn smallest(
        &self,
        start: f64,
        factor: f64,
        epsilon: &impl Fn(f64) -> Result<f64, PrivacyError>,
    ) -> Result<f64, PrivacyError> {
        let (mut low, mut high) = self.bracket(start, factor, epsilon)?;
        // Both ends in logarithms, where ε is nearly a line; the end that stays is halved, so that
        // both approach (the Illinois variant of regula falsi).
        let mut lower_last = None;
        while high.sigma / low.sigma > 1.0 + WIDTH {
            let share = low.excess / (low.excess - high.excess);
            let sigma = low.sigma * exp(share.clamp(0.01, 0.99) * log(high.sigma / low.sigma));
            let tried = self.at(sigma, epsilon)?;
            let is_low = tried.excess > 0.0;
            if is_low {
                low = tried;
            } else {
                high = tried;
            }
            if lower_last == Some(is_low) {
                let stays = if is_low { &mut high } else { &mut low };
                stays.excess /= 2.0;
            }
            lower_last = Some(is_low);
        }
        Ok(high.sigma)
    }

    fn at(
        &self,
        sigma: f64,
        epsilon: &impl Fn(f64) -> Result<f64, PrivacyError>,
    ) -> Result<Tried, PrivacyError> {
        // ε = 0 has no logarithm; it is far enough below any goal.
        let excess = log(epsilon(sigma)?.max(1e-9 * self.goal) / self.goal);
        Ok(Tried { sigma, excess })
    }

    /// A σ whose ε is above the goal, and one whose ε is not.
    fn bracket(
        &self,
        start: f64,
        factor: f64,
        epsilon: &impl Fn(f64) -> Result<f64, PrivacyError>,
    ) -> Result<(Tried, Tried), PrivacyError> {
        let mut here = self.at(start, epsilon)?;
        let upwards = here.excess > 0.0;
        loop {
            let sigma = if upwards {
                here.sigma * factor
            } else {
                here.sigma / factor
            };
            if !NOISE_MULTIPLIERS.contains(&sigma) {
                return Err(self.unreachable);
            }
            let next = self.at(sigma, epsilon)?;
            match (upwards, next.excess > 0.0) {
                (true, false) => return Ok((here, next)),
                (false, true) => return Ok((next, here)),
                _ => here = next,
            }
        }
    }
}

/// A σ, and ln(ε / goal) there.
#[derive(Clone, Copy)]
struct Tried {
    sigma: f64,
    excess: f64,
}
