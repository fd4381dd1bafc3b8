//! Softmax (multinomial logistic) regression: one linear layer. Convex, so heterogeneous peers can
//! be compared with the one optimum; blind to anything but weighted sums of the features.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Architecture, Initial, Layout, ModelEntry, Network, Parameters};

pub(super) const ENTRY: ModelEntry = ModelEntry {
    name: "softmax",
    help: "softmax regression: one linear layer; convex, and the easiest to explain",
    source: "Bridle 1990 (softmax)",
    main_key: None,
    new: |_| Arc::new(Softmax),
};

#[derive(Debug)]
struct Softmax;

impl Architecture for Softmax {
    fn tensors(
        &self,
        shape: &[usize],
        classes: usize,
    ) -> Result<Vec<Initial>, (&'static str, String)> {
        let inputs = shape.iter().product();
        Ok(vec![
            Initial::glorot("linear.weight", classes, inputs),
            Initial::zero("linear.bias", classes),
        ])
    }

    fn logits(&self, parameters: &Parameters<'_>, batch: &Tensor) -> candle_core::Result<Tensor> {
        parameters
            .linear("linear", &batch.flatten_from(1)?.t()?)?
            .t()
    }

    fn network(&self, layout: &Layout, _: &[usize]) -> Option<Network> {
        Network::dense(layout, ["linear".to_owned()])
    }
}
