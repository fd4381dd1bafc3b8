//! The peers' training data, and the references for their models: rows of a data set, dealt among
//! them, or objectives whose optimum is known.

use std::fmt::Display;
use std::sync::Arc;

use kith_consensus::Seed;
use kith_models::dataset::Loaded;
use kith_models::{
    DATASETS, Dataset, DatasetOptions, Schema, SkewReport, Task, TestSize, partition,
};

use super::{Experiment, ExperimentError};
use crate::attack::{Attack, attack_from_text};
use crate::learner::Learner;
use crate::metrics::PEER_ROWS_MAX;
use crate::simulator::Local;
use crate::trainer::{Descent, Objective, TrainerSection};

/// The training data of each peer.
pub(super) struct Workload {
    /// By the peers' numbers.
    pub(super) locals: Vec<Arc<dyn Local>>,
    /// Values of a model.
    pub(super) dimension: usize,
    pub(super) reference: Reference,
}

/// What the models are measured against.
#[derive(Default)]
pub(super) struct Reference {
    /// The point at which the mean of the honest objectives is least, if it is known.
    pub(super) optimum: Option<Vec<f64>>,
    /// See [`Scope::hull`](crate::check::Scope::hull).
    pub(super) hull: Option<(f32, f32)>,
    /// Rows that show whether a backdoor opens.
    pub(super) triggered: Option<Dataset>,
    /// See [`Outcome::guessing`](super::Outcome::guessing).
    pub(super) guessing: Option<f64>,
    pub(super) skew: Option<SkewReport>,
}

/// A data set, split into rows for the peers and held-out rows.
struct SplitRows {
    train: Dataset,
    test: Arc<Dataset>,
    /// The rows of each site among those for training, if the data set has sites.
    sites: Option<Vec<kith_models::dataset::Site>>,
}

fn wrong(error: impl Display) -> ExperimentError {
    ExperimentError::Rows(error.to_string())
}

impl Workload {
    pub(super) fn of(
        experiment: &Experiment,
        seed: &Seed,
        lies: &[bool],
        evaluating: &[bool],
    ) -> Result<Workload, ExperimentError> {
        match (&experiment.world.trainer, &experiment.task) {
            (Some(trainer), _) => Ok(experiment.objectives(trainer, seed, lies)),
            (None, Some(task)) => experiment.rows(task, seed, lies, evaluating),
            (None, None) => unreachable!("an experiment without a formula has a task"),
        }
    }
}

impl Experiment {
    fn objectives(&self, trainer: &TrainerSection, seed: &Seed, lies: &[bool]) -> Workload {
        let (objectives, optimum) = trainer.family.draw(lies, seed);
        let local = |(peer, objective): (usize, Arc<dyn Objective>)| -> Arc<dyn Local> {
            let own = self.world.trainer_of(peer);
            let own = own.expect("this world has a trainer");
            let noise = seed.child(&format!("noise {peer}"));
            Arc::new(Descent::new(&own, objective, noise))
        };
        Workload {
            locals: objectives.into_iter().enumerate().map(local).collect(),
            dimension: optimum.len(),
            reference: Reference {
                optimum: Some(optimum),
                hull: trainer.hull(lies, seed),
                ..Reference::default()
            },
        }
    }

