//! Local training: a peer's own rows, a round at a time.
//!
//! Training is a pure function of a [`Request`], the seed and the rows. The optimizer's memory from
//! round to round is handed in and out, and the batches come from a stream named by the round. So a
//! peer that restarts repeats itself. Loss, momentum, weight decay and the step are plain loops
//! over the flat vector, because candle's optimizers have no momentum. The step follows each part
//! of the gradient as soon as that is known, while it is in the cache: memory traffic limits a
//! large model.

mod batches;
mod optimizer;
mod private;
mod request;

use std::cell::Cell;
use std::ops::Range;

use kith_consensus::Seed;

use self::batches::Batches;
use self::optimizer::Optimizer;
pub use self::private::{
    PrivateError, PrivateTraining, PrivatelyTrained, Units, fresh_release_key,
};
pub use self::request::{Request, Trained};
use crate::data::Dataset;
use crate::model::Workspace;
use crate::task::{ModelError, Task};

/// Trains on one peer's own rows.
#[derive(Clone, Debug)]
pub struct Trainer {
    task: Task,
    data: Dataset,
    seed: Seed,
}

impl Task {
    /// A trainer over a peer's own rows; `seed` orders its batches.
    ///
    /// # Errors
    /// When there is no row, or the rows do not suit the schema.
    pub fn trainer(&self, data: Dataset, seed: Seed) -> Result<Trainer, ModelError> {
        self.check(&data)?;
        Ok(Trainer {
            task: self.clone(),
            data,
            seed,
        })
    }
}

impl Trainer {
    /// The peer's own rows.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// Trains for one round. Equal requests, seeds and rows give equal parameters.
    ///
    /// # Errors
    /// A start, memory or correction of another length; divergence.
    pub fn train(&self, request: &Request<'_>) -> Result<Trained, ModelError> {
        self.check(request)?;
        let Request { start, round, .. } = *request;
        let training = self.task.training();
        let steps = training.steps(self.data.len());
        let mut scratch = SCRATCH.take();
        let mut optimizer = Optimizer::new(
            training,
            request,
            steps,
            std::mem::take(&mut scratch.velocity),
        );
        let mut parameters = start.to_vec();
        let mut batches = Batches::new(self.data.len(), training, self.seed, round);
        let (mut loss, mut samples) = (0.0, 0);
        for step in 0..steps {
            let rows = batches.next_batch();
            let batch_loss =
                self.step(rows, start, &mut parameters, &mut optimizer, &mut scratch)?;
            loss += batch_loss * rows.len() as f64;
            samples += rows.len();
            if !batch_loss.is_finite() || !optimizer.is_finite() {
                return Err(ModelError::Diverged { round, step });
            }
        }
        let (samples, loss, rate) = (
            self.data.len() as u64,
            loss / samples as f64,
            training.rate(round),
        );
        let memory = optimizer.memory(start, &mut scratch.velocity);
        if start.len() <= SCRATCH_MAX {
            SCRATCH.set(scratch);
        }
        Ok(Trained {
            parameters,
            samples,
            local_steps: steps,
            rate,
            loss,
            memory,
        })
    }

    /// One local step on these rows; returns the loss before it.
    fn step(
        &self,
        rows: &[usize],
        start: &[f32],
        parameters: &mut [f32],
        optimizer: &mut Optimizer<'_>,
        scratch: &mut Scratch,
    ) -> Result<f64, ModelError> {
        let training = self.task.training();
        let Scratch {
            workspace,
            gradient,
            ..
        } = scratch;
        if training.clip_norm == 0.0 {
            let mut step = |range: Range<usize>, parameters: &mut [f32], part: &mut [f32]| {
                training
                    .kind
                    .add_gradient(&start[range.clone()], parameters, part);
                optimizer.step(range, 1.0, part, parameters);
            };
            return self
                .task
                .descend(parameters, &self.data, rows, workspace, &mut step);
        }
        // The norm needs the whole gradient before anything moves.
        gradient.resize(start.len(), 0.0);
        let mut keep = |range: Range<usize>, _: &mut [f32], part: &mut [f32]| {
            gradient[range].copy_from_slice(part)
        };
        let loss = self
            .task
            .descend(parameters, &self.data, rows, workspace, &mut keep)?;
        training.kind.add_gradient(start, parameters, gradient);
        let scale = (training.clip_norm / norm(gradient)).min(1.0) as f32;
        optimizer.step(0..start.len(), scale, gradient, parameters);
        Ok(loss)
    }

    fn check(&self, request: &Request<'_>) -> Result<(), ModelError> {
        self.task.check_dimension(request.start)?;
        let dimension = request.start.len();
        let remembered = self.task.training().momentum_scope.memory_len(dimension);
        let of_length = |what, expected, values: Option<&[f32]>| match values {
            Some(values) if values.len() != expected => Err(ModelError::Companion {
                what,
                expected,
                found: values.len(),
            }),
            _ => Ok(()),
        };
        of_length("the optimizer's memory", remembered, request.memory)?;
        of_length("a gradient's correction", dimension, request.correction)
    }
}

/// Memory of a round of training, which the next one on the same thread uses again: for a small
/// model, allocating it takes as long as a step.
#[derive(Default)]
struct Scratch {
    workspace: Workspace,
    gradient: Vec<f32>,
    velocity: Vec<f32>,
}

/// Most parameters of a model whose scratch is kept: 1 MiB each (guess). For a larger one memory is
/// scarce, and allocating it costs little against a step.
const SCRATCH_MAX: usize = 256 << 10;

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Euclidean norm, summed in f64 in eight lanes: one sum would wait for each of its additions.
fn norm(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0f64; 8];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    let rest: f64 = rest.iter().map(|value| f64::from(*value).powi(2)).sum();
    (lanes.iter().sum::<f64>() + rest).sqrt()
}
