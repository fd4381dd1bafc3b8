//! Networks computed on the flat parameter vector without candle: stages of convolution, 2×2
//! max-pooling and ReLU, if a network has any, and then linear layers with ReLU between them.
//!
//! A step through candle makes tensors, records a graph and walks it, and keeps every gradient
//! until the optimizer comes. For models of a few hundred parameters that costs several times as
//! much as the arithmetic; for models of many millions, memory is read and written twice as often.
//! Here a step allocates nothing once its [`Workspace`] has grown to the batch, and a part of the
//! gradient goes to the optimizer while it is in the cache.
//!
//! Values are `[features, stride]`, a row of the batch in each lane (see [`kernel`]); equal inputs
//! give equal bits on every CPU.
//!
//! Cost of a step on n rows: 2·n·w multiplications for w weights of linear layers, and n·w more for
//! every layer but the first; a convolution's weights count once for each pixel.

mod clipped;

use std::ops::Range;

use super::kernel::{self, Plane, ROOM, Rows, SUMS};
use super::{Layout, TensorSpec};

pub(crate) use clipped::Clipping;

/// Values of a gradient that go to the optimizer at once, for each thread: a quarter of a usual
/// second cache.
const BLOCK: usize = 1 << 16;

/// A network, by the places of its tensors in the parameter vector.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) stages: Vec<Stage>,
    pub(super) layers: Vec<Linear>,
}

/// Convolution of stride 1, padded to the same size, 2×2 max-pooling, bias and ReLU. Bias and ReLU
/// commute with the maximum, and have a quarter of the values after it.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// `[outputs, channels, kernel, kernel]`.
    pub(super) weight: Range<usize>,
    bias: Range<usize>,
    pub(super) channels: usize,
    /// The image plane of its inputs.
    pub(super) plane: Plane,
}

/// y = W·x + b, with W stored `[outputs, inputs]`.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    pub(super) weight: Range<usize>,
    bias: Range<usize>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// A function that takes a part of the gradient: its range in the parameter vector, the parameters
/// there, which it may change, and the gradient.
pub(crate) type Step<'a> = dyn FnMut(Range<usize>, &mut [f32], &mut [f32]) + 'a;

/// Memory of steps, reused from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// The batch, `[rows, features]`.
    pub(crate) inputs: Vec<f32>,
    /// The batch transposed, `[features, stride]`.
    columns: Vec<f32>,
    images: Vec<Image>,
    layers: Vec<Values>,
    /// The last images as rows, like [`Values::rows`].
    flat: Vec<f32>,
    spare: Vec<f32>,
    block: Vec<f32>,
}

/// Values of a stage.
#[derive(Clone, Debug, Default)]
struct Image {
    /// Of the convolution, `[outputs, height, width, stride]`; in the backward pass their
    /// gradients.
    full: Vec<f32>,
    /// Of the stage, `[outputs, height / 2, width / 2, stride]`; in the backward pass their
    /// gradients.
    pooled: Vec<f32>,
    packed: Vec<f32>,
}

/// Values of a layer, after its ReLU if it has one.
#[derive(Clone, Debug, Default)]
struct Values {
    /// `[outputs, stride]`; in the backward pass their gradients.
    columns: Vec<f32>,
    /// `[rows, outputs]`, followed by room for a vector.
    rows: Vec<f32>,
}

impl Network {
    /// Linear layers of these names in `layout`, each with tensors `NAME.weight` and `NAME.bias`;
    /// `None` if one is missing.
    pub(crate) fn dense(
        layout: &Layout,
        names: impl IntoIterator<Item = String>,
    ) -> Option<Network> {
        let layers: Vec<Linear> = names
            .into_iter()
            .map(|name| Linear::new(layout, &name))
            .collect::<Option<_>>()?;
        (!layers.is_empty()).then_some(Network {
            stages: Vec::new(),
            layers,
        })
    }

    /// The same after stages of these names, over images of `[channels, height, width]`.
    pub(crate) fn convolutional(
        layout: &Layout,
        shape: &[usize],
        stages: impl IntoIterator<Item = String>,
        layers: impl IntoIterator<Item = String>,
    ) -> Option<Network> {
        let [_, mut height, mut width] = *shape else {
            return None;
        };
        let mut network = Network::dense(layout, layers)?;
        for name in stages {
            let (weight, bias) = tensors(layout, &name)?;
            let [_, channels, kernel, _] = *weight.shape else {
                return None;
            };
            let plane = Plane {
                height,
                width,
                kernel,
            };
            network.stages.push(Stage {
                weight: weight.range(),
                bias: bias.range(),
                channels,
                plane,
            });
            (height, width) = (height / 2, width / 2);
        }
        Some(network)
    }

