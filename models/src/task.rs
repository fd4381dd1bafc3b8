//! What every peer of a charter trains: model, schema and training as one [`Task`], the [`Trainer`]
//! of a peer's own rows, and the evaluation of parameters.
//!
//! Training is a pure function of a [`Request`], the seed and the rows. The optimizer's memory from
//! round to round is handed in and out, and the batches come from a stream named by the round. So a
//! peer that restarts repeats itself. A [`Network`] computes logits and gradient if the model is
//! one, otherwise candle does; loss, momentum, weight decay and the step are plain loops over the
//! flat vector, because candle's optimizers have no momentum. The step follows each part of the
//! gradient as soon as that is known, while it is in the cache: memory traffic limits a large
//! model.

mod private;

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Storage, Tensor, Var};
use kith_consensus::{Problem, Seed, Stream};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::data::{Dataset, class_counts};
use crate::model::{
    DIMENSION_MAX, Initial, Layout, ModelSection, Network, Parameters, Step, Workspace, dispatch,
    exp_negative, initial_parameters, layout_of,
};
use crate::schema::Schema;
use crate::training::{MomentumScope, TrainingSection};

pub use private::{PrivateError, PrivateTraining, PrivatelyTrained, Units, fresh_release_key};

/// Rows evaluated at once: two of the widest vectors, so that a product reads its weights once and
/// its inputs stay in the cache.
const EVALUATION_BATCH: usize = 32;

/// Fewest parameters for which a separate thread is used.
const PART: usize = 1 << 14;

/// A model, parameters or training that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A parameter vector of another length than the model's.
    #[error("expected {expected} parameters, found {found}")]
    Dimension {
        /// Number of the model's parameters.
        expected: usize,
        /// Number of the vector's values.
        found: usize,
    },
    /// A memory or a correction of another length than the model and `training.momentum_scope`
    /// need.
    #[error("expected {expected} values of {what}, found {found}")]
    Companion {
        /// What the values are.
        what: &'static str,
        /// How many were expected.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// Rows of another size than the schema's.
    #[error("expected rows of {expected} features (data.shape), found {found}")]
    Features {
        /// Features of the schema's rows.
        expected: usize,
        /// Features of these rows.
        found: usize,
    },
    /// A label beyond the schema's classes.
    #[error("row {row} has label {label}, expected less than {classes} (data.classes)")]
    Label {
        /// The row, from 0.
        row: usize,
        /// The row's label.
        label: u32,
        /// Number of the schema's classes.
        classes: usize,
    },
    /// Nothing to train on or to evaluate.
    #[error("there is no row to train on or to evaluate")]
    NoRows,
    /// Loss or parameters ceased to be finite.
    #[error(
        "training diverged in round {round}, local step {step}: loss or parameters are not finite; lower learning_rate, or set clip_norm"
    )]
    Diverged {
        /// The round in which it happened.
        round: u64,
        /// The local step, from 0.
        step: u64,
    },
    /// A model file that is not this model's.
    #[error("{0}")]
    File(String),
    /// Candle refused; a model of [`crate::MODELS`] is wrong.
    #[error("the model could not be computed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// What every peer of a charter trains. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Task {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    schema: Schema,
    model: ModelSection,
    training: TrainingSection,
    initial: Vec<Initial>,
    layout: Layout,
    network: Option<Network>,
}

impl Task {
    /// The task of three sections that were read without a problem.
    ///
    /// # Errors
    /// When parts do not go together, such as a convolution and a table.
    pub fn new(
        schema: Schema,
        model: ModelSection,
        training: TrainingSection,
    ) -> Result<Task, Vec<Problem>> {
        let problem = |key: &str, what| {
            let key = if key.is_empty() {
                "model".to_owned()
            } else {
                format!("model.{key}")
            };
            vec![Problem {
                key,
                line: 0,
                column: 0,
                span: None,
                what,
            }]
        };
        let initial = match model.architecture.tensors(&schema.shape, schema.classes) {
            Ok(initial) => initial,
            Err((key, what)) => return Err(problem(key, what)),
        };
        let dimension = initial
            .iter()
            .try_fold(0usize, |sum, tensor| sum.checked_add(tensor.len()?));
        if dimension.is_none_or(|dimension| dimension > DIMENSION_MAX) {
            return Err(problem(
                "",
                format!("the model has more than {DIMENSION_MAX} parameters"),
            ));
        }
        let layout = layout_of(&initial);
        let network = model.architecture.network(&layout, &schema.shape);
        Ok(Task {
            inner: Arc::new(Inner {
                schema,
                model,
                training,
                initial,
                layout,
                network,
            }),
        })
    }

