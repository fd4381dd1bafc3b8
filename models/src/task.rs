//! What every peer of a charter trains: model, schema and training as one [`Task`], the [`Trainer`] of a peer's own rows, and
//! the evaluation of parameters.
//!
//! Training is a pure function of (start, round, seed, rows): the optimizer's momentum starts at zero each round and the
//! batches come from a stream named by the round, so a peer that restarts repeats itself. Candle computes the logits and the
//! gradient; loss, momentum, weight decay and the step are plain loops over the flat vector, which is faster for small models
//! than tensor operations, and candle's optimizers have no momentum.

use std::sync::Arc;

use candle_core::{Device, Storage, Tensor, Var};
use kith_consensus::{Problem, Seed, Stream};

use crate::data::{Dataset, class_counts};
use crate::model::{DIMENSION_MAX, Initial, Layout, ModelSection, Parameters, initial_parameters, layout_of};
use crate::schema::Schema;
use crate::training::TrainingSection;

/// Rows evaluated at once: enough to keep the products busy, little enough to stay in the cache (a guess).
const EVALUATION_BATCH: usize = 256;

/// A model, its parameters or its training that do not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A parameter vector of another length than the model's.
    #[error("expected {expected} parameters, found {found}")]
    Dimension {
        /// The model's.
        expected: usize,
        /// The vector's.
        found: usize,
    },
    /// Rows of another size than the schema's.
    #[error("expected rows of {expected} features (data.shape), found {found}")]
    Features {
        /// The schema's.
        expected: usize,
        /// The rows'.
        found: usize,
    },
    /// A label beyond the schema's classes.
    #[error("row {row} has label {label}, expected less than {classes} (data.classes)")]
    Label {
        /// The row, from 0.
        row: usize,
        /// Its label.
        label: u32,
        /// The schema's classes.
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
        /// The round.
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
}