    /// Lanes for these rows.
    fn stride(&self, rows: usize) -> usize {
        rows.next_multiple_of(if self.stages.is_empty() {
            kernel::lanes()
        } else {
            SUMS
        })
    }

    fn features(&self) -> usize {
        self.stages.first().map_or(self.layers[0].inputs, |stage| {
            stage.channels * stage.plane.pixels()
        })
    }

    /// Puts zeros in the lanes that hold no row, if a convolution sums across lanes; elsewhere
    /// lanes are never combined.
    fn pad(&self, columns: &mut [f32], rows: usize, stride: usize) {
        if !self.stages.is_empty() && rows < stride {
            columns
                .chunks_exact_mut(stride)
                .for_each(|lanes| lanes[rows..].fill(0.0));
        }
    }

    /// Computes the logits `[rows, classes]` of the batch in `workspace.inputs`; they may be
    /// changed in place.
    pub(crate) fn logits<'w>(
        &self,
        parameters: &[f32],
        rows: usize,
        workspace: &'w mut Workspace,
    ) -> &'w mut [f32] {
        let (stride, features) = (self.stride(rows), self.features());
        let last = self.layers.len() - 1;
        let Workspace {
            inputs,
            columns,
            images,
            layers,
            flat,
            ..
        } = workspace;
        inputs.resize(rows * features + ROOM, 0.0);
        columns.resize(features * stride, 0.0);
        turn(&inputs[..rows * features], features, columns, stride);
        self.pad(columns, rows, stride);
        images.resize_with(self.stages.len(), Image::default);
        for (index, stage) in self.stages.iter().enumerate() {
            let (before, after) = images.split_at_mut(index);
            let inputs = before.last().map_or(&*columns, |image| &image.pooled);
            stage.forward(parameters, inputs, stride, &mut after[0]);
        }
        if let Some(image) = images.last() {
            turn_back(&image.pooled, stride, rows, self.layers[0].inputs, flat);
        }
        layers.resize_with(self.layers.len(), Values::default);
        for (index, layer) in self.layers.iter().enumerate() {
            let (before, after) = layers.split_at_mut(index);
            let images = images.last().map_or(&*columns, |image| &image.pooled);
            let inputs = before.last().map_or(images, |values| &values.columns);
            let values = &mut after[0];
            values.columns.resize(layer.outputs * stride, 0.0);
            let (weights, bias) = (
                &parameters[layer.weight.clone()],
                &parameters[layer.bias.clone()],
            );
            kernel::transform(
                weights,
                bias,
                layer.inputs,
                inputs,
                stride,
                &mut values.columns,
            );
            if index < last {
                values
                    .columns
                    .iter_mut()
                    .for_each(|value| *value = relu(*value));
            }
            turn_back(
                &values.columns,
                stride,
                rows,
                layer.outputs,
                &mut values.rows,
            );
        }
        &mut layers[last].rows[..rows * self.layers[last].outputs]
    }

    /// Hands to `step`, part by part, the gradient that belongs to these gradients of the logits:
    /// what [`Network::logits`] returned, replaced. No part is needed any more when it is handed
    /// over.
    pub(crate) fn descend(
        &self,
        parameters: &mut [f32],
        rows: usize,
        workspace: &mut Workspace,
        step: &mut Step<'_>,
    ) {
        let stride = self.stride(rows);
        let Workspace {
            inputs,
            columns,
            images,
            layers,
            flat,
            spare,
            block,
        } = workspace;
        let last = self.layers.len() - 1;
        let (values, classes) = (&mut layers[last], self.layers[last].outputs);
        turn(
            &values.rows[..rows * classes],
            classes,
            &mut values.columns,
            stride,
        );
        self.pad(&mut values.columns, rows, stride);
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (before, after) = layers.split_at_mut(index);
            let residuals = &after[0].columns;
            let (values, activations) = match (before.last_mut(), images.last_mut()) {
                (Some(values), _) => (&values.rows, Some(&mut values.columns)),
                (None, Some(image)) => (&*flat, Some(&mut image.pooled)),
                (None, None) => (&*inputs, None),
            };
            if let Some(activations) = &activations {
                spare.resize(layer.inputs * stride, 0.0);
                kernel::transposed(
                    &parameters[layer.weight.clone()],
                    layer.inputs,
                    residuals,
                    stride,
                    spare,
                );
                mask(spare, activations);
            }
            let rows = Rows {
                values,
                count: rows,
                width: layer.inputs,
                stride: layer.inputs,
            };
            layer.hand_over(residuals, stride, &rows, block, parameters, step);
            if let Some(activations) = activations {
                std::mem::swap(spare, activations);
            }
        }
        for (index, stage) in self.stages.iter().enumerate().rev() {
            let (before, after) = images.split_at_mut(index);
            let image = &mut after[0];
            unpool(stage.plane, stride, &mut image.full, &image.pooled);
            let activations = before.last_mut().map(|image| &mut image.pooled);
            if let Some(activations) = &activations {
                stage.backward(parameters, stride, image, spare);
                mask(spare, activations);
            }
            let inputs = activations
                .as_ref()
                .map_or(&*columns, |activations| &**activations);
            stage.hand_over(inputs, stride, image, block, parameters, step);
            if let Some(activations) = activations {
                std::mem::swap(spare, activations);
            }
        }
    }
}

