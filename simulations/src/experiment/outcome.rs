//! The outcome of a run, as a value that is written and read. `kith sim run --json` prints it,
//! `outcome.json` keeps it, and reports and sweeps are made from the file.
//!
//! A folder that an older version left lacks the keys that came later. A missing key reads as not
//! measured.

use std::collections::BTreeMap;

use kith_consensus::Digest;
use kith_consensus::privacy::ledger::Statement;
use kith_models::SkewReport;
use serde::{Deserialize, Deserializer, Serialize};

use crate::check::Failure;
use crate::metrics::{Bytes, PeerRow, RoundRow};
use crate::simulator::Ended;
use crate::world::Signatures;

/// Mean, least and most over the honest peers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Mean.
    #[serde(deserialize_with = "number")]
    pub mean: f64,
    /// Least.
    #[serde(deserialize_with = "number")]
    pub min: f64,
    /// Most.
    #[serde(deserialize_with = "number")]
    pub max: f64,
}

impl Range {
    pub(super) fn of(values: &[f64]) -> Option<Range> {
        let fold = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick);
        let (min, max) = (fold(f64::min)?, fold(f64::max)?);
        Some(Range {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            min,
            max,
        })
    }
}

/// The invariants that held or failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    /// Number of invariants watched.
    #[serde(default)]
    pub passed: usize,
    /// The first breach of each that failed.
    pub failed: Vec<Failure>,
}

/// The outcome of a run. The rows are not part of its JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "the keys are those of the documented JSON object"
)]
pub struct Outcome {
    pub name: String,
    pub seed: u64,
    pub peers: usize,
    pub adversaries: usize,
    pub liars: Vec<String>,
    pub rounds: u64,
    pub ended: Ended,
    pub events: u64,
    pub virtual_seconds: f64,
    pub wall_seconds: f64,
    pub setup_seconds: f64,
    pub peer_rounds: u64,
    pub peer_rounds_per_second: f64,
    pub signatures: Signatures,
    pub trace: Digest,
    pub experiment: Digest,
    pub accuracy: Option<Range>,
    /// For attacks with a trigger: the share of triggered rows of other classes that honest models
    /// take for the target.
    pub attack_success: Option<Range>,
    /// For omniscient attacks: of the honest vectors of the rounds in which liars published, the
    /// share that they knew then.
    pub known_to_liars: Option<f64>,
    /// How unlike the peers' rows are, as they were dealt; class counts in worlds of at most
    /// [`PEER_ROWS_MAX`](crate::metrics::PEER_ROWS_MAX) peers.
    #[serde(deserialize_with = "skew")]
    pub skew: Option<SkewReport>,
    pub loss: Option<Range>,
    pub consensus_distance: Option<f64>,
    pub optimum_distance: Option<Range>,
    /// What the honest peer that spent most of its privacy budget may say of its releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Statement>,
    pub bytes: Bytes,
    pub mixing_skipped: u64,
    pub rounds_by_deadline: u64,
    /// Rounds that honest peers left out because the others were far ahead.
    pub rounds_jumped: u64,
    pub refused: BTreeMap<String, u64>,
    pub suspected: BTreeMap<String, u64>,
    pub convicted: BTreeMap<String, u64>,
    /// Mean share of each peer's contributions that honest peers left out, by name; empty in worlds
    /// of more than [`PEER_ROWS_MAX`](crate::metrics::PEER_ROWS_MAX) peers.
    #[serde(skip)]
    pub filtered: BTreeMap<String, f64>,
    /// Accuracy of always naming the most frequent class of the held-out rows.
    #[serde(skip)]
    pub guessing: Option<f64>,
    /// Distance to the optimum, if that is known, of the model that everybody starts with.
    #[serde(skip)]
    pub optimum_distance_at_start: Option<f64>,
    /// Faults of the world's list whose time is after the run's end.
    pub faults_not_felt: Vec<String>,
    pub checks: Checks,
    #[serde(skip)]
    pub round_rows: Vec<RoundRow>,
    #[serde(skip)]
    pub peer_rows: Vec<PeerRow>,
}

/// JSON has neither infinity nor NaN: both are written as null.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A [`SkewReport`] that may lack values that older versions did not measure.
fn skew<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SkewReport>, D::Error> {
    #[derive(Deserialize)]
    #[serde(default)]
    struct Written {
        class_counts: Vec<Vec<u64>>,
        l1: f64,
        hellinger: f64,
        jensen_shannon: f64,
        left_over: u64,
    }
    impl Default for Written {
        fn default() -> Written {
            Written {
                class_counts: Vec::new(),
                l1: f64::NAN,
                hellinger: f64::NAN,
                jensen_shannon: f64::NAN,
                left_over: 0,
            }
        }
    }
    let written = Option::<Written>::deserialize(deserializer)?;
    Ok(written.map(|written| SkewReport {
        class_counts: written.class_counts,
        l1: written.l1,
        hellinger: written.hellinger,
        jensen_shannon: written.jensen_shannon,
        left_over: written.left_over,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_as_it_was_written() {
        let outcome = Outcome {
            name: "ring".to_owned(),
            ended: Ended::Quiet,
            signatures: Signatures::Ed25519,
            accuracy: Range::of(&[0.5, 1.0]),
            skew: Some(SkewReport::new(vec![vec![5, 5], vec![20, 20]], 53)),
            refused: BTreeMap::from([("round".to_owned(), 3)]),
            checks: Checks {
                passed: 2,
                failed: vec![Failure {
                    check: "heals".to_owned(),
                    virtual_seconds: 1.5,
                    peer: None,
                    what: "it does not".to_owned(),
                }],
            },
            ..Outcome::default()
        };
        let written = serde_json::to_string(&outcome).unwrap();
        assert!(
            written.contains(r#""ended":"quiet""#) && written.contains(r#""signatures":"ed25519""#)
        );
        let read: Outcome = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
        assert_eq!(read.checks, outcome.checks);
    }

    #[test]
    fn what_diverged_or_came_later_reads_as_not_measured() {
        let text = r#"{"loss": {"mean": null, "min": 1.0, "max": null}, "skew": {"l1": 0.5}}"#;
        let read: Outcome = serde_json::from_str(text).unwrap();
        let loss = read.loss.unwrap();
        assert!(loss.mean.is_nan() && loss.min == 1.0 && loss.max.is_nan());
        assert!(read.skew.unwrap().hellinger.is_nan() && read.checks.failed.is_empty());
    }
}