    /// The charter's `[data]`.
    pub fn schema(&self) -> &Schema {
        &self.inner.schema
    }

    /// The charter's `[model]`.
    pub fn model(&self) -> &ModelSection {
        &self.inner.model
    }

    /// The charter's `[training]`.
    pub fn training(&self) -> &TrainingSection {
        &self.inner.training
    }

    /// The order of the parameters.
    pub fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// The common start of all peers: drawn from `model.seed`, equal on every machine.
    pub fn initial_parameters(&self) -> Vec<f32> {
        initial_parameters(
            &self.inner.layout,
            &self.inner.initial,
            self.inner.model.seed,
        )
    }

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

    /// Loss and accuracy of these parameters on these rows.
    ///
    /// # Errors
    /// When parameters or rows do not suit the task. Parameters that are not finite give a loss
    /// that is not finite.
    pub fn evaluate(&self, parameters: &[f32], data: &Dataset) -> Result<Evaluation, ModelError> {
        let classes = self.schema().classes;
        let mut loss = 0.0;
        let mut correct = vec![0; classes];
        self.for_each_row(parameters, data, |row, logits| {
            let label = data.labels()[row] as usize;
            let largest = (0..classes).fold(0, |best, class| {
                if logits[class] > logits[best] {
                    class
                } else {
                    best
                }
            });
            correct[label] +=
                u64::from(largest == label && logits.iter().all(|logit| logit.is_finite()));
            loss += cross_entropy(logits, label);
        })?;
        let samples = data.len() as u64;
        let counts = class_counts(data.labels(), classes);
        Ok(Evaluation {
            loss: loss / samples as f64,
            accuracy: correct.iter().sum::<u64>() as f64 / samples as f64,
            samples,
            classes: (0..classes)
                .map(|class| ClassReport {
                    class: class as u32,
                    samples: counts[class],
                    correct: correct[class],
                })
                .collect(),
        })
    }

