//! Multilayer perceptron: linear layers with ReLU between them.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Architecture, Dense, Initial, Layout, ModelEntry, Parameters, limit_layers};

/// Most parameters for which the network is computed without candle. Measured with one thread on a Zen 4, processor time of a step
/// without candle and with it: 784-128-64-10, batch 32, 0.69 and 1.10 ms; 784-100-10, batch 25, 0.46 and 0.70 ms; 64-32-10, batch 16,
/// 11 and 38 µs. Candle's products use wider vectors, so far above this it must win again; where was not measured.
const DENSE_MAX: usize = 1 << 17;

pub(super) const ENTRY: ModelEntry = ModelEntry {
    name: "mlp",
    help: "multilayer perceptron with ReLU; `hidden` lists the sizes of its hidden layers",
    source: "Rumelhart, Hinton and Williams 1986, doi 10.1038/323533a0; with ReLU",
    new: |section| {
        // 32 units suit the 8×8 digits (measured: models/tests/accuracy.rs); wider images want more.
        let hidden = section.integers("hidden", Some(&[32]), 1..=65_536);
        limit_layers(section, "hidden", &hidden);
        Arc::new(Mlp { hidden: hidden.into_iter().map(|size| size as usize).collect() })
    },
};

#[derive(Debug)]
struct Mlp {
    hidden: Vec<usize>,
}

impl Architecture for Mlp {
    fn tensors(&self, shape: &[usize], classes: usize) -> Result<Vec<Initial>, (&'static str, String)> {
        Ok(Initial::perceptron(shape.iter().product(), &self.hidden, classes))
    }

    fn logits(&self, parameters: &Parameters<'_>, batch: &Tensor) -> candle_core::Result<Tensor> {
        parameters.perceptron(batch.flatten_from(1)?.t()?, self.hidden.len())
    }

    fn dense(&self, layout: &Layout) -> Option<Dense> {
        if layout.dimension > DENSE_MAX {
            return None;
        }
        Dense::new(layout, (1..=self.hidden.len() + 1).map(|layer| format!("fc{layer}")))
    }
}
