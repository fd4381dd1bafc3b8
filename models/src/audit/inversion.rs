//! Reading a row out of an update (Phong et al. 2018, IEEE TIFS 13(5), section III): in a linear layer
//! with biases the change of a neuron's weights is the layer's input times the change of its bias. If
//! the update comes from one row, the quotient is that row, exactly.

use kith_consensus::Seed;
use kith_consensus::privacy::noise::ReleaseKey;
use serde::Serialize;

use super::{Subject, dot};
use crate::data::Dataset;
use crate::model::Layout;
use crate::trainer::{PrivateError, Request, Units};

/// Mean squared error, in units of the normalised features, below which a row counts as recovered.
const RECOVERED: f64 = 1e-6;

/// What inversion found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Inversion {
    /// Rows that were tried, each alone.
    pub rows: u64,
    /// Rows that were read out, up to a mean squared error of 10⁻⁶.
    pub recovered: u64,
    /// Mean over the rows of the absolute correlation between a row and what was read.
    pub correlation: f64,
}

/// Releases an update of each row alone, and reads the row out of it. The subject's guarantee is
/// one for a peer with a single row ([`for_one_unit`](crate::PrivateTraining::for_one_unit)). `None` for a model whose first layer is not
/// linear.
///
/// # Errors
/// What cannot be trained.
pub fn inversion(
    subject: Subject<'_>,
    rows: &Dataset,
    seed: &Seed,
) -> Result<Option<Inversion>, PrivateError> {
    let Some(first) = FirstLayer::of(subject.task.layout(), rows.features()) else {
        return Ok(None);
    };
    let start = subject.task.initial_parameters();
    let mut found = Inversion {
        rows: rows.len() as u64,
        recovered: 0,
        correlation: 0.0,
    };
    for row in 0..rows.len() {
        let alone = rows.select(&[row]);
        let trainer = subject.task.trainer(alone, seed.child("batches"))?;
        let request = Request::new(&start, 0);
        let after = match subject.private {
            None => trainer.train(&request)?.parameters,
            Some(private) => {
                let key = ReleaseKey::new(seed.child(&format!("row {row}")).0);
                let units = Units::rows(1);
                trainer
                    .train_privately(&request, private, &units, key)?
                    .parameters
            }
        };
        let change: Vec<f32> = after.iter().zip(&start).map(|(a, b)| a - b).collect();
        let read = first.read(&change);
        let truth = rows.row(row);
        found.recovered += u64::from(mean_squared_error(&read, &truth) < RECOVERED);
        found.correlation += correlation(&read, &truth).abs() / rows.len() as f64;
    }
    Ok(Some(found))
}

/// Where the first layer's weights and biases stand.
struct FirstLayer {
    weights: usize,
    biases: usize,
    neurons: usize,
    inputs: usize,
}

impl FirstLayer {
    fn of(layout: &Layout, features: usize) -> Option<FirstLayer> {
        let takes_features = |shape: &[usize]| matches!(shape, [_, inputs] if *inputs == features);
        let weights = layout
            .tensors
            .iter()
            .find(|tensor| takes_features(&tensor.shape))?;
        let name = weights.name.replace("weight", "bias");
        let biases = layout.tensors.iter().find(|tensor| tensor.name == name)?;
        Some(FirstLayer {
            weights: weights.offset,
            biases: biases.offset,
            neurons: weights.shape[0],
            inputs: features,
        })
    }

    /// The input of the layer, by the neuron whose bias has changed most.
    fn read(&self, change: &[f32]) -> Vec<f32> {
        let biases = &change[self.biases..self.biases + self.neurons];
        let size = |neuron: &usize| biases[*neuron].abs();
        let neuron = (0..self.neurons).max_by(|a, b| size(a).total_cmp(&size(b)));
        let neuron = neuron.unwrap_or(0);
        let from = self.weights + neuron * self.inputs;
        let weights = &change[from..from + self.inputs];
        weights
            .iter()
            .map(|weight| weight / biases[neuron])
            .collect()
    }
}

fn mean_squared_error(found: &[f32], truth: &[f32]) -> f64 {
    let squares = found
        .iter()
        .zip(truth)
        .map(|(a, b)| f64::from(a - b).powi(2));
    let mean = squares.sum::<f64>() / truth.len() as f64;
    if mean.is_finite() {
        mean
    } else {
        f64::INFINITY
    }
}

/// Pearson's; 0 where one of them does not vary.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let centred = |values: &[f32]| -> Vec<f32> {
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
        values
            .iter()
            .map(|value| (f64::from(*value) - mean) as f32)
            .collect()
    };
    let (a, b) = (centred(a), centred(b));
    let found = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
    if found.is_finite() { found } else { 0.0 }
}
