//! Multilayer perceptron: linear layers with ReLU between them.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Architecture, Dense, Initial, Layout, ModelEntry, Parameters, limit_layers};

/// Most weights for which the network is computed without candle. Above, candle's products, which use the CPU's widest vectors,
/// outweigh what its graph costs: measured, a step of 25 rows through 79,400 weights takes 0.31 ms by candle and 0.61 ms without;
/// where the two meet is estimated from that.
const DENSE_MAX: usize = 10_000;

pub(super) const ENTRY: ModelEntry = ModelEntry {
    name: "mlp",
    help: "multilayer perceptron with ReLU; `hidden` lists the sizes of its hidden layers",
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