    /// The probability of each class, for each row.
    ///
    /// # Errors
    /// When parameters or rows do not suit the task.
    pub fn scores(&self, parameters: &[f32], data: &Dataset) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut scores = Vec::with_capacity(data.len());
        self.for_each_row(parameters, data, |_, logits| {
            let sum = log_sum_exp(logits);
            scores.push(
                logits
                    .iter()
                    .map(|logit| (f64::from(*logit) - sum).exp() as f32)
                    .collect(),
            );
        })?;
        Ok(scores)
    }

    fn for_each_row(
        &self,
        parameters: &[f32],
        data: &Dataset,
        mut visit: impl FnMut(usize, &[f32]),
    ) -> Result<(), ModelError> {
        self.check(data)?;
        self.check_dimension(parameters)?;
        let classes = self.schema().classes;
        let rows: Vec<usize> = (0..data.len()).collect();
        let mut visit_all = |rows: &[usize], logits: &[f32]| {
            rows.iter()
                .zip(logits.chunks_exact(classes))
                .for_each(|(row, logits)| visit(*row, logits));
        };
        if let Some(network) = &self.inner.network {
            let mut workspace = Workspace::default();
            for rows in rows.chunks(EVALUATION_BATCH) {
                data.gather(rows, &mut workspace.inputs);
                visit_all(rows, network.logits(parameters, rows.len(), &mut workspace));
            }
            return Ok(());
        }
        let tensors = self.tensors(parameters, |values, shape| {
            Tensor::from_slice(values, shape, &Device::Cpu)
        })?;
        for rows in rows.chunks(EVALUATION_BATCH) {
            let logits = self
                .inner
                .model
                .architecture
                .logits(&tensors, &self.batch(data, rows)?)?;
            visit_all(rows, &logits.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    /// Mean loss over the rows; its gradient goes to `step`, part by part, each parameter's once. A
    /// loss that is not finite has none.
    pub(crate) fn descend(
        &self,
        parameters: &mut [f32],
        data: &Dataset,
        rows: &[usize],
        workspace: &mut Workspace,
        step: &mut Step<'_>,
    ) -> Result<f64, ModelError> {
        let Some(network) = &self.inner.network else {
            let mut gradient = vec![0.0; parameters.len()];
            let loss = self.gradient_by_candle(parameters, data, rows, &mut gradient)?;
            step(0..gradient.len(), parameters, &mut gradient);
            return Ok(loss);
        };
        data.gather(rows, &mut workspace.inputs);
        let logits = network.logits(parameters, rows.len(), workspace);
        let loss = residuals(
            logits,
            self.schema().classes,
            rows.iter().map(|row| data.labels()[*row] as usize),
        );
        if loss.is_finite() {
            network.descend(parameters, rows.len(), workspace, step);
        }
        Ok(loss)
    }

    /// Mean loss over the rows and its gradient for any model of candle's operations.
    fn gradient_by_candle(
        &self,
        parameters: &[f32],
        data: &Dataset,
        rows: &[usize],
        gradient: &mut [f32],
    ) -> Result<f64, ModelError> {
        let mut variables = Vec::with_capacity(self.layout().tensors.len());
        let tensors = self.tensors(parameters, |values, shape| {
            let variable = Var::from_slice(values, shape, &Device::Cpu)?;
            variables.push(variable.clone());
            Ok(variable.as_tensor().clone())
        })?;
        let logits = self
            .inner
            .model
            .architecture
            .logits(&tensors, &self.batch(data, rows)?)?;
        // Cross-entropy by hand: its gradient at the logits is softmax − one-hot. Multiplying by
        // that constant and summing makes candle propagate exactly this gradient, without a graph
        // of ten small operations.
        let mut residuals = logits.flatten_all()?.to_vec1::<f32>()?;
        let scale = 1.0 / rows.len() as f64;
        let mut loss = 0.0;
        for (row, logits) in rows
            .iter()
            .zip(residuals.chunks_exact_mut(self.schema().classes))
        {
            let label = data.labels()[*row] as usize;
            let sum = log_sum_exp(logits);
            loss += sum - f64::from(logits[label]);
            for (class, logit) in logits.iter_mut().enumerate() {
                let probability = (f64::from(*logit) - sum).exp();
                *logit = ((probability - f64::from(u8::from(class == label))) * scale) as f32;
            }
        }
        let residuals = Tensor::from_vec(residuals, logits.shape(), &Device::Cpu)?;
        let gradients = logits.mul(&residuals)?.sum_all()?.backward()?;
        for (tensor, variable) in self.layout().tensors.iter().zip(&variables) {
            let target = &mut gradient[tensor.range()];
            match gradients.get(variable) {
                Some(values) => copy_values(values, target)?,
                None => target.fill(0.0),
            }
        }
        Ok(loss * scale)
    }

    fn tensors(
        &self,
        parameters: &[f32],
        mut make: impl FnMut(&[f32], &[usize]) -> candle_core::Result<Tensor>,
    ) -> Result<Parameters<'_>, ModelError> {
        let layout = self.layout();
        let tensors = layout
            .tensors
            .iter()
            .map(|tensor| make(&parameters[tensor.range()], &tensor.shape));
        Ok(Parameters {
            layout,
            tensors: tensors.collect::<candle_core::Result<_>>()?,
        })
    }

    fn batch(&self, data: &Dataset, rows: &[usize]) -> Result<Tensor, ModelError> {
        let mut values = Vec::new();
        data.gather(rows, &mut values);
        let shape: Vec<usize> = std::iter::once(rows.len())
            .chain(self.schema().shape.iter().copied())
            .collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn check(&self, data: &Dataset) -> Result<(), ModelError> {
        let (expected, found) = (self.schema().features(), data.features());
        if found != expected {
            return Err(ModelError::Features { expected, found });
        }
        let classes = self.schema().classes;
        if let Some(row) = data
            .labels()
            .iter()
            .position(|label| *label as usize >= classes)
        {
            return Err(ModelError::Label {
                row,
                label: data.labels()[row],
                classes,
            });
        }
        if data.is_empty() {
            Err(ModelError::NoRows)
        } else {
            Ok(())
        }
    }

    fn check_dimension(&self, parameters: &[f32]) -> Result<(), ModelError> {
        let (expected, found) = (self.layout().dimension, parameters.len());
        if found == expected {
            Ok(())
        } else {
            Err(ModelError::Dimension { expected, found })
        }
    }
}

/// Copies a tensor's values in row-major order.
fn copy_values(tensor: &Tensor, target: &mut [f32]) -> Result<(), ModelError> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some((start, end))) => {
            target.copy_from_slice(&storage.as_slice::<f32>()?[start..end])
        }
        _ => target.copy_from_slice(&tensor.flatten_all()?.to_vec1::<f32>()?),
    }
    Ok(())
}

