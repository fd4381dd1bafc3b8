//! LeNet-style convolutional network (LeCun et al., Proc. IEEE 1998): stages of convolution, 2×2
//! max-pooling and ReLU; then hidden linear layers with ReLU and the output layer. Convolutions
//! have stride 1 and pad to the same size, unlike the original's, so that one definition fits 28×28
//! and 8×8.

use std::sync::Arc;

use candle_core::Tensor;

use super::pooling::MaxPool;
use super::{Architecture, Initial, Layout, ModelEntry, Network, Parameters, limit_layers};

pub(super) const ENTRY: ModelEntry = ModelEntry {
    name: "cnn",
    help: "LeNet-style convolutional network for images of shape [channels, height, width]",
    source: "after LeCun et al. 1998 (LeNet-5), doi 10.1109/5.726791",
    main_key: Some("channels"),
    new: |section| {
        // LeNet-5's sizes.
        let channels = section.integers("channels", Some(&[6, 16]), 1..=1024);
        let hidden = section.integers("hidden", Some(&[120, 84]), 1..=65_536);
        let kernel = section.integer("kernel", Some(5), 1..=31) as usize;
        limit_layers(section, "channels", &channels);
        limit_layers(section, "hidden", &hidden);
        if kernel.is_multiple_of(2) {
            section.note(
                "kernel",
                format!("expected an odd side, so that padding keeps the size; found {kernel}"),
            );
        }
        let sizes = |list: Vec<u64>| list.into_iter().map(|size| size as usize).collect();
        Arc::new(Cnn {
            channels: sizes(channels),
            hidden: sizes(hidden),
            kernel,
        })
    },
};

#[derive(Debug)]
struct Cnn {
    channels: Vec<usize>,
    hidden: Vec<usize>,
    kernel: usize,
}

impl Architecture for Cnn {
    fn tensors(
        &self,
        shape: &[usize],
        classes: usize,
    ) -> Result<Vec<Initial>, (&'static str, String)> {
        let [mut inputs, mut height, mut width] = *shape else {
            let found = format!("the data's shape is {shape:?}");
            return Err((
                "kind",
                format!("\"cnn\" needs images, data.shape = [channels, height, width]; {found}"),
            ));
        };
        let mut tensors = Vec::new();
        for (index, outputs) in self.channels.iter().enumerate() {
            let stage = index + 1;
            // A kernel beyond the image would see mostly padding.
            if self.kernel > height.min(width) {
                let what = format!(
                    "a kernel of {} does not fit the {height}×{width} image at convolution {stage}; at most {}",
                    self.kernel,
                    height.min(width)
                );
                return Err(("kernel", what));
            }
            if height % 2 != 0 || width % 2 != 0 {
                let what = format!(
                    "convolution {stage} halves its image, and {height}×{width} is not even; have fewer stages"
                );
                return Err(("channels", what));
            }
            tensors.push(Initial::he(
                &format!("conv{stage}.weight"),
                &[*outputs, inputs, self.kernel, self.kernel],
            ));
            tensors.push(Initial::zero(&format!("conv{stage}.bias"), *outputs));
            (inputs, height, width) = (*outputs, height / 2, width / 2);
        }
        let flat = inputs * height * width;
        tensors.extend(Initial::perceptron(flat, &self.hidden, classes));
        Ok(tensors)
    }

    fn logits(&self, parameters: &Parameters<'_>, batch: &Tensor) -> candle_core::Result<Tensor> {
        let mut images = batch.clone();
        for stage in 1..=self.channels.len() {
            let weight = parameters.get(&format!("conv{stage}.weight"))?;
            let bias = parameters.get(&format!("conv{stage}.bias"))?;
            images = images
                .conv2d(weight, self.kernel / 2, 1, 1, 1)?
                .apply_op1(MaxPool)?
                .broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?)?
                .relu()?;
        }
        let columns = images.flatten_from(1)?.t()?;
        parameters.perceptron(columns, self.hidden.len())
    }
    fn network(&self, layout: &Layout, shape: &[usize]) -> Option<Network> {
        let stages = (1..=self.channels.len()).map(|stage| format!("conv{stage}"));
        Network::convolutional(
            layout,
            shape,
            stages,
            (1..=self.hidden.len() + 1).map(|layer| format!("fc{layer}")),
        )
    }
}
