//! What a run that is over came to: counts, the quality of the honest peers' models, invariants.

use std::time::Duration;

use kith_consensus::privacy::ledger::Statement;

use super::Experiment;
use super::cast::Cast;
use super::outcome::{Checks, Outcome, Range};
use super::watchers::Watchers;
use super::workload::Reference;
use crate::simulator::{Ended, Simulation};

/// A run that is over and whose invariants know that.
pub(super) struct Results<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) simulation: &'a Simulation<Watchers>,
    pub(super) cast: &'a Cast,
    pub(super) reference: &'a Reference,
    pub(super) ended: Ended,
    /// Time since the experiment began to be set up.
    pub(super) wall: Duration,
    /// Time since it ran.
    pub(super) running: Duration,
}

impl Results<'_> {
    /// Everything that was measured.
    pub(super) fn outcome(&self) -> Outcome {
        let (charter, world) = (&self.experiment.charter, &self.experiment.world);
        let simulation = self.simulation;
        let invariants = &simulation.observer.invariants;
        let (wall, running) = (self.wall.as_secs_f64(), self.running.as_secs_f64());
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
                passed: invariants.count() - invariants.failures.len(),
                failed: invariants.failures.clone(),
            },
            ..self.models(self.counts())
        }
    }

    /// The peers that took part, and their counts.
    fn counts(&self) -> Outcome {
        let cast = self.cast;
        let metrics = &self.simulation.observer.metrics;
        let refused = metrics.refused.iter();
        let oracle = cast.oracle.as_ref();
        Outcome {
            peers: cast.lies.len(),
            adversaries: cast.liars().count(),
            liars: cast.liars().map(|peer| cast.names[peer].clone()).collect(),
            known_to_liars: oracle.and_then(|oracle| oracle.known_share()),
            privacy: self.privacy(),
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

    /// The statement of the honest peer that spent most.
    fn privacy(&self) -> Option<Statement> {
        let statements = self
            .cast
            .honest()
            .filter_map(|peer| self.simulation.privacy(peer).ok()?);
        statements.reduce(|most, other| match other.epsilon_rdp > most.epsilon_rdp {
            true => other,
            false => most,
        })
    }

    /// The quality of the honest peers' models.
    fn models(&self, counts: Outcome) -> Outcome {
        let (cast, simulation) = (self.cast, self.simulation);
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