fn tensors<'a>(layout: &'a Layout, name: &str) -> Option<(&'a TensorSpec, &'a TensorSpec)> {
    let tensor = |name: String| layout.tensors.iter().find(|tensor| tensor.name == name);
    Some((
        tensor(format!("{name}.weight"))?,
        tensor(format!("{name}.bias"))?,
    ))
}

impl Linear {
    fn new(layout: &Layout, name: &str) -> Option<Linear> {
        let (weight, bias) = tensors(layout, name)?;
        let [outputs, inputs] = *weight.shape else {
            return None;
        };
        Some(Linear {
            weight: weight.range(),
            bias: bias.range(),
            inputs,
            outputs,
        })
    }

    /// The gradients of weights and bias, as many outputs at once as make a block.
    fn hand_over(
        &self,
        residuals: &[f32],
        stride: usize,
        rows: &Rows<'_>,
        block: &mut Vec<f32>,
        parameters: &mut [f32],
        step: &mut Step<'_>,
    ) {
        let threads = if self.weight.len() > BLOCK {
            rayon::current_num_threads()
        } else {
            1
        };
        let outputs_at_once = (BLOCK * threads / self.inputs)
            .next_multiple_of(kernel::SIDE)
            .max(kernel::SIDE);
        for first in (0..self.outputs).step_by(outputs_at_once) {
            let outputs = outputs_at_once.min(self.outputs - first);
            block.resize(outputs * self.inputs, 0.0);
            kernel::weight_gradient(
                &residuals[first * stride..(first + outputs) * stride],
                stride,
                rows,
                block,
            );
            let start = self.weight.start + first * self.inputs;
            let range = start..start + block.len();
            step(range.clone(), &mut parameters[range], block);
        }
        block.clear();
        block.extend(
            residuals
                .chunks_exact(stride)
                .map(|lanes| lanes[..rows.count].iter().sum::<f32>()),
        );
        step(self.bias.clone(), &mut parameters[self.bias.clone()], block);
    }
}

impl Stage {
    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Places of the kernel in all channels: weights of an output.
    fn terms(&self) -> usize {
        self.channels * self.plane.kernel * self.plane.kernel
    }

    fn forward(&self, parameters: &[f32], inputs: &[f32], stride: usize, image: &mut Image) {
        let (weights, terms) = (&parameters[self.weight.clone()], self.terms());
        let Image {
            full,
            pooled,
            packed,
        } = image;
        kernel::pack(self.outputs(), terms, packed, |output, term| {
            weights[output * terms + term]
        });
        full.resize(self.outputs() * self.plane.pixels() * stride, 0.0);
        kernel::convolve(self.plane, self.channels, packed, inputs, stride, full);
        pooled.resize(full.len() / 4, 0.0);
        pool(
            self.plane,
            stride,
            full,
            &parameters[self.bias.clone()],
            pooled,
        );
    }

    /// The gradients of the inputs: a convolution with the kernels turned round, inputs and outputs
    /// changing places.
    fn backward(
        &self,
        parameters: &[f32],
        stride: usize,
        image: &mut Image,
        gradients: &mut Vec<f32>,
    ) {
        let (weights, terms, taps) = (
            &parameters[self.weight.clone()],
            self.terms(),
            self.plane.kernel * self.plane.kernel,
        );
        let turned = |channel: usize, term: usize| {
            let (output, tap) = (term / taps, term % taps);
            weights[output * terms + channel * taps + taps - 1 - tap]
        };
        kernel::pack(
            self.channels,
            self.outputs() * taps,
            &mut image.packed,
            turned,
        );
        gradients.resize(self.channels * self.plane.pixels() * stride, 0.0);
        kernel::convolve(
            self.plane,
            self.outputs(),
            &image.packed,
            &image.full,
            stride,
            gradients,
        );
    }

