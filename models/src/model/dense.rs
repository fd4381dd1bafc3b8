//! Networks of linear layers with ReLU between them, computed on the flat parameter vector without candle.
//!
//! For models of a few hundred parameters a step through candle costs a hundred times what its arithmetic does: tensors are
//! made, a graph is recorded and walked. Here a step allocates nothing once its [`Workspace`] has grown to the batch.
//!
//! All sums are f32 in an order that neither the CPU nor the blocking changes: a dot product in [`LANES`] lanes that are added
//! at the end, a gradient row after row. Nothing is fused and no function of the platform's mathematics library touches
//! a parameter, so equal inputs give equal bits on every CPU.
//!
//! Cost of a step on n rows: 2·n·w multiplications for w weights, and n·w more for every layer but the first.

use std::ops::Range;

use super::Layout;

/// Lanes of a dot product: the width of the narrowest vector registers of 64-bit CPUs.
const LANES: usize = 4;
/// Rows and outputs computed at once: what fits 16 vector registers beside their operands.
const ROWS: usize = 2;
const OUTPUTS: usize = 5;
/// Outputs and columns of a gradient computed at once.
const GRADIENTS: usize = 4;
const COLUMNS: usize = 8;

/// The layers of a network, first to last, by their places in the parameter vector.
#[derive(Clone, Debug)]
pub struct Dense {
    layers: Vec<Linear>,
}

/// y = W·x + b, with W stored `[outputs, inputs]`.
#[derive(Clone, Debug)]
struct Linear {
    weight: Range<usize>,
    bias: Range<usize>,
    inputs: usize,
    outputs: usize,
}

/// Memory of steps, reused from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// The batch, `[rows, features]`.
    pub(crate) inputs: Vec<f32>,
    /// Outputs of each layer, after its ReLU where it has one, `[rows, outputs]`; in the backward pass their gradients.
    outputs: Vec<Vec<f32>>,
    spare: Vec<f32>,
}

impl Dense {
    /// The layers of these names in `layout`, each with tensors `NAME.weight` and `NAME.bias`; `None` where one is missing.
    pub(crate) fn new(layout: &Layout, names: impl IntoIterator<Item = String>) -> Option<Dense> {
        let tensor = |name: String| layout.tensors.iter().find(|tensor| tensor.name == name);
        let linear = |name: String| {
            let (weight, bias) = (tensor(format!("{name}.weight"))?, tensor(format!("{name}.bias"))?);
            let [outputs, inputs] = *weight.shape else { return None };
            Some(Linear { weight: weight.range(), bias: bias.range(), inputs, outputs })
        };
        let layers: Vec<Linear> = names.into_iter().map(linear).collect::<Option<_>>()?;
        (!layers.is_empty()).then_some(Dense { layers })
    }

    /// Computes the logits `[rows, classes]` of the batch in `workspace.inputs`; they may be changed where they stand.
    pub(crate) fn logits<'w>(&self, parameters: &[f32], rows: usize, workspace: &'w mut Workspace) -> &'w mut [f32] {
        let last = self.layers.len() - 1;
        workspace.outputs.resize_with(self.layers.len(), Vec::new);
        for (index, layer) in self.layers.iter().enumerate() {
            let (before, after) = workspace.outputs.split_at_mut(index);
            let inputs = before.last().unwrap_or(&workspace.inputs);
            let outputs = &mut after[0];
            outputs.resize(rows * layer.outputs, 0.0);
            layer.outputs(parameters, inputs, outputs);
            if index < last {
                outputs.iter_mut().for_each(|value| *value = value.max(0.0));
            }
        }
        &mut workspace.outputs[last]
    }

    /// Writes to `gradient` the gradient that belongs to these gradients of the logits: what [`Dense::logits`] returned,
    /// replaced.
    pub(crate) fn gradient(&self, parameters: &[f32], rows: usize, workspace: &mut Workspace, gradient: &mut [f32]) {
        let Workspace { inputs, outputs, spare } = workspace;
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (before, after) = outputs.split_at_mut(index);
            let residuals = &after[0];
            sum_rows(residuals, &mut gradient[layer.bias.clone()]);
            let weight = &mut gradient[layer.weight.clone()];
            let Some(hidden) = before.last_mut() else {
                product(|row, output| residuals[row * layer.outputs + output], rows, inputs, layer.inputs, weight);
                continue;
            };
            product(|row, output| residuals[row * layer.outputs + output], rows, hidden, layer.inputs, weight);
            spare.resize(rows * layer.inputs, 0.0);
            let weights = &parameters[layer.weight.clone()];
            product(|output, row| residuals[row * layer.outputs + output], layer.outputs, weights, layer.inputs, spare);
            // ReLU passes a gradient where its output was above 0.
            for (value, through) in spare.iter_mut().zip(hidden.iter()) {
                *value = if *through > 0.0 { *value } else { 0.0 };
            }
            std::mem::swap(spare, hidden);
        }
    }
}

