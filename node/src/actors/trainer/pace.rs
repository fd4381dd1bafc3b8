//! When an update leaves under a privacy guarantee: after a time that does not depend on the rows.
//!
//! Lots are drawn at random and larger ones take longer to train on, so that the moment at which an
//! update leaves would tell their size. Before its first release a trainer therefore trains on blank
//! rows with the largest lots that the charter permits. Twice as long is its pace: a release is held
//! until the next whole multiple, which is the first one unless the machine was busy. A round so takes
//! at most twice as long as its longest training. What is left is a machine that is busy because of
//! the rows, and whatever else somebody on the same machine can measure.

use std::time::{Duration, Instant};

use kith_models::{PrivateError, PrivateTraining, Trainer};

/// A pace is this many times as long as the longest training (guess: a machine that is a little busy
/// does not miss it).
const MARGIN: u32 = 2;

/// The time after which releases leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace(Duration);

impl Pace {
    #[cfg(test)]
    pub(super) fn of(pace: Duration) -> Pace {
        Pace(pace)
    }

    /// Measured on this machine.
    ///
    /// # Errors
    /// When there can be no private training.
    pub(super) fn measure(
        trainer: &Trainer,
        private: &PrivateTraining,
    ) -> Result<Pace, PrivateError> {
        trainer.train_longest(private)?; // the first time memory is new, and slow
        let started = Instant::now();
        trainer.train_longest(private)?;
        Ok(Pace(MARGIN * started.elapsed()))
    }

    /// How much longer a release is held that has taken so long.
    pub(super) fn holds(self, elapsed: Duration) -> Duration {
        let pace = self.0.as_nanos().max(1);
        let whole = elapsed.as_nanos().div_ceil(pace).max(1) * pace;
        let held = whole - elapsed.as_nanos();
        Duration::from_nanos(u64::try_from(held).expect("less than a pace, or than nothing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_training_takes_it_leaves_at_whole_multiples() {
        let pace = Pace(Duration::from_millis(10));
        for elapsed in [0, 1, 300, 9_999, 10_000].map(Duration::from_micros) {
            assert_eq!(elapsed + pace.holds(elapsed), Duration::from_millis(10));
        }
        let late = Duration::from_micros(10_001);
        assert_eq!(late + pace.holds(late), Duration::from_millis(20));
        assert_eq!(Pace(Duration::ZERO).holds(late), Duration::ZERO);
    }
}
