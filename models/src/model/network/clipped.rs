//! Sums of gradients of which each row's is clipped, without a gradient for each row where that can
//! be avoided.
//!
//! A linear layer's gradient for one row is the product of its residual δ and its input a, so its
//! squared norm is ‖δ‖²·(‖a‖² + 1), with the bias (Goodfellow 2015, arXiv 1510.01799). A first
//! backward pass gives all residuals and norms; then each row's residual is scaled by min(1, C /
//! ‖g‖), and the usual products give the sum of the clipped gradients. A convolution's gradient is
//! a sum over pixels, whose norm would cost more than the gradient itself for images of more than
//! some pixels (Bu et al. 2022, arXiv 2210.00038). So each row's is made, a lane for each row, kept,
//! and summed with its factor.
//!
//! Each row's bits depend on the row and the parameters alone, not on the rows beside it. Sums are
//! f32 over [`SUMS`] rows at most and f64 over those. Convolutions are summed in f64.
//!
//! Cost: the usual step, and for convolutions one product for each weight and row more. Memory: a
//! gradient of the convolutions for each of [`SUMS`] rows.

use std::ops::Range;

use super::super::kernel::per_row;
use super::super::kernel::{self, Rows, SIDE, SUMS};
use super::{Linear, Network, Stage, Workspace, mask, turn, unpool};

/// Gradients longer than this many clip norms count as not finite: their factor, and its product
/// with a residual, would be among the numbers that f32 rounds coarsely or to 0.
const LONGEST: f64 = 1e20;

/// Squared norm of a layer's inputs beyond which the row counts as not finite, for the same reason.
const LARGEST: f64 = 1e24;

/// Rows of a batch of linear layers: their values stay in a usual second cache.
const ROWS: usize = 128;

/// Memory for clipping, reused from batch to batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clipping {
    /// Each row's squared norm; in further lanes nothing that counts.
    squares: Vec<f64>,
    /// Each row's factor.
    factors: Vec<f32>,
    /// Squares of residuals and of inputs of a layer.
    parts: [Vec<f64>; 2],
    /// For each stage, gradients of weights and then biases, a row in each lane.
    gradients: Vec<Vec<f32>>,
    block: Vec<f32>,
}

impl Network {
    /// Rows of a batch for [`Network::add_clipped`], at most.
    pub(crate) fn rows_clipped(&self) -> usize {
        if self.stages.is_empty() { ROWS } else { SUMS }
    }

    /// Adds to `sums` the gradients that belong to these gradients of the rows' logits (what
    /// [`Network::logits`] returned, replaced), each unit's clipped to `clip`. `units` are the
    /// lengths of runs of rows that belong together: the norm of their sum is at most the sum of
    /// their norms, by which they are scaled. A row whose gradient is not finite counts as none.
    pub(crate) fn add_clipped(
        &self,
        parameters: &[f32],
        units: &[usize],
        clip: f64,
        workspace: &mut Workspace,
        clipping: &mut Clipping,
        sums: &mut [f64],
    ) {
        let rows: usize = units.iter().sum();
        let stride = self.stride(rows);
        assert!(
            rows <= self.rows_clipped(),
            "as many rows as a batch may have"
        );
        clipping.squares.clear();
        clipping.squares.resize(stride, 0.0);
        self.layer_residuals(parameters, rows, workspace, clipping);
        self.stage_gradients(parameters, workspace, clipping);
        clipping.find_factors(units, clip);
        self.leave_out_broken_rows(rows, workspace, &clipping.factors);
        for (index, layer) in self.layers.iter().enumerate() {
            let (before, after) = workspace.layers.split_at_mut(index);
            let residuals = &mut after[0].columns;
            per_row::scale(residuals, &clipping.factors);
            let values = match before.last() {
                Some(values) => &values.rows,
                None if self.stages.is_empty() => &workspace.inputs,
                None => &workspace.flat,
            };
            layer.add_sums(residuals, stride, values, rows, &mut clipping.block, sums);
        }
        for (stage, gradients) in self.stages.iter().zip(&mut clipping.gradients) {
            per_row::scale(gradients, &clipping.factors);
            let (weights, biases) = gradients.split_at(stage.weight.len() * stride);
            per_row::add_lanes(weights, stride, &mut sums[stage.weight.clone()]);
            per_row::add_lanes(biases, stride, &mut sums[stage.bias.clone()]);
        }
    }

    /// Residuals of every linear layer in place of its values, their squared norms times those of
    /// the inputs, and the residuals of the last stage.
    fn layer_residuals(
        &self,
        parameters: &[f32],
        rows: usize,
        workspace: &mut Workspace,
        clipping: &mut Clipping,
    ) {
        let stride = self.stride(rows);
        let Workspace {
            columns,
            images,
            layers,
            spare,
            ..
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
            let inputs = match (before.last_mut(), images.last_mut()) {
                (Some(values), _) => Some(&mut values.columns),
                (None, Some(image)) => Some(&mut image.pooled),
                (None, None) => None,
            };
            clipping.add_products(residuals, inputs.as_deref().unwrap_or(columns), stride);
            if let Some(inputs) = inputs {
                spare.resize(layer.inputs * stride, 0.0);
                kernel::transposed(
                    &parameters[layer.weight.clone()],
                    layer.inputs,
                    residuals,
                    stride,
                    spare,
                );
                mask(spare, inputs);
                std::mem::swap(spare, inputs);
            }
        }
    }