/// −ln of the label's probability; not finite if a logit is not. It uses the exponentials of
/// [`exp_negative`], which are right to 2·10⁻⁷: no less exact than the logits.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    if !logits.iter().all(|logit| logit.is_finite()) {
        return f64::NAN;
    }
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits
        .iter()
        .map(|logit| exp_negative(logit - largest))
        .sum();
    f64::from(largest) - f64::from(logits[label]) + f64::from(sum).ln()
}

/// ln Σ exp(logit), shifted by the largest so that it cannot overflow.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - largest).exp())
        .sum();
    f64::from(largest) + sum.ln()
}

/// Replaces logits by the gradients of their rows' mean cross-entropy, (softmax − one-hot) / rows;
/// returns the mean, which is not finite if a logit is not.
fn residuals(
    logits: &mut [f32],
    classes: usize,
    labels: impl ExactSizeIterator<Item = usize> + Clone,
) -> f64 {
    let scale = 1.0 / labels.len() as f32;
    let count = labels.len() as f64;
    let mut loss = 0.0;
    for (logits, label) in logits.chunks_exact_mut(classes).zip(labels.clone()) {
        if !logits.iter().all(|logit| logit.is_finite()) {
            return f64::NAN;
        }
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        loss += f64::from(largest) - f64::from(logits[label]);
        logits.iter_mut().for_each(|logit| *logit -= largest);
    }
    // One loop over all rows, because a row is shorter than the CPU's vectors.
    logits
        .iter_mut()
        .for_each(|logit| *logit = exp_negative(*logit));
    for (powers, label) in logits.chunks_exact_mut(classes).zip(labels) {
        let sum: f32 = powers.iter().sum();
        loss += f64::from(sum).ln();
        let factor = scale / sum;
        powers.iter_mut().for_each(|power| *power *= factor);
        powers[label] -= scale;
    }
    loss / count
}

/// Trains on one peer's own rows.
#[derive(Clone, Debug)]
pub struct Trainer {
    task: Task,
    data: Dataset,
    seed: Seed,
}

/// The inputs of a round of local training.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The parameters, d values.
    pub start: &'a [f32],
    /// Number of the round: it orders the batches and sets the learning rate.
    pub round: u64,
    /// What [`Trained::memory`] gave last time; `None` in the first round, or if it was lost.
    pub memory: Option<&'a [f32]>,
    /// Added to the gradient of every local step, after clipping, d values: c − c_i of SCAFFOLD, y
    /// − g of gradient tracking.
    pub correction: Option<&'a [f32]>,
}

impl<'a> Request<'a> {
    /// Training from `start` in `round`, with nothing remembered and nothing added.
    pub fn new(start: &'a [f32], round: u64) -> Request<'a> {
        Request {
            start,
            round,
            memory: None,
            correction: None,
        }
    }
}

/// The results of a round of local training.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The parameters afterwards.
    pub parameters: Vec<f32>,
    /// Number of the peer's rows, the n_i of sample weights.
    pub samples: u64,
    /// Number of optimizer steps done.
    pub local_steps: u64,
    /// The round's step size.
    pub rate: f64,
    /// Mean training loss over the rows of the round's batches, each at the parameters before its
    /// step.
    pub loss: f64,
    /// What the optimizer carries to the next round, [`MomentumScope::memory_len`] values: the
    /// velocity, or m̂ and then the start. `None` if it carries nothing.
    pub memory: Option<Vec<f32>>,
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
        let memory = optimizer.memory(start, &mut scratch);
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

/// Stochastic gradient descent with momentum, as [`TrainingSection`] defines it.
struct Optimizer<'a> {
    training: &'a TrainingSection,
    correction: Option<&'a [f32]>,
    rate: f32,
    /// v, or m̂ if the scope is quasi-global.
    velocity: Vec<f32>,
    /// Bits of the largest magnitude of a parameter after a step; those of infinity and NaN are
    /// above all others.
    largest: u32,
}

