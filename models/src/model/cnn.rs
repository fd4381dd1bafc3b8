//! LeNet-style convolutional network (LeCun et al., Proc. IEEE 1998): convolution, ReLU, 2×2 max-pooling, twice; then two
//! hidden linear layers with ReLU and the output layer. Convolutions have stride 1 and pad to the same size, unlike the
//! original's, so that one definition fits 28×28 and 8×8.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Architecture, Initial, ModelEntry, Parameters};

pub(super) const ENTRY: ModelEntry = ModelEntry {
    name: "cnn",
    help: "LeNet-style convolutional network for images of shape [channels, height, width]",
    new: |section| {
        // LeNet-5's sizes.
        let channels = section.integers("channels", Some(&[6, 16]), 1..=1024);
        let hidden = section.integers("hidden", Some(&[120, 84]), 1..=65_536);
        let kernel = section.integer("kernel", Some(5), 1..=31) as usize;
        for (key, list) in [("channels", &channels), ("hidden", &hidden)] {
            if list.len() != 2 {
                section.note(key, format!("expected two sizes, found {}", list.len()));
            }
        }
        if kernel % 2 == 0 {
            section.note("kernel", format!("expected an odd side, so that padding keeps the size; found {kernel}"));
        }
        let pair = |list: &[u64]| [list.first(), list.get(1)].map(|size| size.map_or(1, |size| *size as usize));
        Arc::new(Cnn { channels: pair(&channels), hidden: pair(&hidden), kernel })
    },
};

#[derive(Debug)]
struct Cnn {
    channels: [usize; 2],
    hidden: [usize; 2],
    kernel: usize,
}

impl Architecture for Cnn {
    fn tensors(&self, shape: &[usize], classes: usize) -> Result<Vec<Initial>, (&'static str, String)> {
        let [channels, height, width] = *shape else {
            let found = format!("the data's shape is {shape:?}");
            return Err(("kind", format!("\"cnn\" needs images, data.shape = [channels, height, width]; {found}")));
        };
        // Backward through max-pooling is right only where the windows tile the image.
        if height % 4 != 0 || width % 4 != 0 {
            return Err(("kind", format!("\"cnn\" halves the image twice; {height}×{width} is not divisible by 4")));
        }
        // At the second convolution the image has been halved once; a kernel beyond it would see mostly padding.
        let side = height.min(width) / 2;
        if self.kernel > side {
            let what =
                format!("a kernel of {} does not fit the {height}×{width} image, halved once; at most {side}", self.kernel);
            return Err(("kernel", what));
        }
        let [first, second] = self.channels;
        let [wide, narrow] = self.hidden;
        let flat = second * (height / 4) * (width / 4);
        Ok(vec![
            Initial::he("conv1.weight", &[first, channels, self.kernel, self.kernel]),
            Initial::zero("conv1.bias", first),
            Initial::he("conv2.weight", &[second, first, self.kernel, self.kernel]),
            Initial::zero("conv2.bias", second),
            Initial::he("fc1.weight", &[wide, flat]),
            Initial::zero("fc1.bias", wide),
            Initial::he("fc2.weight", &[narrow, wide]),
            Initial::zero("fc2.bias", narrow),
            Initial::glorot("fc3.weight", classes, narrow),
            Initial::zero("fc3.bias", classes),
        ])
    }

    fn logits(&self, parameters: &Parameters<'_>, batch: &Tensor) -> candle_core::Result<Tensor> {
        let mut images = batch.clone();
        for layer in ["conv1", "conv2"] {
            let bias = parameters.get(&format!("{layer}.bias"))?;
            images = images
                .conv2d(parameters.get(&format!("{layer}.weight"))?, self.kernel / 2, 1, 1, 1)?
                .broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?)?
                .relu()?
                .max_pool2d(2)?;
        }
        let mut columns = images.flatten_from(1)?.t()?;
        for layer in ["fc1", "fc2"] {
            columns = parameters.linear(layer, &columns)?.relu()?;
        }
        parameters.linear("fc3", &columns)?.t()
    }
}
