//! A candle model on a peer's own rows, in the form that a simulation needs.

use std::sync::Arc;

use kith_consensus::Seed;
use kith_consensus::charter::Charter;
use kith_consensus::privacy::ledger::Account;
use kith_consensus::privacy::noise::ReleaseKey;
use kith_models::{
    Dataset, ModelError, PrivateError, PrivateTraining, Request, Task, Trained, Trainer, Units,
};

use crate::simulator::Local;

/// A trainer and held-out rows.
pub struct Learner {
    task: Task,
    trainer: Trainer,
    held_out: Option<Arc<Dataset>>,
    private: Option<Private>,
}

/// Training under a guarantee for each row.
struct Private {
    training: PrivateTraining,
    units: Units,
    account: Account,
    /// The keys of releases come from it, where a node takes them from the operating system.
    keys: Seed,
}

impl Learner {
    /// Trains `task` on `rows`; evaluates on `held_out` if there is any.
    ///
    /// # Errors
    /// When the rows do not suit the task.
    pub fn new(
        task: &Task,
        rows: Dataset,
        seed: Seed,
        held_out: Option<Arc<Dataset>>,
    ) -> Result<Learner, ModelError> {
        Ok(Learner {
            task: task.clone(),
            trainer: task.trainer(rows, seed)?,
            held_out,
            private: None,
        })
    }

    /// The same under the charter's `[privacy]`, if it gives a guarantee. The keys of releases follow
    /// from `keys`, so that a run repeats; nothing that is released may be kept secret by them.
    ///
    /// # Errors
    /// When this model or this number of rows cannot be trained so.
    pub fn under(self, charter: &Charter, keys: Seed) -> Result<Learner, PrivateError> {
        let Some(terms) = &charter.privacy else {
            return Ok(self);
        };
        let training = self.task.private_training(terms)?;
        let units = self.trainer.units()?;
        training.check_units(units.len())?;
        let slack = training.slack(self.task.layout().dimension);
        let account = Account::new(charter, slack);
        let private = account.map(|account| Private {
            training,
            units,
            account,
            keys,
        });
        Ok(Learner { private, ..self })
    }

    /// What these rows alone teach: `rounds` rounds of local training without anybody else.
    ///
    /// # Errors
    /// When training diverges.
    pub fn alone(&self, rounds: u64) -> Result<Vec<f32>, ModelError> {
        let (mut parameters, mut memory) = (self.task.initial_parameters(), None);
        for round in 0..rounds {
            let request = Request {
                memory: memory.as_deref(),
                ..Request::new(&parameters, round)
            };
            let trained = self.trainer.train(&request)?;
            (parameters, memory) = (trained.parameters, trained.memory);
        }
        Ok(parameters)
    }
}

impl Local for Learner {
    fn train(&self, request: &Request<'_>) -> Result<Trained, String> {
        if self.private.is_some() {
            return Err("under a guarantee a training has the noise of its process".to_owned());
        }
        self.trainer
            .train(request)
            .map_err(|error| error.to_string())
    }

    fn train_again(&self, request: &Request<'_>, life: u32) -> Result<Trained, String> {
        let Some(private) = &self.private else {
            return self.train(request);
        };
        // A process trains a round once, so no key is used for two releases.
        let key = private.keys.child(&format!("{life} {}", request.round));
        let key = ReleaseKey::new(key.0);
        let trained = self
            .trainer
            .train_privately(request, &private.training, &private.units, key);
        let trained = trained.map_err(|error| error.to_string())?;
        Ok(trained.trained(&private.training))
    }

    fn account(&self) -> Option<&Account> {
        self.private.as_ref().map(|private| &private.account)
    }

    fn steps(&self) -> u64 {
        self.task.training().steps(self.trainer.data().len())
    }

    fn loss(&self, parameters: &[f32]) -> Option<f64> {
        Some(
            self.task
                .evaluate(parameters, self.trainer.data())
                .ok()?
                .loss,
        )
    }

    fn evaluate(&self, parameters: &[f32]) -> Option<(f64, f64, u64)> {
        let evaluation = self
            .task
            .evaluate(parameters, self.held_out.as_ref()?)
            .ok()?;
        Some((evaluation.loss, evaluation.accuracy, evaluation.samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::section::{Document, Section};
    use kith_models::{DATASETS, DatasetOptions, ModelSection, Schema, TrainingSection};

    /// The digits under momentum that lasts the run.
    fn digits() -> (Task, Dataset) {
        let entry = DATASETS.get("digits").expect("compiled in");
        let text = entry
            .new
            .defaults
            .replace("[training]", "[training]\nmomentum_scope = \"run\"");
        let mut document = Document::parse(&text).expect("TOML");
        let schema = document.section("data", Schema::read);
        let model = document.section("model", ModelSection::read);
        let training = document.section("training", |section: &mut Section<'_>| {
            TrainingSection::read(section)
        });
        document.finish().expect("good sections");
        let task = Task::new(schema, model, training).expect("a good task");
        let loaded = (entry.new.load)(&DatasetOptions::default()).expect("compiled in");
        let rows = loaded.dataset(task.schema()).expect("digits");
        (task, rows.select(&(0..200).collect::<Vec<_>>()))
    }

    /// A baseline is what a peer would reach without the others, so it trains as a peer does.
    #[test]
    fn training_alone_carries_what_the_optimizer_carries_from_round_to_round() {
        let (task, rows) = digits();
        let seed = Seed::from_number(1);
        let learner = Learner::new(&task, rows, seed, None).expect("rows that fit");
        let train = |parameters: &[f32], round, memory: Option<&[f32]>| {
            let request = Request {
                memory,
                ..Request::new(parameters, round)
            };
            learner.train(&request).expect("it converges")
        };
        let first = train(&task.initial_parameters(), 0, None);
        assert!(first.memory.is_some(), "momentum lasts");
        let second = train(&first.parameters, 1, first.memory.as_deref());
        let alone = learner.alone(2).expect("it converges");
        assert_eq!(alone, second.parameters);
        assert_ne!(
            alone,
            train(&first.parameters, 1, None).parameters,
            "it is not forgotten"
        );
    }
}
