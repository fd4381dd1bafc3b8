//! Multilayer perceptron: linear layers with ReLU between them.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Architecture, Initial, Layout, ModelEntry, Network, Parameters, limit_layers};

pub(super) const ENTRY: ModelEntry = ModelEntry {
    name: "mlp",
    help: "multilayer perceptron with ReLU; `hidden` lists the sizes of its hidden layers",
    source: "Rumelhart, Hinton and Williams 1986, doi 10.1038/323533a0; with ReLU",
    main_key: Some("hidden"),
    new: |section| {
        // 32 units suit the 8×8 digits (measured: models/tests/accuracy.rs); wider images need
        // more.
        let hidden = section.integers("hidden", Some(&[32]), 1..=65_536);
        limit_layers(section, "hidden", &hidden);
        Arc::new(Mlp {
            hidden: hidden.into_iter().map(|size| size as usize).collect(),
        })
    },
};

#[derive(Debug)]
struct Mlp {
    hidden: Vec<usize>,
}

impl Architecture for Mlp {
    fn tensors(
        &self,
        shape: &[usize],
        classes: usize,
    ) -> Result<Vec<Initial>, (&'static str, String)> {
        Ok(Initial::perceptron(
            shape.iter().product(),
            &self.hidden,
            classes,
        ))
    }

    fn logits(&self, parameters: &Parameters<'_>, batch: &Tensor) -> candle_core::Result<Tensor> {
        parameters.perceptron(batch.flatten_from(1)?.t()?, self.hidden.len())
    }

    fn network(&self, layout: &Layout, _: &[usize]) -> Option<Network> {
        Network::dense(
            layout,
            (1..=self.hidden.len() + 1).map(|layer| format!("fc{layer}")),
        )
    }
}
