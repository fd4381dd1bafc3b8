//! How often values of each size were seen, in a fixed number of counts.

use std::marker::PhantomData;
use std::time::Duration;

/// The upper bounds of a histogram's buckets, ascending. Larger values have a bucket of their own.
pub trait Scale {
    /// The bounds.
    const BOUNDS: &'static [f64];
}

/// Seconds: half a decade a bucket, from a small model's step to an hour-long round (guess).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seconds;

impl Scale for Seconds {
    const BOUNDS: &'static [f64] = &[
        0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0,
    ];
}

/// Rounds: powers of two up to four times the charter's default bound on staleness, which is 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds;

impl Scale for Rounds {
    const BOUNDS: &'static [f64] = &[0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
}

/// Counts of values by size.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram<S> {
    /// One for each bound, and one for larger values; empty before the first value.
    counts: Vec<u64>,
    sum: f64,
    scale: PhantomData<S>,
}

impl<S> Default for Histogram<S> {
    fn default() -> Histogram<S> {
        Histogram {
            counts: Vec::new(),
            sum: 0.0,
            scale: PhantomData,
        }
    }
}

impl<S: Scale> Histogram<S> {
    /// Counts a value. One that is no number, or negative, is none of these sizes and left out.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() || value < 0.0 {
            return;
        }
        self.counts.resize(S::BOUNDS.len() + 1, 0);
        let bucket = S::BOUNDS.partition_point(|bound| *bound < value);
        self.counts[bucket] += 1;
        self.sum += value;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the values.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Each bucket's upper bound, the last one infinite, and how many values are in it and in no
    /// smaller one; nothing before the first value.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = S::BOUNDS.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied())
    }
}

impl Histogram<Seconds> {
    /// Counts a duration.
    pub fn add_time(&mut self, time: Duration) {
        self.add(time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_is_large_enough() {
        let mut rounds = Histogram::<Rounds>::default();
        assert_eq!(rounds.buckets().count(), 0);
        for value in [0.0, 1.0, 3.0, 4.0, 33.0, f64::NAN, -1.0] {
            rounds.add(value);
        }
        let counted: Vec<(f64, u64)> = rounds.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(0.0, 1), (1.0, 1), (4.0, 2), (f64::INFINITY, 1)]);
        assert_eq!((rounds.count(), rounds.sum()), (5, 41.0));
    }
}
