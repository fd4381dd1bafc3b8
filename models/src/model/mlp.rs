//! Multilayer perceptron: linear layers with ReLU between them.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Architecture, Initial, ModelEntry, Parameters};

pub(super) const ENTRY: ModelEntry = ModelEntry {
    name: "mlp",
    help: "multilayer perceptron with ReLU; `hidden` lists the sizes of its hidden layers",
    new: |section| {
        // 32 units suit the 8×8 digits (measured: models/tests/accuracy.rs); wider images want more.
        let hidden = section.integers("hidden", Some(&[32]), 1..=65_536);
        if hidden.is_empty() || hidden.len() > 16 {
            section.note("hidden", "expected one to sixteen sizes; without hidden layers the kind is \"softmax\"");
        }
        Arc::new(Mlp { hidden: hidden.into_iter().map(|size| size as usize).collect() })
    },
};

#[derive(Debug)]
struct Mlp {
    hidden: Vec<usize>,
}

impl Architecture for Mlp {
    fn tensors(&self, shape: &[usize], classes: usize) -> Result<Vec<Initial>, (&'static str, String)> {
        let mut inputs = shape.iter().product();
        let mut tensors = Vec::new();
        for (index, outputs) in self.hidden.iter().enumerate() {
            tensors.push(Initial::he(&format!("fc{}.weight", index + 1), &[*outputs, inputs]));
            tensors.push(Initial::zero(&format!("fc{}.bias", index + 1), *outputs));
            inputs = *outputs;
        }
        let last = self.hidden.len() + 1;
        tensors.push(Initial::glorot(&format!("fc{last}.weight"), classes, inputs));
        tensors.push(Initial::zero(&format!("fc{last}.bias"), classes));
        Ok(tensors)
    }

    fn logits(&self, parameters: &Parameters<'_>, batch: &Tensor) -> candle_core::Result<Tensor> {
        let mut columns = batch.flatten_from(1)?.t()?;
        for layer in 1..=self.hidden.len() {
            columns = parameters.linear(&format!("fc{layer}"), &columns)?.relu()?;
        }
        parameters.linear(&format!("fc{}", self.hidden.len() + 1), &columns)?.t()
    }
}
