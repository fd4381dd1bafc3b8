//! The outcome of a run, as a value that is written and read. `kith sim run --json` prints it,
//! `outcome.json` keeps it, and reports and sweeps are made from the file.
//!
//! A folder that an older version left lacks the keys that came later. A missing key reads as not
//! measured.

use std::collections::BTreeMap;

use kith_consensus::Digest;
use kith_models::SkewReport;
use serde::{Deserialize, Deserializer, Serialize};

use super::run::Run;
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

impl Run<'_> {
    /// The outcome of a run whose invariants know that it is over.
    pub(super) fn outcome(&self) -> Outcome {
        let (charter, world) = (&self.experiment.charter, &self.experiment.world);
        let simulation = &self.simulation;
        let promises = &simulation.observer.promises;
        let wall = self.started.elapsed().as_secs_f64();
        let running = self.ready.elapsed().as_secs_f64();
        let peer_rounds = simulation.observer.metrics.peer_rounds;
        Outcome {
            name: charter.name.clone(),
            seed: world.seed,
            rounds: charter.rounds,
            ended: self.ended,
            events: simulation.handled(),
            virtual_seconds: simulation.now().as_secs_f64(),
            wall_seconds: wall,
            setup_seconds: wall - running,
            peer_rounds,
            peer_rounds_per_second: peer_rounds as f64 / running.max(1e-9),
            signatures: world.signatures,
            trace: simulation.trace(),
            experiment: self.experiment.digest(),
            skew: self.reference.skew.clone(),
            guessing: self.reference.guessing,
            faults_not_felt: world.faults_after(simulation.now()),
            checks: Checks {
                passed: promises.count() - promises.failures.len(),
                failed: promises.failures.clone(),
            },
            ..self.models(self.counts())
        }
    }

    /// The peers that took part, and their counts.
    fn counts(&self) -> Outcome {
        let cast = &self.cast;
        let metrics = &self.simulation.observer.metrics;
        let refused = metrics.refused.iter();
        let oracle = cast.oracle.as_ref();
        Outcome {
            peers: cast.lies.len(),
            adversaries: cast.liars().count(),
            liars: cast.liars().map(|peer| cast.names[peer].clone()).collect(),
            known_to_liars: oracle.and_then(|oracle| oracle.known_share()),
            bytes: metrics.bytes,
            mixing_skipped: metrics.mixing_skipped,
            rounds_by_deadline: metrics.by_deadline,
            rounds_jumped: metrics.rounds_jumped,
            refused: refused
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
            suspected: cast.by_name(
                metrics
                    .suspected
                    .iter()
                    .map(|(peer, count)| (*peer, *count)),
            ),
            convicted: cast.by_name(
                metrics
                    .convicted
                    .iter()
                    .map(|(peer, count)| (*peer, *count)),
            ),
            filtered: cast.by_name(metrics.filtered()),
            round_rows: metrics.round_rows(),
            peer_rows: metrics.peer_rows().to_vec(),
            ..Outcome::default()
        }
    }

    /// The quality of the honest peers' models.
    fn models(&self, counts: Outcome) -> Outcome {
        let (cast, simulation) = (&self.cast, &self.simulation);
        let metrics = &simulation.observer.metrics;
        let honest: Vec<usize> = cast.honest().collect();
        let models: Vec<&[f32]> = honest
            .iter()
            .map(|peer| simulation.parameters(*peer).as_slice())
            .collect();
        let evaluated = |of: fn(&(u64, f64, f64)) -> f64| {
            let each = honest.iter().copied();
            let values = each.filter_map(|peer| metrics.evaluated[peer].as_ref().map(of));
            Range::of(&values.collect::<Vec<f64>>())
        };
        let optimum = self.reference.optimum.as_deref();
        Outcome {
            accuracy: evaluated(|(_, _, accuracy)| *accuracy),
            attack_success: self.attack_success(),
            loss: evaluated(|(_, loss, _)| *loss),
            consensus_distance: consensus_distance(&models),
            optimum_distance: optimum.and_then(|optimum| optimum_distance(&models, optimum)),
            optimum_distance_at_start: optimum
                .map(|optimum| optimum.iter().map(|at| at * at).sum::<f64>().sqrt()),
            ..counts
        }
    }

    /// The share of triggered rows that honest peers' models take for the attack's target.
    fn attack_success(&self) -> Option<Range> {
        let task = self.experiment.task.as_ref()?;
        let triggered = self.reference.triggered.as_ref()?;
        let metrics = &self.simulation.observer.metrics;
        let judged = self
            .cast
            .honest()
            .filter(|peer| metrics.evaluated[*peer].is_some());
        let share = |peer: usize| {
            let evaluation = task.evaluate(self.simulation.parameters(peer), triggered);
            Some(evaluation.ok()?.accuracy)
        };
        Range::of(&judged.filter_map(share).collect::<Vec<f64>>())
    }
}

fn optimum_distance(models: &[&[f32]], optimum: &[f64]) -> Option<Range> {
    let distance = |model: &&[f32]| -> f64 {
        let squares = model
            .iter()
            .zip(optimum)
            .map(|(value, at)| (f64::from(*value) - at).powi(2));
        squares.sum::<f64>().sqrt()
    };
    Range::of(&models.iter().map(distance).collect::<Vec<f64>>())
}

/// Root mean square distance of the models to their mean.
fn consensus_distance(models: &[&[f32]]) -> Option<f64> {
    let first = models.first()?;
    let count = models.len() as f64;
    let (mut sum, mut squares) = (vec![0.0; first.len()], 0.0);
    for model in models {
        for ((sum, value), reference) in sum.iter_mut().zip(*model).zip(*first) {
            let difference = f64::from(*value) - f64::from(*reference);
            *sum += difference;
            squares += difference * difference;
        }
    }
    let mean_squares: f64 = sum.iter().map(|sum| (sum / count).powi(2)).sum();
    Some((squares / count - mean_squares).max(0.0).sqrt())
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
