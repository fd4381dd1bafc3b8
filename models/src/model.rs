//! The charter's `[model]` section, the networks behind it and the order of their parameters.
//!
//! A network here is a function from parameters and a batch to logits, built of candle tensors; it
//! holds no parameters. Its gradient comes from candle's backward pass, so only operations that
//! have one may be used: `ops::softmax_last_dim` and candle's LayerNorm silently have none. A model
//! that is also a [`Network`], as every entry of [`MODELS`] is, is computed by that, several times
//! as fast; a test compares the two. Another asserts that every parameter of every entry gets a
//! gradient.

mod cnn;
mod exponential;
mod kernel;
mod mlp;
mod network;
mod operations;
mod pooling;
mod softmax;

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::Tensor;
use kith_consensus::registry::{Entry, Registry};
use kith_consensus::{Digest, Section, Seed, Stream};

pub(crate) use exponential::exp_negative;
pub(crate) use kernel::dispatch;
pub(crate) use network::{Clipping, Step};
pub use network::{Network, Workspace};
pub use operations::Operation;

/// Most parameters a model may have: a bound on what a charter can make a peer allocate (1 GiB of
/// f32).
pub const DIMENSION_MAX: usize = 1 << 28;

/// Most layers of a kind.
const LAYERS_MAX: usize = 16;

/// Reads a model's keys and builds it.
pub type NewArchitecture = fn(&mut Section<'_>) -> Arc<dyn Architecture>;

/// A kind of model in the table; `new` reads its keys of `[model]`.
pub type ModelEntry = Entry<NewArchitecture>;

/// Every kind of model.
pub static MODELS: Registry<NewArchitecture> =
    Registry::new("model", &[softmax::ENTRY, mlp::ENTRY, cnn::ENTRY]);

/// The sizes of a model, before it knows the data's shape.
pub trait Architecture: Debug + Send + Sync {
    /// The tensors for rows of `shape` and `classes` classes, in any order.
    ///
    /// # Errors
    /// The key of `[model]` (or empty) and what is wrong when the shape does not suit.
    fn tensors(
        &self,
        shape: &[usize],
        classes: usize,
    ) -> Result<Vec<Initial>, (&'static str, String)>;

    /// Logits `[rows, classes]` of a batch `[rows, …shape]`.
    ///
    /// # Errors
    /// Whatever candle refuses; none for a batch and parameters of the shapes given by
    /// [`Architecture::tensors`].
    fn logits(&self, parameters: &Parameters<'_>, batch: &Tensor) -> candle_core::Result<Tensor>;

    /// The same for rows of `shape` as a [`Network`], if it is one: then logits and gradients are
    /// computed without candle. `None`, the default: candle computes them.
    fn network(&self, layout: &Layout, shape: &[usize]) -> Option<Network> {
        let _ = (layout, shape);
        None
    }
}

/// A tensor and the distribution of its initial values: uniform in ±`bound`, all zero for a bound
/// of 0.
#[derive(Clone, Debug)]
pub struct Initial {
    name: String,
    shape: Vec<usize>,
    bound: f64,
}

impl Initial {
    /// Weights before a ReLU, He uniform: ±√(6 / fan-in) (He et al., arXiv 1502.01852).
    fn he(name: &str, shape: &[usize]) -> Initial {
        let fan_in: usize = shape[1..].iter().product();
        Initial {
            name: name.to_owned(),
            shape: shape.to_vec(),
            bound: (6.0 / fan_in as f64).sqrt(),
        }
    }

    /// Weights of an output layer, Glorot uniform: ±√(6 / (fan-in + fan-out)) (Glorot and Bengio,
    /// AISTATS 2010).
    fn glorot(name: &str, outputs: usize, inputs: usize) -> Initial {
        Initial {
            name: name.to_owned(),
            shape: vec![outputs, inputs],
            bound: (6.0 / (inputs + outputs) as f64).sqrt(),
        }
    }

    /// Linear layers fc1, fc2, … from `inputs` over `hidden` to `outputs`, all but the last to be
    /// followed by a ReLU.
    fn perceptron(mut inputs: usize, hidden: &[usize], outputs: usize) -> Vec<Initial> {
        let mut tensors = Vec::new();
        for (index, size) in hidden.iter().enumerate() {
            tensors.push(Initial::he(
                &format!("fc{}.weight", index + 1),
                &[*size, inputs],
            ));
            tensors.push(Initial::zero(&format!("fc{}.bias", index + 1), *size));
            inputs = *size;
        }
        let last = hidden.len() + 1;
        tensors.push(Initial::glorot(
            &format!("fc{last}.weight"),
            outputs,
            inputs,
        ));
        tensors.push(Initial::zero(&format!("fc{last}.bias"), outputs));
        tensors
    }

    fn zero(name: &str, length: usize) -> Initial {
        Initial {
            name: name.to_owned(),
            shape: vec![length],
            bound: 0.0,
        }
    }

    /// Number of values; `None` beyond what an address can count.
    pub(crate) fn len(&self) -> Option<usize> {
        self.shape
            .iter()
            .try_fold(1usize, |product, side| product.checked_mul(*side))
    }
}

/// The place of one tensor in the parameter vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name, as in the model file.
    pub name: String,
    /// Shape, row-major; empty for a single number.
    pub shape: Vec<usize>,
    /// Index of its first value in the parameter vector.
    pub offset: usize,
}

impl TensorSpec {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor holds no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indices of its values in the parameter vector.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// The order of a parameter vector: the tensors sorted by name, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The tensors, sorted by name.
    pub tensors: Vec<TensorSpec>,
    /// Number of parameters d.
    pub dimension: usize,
}

impl Layout {
    /// The layout of these tensors (names must differ).
    pub fn new(tensors: impl IntoIterator<Item = (String, Vec<usize>)>) -> Layout {
        let mut tensors: Vec<TensorSpec> = tensors
            .into_iter()
            .map(|(name, shape)| TensorSpec {
                name,
                shape,
                offset: 0,
            })
            .collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let mut dimension = 0;
        for tensor in &mut tensors {
            tensor.offset = dimension;
            dimension += tensor.len();
        }
        Layout { tensors, dimension }
    }

    /// The tensors that are matrices, as (offset, rows, columns); further axes count as columns.
    pub fn matrices(&self) -> Vec<[usize; 3]> {
        let matrix = |tensor: &TensorSpec| {
            let [rows, columns @ ..] = tensor.shape.as_slice() else {
                return None;
            };
            let columns: usize = columns.iter().product();
            (*rows > 1 && columns > 1).then_some([tensor.offset, *rows, columns])
        };
        self.tensors.iter().filter_map(matrix).collect()
    }

    /// A name for names, shapes and order: peers of one charter must have equal ones.
    pub fn digest(&self) -> Digest {
        let mut bytes = b"kith.v1 layout".to_vec();
        for tensor in &self.tensors {
            bytes.extend((tensor.name.len() as u64).to_le_bytes());
            bytes.extend(tensor.name.as_bytes());
            bytes.extend((tensor.shape.len() as u64).to_le_bytes());
            bytes.extend(
                tensor
                    .shape
                    .iter()
                    .flat_map(|side| (*side as u64).to_le_bytes()),
            );
        }
        Digest::of(&bytes)
    }
}

/// The parameters of one step as tensors.
#[derive(Debug)]
pub struct Parameters<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) tensors: Vec<Tensor>,
}

