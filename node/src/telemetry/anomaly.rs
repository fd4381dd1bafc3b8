//! What in the lines of peers deserves a look: each anomaly with its threshold, where that comes
//! from, and the alert for it. The decisions here are pure: numbers in, a decision out.
//!
//! An anomaly is no proof. A peer whose rows are unlike the others' may look like one for good.

/// A kind of anomaly.
pub struct Anomaly {
    /// The event that reports it.
    pub event: &'static str,
    /// What is compared with what.
    pub threshold: &'static str,
    /// Where the threshold comes from.
    pub source: &'static str,
    /// The metric that shows it.
    pub metric: &'static str,
    /// The alert for it.
    pub alert: &'static str,
}

/// Every kind.
pub const ANOMALIES: &[Anomaly] = &[
    Anomaly {
        event: "drift-suspected",
        threshold: "a peer's held-out loss has a modified z-score above 3.5 among the others' in 5 evaluations in a row",
        source: "Iglewicz and Hoaglin 1993; 5 in a row: a guess",
        metric: "kith_held_out_loss",
        alert: "KithDrift",
    },
    Anomaly {
        event: "suspected",
        threshold: "the moving average (newest weight 0.2) of a neighbour's dropped share is above 0.6, after 5 rounds",
        source: "guesses",
        metric: "kith_suspicions_total",
        alert: "KithSuspected",
    },
    Anomaly {
        event: "stalled",
        threshold: "a quarter of the round's deadline has passed and updates are missing",
        source: "a guess",
        metric: "kith_rounds_stalled_total",
        alert: "KithRoundsWait",
    },
];

/// A value this far above the others' median leaves them: the modified z-score
/// 0.6745 (x − median) / MAD (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993, page 11).
const SCORE_MAX: f64 = 3.5;
/// The 0.75 quantile of the normal distribution, which makes MAD an estimate of its deviation.
const NORMAL_QUARTILE: f64 = 0.6745;
/// The median absolute deviation counts as at least this share of the median: peers that agree
/// nearly perfectly have a deviation of nearly zero, and any difference would stand out (guess).
const SPREAD_MIN: f64 = 0.05;
/// Fewer others have no median that means anything (guess).
const OTHERS_MIN: usize = 3;
/// Evaluations in a row that have to leave the others' (guess: as many rounds as a suspicion takes).
const IN_A_ROW: u32 = 5;

/// How far above the others' median a value is, in robust deviations; `None` with fewer than
/// three others. Not finite if the value is not.
pub fn score(value: f64, others: &[f64]) -> Option<f64> {
    let median = median(others.to_vec()).filter(|_| others.len() >= OTHERS_MIN)?;
    let distances = others.iter().map(|other| (other - median).abs()).collect();
    let spread = self::median(distances)?.max(SPREAD_MIN * median.abs());
    let distance = value - median;
    // Others that are all zero have no spread at all.
    Some(match spread > 0.0 {
        true => NORMAL_QUARTILE * distance / spread,
        false if distance > 0.0 => f64::INFINITY,
        false => 0.0,
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(match values.len() % 2 {
        1 => upper,
        _ => (values[middle - 1] + upper) / 2.0,
    })
}

/// Whether a peer's held-out loss leaves the others'.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drift {
    in_a_row: u32,
}

impl Drift {
    /// Adds an evaluation of the peer beside the newest ones of the others. Whether that makes it
    /// suspect now; it is once, until an evaluation is among the others' again.
    pub fn add(&mut self, loss: f64, others: &[f64]) -> bool {
        let leaves = score(loss, others).is_some_and(|score| score.is_nan() || score > SCORE_MAX);
        self.in_a_row = match leaves {
            true => self.in_a_row.saturating_add(1),
            false => 0,
        };
        self.in_a_row == IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_the_one_that_the_book_defines() {
        // Median 5, absolute deviations 2 1 0 1 2, their median 1.
        let others = [7.0, 3.0, 5.0, 4.0, 6.0];
        assert_eq!(score(15.0, &others), Some(6.745));
        assert_eq!(score(5.0, &others), Some(0.0));
        assert_eq!(score(-5.0, &others), Some(-6.745));
        assert_eq!(score(15.0, &others[..2]), None);
        // Equal ones: a twentieth of the median is the least spread.
        assert_eq!(score(1.5, &[1.0; 4]), Some(0.6745 * 0.5 / 0.05));
        assert_eq!(score(0.0, &[0.0; 4]), Some(0.0));
        assert_eq!(score(0.1, &[0.0; 4]), Some(f64::INFINITY));
    }

    #[test]
    fn a_peer_is_suspect_once_after_five_evaluations_in_a_row() {
        let others = [0.9, 1.0, 1.1];
        let suspected = |losses: &[f64]| -> Vec<usize> {
            let mut drift = Drift::default();
            let places = losses.iter().enumerate();
            places
                .filter_map(|(place, loss)| drift.add(*loss, &others).then_some(place))
                .collect()
        };
        assert_eq!(suspected(&[9.0; 12]), [4]);
        let nobody: [usize; 0] = [];
        let but_one = [9.0, 9.0, 9.0, 9.0, 1.0, 9.0, 9.0, 9.0, 9.0];
        assert_eq!(suspected(&but_one), nobody);
        assert_eq!(suspected(&[[9.0; 5], [1.0; 5], [9.0; 5]].concat()), [4, 14]);
        assert_eq!(
            suspected(&[1.3; 12]),
            nobody,
            "within the others' deviation"
        );
        assert_eq!(
            suspected(&[f64::NAN; 12]),
            [4],
            "what is no number leaves them too"
        );
        assert_eq!(
            suspected(&[0.1; 12]),
            nobody,
            "better than the others is no drift"
        );
    }
}
