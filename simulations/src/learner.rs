//! A candle model on a peer's own rows, as the in-memory driver wants it.

use std::sync::Arc;

use kith_consensus::Seed;
use kith_models::{Dataset, ModelError, Request, Task, Trainer};

use crate::memory::Local;

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
    pub fn new(task: &Task, rows: Dataset, seed: Seed, held_out: Option<Arc<Dataset>>) -> Result<Learner, ModelError> {
        Ok(Learner { task: task.clone(), trainer: task.trainer(rows, seed)?, held_out })
    }

    /// What these rows alone teach: `rounds` rounds of local training without anybody else.
    ///
    /// # Errors
    /// When training diverges.
    pub fn alone(&mut self, rounds: u64) -> Result<Vec<f32>, ModelError> {
        let mut parameters = self.task.initial_parameters();
        for round in 0..rounds {
            parameters = self.trainer.train(&Request::new(&parameters, round))?.parameters;
        }
        Ok(parameters)
    }
}

impl Local for Learner {
    fn train(&mut self, start: &[f32], round: u64) -> Result<(Vec<f32>, u64, u64, f64), String> {
        let trained = self.trainer.train(&Request::new(start, round)).map_err(|error| error.to_string())?;
        Ok((trained.parameters, trained.samples, trained.local_steps, trained.loss))
    }

    fn evaluate(&mut self, parameters: &[f32]) -> Option<(f64, f64, u64)> {
        let evaluation = self.task.evaluate(parameters, self.held_out.as_ref()?).ok()?;
        Some((evaluation.loss, evaluation.accuracy, evaluation.samples))
    }
}
