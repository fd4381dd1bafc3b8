//! Named streams of reproducible randomness.
//!
//! One seed per peer or federation, one stream per purpose: BLAKE3 `derive_key(context)` over
//! `seed ‖ round ‖ sender ‖ tensor`, read as little-endian 64-bit words (ALGORITHMS, section 0). Two streams with
//! different contexts are independent, so adding a use never shifts the numbers of another.
//!
//! Not for privacy noise and not for keys: those come from the operating system.

use crate::arithmetic::ln;

/// 32 bytes from which streams are derived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed(pub [u8; 32]);

impl Seed {
    /// A seed from a small number that a person typed.
    pub fn from_number(number: u64) -> Seed {
        Seed(blake3::derive_key("kith.v1 seed", &number.to_le_bytes()))
    }

    /// A seed for a named part, for example one peer's, independent of this one.
    pub fn child(&self, name: &str) -> Seed {
        let mut hasher = blake3::Hasher::new_derive_key("kith.v1 child seed");
        hasher.update(&self.0);
        hasher.update(name.as_bytes());
        Seed(*hasher.finalize().as_bytes())
    }

    /// The stream of this seed for `context`, with no further coordinates.
    pub fn stream(&self, context: &str) -> Stream {
        Stream::derive(context, self, 0, 0, 0)
    }
}

/// A reproducible stream of random numbers.
#[derive(Clone)]
pub struct Stream {
    reader: blake3::OutputReader,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Stream(at {})", self.reader.position())
    }
}

impl Stream {
    /// The stream for `context` and its coordinates.
    pub fn derive(context: &str, seed: &Seed, round: u64, sender: u64, tensor: u64) -> Stream {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&seed.0);
        for coordinate in [round, sender, tensor] {
            hasher.update(&coordinate.to_le_bytes());
        }
        Stream { reader: hasher.finalize_xof() }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut word = [0u8; 8];
        self.reader.fill(&mut word);
        u64::from_le_bytes(word)
    }

    /// Uniform in [0, 1), on a grid of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..bound`, without bias.
    ///
    /// # Panics
    /// When `bound` is 0: there is nothing to draw from.
    pub fn bounded(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "bounded(0) has nothing to draw from");
        let rejected = (u64::MAX - bound + 1) % bound; // 2^64 mod bound
        loop {
            let word = self.next_u64();
            if rejected == 0 || word < u64::MAX - rejected + 1 {
                return word % bound;
            }
        }
    }

    /// Standard normal (Box–Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Failures before the first success of trials that succeed with `probability` in (0, 1].
    ///
    /// # Panics
    /// When `probability` is not in (0, 1]: nothing would ever succeed.
    pub fn failures_before_success(&mut self, probability: f64) -> u64 {
        assert!(probability > 0.0 && probability <= 1.0, "{probability} is not in (0, 1]");
        if probability == 1.0 {
            return 0;
        }
        // Below 2⁻⁵³, 1 − probability would be 1.
        let keep = (1.0 - probability).min(1.0 - f64::EPSILON / 2.0);
        (ln(1.0 - self.unit()) / ln(keep)) as u64
    }

    /// A uniformly random order of `items` (Fisher–Yates from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.bounded(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_before_a_success_are_geometric() {
        let mut stream = Seed::from_number(1).stream("geometric");
        for probability in [1.0, 0.7, 0.1, 0.003] {
            let draws = 20_000;
            let mean = (0..draws).map(|_| stream.failures_before_success(probability) as f64).sum::<f64>() / f64::from(draws);
            let expected = (1.0 - probability) / probability;
            // Five standard deviations.
            let deviation = ((1.0 - probability) / probability.powi(2) / f64::from(draws)).sqrt();
            assert!((mean - expected).abs() <= 5.0 * deviation, "{probability}: {mean}, expected {expected}");
        }
    }
}
