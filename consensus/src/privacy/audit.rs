//! What guesses about one run prove of its ε: a lower bound (Steinke et al. 2023, arXiv 2305.08846,
//! theorem 3.1 and the computation of its appendix D).
//!
//! Each of m canaries was a training row by the toss of a coin. An auditor guesses for r of them
//! whether it was, and is right v times. Under (ε, δ) the number of right guesses is hardly larger
//! than that of r coins which show heads with probability e^ε / (1 + e^ε).
//!
//! Cost: of the order of r operations for each of the bisection's steps.

use libm::{exp, lgamma, log, log1p};

use super::Delta;

/// Largest ε that is looked at: so much cannot be shown with any number of guesses that fits a
/// computer.
const EPSILON_MAX: f64 = 40.0;

/// Halvings of the interval in which the bound lies.
const HALVINGS: usize = 60;

/// Guesses about the canaries of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guesses {
    /// m, the number of canaries.
    pub canaries: u64,
    /// r, how many of them were guessed at.
    pub made: u64,
    /// v, how many guesses were right.
    pub right: u64,
}

impl Guesses {
    /// The largest ε that a mechanism cannot have at `delta`, with an error probability of at most
    /// `error`; 0 if nothing is shown.
    ///
    /// # Panics
    /// When more guesses are right than were made, or more were made than there are canaries.
    pub fn epsilon_low(&self, delta: Delta, error: f64) -> f64 {
        assert!(
            self.right <= self.made && self.made <= self.canaries,
            "right guesses are guesses, and each is about a canary"
        );
        if self.chance(0.0, delta) > error {
            return 0.0;
        }
        let (mut low, mut high) = (0.0, EPSILON_MAX);
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            match self.chance(middle, delta) <= error {
                true => low = middle,
                false => high = middle,
            }
        }
        low
    }

    /// A bound on the probability of so many right guesses, or more, under (`epsilon`, `delta`).
    fn chance(&self, epsilon: f64, delta: Delta) -> f64 {
        let (r, v) = (self.made, self.right);
        // Heads with probability 1 / (1 + e^−ε).
        let ln_heads = -log1p(exp(-epsilon));
        let ln_tails = -epsilon + ln_heads;
        let ln_factorial = |count: u64| lgamma(count as f64 + 1.0);
        let ln_all = ln_factorial(r);
        let mass = |heads: u64| {
            let tails = r - heads;
            exp(ln_all - ln_factorial(heads) - ln_factorial(tails)
                + heads as f64 * ln_heads
                + tails as f64 * ln_tails)
        };
        let beta: f64 = (v..=r).map(mass).sum();
        let (mut alpha, mut sum) = (0.0f64, 0.0);
        for i in 1..=v {
            sum += mass(v - i);
            alpha = alpha.max(sum / i as f64);
        }
        (beta + alpha * delta.get() * 2.0 * self.canaries as f64).min(1.0)
    }
}

/// The interval in which a share lies that `count` of `of` trials showed, at 95 % (Wilson 1927).
pub fn interval(count: u64, of: u64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, z) = (of as f64, 1.959_963_984_540_054);
    let share = count as f64 / n;
    let middle = share + z * z / (2.0 * n);
    let half = z * libm::sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n));
    let scale = 1.0 + z * z / n;
    (
        ((middle - half) / scale).max(0.0),
        ((middle + half) / scale).min(1.0),
    )
}

/// ln(p / (1 − p)), finite for every p in 0 to 1.
pub fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-12, 1.0 - 1e-12);
    log(p) - log1p(-p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn low(canaries: u64, made: u64, right: u64) -> f64 {
        let guesses = Guesses {
            canaries,
            made,
            right,
        };
        guesses.epsilon_low(Delta::new(1e-5).unwrap(), 0.05)
    }

    /// The most that can be shown, with every guess right and about every canary.
    #[test]
    fn the_number_of_guesses_limits_what_they_can_show() {
        assert!((low(200, 200, 200) - 4.17).abs() < 0.02);
        assert!((low(1000, 1000, 1000) - 5.78).abs() < 0.02);
    }

    #[test]
    fn coins_show_nothing_and_more_right_guesses_show_more() {
        assert_eq!(low(1000, 100, 50), 0.0);
        let mut before = 0.0;
        for right in [60, 70, 80, 90, 100] {
            let found = low(1000, 100, right);
            assert!(found > before, "{right}: {found}");
            before = found;
        }
    }

    /// Without δ the bound is the binomial tail: 9 of 10 heads or more have probability 0.05 for
    /// coins of 0.6058 (Clopper and Pearson 1934).
    #[test]
    fn without_delta_the_bound_is_the_binomial_tail() {
        let guesses = Guesses {
            canaries: 10,
            made: 10,
            right: 9,
        };
        let found = guesses.epsilon_low(Delta::new(1e-300).unwrap(), 0.05);
        let heads = 1.0 / (1.0 + exp(-found));
        assert!((heads - 0.605_84).abs() < 1e-4, "{heads}");
    }

    #[test]
    fn an_interval_holds_its_share() {
        let (low, high) = interval(13, 12_800);
        assert!(low < 13.0 / 12_800.0 && 13.0 / 12_800.0 < high && high < 0.002);
        assert_eq!(interval(0, 0), (0.0, 1.0));
        assert!(interval(0, 10).0 < 1e-12 && interval(10, 10).1 > 1.0 - 1e-12);
    }
}