impl Linear {
    fn outputs(&self, parameters: &[f32], inputs: &[f32], outputs: &mut [f32]) {
        let weights = &parameters[self.weight.clone()];
        let bias = &parameters[self.bias.clone()];
        let mut rows = inputs.chunks_exact(self.inputs * ROWS);
        let mut targets = outputs.chunks_exact_mut(self.outputs * ROWS);
        for (rows, targets) in rows.by_ref().zip(targets.by_ref()) {
            self.block::<ROWS>(weights, bias, rows, targets);
        }
        let rest = targets.into_remainder().chunks_exact_mut(self.outputs);
        for (row, target) in rows.remainder().chunks_exact(self.inputs).zip(rest) {
            self.block::<1>(weights, bias, row, target);
        }
    }

    /// All outputs of `R` rows.
    fn block<const R: usize>(&self, weights: &[f32], bias: &[f32], rows: &[f32], targets: &mut [f32]) {
        let width = self.inputs;
        let rows: [&[f32]; R] = std::array::from_fn(|row| &rows[row * width..(row + 1) * width]);
        let mut output = 0;
        while output + OUTPUTS <= self.outputs {
            let dots = dots::<R, OUTPUTS>(rows, std::array::from_fn(|index| &weights[(output + index) * width..][..width]));
            for (row, dots) in dots.iter().enumerate() {
                for (index, dot) in dots.iter().enumerate() {
                    targets[row * self.outputs + output + index] = bias[output + index] + dot;
                }
            }
            output += OUTPUTS;
        }
        for output in output..self.outputs {
            let dots = dots::<R, 1>(rows, [&weights[output * width..][..width]]);
            for (row, dots) in dots.iter().enumerate() {
                targets[row * self.outputs + output] = bias[output] + dots[0];
            }
        }
    }
}

/// The dot products of every row with every weight row, all of one length.
#[inline(always)]
fn dots<const R: usize, const O: usize>(rows: [&[f32]; R], weights: [&[f32]; O]) -> [[f32; O]; R] {
    let length = rows[0].len();
    let whole = length / LANES;
    let row_chunks = rows.map(|row| &row.as_chunks::<LANES>().0[..whole]);
    let weight_chunks = weights.map(|weight| &weight.as_chunks::<LANES>().0[..whole]);
    let mut sums = [[[0f32; LANES]; O]; R];
    for chunk in 0..whole {
        for (sums, row) in sums.iter_mut().zip(&row_chunks) {
            let row = row[chunk];
            for (sums, weight) in sums.iter_mut().zip(&weight_chunks) {
                let weight = weight[chunk];
                for lane in 0..LANES {
                    sums[lane] += row[lane] * weight[lane];
                }
            }
        }
    }
    let mut dots = [[0f32; O]; R];
    for ((dots, sums), row) in dots.iter_mut().zip(&sums).zip(&rows) {
        for ((dot, [a, b, c, d]), weight) in dots.iter_mut().zip(sums).zip(&weights) {
            *dot = (a + c) + (b + d);
            for index in whole * LANES..length {
                *dot += row[index] * weight[index];
            }
        }
    }
    dots
}

/// target `[t, width]` = A·B for `factors` A, asked for as (index of the sum, row of the target), and B `[terms, width]`;
/// every value is summed from the first term to the last.
#[inline(always)]
fn product(factor: impl Fn(usize, usize) -> f32, terms: usize, values: &[f32], width: usize, target: &mut [f32]) {
    let rows = target.len() / width;
    let blocks = width / COLUMNS * COLUMNS;
    for column in (0..blocks).step_by(COLUMNS) {
        let mut row = 0;
        while row + GRADIENTS <= rows {
            tile::<GRADIENTS>(&factor, terms, values, width, target, row, column);
            row += GRADIENTS;
        }
        for row in row..rows {
            tile::<1>(&factor, terms, values, width, target, row, column);
        }
    }
    for row in 0..rows {
        for column in blocks..width {
            let sum = (0..terms).fold(0.0, |sum, term| sum + factor(term, row) * values[term * width + column]);
            target[row * width + column] = sum;
        }
    }
}

