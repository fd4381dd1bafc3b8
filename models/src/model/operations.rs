//! The operations of a network, one by one: for programs that write a model in another format.

use super::{Layout, Network};
use crate::task::Task;

/// One step on the way from a batch of normalised rows to its logits. Layers bear the names of their
/// tensors: `NAME.weight` and `NAME.bias`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Two-dimensional convolution of stride 1, zeros around the image so that it keeps its size;
    /// weights `[outputs, inputs, kernel, kernel]`.
    Convolution {
        /// Name of the layer.
        layer: String,
        /// Channels of its inputs.
        inputs: usize,
        /// Channels of its outputs.
        outputs: usize,
        /// Side of its square kernel, odd.
        kernel: usize,
    },
    /// The maximum of each 2×2 window, which halves both sides.
    MaxPool,
    /// max(0, x) of every value.
    Relu,
    /// All values of a row on one axis, in their order.
    Flatten,
    /// W·x + b, with W stored `[outputs, inputs]`.
    Linear {
        /// Name of the layer.
        layer: String,
        /// Length of x.
        inputs: usize,
        /// Length of the result.
        outputs: usize,
    },
}

impl Task {
    /// The model's operations in order, from rows of the schema's shape to logits; `None` if the
    /// model is no [`Network`].
    pub fn operations(&self) -> Option<Vec<Operation>> {
        Some(self.network()?.operations(self.layout()))
    }
}

impl Network {
    fn operations(&self, layout: &Layout) -> Vec<Operation> {
        let mut operations = Vec::new();
        for stage in &self.stages {
            operations.extend([
                Operation::Convolution {
                    layer: layer_at(layout, stage.weight.start),
                    inputs: stage.channels,
                    outputs: stage.outputs(),
                    kernel: stage.plane.kernel,
                },
                Operation::MaxPool,
                Operation::Relu,
            ]);
        }
        operations.push(Operation::Flatten);
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                operations.push(Operation::Relu);
            }
            operations.push(Operation::Linear {
                layer: layer_at(layout, layer.weight.start),
                inputs: layer.inputs,
                outputs: layer.outputs,
            });
        }
        operations
    }
}

/// The name of the layer whose weights begin here.
fn layer_at(layout: &Layout, offset: usize) -> String {
    let mut tensors = layout.tensors.iter();
    let weight = tensors.find(|tensor| tensor.offset == offset);
    let name = weight.and_then(|tensor| tensor.name.strip_suffix(".weight"));
    name.expect("a network's weights are tensors of its layout")
        .to_owned()
}
