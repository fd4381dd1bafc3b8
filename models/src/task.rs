//! What every peer of a charter trains: model, schema and training as one [`Task`], and its logits
//! and gradients.
//!
//! A [`Network`] computes them if the model is one, otherwise candle does. Training is
//! [`crate::trainer`], the quality of parameters [`crate::evaluation`].

mod error;

use std::sync::Arc;

use candle_core::{Device, Storage, Tensor, Var};
use kith_consensus::Problem;

pub use self::error::ModelError;
use crate::data::Dataset;
use crate::loss::{log_sum_exp, residuals};
use crate::model::{
    DIMENSION_MAX, Initial, Layout, ModelSection, Network, Parameters, Step, Workspace,
    initial_parameters, layout_of,
};
use crate::schema::Schema;
use crate::training::TrainingSection;

/// Rows evaluated at once: two of the widest vectors, so that a product reads its weights once and
/// its inputs stay in the cache.
const EVALUATION_BATCH: usize = 32;

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

    /// The model as a network, if it is one; else candle computes it.
    pub(crate) fn network(&self) -> Option<&Network> {
        self.inner.network.as_ref()
    }

    /// Calls `visit` with each row's position and logits.
    pub(crate) fn for_each_row(
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

    /// Whether there are rows and they suit the schema.
    pub(crate) fn check(&self, data: &Dataset) -> Result<(), ModelError> {
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

    /// Whether there are as many parameters as the model has.
    pub(crate) fn check_dimension(&self, parameters: &[f32]) -> Result<(), ModelError> {
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

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use kith_consensus::Seed;
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
}
