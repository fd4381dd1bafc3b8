//! Poisson sampling: each unit takes part in a step or does not, independently of all others and of
//! all other steps. A lot's size is therefore random, and a lot may be empty; that is what
//! amplification by sampling is proven for.
//!
//! A unit takes part if a 32-bit word of the release's bits is below ⌊q·2³²⌋. The accountant is
//! given this rounded rate.

use super::PrivacyError;
use super::noise::ReleaseKey;

/// The rate of participation, rounded down to 2⁻³².
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoissonSampling {
    /// In 1 to 2³².
    below: u64,
}

impl PoissonSampling {
    /// Sampling at `rate`.
    ///
    /// # Errors
    /// A rate outside [2⁻³², 1].
    pub fn new(rate: f64) -> Result<PoissonSampling, PrivacyError> {
        let below = (rate * (1u64 << 32) as f64).floor();
        if rate <= 1.0 && below >= 1.0 {
            Ok(PoissonSampling {
                below: below as u64,
            })
        } else {
            Err(PrivacyError::SamplingRate { found: rate })
        }
    }

    /// The probability that a unit takes part in a step, exactly: what has to be accounted.
    pub fn rate(self) -> f64 {
        self.below as f64 / (1u64 << 32) as f64
    }

    /// Puts the numbers of those of `units` units that take part in `step` into `lot`, in order.
    pub fn draw(self, key: &ReleaseKey, step: u64, units: usize, lot: &mut Vec<usize>) {
        const WORDS: usize = 256;
        let mut reader = key.reader("kith.v1 lot", step);
        let mut bytes = [0; 4 * WORDS];
        lot.clear();
        for first in (0..units).step_by(WORDS) {
            reader.fill(&mut bytes);
            let words = bytes.as_chunks::<4>().0.iter();
            let here = words.zip(first..units).filter_map(|(word, unit)| {
                (u64::from(u32::from_le_bytes(*word)) < self.below).then_some(unit)
            });
            lot.extend(here);
        }
        zeroize::Zeroize::zeroize(&mut bytes);
        zeroize::Zeroize::zeroize(&mut reader);
    }
}

#[cfg(test)]
mod tests {
    use super::super::gaussian::upper_tail;
    use super::*;

    fn lots(rate: f64, units: usize, steps: u64) -> Vec<Vec<usize>> {
        let (sampling, key) = (
            PoissonSampling::new(rate).unwrap(),
            ReleaseKey::new([3; 32]),
        );
        let lot = |step| {
            let mut lot = Vec::new();
            sampling.draw(&key, step, units, &mut lot);
            lot
        };
        (0..steps).map(lot).collect()
    }

    /// How many standard deviations a sum of `freedom` squared deviations is too large, by the
    /// normal approximation of Wilson and Hilferty 1931.
    fn chi_square(squares: impl Iterator<Item = f64>, freedom: f64) -> f64 {
        let share = 2.0 / (9.0 * freedom);
        ((squares.sum::<f64>() / freedom).cbrt() - (1.0 - share)) / share.sqrt()
    }

    /// Sizes are binomial: shuffled or fixed-size lots would all be of one size.
    #[test]
    fn the_sizes_of_lots_are_binomial_and_some_lots_are_empty() {
        let (units, rate, steps) = (40, 0.05, 20_000);
        let sizes: Vec<usize> = lots(rate, units, steps).iter().map(Vec::len).collect();
        let mut probability = 0.95f64.powi(40);
        let (mut counts, mut probabilities) = (Vec::new(), Vec::new());
        for size in 0..7 {
            counts.push(sizes.iter().filter(|found| **found == size).count() as f64);
            probabilities.push(probability);
            probability *= (units - size) as f64 / (size + 1) as f64 * rate / (1.0 - rate);
        }
        counts.push(steps as f64 - counts.iter().sum::<f64>());
        probabilities.push(1.0 - probabilities.iter().sum::<f64>());
        let squares = counts
            .iter()
            .zip(&probabilities)
            .map(|(count, probability)| {
                (count - steps as f64 * probability).powi(2) / (steps as f64 * probability)
            });
        let far = chi_square(squares, 7.0);
        assert!(
            upper_tail(far) > 1e-4,
            "{far}: {counts:?} {probabilities:?}"
        );
        assert!(counts[0] > 2000.0, "{counts:?}");
    }

    #[test]
    fn units_take_part_equally_often_and_independently() {
        let (units, rate, steps) = (600, 0.3, 4000);
        let lots = lots(rate, units, steps);
        let mut counts = vec![0.0; units];
        let (mut together, mut again) = (0.0, 0.0);
        for (lot, next) in lots.iter().zip(lots.iter().skip(1)) {
            lot.iter().for_each(|unit| counts[*unit] += 1.0);
            together += lot.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() as f64;
            again += lot
                .iter()
                .filter(|unit| next.binary_search(unit).is_ok())
                .count() as f64;
        }
        let trials = (steps - 1) as f64;
        let expected = steps as f64 * rate;
        let squares = counts
            .iter()
            .map(|count| (count - expected).powi(2) / (expected * (1.0 - rate)));
        let far = chi_square(squares, units as f64);
        assert!(far.abs() < 4.0, "{far}");
        for (found, pairs) in [(together, trials * 599.0), (again, trials * 600.0)] {
            let deviation = (pairs * 0.09 * 0.91).sqrt();
            assert!(
                (found - pairs * 0.09).abs() < 8.0 * deviation,
                "{found} of {pairs}"
            );
        }
    }

    #[test]
    fn a_step_repeats_itself_and_steps_differ() {
        let twice = [lots(0.5, 100, 3), lots(0.5, 100, 3)];
        assert_eq!(twice[0], twice[1]);
        assert_ne!(twice[0][0], twice[0][1]);
        assert_eq!(lots(1.0, 5, 1), [[0, 1, 2, 3, 4]]);
        assert!(lots(0.5, 0, 1)[0].is_empty());
    }

    #[test]
    fn the_rate_is_what_is_compared() {
        let rate = PoissonSampling::new(0.01).unwrap().rate();
        assert!(rate <= 0.01 && rate > 0.01 - 3e-10, "{rate}");
        assert_eq!(PoissonSampling::new(1.0).unwrap().rate(), 1.0);
        for found in [0.0, 1e-12, -0.5, 1.1, f64::INFINITY] {
            let refused = PoissonSampling::new(found);
            assert_eq!(refused, Err(PrivacyError::SamplingRate { found }));
        }
        assert!(PoissonSampling::new(f64::NAN).is_err());
    }
}