    fn hand_over(
        &self,
        inputs: &[f32],
        stride: usize,
        image: &Image,
        block: &mut Vec<f32>,
        parameters: &mut [f32],
        step: &mut Step<'_>,
    ) {
        block.resize(self.weight.len(), 0.0);
        kernel::convolution_weights(
            self.plane,
            self.channels,
            inputs,
            &image.full,
            stride,
            block,
        );
        step(
            self.weight.clone(),
            &mut parameters[self.weight.clone()],
            block,
        );
        block.clear();
        block.extend(
            image
                .pooled
                .chunks_exact(image.pooled.len() / self.outputs())
                .map(sum),
        );
        step(self.bias.clone(), &mut parameters[self.bias.clone()], block);
    }
}

/// Not `max`, which would turn NaN into 0 and hide that the parameters are broken.
#[inline(always)]
fn relu(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

/// ReLU passes a gradient if its output was above 0.
fn mask(gradients: &mut [f32], activations: &[f32]) {
    gradients
        .iter_mut()
        .zip(activations)
        .for_each(|(gradient, value)| *gradient = if *value > 0.0 { *gradient } else { 0.0 });
}

/// A sum in [`SUMS`] parts, so that it does not wait for each of its additions.
fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<SUMS>();
    let mut sums = [0f32; SUMS];
    chunks.iter().for_each(|chunk| {
        sums.iter_mut()
            .zip(chunk)
            .for_each(|(sum, value)| *sum += value)
    });
    sums.iter().chain(rest).sum()
}

/// The maximum of each 2×2 window of `full` `[outputs, height, width, stride]`, with bias and ReLU.
fn pool(plane: Plane, stride: usize, full: &[f32], bias: &[f32], pooled: &mut [f32]) {
    let line = plane.width * stride;
    let outputs = full
        .chunks_exact(plane.pixels() * stride)
        .zip(pooled.chunks_exact_mut(plane.pixels() / 4 * stride))
        .zip(bias);
    for ((full, pooled), bias) in outputs {
        for (pair, pooled) in full
            .chunks_exact(2 * line)
            .zip(pooled.chunks_exact_mut(line / 2))
        {
            let (upper, lower) = pair.split_at(line);
            let windows = upper
                .chunks_exact(2 * stride)
                .zip(lower.chunks_exact(2 * stride));
            for ((upper, lower), pooled) in windows.zip(pooled.chunks_exact_mut(stride)) {
                let ((a, b), (c, d)) = (upper.split_at(stride), lower.split_at(stride));
                for ((((pooled, a), b), c), d) in pooled.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    *pooled = relu(larger(larger(larger(*a, *b), *c), *d) + bias);
                }
            }
        }
    }
}

/// `b` if it is above `a`, otherwise `a`.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The gradient of [`pool`], in place of `full`: the pooled value's for the first maximum of its
/// window, 0 for the others.
fn unpool(plane: Plane, stride: usize, full: &mut [f32], pooled: &[f32]) {
    let line = plane.width * stride;
    for (pair, pooled) in full
        .chunks_exact_mut(2 * line)
        .zip(pooled.chunks_exact(line / 2))
    {
        let (upper, lower) = pair.split_at_mut(line);
        let windows = upper
            .chunks_exact_mut(2 * stride)
            .zip(lower.chunks_exact_mut(2 * stride));
        for ((upper, lower), pooled) in windows.zip(pooled.chunks_exact(stride)) {
            let ((a, b), (c, d)) = (upper.split_at_mut(stride), lower.split_at_mut(stride));
            for ((((gradient, a), b), c), d) in pooled.iter().zip(a).zip(b).zip(c).zip(d) {
                let largest = larger(larger(larger(*a, *b), *c), *d);
                let first = |value: f32, open: f32| if value == largest { open } else { 0.0 };
                let at_a = first(*a, 1.0);
                let at_b = first(*b, 1.0 - at_a);
                let at_c = first(*c, 1.0 - at_a - at_b);
                let at_d = 1.0 - at_a - at_b - at_c;
                (*a, *b, *c, *d) = (
                    at_a * gradient,
                    at_b * gradient,
                    at_c * gradient,
                    at_d * gradient,
                );
            }
        }
    }
}

