//! Values over rounds, in bounded memory.

use serde::Serialize;

/// Most points that are kept of one curve: a screen has hardly more columns for it.
const POINTS_MAX: usize = 512;

/// Points in the order of their rounds. When there are too many, every second one goes, and from
/// then on only rounds that are a multiple of a larger step come in.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Curve {
    points: Vec<(u64, f64)>,
    #[serde(skip)]
    step: u64,
}

impl Default for Curve {
    fn default() -> Curve {
        Curve {
            points: Vec::new(),
            step: 1,
        }
    }
}

impl Curve {
    /// Adds the value of a round; a round that is there already, or an earlier one, is not added
    /// again. A peer that starts again repeats its last round.
    pub(super) fn add(&mut self, round: u64, value: f64) {
        let is_new = self.points.last().is_none_or(|(last, _)| round > *last);
        if !is_new || !round.is_multiple_of(self.step) {
            return;
        }
        self.points.push((round, value));
        if self.points.len() > POINTS_MAX {
            self.step *= 2;
            let step = self.step;
            self.points.retain(|(round, _)| round.is_multiple_of(step));
        }
    }

    /// The points.
    pub(super) fn points(&self) -> &[(u64, f64)] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_ends_and_its_rounds_and_little_memory() {
        let mut curve = Curve::default();
        (0..100_000u64).for_each(|round| curve.add(round, round as f64));
        let points = curve.points();
        assert!(
            (POINTS_MAX / 2..=POINTS_MAX).contains(&points.len()),
            "{}",
            points.len()
        );
        assert_eq!(points[0], (0, 0.0));
        assert!(points.last().unwrap().0 > 99_000);
        assert!(points.iter().all(|(round, value)| *round as f64 == *value));
    }

    #[test]
    fn a_round_that_comes_again_is_not_drawn_twice() {
        let mut curve = Curve::default();
        for (round, value) in [(1, 0.5), (2, 0.4), (2, 0.9), (1, 0.8)] {
            curve.add(round, value);
        }
        assert_eq!(curve.points(), [(1, 0.5), (2, 0.4)]);
    }
}
