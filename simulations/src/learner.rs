//! A candle model on a peer's own rows, as a simulation wants it.

use std::sync::Arc;

use kith_consensus::Seed;
use kith_models::{Dataset, ModelError, Request, Task, Trained, Trainer};

use crate::simulator::Local;

/// A trainer and held-out rows.
pub struct Learner {
    task: Task,
    trainer: Trainer,
    held_out: Option<Arc<Dataset>>,
}

impl Learner {
    /// Trains `task` on `rows`; evaluates on `held_out` where there is any.
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
        })
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
        self.trainer
            .train(request)
            .map_err(|error| error.to_string())
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
