//! The Gaussian mechanism without sampling, exactly: Balle and Wang 2018, arXiv 1805.06530, theorem
//! 8. Compositions of it are again one of it, with μ² = Σ 1/σ² (Dong et al. 2019, arXiv 1905.02383,
//! corollary 3.3).
//!
//! Cost: some hundred evaluations of erfc.

use libm::{erfc, exp, log, sqrt};
use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2};

use super::{Delta, Epsilon, PrivacyError};

/// Halvings of an interval: more than the bits of an f64.
const HALVINGS: usize = 100;

/// The smallest ε ≥ 0 at `delta` if neighbours' outcomes are μ standard deviations of the noise
/// apart; μ = 1/σ for one step, the root of Σ 1/σ² for several. 0 for μ = 0.
pub fn epsilon(mu: f64, delta: Delta) -> f64 {
    let enough = |epsilon: f64| self::delta(mu, epsilon) <= delta.get();
    if enough(0.0) {
        return 0.0;
    }
    // δ(ε) is below the tail of a normal number beyond ε/μ − μ/2, and that below e^(−x²/2).
    let reach = sqrt(-2.0 * log(delta.get()));
    bisect(0.0, mu * (mu / 2.0 + reach) + f64::EPSILON, enough)
}

/// The smallest δ at `epsilon` ≥ 0 for outcomes that are μ apart, in 0 to 1.
pub fn delta(mu: f64, epsilon: f64) -> f64 {
    if mu == 0.0 {
        return 0.0;
    }
    // Φ(−a) − e^ε Φ(−b); since b² − a² = 2ε, the second is φ(a) times Mills' ratio at b.
    let (a, b) = (epsilon / mu - mu / 2.0, epsilon / mu + mu / 2.0);
    let density = exp(-a * a / 2.0) / sqrt(2.0 * PI);
    (upper_tail(a) - density * mills_ratio(b)).clamp(0.0, 1.0)
}

/// The smallest noise multiplier of one step without sampling for a budget.
///
/// # Errors
/// When it is beyond what can be accounted.
pub fn noise_multiplier(budget: Epsilon, delta: Delta) -> Result<f64, PrivacyError> {
    let range = super::NOISE_MULTIPLIERS;
    let enough = |ln_sigma: f64| epsilon(exp(-ln_sigma), delta) <= budget.get();
    let (low, high) = (log(*range.start()), log(*range.end()));
    if !enough(high) || enough(low) {
        return Err(PrivacyError::Unreachable {
            epsilon: budget.get(),
            delta: delta.get(),
        });
    }
    Ok(exp(bisect(low, high, enough)))
}

/// The upper end of an interval that [`HALVINGS`] halvings leave around the first number that is
/// `enough`; `high` is, `low` is not.
fn bisect(mut low: f64, mut high: f64, enough: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..HALVINGS {
        let middle = low + (high - low) / 2.0;
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// P(N > x) for a standard normal N.
pub(super) fn upper_tail(x: f64) -> f64 {
    erfc(x * FRAC_1_SQRT_2) / 2.0
}

/// P(from < N ≤ to), without cancellation in either tail.
pub(super) fn between(from: f64, to: f64) -> f64 {
    let (from, to) = if from > 0.0 { (from, to) } else { (-to, -from) };
    // Now the interval lies right of 0, or holds it.
    if from >= 0.0 {
        (upper_tail(from) - upper_tail(to)).max(0.0)
    } else {
        (libm::erf(to * FRAC_1_SQRT_2) - libm::erf(from * FRAC_1_SQRT_2)) / 2.0
    }
}

/// P(N > x) over the density at x, for x ≥ 0.
fn mills_ratio(x: f64) -> f64 {
    if x < 25.0 {
        let scaled = exp(x * x / 2.0) * erfc(x / SQRT_2);
        return scaled * sqrt(PI / 2.0);
    }
    // 1/x − 1/x³ + 3/x⁵ − 15/x⁷; the next term is below 10⁻⁹ of the first, and what is subtracted
    // there is below 10⁻¹³⁰.
    let square = 1.0 / (x * x);
    (1.0 - square * (1.0 - 3.0 * square * (1.0 - 5.0 * square))) / x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delta_falls_with_epsilon_and_stays_a_probability() {
        for mu in [1e-3, 0.1, 1.0, 7.0, 60.0, 3000.0] {
            let mut before = 1.0;
            for step in 0..400 {
                let found = delta(mu, mu * mu * f64::from(step) / 100.0);
                assert!(
                    (0.0..=1.0).contains(&found) && found <= before,
                    "{mu} {step}: {found} {before}"
                );
                before = found;
            }
        }
        assert_eq!(delta(0.0, 0.0), 0.0);
    }

    #[test]
    fn epsilon_and_delta_undo_each_other() {
        for mu in [0.01, 0.5, 3.0, 40.0, 900.0] {
            for exponent in [-12, -8, -5, -2] {
                let wanted = Delta::new(10f64.powi(exponent)).unwrap();
                let found = epsilon(mu, wanted);
                assert!(found.is_finite() && found >= 0.0);
                let back = delta(mu, found);
                assert!(
                    found == 0.0 || (back / wanted.get() - 1.0).abs() < 1e-6,
                    "{mu} {exponent}: {back}"
                );
            }
        }
    }

    #[test]
    fn an_interval_has_the_mass_between_its_ends() {
        let whole = between(f64::NEG_INFINITY, f64::INFINITY);
        assert_eq!(whole, 1.0);
        for x in [-3.0, -0.5, 0.0, 0.7, 9.0] {
            let parts = between(f64::NEG_INFINITY, x) + between(x, f64::INFINITY);
            assert!((parts - 1.0).abs() < 1e-15, "{x}: {parts}");
            assert!((between(x, x + 1.0) - between(-x - 1.0, -x)).abs() < 1e-15);
        }
        // 1 − Φ(9) = 1.1286e-19 (Abramowitz and Stegun, table 26.2).
        assert!((between(9.0, f64::INFINITY) / 1.12858840595384e-19 - 1.0).abs() < 1e-12);
    }
}