impl<'a> Optimizer<'a> {
    fn new(
        training: &'a TrainingSection,
        request: &Request<'a>,
        steps: u64,
        mut spare: Vec<f32>,
    ) -> Optimizer<'a> {
        let dimension = request.start.len();
        let velocity = match (training.momentum_scope, request.memory) {
            (MomentumScope::Run, Some(velocity)) => velocity.to_vec(),
            (MomentumScope::QuasiGlobal, Some(memory)) => {
                let (mean, before) = memory.split_at(dimension);
                let momentum = training.momentum as f32;
                let share = (1.0 - training.momentum)
                    / (training.rate(request.round.saturating_sub(1)) * steps as f64);
                let path = before
                    .iter()
                    .zip(request.start)
                    .map(|(before, now)| before - now);
                mean.iter()
                    .zip(path)
                    .map(|(mean, path)| momentum * mean + share as f32 * path)
                    .collect()
            }
            _ => {
                spare.clear();
                spare.resize(dimension, 0.0);
                spare
            }
        };
        let (correction, rate) = (request.correction, training.rate(request.round) as f32);
        Optimizer {
            training,
            correction,
            rate,
            velocity,
            largest: 0,
        }
    }

    /// A step of the parameters in `range`, whose gradient is to be scaled; `gradient` is
    /// overwritten.
    fn step(
        &mut self,
        range: Range<usize>,
        mut scale: f32,
        gradient: &mut [f32],
        parameters: &mut [f32],
    ) {
        let training = self.training;
        if let Some(correction) = self.correction {
            let correction = &correction[range.clone()];
            gradient
                .iter_mut()
                .zip(correction)
                .for_each(|(gradient, correction)| *gradient = scale * *gradient + correction);
            scale = 1.0;
        }
        let descent = Descent {
            rate: self.rate,
            momentum: training.momentum as f32,
            decay: training.weight_decay as f32,
            fresh: (1.0 - training.dampening) as f32,
            scale,
            lasts: training.momentum_scope == MomentumScope::QuasiGlobal,
        };
        let velocity = &mut self.velocity[range];
        let threads = if parameters.len() > PART {
            rayon::current_num_threads()
        } else {
            1
        };
        if threads == 1 {
            self.largest = self
                .largest
                .max(descent.step(parameters, velocity, gradient));
            return;
        }
        let each = parameters.len().div_ceil(threads).max(PART);
        let parts = parameters
            .par_chunks_mut(each)
            .zip(velocity.par_chunks_mut(each))
            .zip(gradient.par_chunks(each));
        let largest = parts
            .map(|((parameters, velocity), gradient)| descent.step(parameters, velocity, gradient))
            .max();
        self.largest = self.largest.max(largest.unwrap_or(0));
    }

    /// Whether all parameters have stayed finite.
    fn is_finite(&self) -> bool {
        self.largest < f32::INFINITY.to_bits()
    }

    fn memory(self, start: &[f32], scratch: &mut Scratch) -> Option<Vec<f32>> {
        let mut memory = self.velocity;
        match self.training.momentum_scope {
            MomentumScope::Round => {
                scratch.velocity = memory;
                return None;
            }
            MomentumScope::Run => {}
            MomentumScope::QuasiGlobal => memory.extend_from_slice(start),
        }
        Some(memory)
    }
}

/// The numbers of a step.
#[derive(Clone, Copy)]
struct Descent {
    rate: f32,
    momentum: f32,
    decay: f32,
    fresh: f32,
    scale: f32,
    /// Whether the velocity stays unchanged during a round.
    lasts: bool,
}