/// The transpose of `rows` `[…, width]`, each of its rows `stride` long.
fn turn(rows: &[f32], width: usize, columns: &mut [f32], stride: usize) {
    let count = rows.len() / width;
    let whole = count - count % SUMS;
    // As many rows at once as fill a line of the cache.
    for place in (0..whole).step_by(SUMS) {
        let side: [&[f32]; SUMS] =
            std::array::from_fn(|row| &rows[(place + row) * width..][..width]);
        for (index, column) in columns.chunks_exact_mut(stride).take(width).enumerate() {
            let line: [f32; SUMS] = std::array::from_fn(|row| side[row][index]);
            column[place..][..SUMS].copy_from_slice(&line);
        }
    }
    for (place, row) in rows.chunks_exact(width).enumerate().skip(whole) {
        columns
            .chunks_exact_mut(stride)
            .zip(row)
            .for_each(|(column, value)| column[place] = *value);
    }
}

/// The inverse of [`turn`]: `count` rows `[count, width]` of `columns` `[width, stride]`, and
/// [`ROOM`] values more.
fn turn_back(columns: &[f32], stride: usize, count: usize, width: usize, rows: &mut Vec<f32>) {
    rows.resize(count * width + ROOM, 0.0);
    for (place, row) in rows.chunks_exact_mut(width).take(count).enumerate() {
        row.iter_mut()
            .zip(columns.chunks_exact(stride))
            .for_each(|(value, column)| *value = column[place]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::Seed;

    /// Sizes that leave a remainder in every direction.
    #[test]
    fn blocks_and_rests_give_the_plain_sums() {
        let mut stream = Seed::from_number(4).stream("test dense");
        let mut draw = |count: usize| {
            (0..count)
                .map(|_| stream.normal() as f32)
                .collect::<Vec<f32>>()
        };
        for (rows, inputs, outputs) in [
            (1, 1, 1),
            (2, 4, 5),
            (3, 7, 6),
            (5, 19, 11),
            (13, 8, 3),
            (18, 64, 10),
            (50, 33, 23),
        ] {
            let (x, w, b) = (draw(rows * inputs), draw(outputs * inputs), draw(outputs));
            let layer = Linear {
                weight: 0..w.len(),
                bias: w.len()..w.len() + outputs,
                inputs,
                outputs,
            };
            let network = Network {
                stages: Vec::new(),
                layers: vec![layer],
            };
            // A workspace that has seen a larger batch gives the same.
            let mut workspace = Workspace {
                columns: vec![f32::NAN; 5000],
                inputs: x.clone(),
                ..Workspace::default()
            };
            let mut parameters = [w.clone(), b.clone()].concat();
            let logits = network.logits(&parameters, rows, &mut workspace);
            for (place, found) in logits.iter().enumerate() {
                let (row, output) = (place / outputs, place % outputs);
                let sum = (0..inputs).fold(0.0, |sum, i| {
                    sum + w[output * inputs + i] * x[row * inputs + i]
                });
                assert_eq!(
                    *found,
                    b[output] + sum,
                    "row {row}, output {output} of {rows}, {inputs}, {outputs}"
                );
            }
            let residuals = draw(rows * outputs);
            logits.copy_from_slice(&residuals);
            let mut gradient = vec![f32::NAN; parameters.len()];
            let mut step = |range: Range<usize>, _: &mut [f32], part: &mut [f32]| {
                gradient[range].copy_from_slice(part)
            };
            network.descend(&mut parameters, rows, &mut workspace, &mut step);
            for (place, found) in gradient[..w.len()].iter().enumerate() {
                let (output, input) = (place / inputs, place % inputs);
                let sum = (0..rows).fold(0.0, |sum, row| {
                    sum + residuals[row * outputs + output] * x[row * inputs + input]
                });
                assert_eq!(
                    *found, sum,
                    "output {output}, input {input} of {rows}, {inputs}, {outputs}"
                );
            }
            for (output, found) in gradient[w.len()..].iter().enumerate() {
                assert_eq!(
                    *found,
                    (0..rows).fold(0.0, |sum, row| sum + residuals[row * outputs + output])
                );
            }
        }
    }

    #[test]
    fn pooling_gives_the_maximum_and_its_gradient_to_the_first_maximum_alone() {
        let plane = Plane {
            height: 2,
            width: 4,
            kernel: 1,
        };
        let mut full = vec![
            1., 2., 0., 0., 4., 3., 0., 9., /* another output */ 5., 5., -3., -3., 5., 5.,
            -3., -3.,
        ];
        let mut pooled = vec![0.0; 4];
        pool(plane, 1, &full, &[0.5, 1.0], &mut pooled);
        assert_eq!(pooled, [4.5, 9.5, 6.0, 0.0]);
        unpool(plane, 1, &mut full, &[5., 7., 2., 3.]);
        assert_eq!(
            full,
            [
                0., 0., 0., 0., 5., 0., 0., 7., /* another output */ 2., 0., 3., 0., 0., 0.,
                0., 0.
            ]
        );
    }
}
