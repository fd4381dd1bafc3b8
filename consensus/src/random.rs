//! Named streams of reproducible randomness.
//!
//! One seed per peer or federation, one stream per purpose: BLAKE3 `derive_key(context)` over
//! `seed ‖ round ‖ sender ‖ tensor`, read as little-endian 64-bit words . Two streams with
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

/// Words in one output block of BLAKE3.
const BLOCK_WORDS: usize = 8;

/// A reproducible stream of random numbers.
#[derive(Clone)]
pub struct Stream {
    reader: blake3::OutputReader,
    /// The block read last: the reader computes a whole one for every call, however short.
    block: [u64; BLOCK_WORDS],
    /// Words of `block` given out.
    used: usize,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Stream(at {})",
            self.reader.position() - 8 * (BLOCK_WORDS - self.used) as u64
        )
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
        Stream {
            reader: hasher.finalize_xof(),
            block: [0; BLOCK_WORDS],
            used: BLOCK_WORDS,
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        if self.used == BLOCK_WORDS {
            let mut bytes = [0; BLOCK_WORDS * 8];
            self.reader.fill(&mut bytes);
            to_words(&bytes, &mut self.block);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// The next `words.len()` times 64 bits, the same as one by one and several times as fast.
    pub fn fill(&mut self, words: &mut [u64]) {
        let (first, rest) = words.split_at_mut(words.len().min(BLOCK_WORDS - self.used));
        first.copy_from_slice(&self.block[self.used..][..first.len()]);
        self.used += first.len();
        let (blocks, last) = rest.split_at_mut(rest.len() / BLOCK_WORDS * BLOCK_WORDS);
        // As many blocks as the widest CPUs compute at once.
        let mut bytes = [0; 16 * BLOCK_WORDS * 8];
        for words in blocks.chunks_mut(16 * BLOCK_WORDS) {
            let bytes = &mut bytes[..words.len() * 8];
            self.reader.fill(bytes);
            to_words(bytes, words);
        }
        last.fill_with(|| self.next_u64());
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
        assert!(
            probability > 0.0 && probability <= 1.0,
            "{probability} is not in (0, 1]"
        );
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

fn to_words(bytes: &[u8], words: &mut [u64]) {
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("chunks of 8 bytes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_bulk_are_the_words_one_by_one() {
        let mut single = Seed::from_number(3).stream("test");
        let mut bulk = single.clone();
        for count in [0, 1, 7, 8, 9, 3, 600, 1, 512, 1029, 2] {
            let mut words = vec![0; count];
            bulk.fill(&mut words);
            assert_eq!(
                words,
                (0..count).map(|_| single.next_u64()).collect::<Vec<_>>(),
                "{count} words"
            );
            assert_eq!(bulk.next_u64(), single.next_u64(), "after {count} words");
            assert_eq!(format!("{bulk:?}"), format!("{single:?}"));
        }
    }

    #[test]
    fn failures_before_a_success_are_geometric() {
        let mut stream = Seed::from_number(1).stream("geometric");
        for probability in [1.0, 0.7, 0.1, 0.003] {
            let draws = 20_000;
            let mean = (0..draws)
                .map(|_| stream.failures_before_success(probability) as f64)
                .sum::<f64>()
                / f64::from(draws);
            let expected = (1.0 - probability) / probability;
            // Five standard deviations.
            let deviation = ((1.0 - probability) / probability.powi(2) / f64::from(draws)).sqrt();
            assert!(
                (mean - expected).abs() <= 5.0 * deviation,
                "{probability}: {mean}, expected {expected}"
            );
        }
    }
}