impl Descent {
    /// Moves these parameters; returns the bits of the largest magnitude among them afterwards.
    fn step(self, parameters: &mut [f32], velocity: &mut [f32], gradient: &[f32]) -> u32 {
        dispatch(Moved {
            descent: self,
            parameters,
            velocity,
            gradient,
        })
    }
}

struct Moved<'a> {
    descent: Descent,
    parameters: &'a mut [f32],
    velocity: &'a mut [f32],
    gradient: &'a [f32],
}

impl WithSimd for Moved<'_> {
    type Output = u32;

    /// Loops that the compiler turns into vectors of the CPU's width.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u32 {
        let Moved {
            descent,
            parameters,
            velocity,
            gradient,
        } = self;
        let Descent {
            rate,
            momentum,
            decay,
            fresh,
            scale,
            lasts,
        } = descent;
        let values = parameters.iter_mut().zip(velocity).zip(gradient);
        // Bits without the sign order like magnitudes; an integer maximum needs no branch.
        let mut largest = 0;
        if lasts {
            for ((parameter, mean), gradient) in values {
                *parameter -=
                    rate * (momentum * *mean + fresh * (scale * *gradient + decay * *parameter));
                largest = largest.max(parameter.to_bits() & 0x7fff_ffff);
            }
        } else {
            for ((parameter, velocity), gradient) in values {
                *velocity = momentum * *velocity + fresh * (scale * *gradient + decay * *parameter);
                *parameter -= rate * *velocity;
                largest = largest.max(parameter.to_bits() & 0x7fff_ffff);
            }
        }
        largest
    }
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

/// The rows of each step: passes over all rows, each pass in its own order, cut into batches.
struct Batches {
    order: Vec<usize>,
    next: usize,
    size: usize,
    pass: u64,
    seed: Seed,
    round: u64,
}

impl Batches {
    fn new(rows: usize, training: &TrainingSection, seed: Seed, round: u64) -> Batches {
        Batches {
            order: (0..rows).collect(),
            next: rows,
            size: training.batch_size,
            pass: 0,
            seed,
            round,
        }
    }

    fn next_batch(&mut self) -> &[usize] {
        if self.next == self.order.len() {
            Stream::derive("kith.v1 batches", &self.seed, self.round, self.pass, 0)
                .shuffle(&mut self.order);
            self.pass += 1;
            self.next = 0;
        }
        let start = self.next;
        self.next = (start + self.size).min(self.order.len());
        &self.order[start..self.next]
    }
}

/// The quality of parameters on rows that they were not trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy, natural logarithm.
    pub loss: f64,
    /// Share of rows whose most probable class is their label.
    pub accuracy: f64,
    /// Number of rows evaluated.
    pub samples: u64,
    /// The same per class.
    pub classes: Vec<ClassReport>,
}

/// One class's part of an [`Evaluation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassReport {
    /// Number of the class, from 0.
    pub class: u32,
    /// Number of its rows.
    pub samples: u64,
    /// Rows of it that were classified correctly.
    pub correct: u64,
}

impl Evaluation {
    /// Mean, over the classes that occur, of the share classified correctly: meaningful even if one
    /// class is frequent.
    pub fn balanced_accuracy(&self) -> f64 {
        let shares: Vec<f64> = self
            .classes
            .iter()
            .filter(|class| class.samples > 0)
            .map(|class| class.correct as f64 / class.samples as f64)
            .collect();
        shares.iter().sum::<f64>() / shares.len() as f64
    }
}