#[inline(always)]
fn tile<const G: usize>(
    factor: &impl Fn(usize, usize) -> f32,
    terms: usize,
    values: &[f32],
    width: usize,
    target: &mut [f32],
    row: usize,
    column: usize,
) {
    let mut sums = [[0f32; COLUMNS]; G];
    for term in 0..terms {
        let values: &[f32; COLUMNS] = values[term * width + column..].first_chunk().expect("a whole block of columns");
        for (index, sums) in sums.iter_mut().enumerate() {
            let factor = factor(term, row + index);
            for lane in 0..COLUMNS {
                sums[lane] += factor * values[lane];
            }
        }
    }
    for (index, sums) in sums.iter().enumerate() {
        target[(row + index) * width + column..][..COLUMNS].copy_from_slice(sums);
    }
}

/// The sum of all rows.
fn sum_rows(rows: &[f32], target: &mut [f32]) {
    target.fill(0.0);
    for row in rows.chunks_exact(target.len()) {
        target.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}

/// exp(x) for x ≤ 0, relative error below 2·10⁻⁷; 0 below −87, where f32 loses its precision. The same bits on every CPU, which
/// the platform's function does not promise, and several values at once.
///
/// exp(x) = 2ᵏ·exp(r) with k the integer nearest x / ln 2, so |r| ≤ ln 2 / 2, where the series up to r⁷/7! is exact to f32:
/// the first term left out is 0.35⁸/8! = 5·10⁻⁹.
#[inline(always)]
pub(crate) fn exp_negative(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to an integer, whose low bits the sum then holds.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with zeros at its end so that k times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let within = x.max(-87.0);
    let shifted = within * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (within - k * LN_2_HIGH) - k * LN_2_LOW;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = (series * r + 1.0) * r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    if x < -87.0 { 0.0 } else { series * f32::from_bits(exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::Seed;

    #[test]
    fn exp_is_exact_to_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for step in 0..=870_000 {
            let x = -1e-4 * step as f32;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp_negative(x)) / exact - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!(exp_negative(0.0), 1.0);
        assert_eq!(exp_negative(-1e9), 0.0);
    }

    /// Sizes that leave a rest in every direction.
    #[test]
    fn blocks_and_rests_give_the_plain_sums() {
        let mut stream = Seed::from_number(4).stream("test dense");
        let mut draw = |count: usize| (0..count).map(|_| stream.normal() as f32).collect::<Vec<f32>>();
        for (rows, inputs, outputs) in [(1, 1, 1), (2, 4, 5), (3, 7, 6), (5, 19, 11), (18, 64, 10)] {
            let (x, w, b) = (draw(rows * inputs), draw(outputs * inputs), draw(outputs));
            let layer = Linear { weight: 0..w.len(), bias: w.len()..w.len() + outputs, inputs, outputs };
            let mut found = vec![0.0; rows * outputs];
            layer.outputs(&[w.clone(), b.clone()].concat(), &x, &mut found);
            for row in 0..rows {
                for output in 0..outputs {
                    let terms = (0..inputs).map(|i| f64::from(x[row * inputs + i]) * f64::from(w[output * inputs + i]));
                    let (sum, size) =
                        terms.fold((f64::from(b[output]), 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                    // Each of at most `inputs` + 1 additions rounds by 2⁻²⁴ of a partial sum no larger than `size` + |b|.
                    let bound = (inputs + 1) as f64 * 6e-8 * (size + f64::from(b[output].abs()));
                    assert!((f64::from(found[row * outputs + output]) - sum).abs() <= bound);
                }
            }
            let residuals = draw(rows * outputs);
            let mut gradient = vec![0.0; outputs * inputs];
            product(|row, output| residuals[row * outputs + output], rows, &x, inputs, &mut gradient);
            for (place, found) in gradient.iter().enumerate() {
                let (output, input) = (place / inputs, place % inputs);
                let sum = (0..rows).fold(0.0, |sum, row| sum + residuals[row * outputs + output] * x[row * inputs + input]);
                assert_eq!(*found, sum);
            }
        }
    }
}