    fn rows(
        &self,
        task: &Task,
        seed: &Seed,
        lies: &[bool],
        evaluating: &[bool],
    ) -> Result<Workload, ExperimentError> {
        let schema = task.schema();
        let (classes, peers) = (schema.classes, lies.len());
        let split = self.split_rows(schema, seed)?;
        let partition = &self.world.partition;
        let dealt = partition
            .datasets(&split.train, classes, split.sites.as_deref(), peers, seed)
            .map_err(wrong)?;
        let skew = skew(&dealt, classes, split.train.len());
        let attack = attack_from_text(&self.world.attack).map_err(ExperimentError::Problems)?;
        let mut locals: Vec<Arc<dyn Local>> = Vec::with_capacity(peers);
        for (peer, own) in dealt.into_iter().enumerate() {
            let place = partition::Place {
                peer,
                peers,
                classes,
                seed,
            };
            let own = if lies[peer] {
                poisoned(attack.as_ref(), own, schema, &place)?
            } else {
                own
            };
            let held_out = evaluating[peer].then(|| self.held_out(&place, &split.test));
            let learner = learner(task, own, &place, held_out)?;
            let keys = seed.child(&format!("release keys {peer}"));
            let learner = learner.under(&self.charter, keys);
            let learner = learner.map_err(|error| wrong(format!("peer {peer}: {error}")))?;
            locals.push(Arc::new(learner));
        }
        Ok(Workload {
            locals,
            dimension: task.layout().dimension,
            reference: Reference {
                triggered: attack.triggered(&split.test, schema).map_err(wrong)?,
                guessing: guessing(&split.test, classes),
                skew: Some(skew),
                ..Reference::default()
            },
        })
    }

    fn loaded(&self) -> Result<Loaded, ExperimentError> {
        let entry = DATASETS
            .iter()
            .find(|entry| entry.name == self.world.dataset)
            .expect("the world names a known data set");
        let directory = self.world.data_dir.clone();
        let key = match directory {
            Some(_) => "world.data_dir",
            None => "world.dataset",
        };
        (entry.new.load)(&DatasetOptions { directory }).map_err(|error| {
            ExperimentError::Problems(vec![self.places.problem(key, error.to_string())])
        })
    }

    fn split_rows(&self, schema: &Schema, seed: &Seed) -> Result<SplitRows, ExperimentError> {
        let loaded = self.loaded()?;
        let all = loaded.dataset(schema).map_err(wrong)?;
        let test = (self.world.test_rows > 0).then_some(TestSize::Rows(self.world.test_rows));
        let split = loaded.split(schema, test, seed).map_err(wrong)?;
        Ok(SplitRows {
            train: all.select(&split.train),
            test: Arc::new(all.select(&split.test)),
            sites: loaded.sites_among(&split.train),
        })
    }

    /// The held-out rows as a peer sees them: if each peer sees rows in its own way, its answers
    /// are judged in that way too.
    fn held_out(&self, place: &partition::Place<'_>, test: &Arc<Dataset>) -> Arc<Dataset> {
        let partition = &self.world.partition;
        if partition.changes_rows() {
            Arc::new(partition.transform(place, test))
        } else {
            Arc::clone(test)
        }
    }
}

/// A liar's rows, as its attack changes them.
fn poisoned(
    attack: &dyn Attack,
    own: Dataset,
    schema: &Schema,
    place: &partition::Place<'_>,
) -> Result<Dataset, ExperimentError> {
    let seed = place.seed.child(&format!("poison {}", place.peer));
    let changed = attack.poison(&own, schema, &mut seed.stream("kith.v1 poison"));
    Ok(changed.map_err(wrong)?.unwrap_or(own))
}

fn learner(
    task: &Task,
    own: Dataset,
    place: &partition::Place<'_>,
    held_out: Option<Arc<Dataset>>,
) -> Result<Learner, ExperimentError> {
    let peer = place.peer;
    let batches = place.seed.child(&format!("batches {peer}"));
    Learner::new(task, own, batches, held_out)
        .map_err(|error| wrong(format!("peer {peer}: {error}")))
}

fn skew(dealt: &[Dataset], classes: usize, rows: usize) -> SkewReport {
    let mut skew = SkewReport::of(dealt, classes, rows);
    if dealt.len() > PEER_ROWS_MAX {
        skew.class_counts = Vec::new();
    }
    skew
}

/// Accuracy of always naming the most frequent class.
fn guessing(test: &Dataset, classes: usize) -> Option<f64> {
    let most = test.class_counts(classes).into_iter().max();
    most.filter(|most| *most > 0)
        .map(|most| most as f64 / test.len() as f64)
}