impl Parameters<'_> {
    /// The tensor of this name.
    ///
    /// # Errors
    /// When the layout has none: the model asks for a tensor that it did not list.
    pub fn get(&self, name: &str) -> candle_core::Result<&Tensor> {
        match self
            .layout
            .tensors
            .binary_search_by(|tensor| tensor.name.as_str().cmp(name))
        {
            Ok(index) => Ok(&self.tensors[index]),
            Err(_) => Err(candle_core::Error::Msg(format!(
                "the layout has no tensor {name:?}"
            ))),
        }
    }

    /// W·x + b for columns x `[inputs, rows]`, giving `[outputs, rows]`.
    ///
    /// Weights are stored `[outputs, inputs]`, as PyTorch does.
    fn linear(&self, layer: &str, columns: &Tensor) -> candle_core::Result<Tensor> {
        let weight = self.get(&format!("{layer}.weight"))?;
        let bias = self.get(&format!("{layer}.bias"))?;
        weight
            .matmul(columns)?
            .broadcast_add(&bias.reshape((bias.elem_count(), 1))?)
    }

    /// Layers fc1, fc2, … with ReLU after all but the last, from columns `[inputs, rows]` to logits
    /// `[rows, classes]`.
    fn perceptron(&self, mut columns: Tensor, hidden: usize) -> candle_core::Result<Tensor> {
        for layer in 1..=hidden {
            columns = self.linear(&format!("fc{layer}"), &columns)?.relu()?;
        }
        self.linear(&format!("fc{}", hidden + 1), &columns)?.t()
    }
}

/// The charter's `[model]`.
#[derive(Clone, Debug)]
pub struct ModelSection {
    /// Name of the entry in [`MODELS`].
    pub kind: &'static str,
    /// Seed of the initial parameters.
    pub seed: u64,
    pub(crate) architecture: Arc<dyn Architecture>,
}

impl ModelSection {
    /// Reads `[model]`. Problems are noted in the section.
    pub fn read(section: &mut Section<'_>) -> ModelSection {
        let (kind, architecture) = MODELS.build(section, "kind", None);
        let seed = section.integer("seed", Some(0), 0..=i64::MAX as u64);
        ModelSection {
            kind,
            seed,
            architecture,
        }
    }
}

/// Notes a list of layer sizes that is too long: deeper networks need techniques that these models
/// lack to train at all.
fn limit_layers(section: &mut Section<'_>, key: &str, sizes: &[u64]) {
    if sizes.len() > LAYERS_MAX {
        section.note(
            key,
            format!("expected at most {LAYERS_MAX} sizes, found {}", sizes.len()),
        );
    }
}

/// The initial values, in the order of `layout`.
pub(crate) fn initial_parameters(layout: &Layout, initial: &[Initial], seed: u64) -> Vec<f32> {
    let seed = Seed::from_number(seed);
    let mut parameters = vec![0.0; layout.dimension];
    for (index, tensor) in layout.tensors.iter().enumerate() {
        let bound = initial
            .iter()
            .find(|initial| initial.name == tensor.name)
            .map_or(0.0, |initial| initial.bound);
        if bound > 0.0 {
            let mut stream = Stream::derive("kith.v1 init", &seed, 0, 0, index as u64);
            parameters[tensor.range()].fill_with(|| ((2.0 * stream.unit() - 1.0) * bound) as f32);
        }
    }
    parameters
}

pub(crate) fn layout_of(initial: &[Initial]) -> Layout {
    Layout::new(
        initial
            .iter()
            .map(|initial| (initial.name.clone(), initial.shape.clone())),
    )
}