impl Task {
    /// The task of three sections that were read without a problem.
    ///
    /// # Errors
    /// What does not go together, such as a convolution and a table.
    pub fn new(schema: Schema, model: ModelSection, training: TrainingSection) -> Result<Task, Vec<Problem>> {
        let problem = |key: &str, what| {
            let key = if key.is_empty() { "model".to_owned() } else { format!("model.{key}") };
            vec![Problem { key, line: 0, column: 0, span: None, what }]
        };
        let initial = match model.architecture.tensors(&schema.shape, schema.classes) {
            Ok(initial) => initial,
            Err((key, what)) => return Err(problem(key, what)),
        };
        let dimension = initial.iter().try_fold(0usize, |sum, tensor| sum.checked_add(tensor.len()?));
        if dimension.is_none_or(|dimension| dimension > DIMENSION_MAX) {
            return Err(problem("", format!("the model has more than {DIMENSION_MAX} parameters")));
        }
        let layout = layout_of(&initial);
        Ok(Task { inner: Arc::new(Inner { schema, model, training, initial, layout }) })
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

    /// Where everybody starts: drawn from `model.seed`, equal on every machine.
    pub fn initial_parameters(&self) -> Vec<f32> {
        initial_parameters(&self.inner.layout, &self.inner.initial, self.inner.model.seed)
    }

    /// A trainer over a peer's own rows; `seed` orders its batches.
    ///
    /// # Errors
    /// When there is no row, or the rows do not suit the schema.
    pub fn trainer(&self, data: Dataset, seed: Seed) -> Result<Trainer, ModelError> {
        self.check(&data)?;
        Ok(Trainer { task: self.clone(), data, seed })
    }

    /// Loss and accuracy of these parameters on these rows.
    ///
    /// # Errors
    /// When parameters or rows do not suit the task. Parameters that are not finite give a loss that is not finite.
    pub fn evaluate(&self, parameters: &[f32], data: &Dataset) -> Result<Evaluation, ModelError> {
        let classes = self.schema().classes;
        let mut loss = 0.0;
        let mut correct = vec![0; classes];
        self.for_each_row(parameters, data, |row, logits| {
            let label = data.labels()[row] as usize;
            let largest = (0..classes).fold(0, |best, class| if logits[class] > logits[best] { class } else { best });
            correct[label] += u64::from(largest == label && logits.iter().all(|logit| logit.is_finite()));
            loss += log_sum_exp(logits) - f64::from(logits[label]);
        })?;
        let samples = data.len() as u64;
        let counts = class_counts(data.labels(), classes);
        Ok(Evaluation {
            loss: loss / samples as f64,
            accuracy: correct.iter().sum::<u64>() as f64 / samples as f64,
            samples,
            classes: (0..classes)
                .map(|class| ClassReport { class: class as u32, samples: counts[class], correct: correct[class] })
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
            scores.push(logits.iter().map(|logit| (f64::from(*logit) - sum).exp() as f32).collect());
        })?;
        Ok(scores)
    }

    fn for_each_row(&self, parameters: &[f32], data: &Dataset, mut visit: impl FnMut(usize, &[f32])) -> Result<(), ModelError> {
        self.check(data)?;
        self.check_dimension(parameters)?;
        let tensors = self.tensors(parameters, |values, shape| Tensor::from_slice(values, shape, &Device::Cpu))?;
        let rows: Vec<usize> = (0..data.len()).collect();
        for rows in rows.chunks(EVALUATION_BATCH) {
            let logits =
                self.inner.model.architecture.logits(&tensors, &self.batch(data, rows)?)?.flatten_all()?.to_vec1::<f32>()?;
            rows.iter().zip(logits.chunks_exact(self.schema().classes)).for_each(|(row, logits)| visit(*row, logits));
        }
        Ok(())
    }

    /// Mean loss over the rows; its gradient is written to `gradient`.
    pub(crate) fn gradient(
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
        let logits = self.inner.model.architecture.logits(&tensors, &self.batch(data, rows)?)?;
        // Cross-entropy by hand: its gradient at the logits is softmax − one-hot. Multiplying by that constant and summing
        // makes candle propagate exactly this gradient, without a graph of ten small operations.
        let mut residuals = logits.flatten_all()?.to_vec1::<f32>()?;
        let scale = 1.0 / rows.len() as f64;
        let mut loss = 0.0;
        for (row, logits) in rows.iter().zip(residuals.chunks_exact_mut(self.schema().classes)) {
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
        let tensors = layout.tensors.iter().map(|tensor| make(&parameters[tensor.range()], &tensor.shape));
        Ok(Parameters { layout, tensors: tensors.collect::<candle_core::Result<_>>()? })
    }

    fn batch(&self, data: &Dataset, rows: &[usize]) -> Result<Tensor, ModelError> {
        let mut values = Vec::with_capacity(rows.len() * data.features());
        rows.iter().for_each(|row| data.write_row(*row, &mut values));
        let shape: Vec<usize> = std::iter::once(rows.len()).chain(self.schema().shape.iter().copied()).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn check(&self, data: &Dataset) -> Result<(), ModelError> {
        let (expected, found) = (self.schema().features(), data.features());
        if found != expected {
            return Err(ModelError::Features { expected, found });
        }
        let classes = self.schema().classes;
        if let Some(row) = data.labels().iter().position(|label| *label as usize >= classes) {
            return Err(ModelError::Label { row, label: data.labels()[row], classes });
        }
        if data.is_empty() { Err(ModelError::NoRows) } else { Ok(()) }
    }

    fn check_dimension(&self, parameters: &[f32]) -> Result<(), ModelError> {
        let (expected, found) = (self.layout().dimension, parameters.len());
        if found == expected { Ok(()) } else { Err(ModelError::Dimension { expected, found }) }
    }
}

/// Copies a tensor's values in row-major order.
fn copy_values(tensor: &Tensor, target: &mut [f32]) -> Result<(), ModelError> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some((start, end))) => target.copy_from_slice(&storage.as_slice::<f32>()?[start..end]),
        _ => target.copy_from_slice(&tensor.flatten_all()?.to_vec1::<f32>()?),
    }
    Ok(())
}

/// ln Σ exp(logit), shifted by the largest so that it cannot overflow.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

/// Trains on one peer's own rows.
#[derive(Clone, Debug)]
pub struct Trainer {
    task: Task,
    data: Dataset,
    seed: Seed,
}

/// What a round of local training gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The parameters afterwards.
    pub parameters: Vec<f32>,
    /// Own rows, the n_i of sample weights.
    pub samples: u64,
    /// Optimizer steps done.
    pub local_steps: u64,
    /// Mean training loss over the rows of the round's batches, each at the parameters before its step.
    pub loss: f64,
}