/// Area under the ROC curve of two classes: the chance that a row of class 1 has a higher score for
/// class 1 than a row of class 0, ties counted half (Hanley and McNeil 1982). `None` if scores are
/// not of two classes or a class has no row.
pub fn auc(scores: &[Vec<f32>], labels: &[u32]) -> Option<f64> {
    if scores.len() != labels.len()
        || scores.iter().any(|row| row.len() != 2)
        || labels.iter().any(|label| *label > 1)
    {
        return None;
    }
    let mut ranked: Vec<(f32, u32)> = scores
        .iter()
        .zip(labels)
        .map(|(row, label)| (row[1], *label))
        .collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins, mut start) = (0.0, 0.0, 0);
    while start < ranked.len() {
        let tied = ranked[start..]
            .partition_point(|row| row.0 == ranked[start].0)
            .max(1);
        let ones = ranked[start..start + tied]
            .iter()
            .filter(|row| row.1 == 1)
            .count() as f64;
        let zeros = tied as f64 - ones;
        wins += ones * (below + zeros / 2.0);
        below += zeros;
        start += tied;
    }
    let ones = ranked.len() as f64 - below;
    (ones > 0.0 && below > 0.0).then(|| wins / (ones * below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::section::Document;

    fn task(model: &str) -> Task {
        let text = format!(
            "[data]\nshape = [1, 8, 8]\nclasses = 5\nmean = [100]\ndeviation = [80]\n[model]\n{model}\n"
        );
        let mut document = Document::parse(&text).unwrap();
        let schema = document.section("data", Schema::read);
        let model = document.section("model", ModelSection::read);
        let training = document.section("training", TrainingSection::read);
        document.finish().unwrap();
        Task::new(schema, model, training).unwrap()
    }

    /// Candle sums in another order. A logit of at most 64 terms of size 1 differs by at most 64 ·
    /// 2⁻²⁴ · 8 = 3·10⁻⁵ (8: a bound of its partial sums), a probability by as much relatively, a
    /// gradient, a mean of at most 3 times that, by 10⁻⁴.
    #[test]
    fn networks_have_candle_s_gradient() {
        for model in [
            "kind = \"softmax\"",
            "kind = \"mlp\"\nhidden = [20, 13]",
            "kind = \"mlp\"\nhidden = []",
            "kind = \"cnn\"\nkernel = 3\nchannels = [3, 9]\nhidden = [13]\n",
            "kind = \"cnn\"\nkernel = 5\nchannels = [9]\nhidden = []\n",
            "kind = \"cnn\"\nkernel = 1\nchannels = [5, 5]\nhidden = [7]\n",
        ] {
            let task = task(model);
            assert!(task.inner.network.is_some(), "{model}");
            let mut stream = Seed::from_number(5).stream("test dense");
            let pixels = (0..40 * 64).map(|_| stream.bounded(256) as u8).collect();
            let labels = (0..40).map(|_| stream.bounded(5) as u32).collect();
            let data = Dataset::from_bytes(pixels, labels, task.schema());
            let mut workspace = Workspace::default();
            for rows in [vec![3], (0..17).collect::<Vec<usize>>(), (5..40).collect()] {
                let mut parameters: Vec<f32> = task
                    .initial_parameters()
                    .iter()
                    .map(|value| value + 0.01)
                    .collect();
                let (mut found, mut wanted) =
                    (vec![7.0; parameters.len()], vec![0.0; parameters.len()]);
                let mut keep = |range: Range<usize>, _: &mut [f32], part: &mut [f32]| {
                    found[range].copy_from_slice(part)
                };
                let loss = task
                    .descend(&mut parameters, &data, &rows, &mut workspace, &mut keep)
                    .unwrap();
                let exact = task
                    .gradient_by_candle(&parameters, &data, &rows, &mut wanted)
                    .unwrap();
                assert!((loss - exact).abs() < 1e-5, "{model}: {loss} {exact}");
                for (index, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                    assert!(
                        (found - wanted).abs() < 1e-4,
                        "{model}: parameter {index} has {found}, expected {wanted}"
                    );
                }
                assert!(
                    found.iter().any(|value| value.abs() > 1e-2),
                    "{model}: the comparison is empty"
                );
            }
        }
    }

    #[test]
    fn residuals_of_logits_that_are_not_finite_are_no_loss() {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!residuals(&mut [0.0, 1.0, broken, 0.0], 2, [0, 1].into_iter()).is_finite());
        }
        let mut logits = [1000.0, 0.0, -1000.0, 0.0];
        assert!((residuals(&mut logits, 2, [1, 1].into_iter()) - 500.0).abs() < 1e-6);
        assert_eq!(logits, [0.5, -0.5, 0.0, 0.0]);
    }
}