    /// Each row's gradients of the stages, and their squared norms.
    fn stage_gradients(
        &self,
        parameters: &[f32],
        workspace: &mut Workspace,
        clipping: &mut Clipping,
    ) {
        let Workspace {
            columns,
            images,
            spare,
            ..
        } = workspace;
        clipping
            .gradients
            .resize_with(self.stages.len(), Vec::default);
        for (index, stage) in self.stages.iter().enumerate().rev() {
            let (before, after) = images.split_at_mut(index);
            let image = &mut after[0];
            unpool(stage.plane, SUMS, &mut image.full, &image.pooled);
            let activations = before.last_mut().map(|image| &mut image.pooled);
            let inputs = activations.as_deref().unwrap_or(columns);
            let gradients = &mut clipping.gradients[index];
            stage.row_gradients(inputs, &image.full, &image.pooled, gradients);
            per_row::add_squares(gradients, &mut clipping.squares);
            if let Some(activations) = activations {
                stage.backward(parameters, SUMS, image, spare);
                mask(spare, activations);
                std::mem::swap(spare, activations);
            }
        }
    }

    /// Puts zeros in place of the inputs of rows that count as none: they may hold what is not
    /// finite, which times 0 would not be 0.
    fn leave_out_broken_rows(&self, rows: usize, workspace: &mut Workspace, factors: &[f32]) {
        for row in (0..rows).filter(|row| factors[*row] == 0.0) {
            let clear = |values: &mut [f32], width: usize| {
                values[row * width..][..width].fill(0.0);
            };
            if self.stages.is_empty() {
                clear(&mut workspace.inputs, self.layers[0].inputs);
            } else {
                clear(&mut workspace.flat, self.layers[0].inputs);
            }
            for (layer, values) in self.layers.iter().zip(&mut workspace.layers) {
                clear(&mut values.rows, layer.outputs);
            }
        }
    }
}

impl Clipping {
    /// Norms of the rows of the batch before.
    #[cfg(test)]
    pub(crate) fn norms(&self) -> Vec<f64> {
        self.squares.iter().map(|square| square.sqrt()).collect()
    }

    /// Adds ‖δ‖²·(‖a‖² + 1) of each row.
    fn add_products(&mut self, residuals: &[f32], inputs: &[f32], stride: usize) {
        for (part, columns) in self.parts.iter_mut().zip([residuals, inputs]) {
            part.clear();
            part.resize(stride, 0.0);
            per_row::add_squares(columns, part);
        }
        let [residuals, inputs] = &self.parts;
        for ((square, residual), input) in self.squares.iter_mut().zip(residuals).zip(inputs) {
            let input = if *input <= LARGEST { *input } else { f64::NAN };
            *square += residual * (input + 1.0);
        }
    }

    /// Each row's factor from the norms of its unit's rows.
    fn find_factors(&mut self, units: &[usize], clip: f64) {
        self.factors.clear();
        self.factors.resize(self.squares.len(), 0.0);
        let mut first = 0;
        for unit in units {
            let rows: Range<usize> = first..first + unit;
            let longest = LONGEST * clip;
            let finite = |row: &usize| self.squares[*row] <= longest * longest;
            let norms = rows
                .clone()
                .filter(finite)
                .map(|row| self.squares[row].sqrt());
            let factor = (clip / norms.sum::<f64>()).min(1.0) as f32;
            for row in rows.filter(finite) {
                self.factors[row] = factor;
            }
            first += unit;
        }
    }
}

impl Linear {
    /// Adds the gradients of weights and biases for scaled residuals `[outputs, stride]` and rows of
    /// inputs.
    fn add_sums(
        &self,
        residuals: &[f32],
        stride: usize,
        values: &[f32],
        rows: usize,
        block: &mut Vec<f32>,
        sums: &mut [f64],
    ) {
        for output in (0..self.outputs).step_by(SIDE) {
            let outputs = SIDE.min(self.outputs - output);
            block.resize(outputs * self.inputs, 0.0);
            let start = self.weight.start + output * self.inputs;
            for row in (0..rows).step_by(SUMS) {
                let few = Rows {
                    values: &values[row * self.inputs..],
                    count: SUMS.min(rows - row),
                    width: self.inputs,
                    stride: self.inputs,
                };
                let residuals = &residuals[output * stride + row..];
                kernel::weight_gradient(residuals, stride, &few, block);
                per_row::add(block, &mut sums[start..start + block.len()]);
            }
        }
        per_row::add_lanes(residuals, stride, &mut sums[self.bias.clone()]);
    }
}

impl Stage {
    /// Each row's gradients of weights and then biases, `[weights and biases, SUMS]`.
    fn row_gradients(
        &self,
        inputs: &[f32],
        residuals: &[f32],
        pooled: &[f32],
        gradients: &mut Vec<f32>,
    ) {
        gradients.resize((self.weight.len() + self.outputs()) * SUMS, 0.0);
        let (weights, biases) = gradients.split_at_mut(self.weight.len() * SUMS);
        per_row::convolution_rows(self.plane, self.channels, inputs, residuals, weights);
        let outputs = pooled.chunks_exact(pooled.len() / self.outputs());
        for (bias, pixels) in biases.chunks_exact_mut(SUMS).zip(outputs) {
            bias.fill(0.0);
            for pixel in pixels.chunks_exact(SUMS) {
                bias.iter_mut()
                    .zip(pixel)
                    .for_each(|(sum, value)| *sum += value);
            }
        }
    }
}