impl Trainer {
    /// The peer's own rows.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// Trains from `start` for one round. Equal (start, round, seed, rows) give equal parameters.
    ///
    /// # Errors
    /// A start of another dimension; divergence.
    pub fn train(&mut self, start: &[f32], round: u64) -> Result<Trained, ModelError> {
        self.task.check_dimension(start)?;
        let training = self.task.training();
        let steps = training.steps(self.data.len());
        let mut parameters = start.to_vec();
        let mut gradient = vec![0.0; start.len()];
        let mut velocity = vec![0.0; start.len()];
        let mut batches = Batches::new(self.data.len(), training, self.seed, round);
        let (mut loss, mut samples) = (0.0, 0);
        for step in 0..steps {
            let rows = batches.next_batch();
            let batch_loss = self.task.gradient(&parameters, &self.data, rows, &mut gradient)?;
            loss += batch_loss * rows.len() as f64;
            samples += rows.len();
            training.kind.add_gradient(start, &parameters, &mut gradient);
            let finite = sgd_step(training, &gradient, &mut velocity, &mut parameters);
            if !batch_loss.is_finite() || !finite {
                return Err(ModelError::Diverged { round, step });
            }
        }
        Ok(Trained { parameters, samples: self.data.len() as u64, local_steps: steps, loss: loss / samples as f64 })
    }
}

/// v ← ρ·v + (clip(g) + λ·x), x ← x − η·v. Tells whether all parameters stayed finite.
fn sgd_step(training: &TrainingSection, gradient: &[f32], velocity: &mut [f32], parameters: &mut [f32]) -> bool {
    let scale = if training.clip_norm > 0.0 {
        let norm = gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        (training.clip_norm / norm).min(1.0) as f32
    } else {
        1.0
    };
    let (rate, momentum, decay) = (training.learning_rate as f32, training.momentum as f32, training.weight_decay as f32);
    for ((parameter, velocity), gradient) in parameters.iter_mut().zip(velocity).zip(gradient) {
        *velocity = momentum * *velocity + (scale * *gradient + decay * *parameter);
        *parameter -= rate * *velocity;
    }
    // Bits without the sign order like magnitudes, with infinity and NaN above all; an integer maximum needs no branch.
    parameters.iter().fold(0, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff)) < f32::INFINITY.to_bits()
}

/// The rows of each step: passes over all rows, each in an order of its own, cut into batches.
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
        Batches { order: (0..rows).collect(), next: rows, size: training.batch_size, pass: 0, seed, round }
    }

    fn next_batch(&mut self) -> &[usize] {
        if self.next == self.order.len() {
            Stream::derive("kith.v1 batches", &self.seed, self.round, self.pass, 0).shuffle(&mut self.order);
            self.pass += 1;
            self.next = 0;
        }
        let start = self.next;
        self.next = (start + self.size).min(self.order.len());
        &self.order[start..self.next]
    }
}

/// How parameters do on rows they were not trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy, natural logarithm.
    pub loss: f64,
    /// Share of rows whose most probable class is their label.
    pub accuracy: f64,
    /// Rows evaluated.
    pub samples: u64,
    /// The same per class.
    pub classes: Vec<ClassReport>,
}

/// One class's part of an [`Evaluation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassReport {
    /// The class.
    pub class: u32,
    /// Rows of it.
    pub samples: u64,
    /// Of these, told right.
    pub correct: u64,
}

impl Evaluation {
    /// Mean over the classes that occur of the share told right: what remains when one class is frequent.
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

/// Area under the ROC curve of two classes: the chance that a row of class 1 has a higher score for class 1 than a row of
/// class 0, ties counted half (Hanley and McNeil 1982). `None` where scores are not of two classes or a class has no row.
pub fn auc(scores: &[Vec<f32>], labels: &[u32]) -> Option<f64> {
    if scores.len() != labels.len() || scores.iter().any(|row| row.len() != 2) || labels.iter().any(|label| *label > 1) {
        return None;
    }
    let mut ranked: Vec<(f32, u32)> = scores.iter().zip(labels).map(|(row, label)| (row[1], *label)).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins, mut start) = (0.0, 0.0, 0);
    while start < ranked.len() {
        let tied = ranked[start..].partition_point(|row| row.0 == ranked[start].0).max(1);
        let ones = ranked[start..start + tied].iter().filter(|row| row.1 == 1).count() as f64;
        let zeros = tied as f64 - ones;
        wins += ones * (below + zeros / 2.0);
        below += zeros;
        start += tied;
    }
    let ones = ranked.len() as f64 - below;
    (ones > 0.0 && below > 0.0).then(|| wins / (ones * below))
}
