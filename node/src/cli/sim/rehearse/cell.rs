//! What the runs of one cell came to: one number of liars, over all seeds.

use kith_simulations::experiment::Outcome;

use super::figures::{mean, percent};

/// One of the two cells over all seeds.
pub(super) struct Cell {
    pub(super) outcomes: Vec<Outcome>,
}

impl Cell {
    pub(super) fn mean(&self, of: impl Fn(&Outcome) -> Option<f64>) -> Option<f64> {
        mean(self.outcomes.iter().filter_map(of))
    }

    pub(super) fn has_accuracy(&self) -> bool {
        self.outcomes
            .iter()
            .all(|outcome| outcome.optimum_distance.is_none())
    }

    pub(super) fn accuracy(&self) -> Option<f64> {
        self.mean(|outcome| outcome.accuracy.map(|accuracy| accuracy.mean))
    }

    pub(super) fn worst(&self) -> Option<f64> {
        self.outcomes
            .iter()
            .filter_map(|outcome| outcome.accuracy.map(|accuracy| accuracy.min))
            .reduce(f64::min)
    }

    /// Mean share of the way from learning nothing to the best possible.
    pub(super) fn progress(&self) -> Option<f64> {
        self.mean(|outcome| {
            progress(
                outcome,
                outcome.accuracy.map(|range| range.mean),
                outcome.optimum_distance.map(|range| range.mean),
            )
        })
    }

    /// The same for the worst peer in any run.
    pub(super) fn worst_progress(&self) -> Option<f64> {
        let worst = |outcome: &Outcome| {
            progress(
                outcome,
                outcome.accuracy.map(|range| range.min),
                outcome.optimum_distance.map(|range| range.max),
            )
        };
        // A value that is not a number is worse than any other.
        self.outcomes
            .iter()
            .filter_map(worst)
            .reduce(|least, value| if value >= least { least } else { value })
    }

    pub(super) fn backdoor(&self) -> Option<f64> {
        self.mean(|outcome| outcome.attack_success.map(|share| share.mean))
    }

    /// A value, if every run contributes to it; otherwise why it says nothing.
    pub(super) fn ensure(&self, value: Option<f64>) -> Result<f64, String> {
        let judged = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.accuracy.or(outcome.optimum_distance).is_some())
            .count();
        match value {
            Some(value) if judged == self.outcomes.len() => Ok(value),
            _ if judged < self.outcomes.len() => Err(format!(
                "in {} of {} runs no honest peer evaluated its model",
                self.outcomes.len() - judged,
                self.outcomes.len()
            )),
            _ => Err("there is nothing to compare with: no rows are held out, or everybody starts in the optimum".to_owned()),
        }
    }

    /// Share of the honest peers' rounds in which too few models came in.
    pub(super) fn rounds_lost(&self) -> f64 {
        let honest =
            |outcome: &Outcome| (outcome.peers - outcome.adversaries) as u64 * outcome.rounds;
        let lost: u64 = self
            .outcomes
            .iter()
            .map(|outcome| outcome.mixing_skipped)
            .sum();
        lost as f64 / self.outcomes.iter().map(honest).sum::<u64>().max(1) as f64
    }

    pub(super) fn bytes_per_peer(&self) -> f64 {
        self.mean(|outcome| Some(outcome.bytes.wire as f64 / outcome.peers as f64))
            .unwrap_or(0.0)
    }

    /// What the model reached, in words.
    pub(super) fn reached(&self) -> String {
        if !self.has_accuracy() {
            let distance = self
                .mean(|outcome| outcome.optimum_distance.map(|range| range.mean))
                .unwrap_or(f64::NAN);
            let farthest = self
                .outcomes
                .iter()
                .filter_map(|outcome| outcome.optimum_distance.map(|range| range.max))
                .reduce(f64::max);
            let start = self
                .mean(|outcome| outcome.optimum_distance_at_start)
                .unwrap_or(f64::NAN);
            let farthest = farthest.unwrap_or(f64::NAN);
            return format!(
                "distance to the optimum {distance:.3e} (worst peer {farthest:.3e}, at the start {start:.3e})"
            );
        }
        let shown = |value: Option<f64>| value.map_or("unknown".to_owned(), percent);
        let (mean, worst, guessing) = (
            self.accuracy(),
            self.worst(),
            self.mean(|outcome| outcome.guessing),
        );
        format!(
            "accuracy {} (worst peer {}, guessing {})",
            shown(mean),
            shown(worst),
            shown(guessing)
        )
    }
}

/// How far from learning nothing (0) to the best possible (1) a run came; `None` if neither end is
/// known.
fn progress(outcome: &Outcome, accuracy: Option<f64>, distance: Option<f64>) -> Option<f64> {
    let progress = match (accuracy, distance) {
        (Some(accuracy), _) => outcome
            .guessing
            .filter(|guessing| *guessing < 1.0)
            .map(|guessing| (accuracy - guessing) / (1.0 - guessing)),
        (None, Some(distance)) => outcome
            .optimum_distance_at_start
            .filter(|start| *start > 0.0)
            .map(|start| 1.0 - distance / start),
        (None, None) => None,
    };
    progress.map(|progress| {
        if progress.is_finite() {
            progress
        } else {
            f64::NEG_INFINITY
        }
    })
}
