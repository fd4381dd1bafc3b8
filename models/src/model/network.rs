//! Networks of linear layers with ReLU between them, computed on the flat parameter vector without candle.
//!
//! For models of a few hundred parameters a step through candle costs several times what its arithmetic does: tensors are made,
//! a graph is recorded and walked. Here a step allocates nothing once its [`Workspace`] has grown to the batch.
//!
//! The forward pass has the rows of a batch as columns, the backward pass as rows: in both every inner loop runs over
//! neighbouring values that do not depend on each other, which the compiler turns into vector operations. A dot product along
//! a row would have to add up its lanes in the end (measured: three times slower).
//!
//! All sums are f32, term after term: over the inputs for an output, over the rows for a gradient. Neither the CPU nor
//! the blocking changes their order, nothing is fused and no function of the platform's mathematics library touches a parameter,
//! so equal inputs give equal bits on every CPU.
//!
//! Cost of a step on n rows: 2·n·w multiplications for w weights, and n·w more for every layer but the first.

use std::ops::Range;

use multiversion::multiversion;
use multiversion::target::selected_target;

use super::Layout;

/// Rows of a batch are padded to a multiple of this, the width of the narrowest vector registers of 64-bit CPUs.
const PADDING: usize = 4;
/// Columns computed at once where there are as many: with [`SIDE`] rows of them, what fits 16 vector registers; for AVX-512
/// [`WIDEST`].
const WIDE: usize = 8;
/// See [`WIDE`].
const WIDEST: usize = 16;
/// Outputs, or rows of a gradient, computed at once.
const SIDE: usize = 4;

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
    /// The batch turned round, `[features, padded rows]`.
    columns: Vec<f32>,
    layers: Vec<Values>,
    spare: Vec<f32>,
}

/// What a layer gave, after its ReLU where it has one.
#[derive(Clone, Debug, Default)]
struct Values {
    /// `[outputs, padded rows]`.
    columns: Vec<f32>,
    /// `[rows, outputs]`; in the backward pass their gradients.
    rows: Vec<f32>,
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
        let stride = rows.next_multiple_of(PADDING);
        let last = self.layers.len() - 1;
        let Workspace { inputs, columns, layers, .. } = workspace;
        columns.resize(self.layers[0].inputs * stride, 0.0);
        layers.resize_with(self.layers.len(), Values::default);
        turn(inputs, self.layers[0].inputs, columns, stride);
        for (index, layer) in self.layers.iter().enumerate() {
            let (before, after) = layers.split_at_mut(index);
            let inputs = before.last().map_or(&*columns, |values| &values.columns);
            let values = &mut after[0];
            values.columns.resize(layer.outputs * stride, 0.0);
            layer.outputs(parameters, inputs, stride, &mut values.columns);
            if index < last {
                // Not `max`, which would turn NaN into 0 and hide that the parameters are broken.
                values.columns.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
            }
            values.rows.resize(rows * layer.outputs, 0.0);
            turn_back(&values.columns, stride, &mut values.rows, layer.outputs);
        }
        &mut layers[last].rows
    }

    /// Writes to `gradient` the gradient that belongs to these gradients of the logits: what [`Dense::logits`] returned,
    /// replaced.
    pub(crate) fn gradient(&self, parameters: &[f32], rows: usize, workspace: &mut Workspace, gradient: &mut [f32]) {
        let Workspace { inputs, layers, spare, .. } = workspace;
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (before, after) = layers.split_at_mut(index);
            let residuals = &after[0].rows;
            sum_rows(residuals, &mut gradient[layer.bias.clone()]);
            let weight = &mut gradient[layer.weight.clone()];
            let Some(hidden) = before.last_mut() else {
                product(residuals, layer.outputs, inputs, layer.inputs, weight);
                continue;
            };
            product(residuals, layer.outputs, &hidden.rows, layer.inputs, weight);
            // The columns of this layer and the one before have done their work in the forward pass.
            let turned = &mut after[0].columns;
            turned.resize(layer.outputs * rows, 0.0);
            turn(&after[0].rows, layer.outputs, turned, rows);
            spare.resize(rows * layer.inputs, 0.0);
            product(turned, rows, &parameters[layer.weight.clone()], layer.inputs, spare);
            // ReLU passes a gradient where its output was above 0.
            for (value, through) in spare.iter_mut().zip(&hidden.rows) {
                *value = if *through > 0.0 { *value } else { 0.0 };
            }
            std::mem::swap(spare, &mut hidden.rows);
        }
    }
}

impl Linear {
    /// `outputs` `[outputs, stride]` of `inputs` `[inputs, stride]`.
    fn outputs(&self, parameters: &[f32], inputs: &[f32], stride: usize, outputs: &mut [f32]) {
        transform(&parameters[self.weight.clone()], &parameters[self.bias.clone()], self.inputs, inputs, stride, outputs);
    }
}

/// outputs `[outputs, stride]` = W·inputs + b for W `[outputs, width]` and inputs `[width, stride]`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn transform(weights: &[f32], bias: &[f32], width: usize, inputs: &[f32], stride: usize, outputs: &mut [f32]) {
    const IS_WIDE: bool = selected_target!().supports_feature_str("avx512f");
    let mut from = 0;
    if IS_WIDE {
        from = transform_columns::<WIDEST>(weights, bias, width, inputs, stride, from, outputs);
    }
    from = transform_columns::<WIDE>(weights, bias, width, inputs, stride, from, outputs);
    transform_columns::<PADDING>(weights, bias, width, inputs, stride, from, outputs);
}

/// [`transform`] of as many blocks of `C` columns as there are after `from`; the column after them.
#[inline(always)]
fn transform_columns<const C: usize>(
    weights: &[f32],
    bias: &[f32],
    width: usize,
    inputs: &[f32],
    stride: usize,
    mut from: usize,
    outputs: &mut [f32],
) -> usize {
    while from + C <= stride {
        let mut put = |output: usize, sums: [f32; C]| {
            let target = &mut outputs[output * stride + from..][..C];
            target.iter_mut().zip(sums).for_each(|(target, sum)| *target = bias[output] + sum);
        };
        let terms = inputs.chunks_exact(stride).map(|row| block::<C>(row, from));
        let mut sides = weights.chunks_exact(SIDE * width);
        let mut output = 0;
        for side in sides.by_ref() {
            // Four sums by name: an array of them makes the compiler pack them crosswise.
            let [mut a, mut b, mut c, mut d] = [[0f32; C]; SIDE];
            let (weights_a, rest) = side.split_at(width);
            let (weights_b, rest) = rest.split_at(width);
            let (weights_c, weights_d) = rest.split_at(width);
            let factors = weights_a.iter().zip(weights_b).zip(weights_c).zip(weights_d);
            for (values, (((wa, wb), wc), wd)) in terms.clone().zip(factors) {
                add(&mut a, *wa, values);
                add(&mut b, *wb, values);
                add(&mut c, *wc, values);
                add(&mut d, *wd, values);
            }
            [a, b, c, d].into_iter().enumerate().for_each(|(index, sums)| put(output + index, sums));
            output += SIDE;
        }
        for (index, weights) in sides.remainder().chunks_exact(width).enumerate() {
            let mut sums = [0f32; C];
            terms.clone().zip(weights).for_each(|(values, weight)| add(&mut sums, *weight, values));
            put(output + index, sums);
        }
        from += C;
    }
    from
}

/// target `[rows, width]` = Aᵀ·B for A `[terms, rows]` and B `[terms, width]`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn product(factors: &[f32], rows: usize, values: &[f32], width: usize, target: &mut [f32]) {
    const IS_WIDE: bool = selected_target!().supports_feature_str("avx512f");
    let mut from = 0;
    if IS_WIDE {
        from = product_columns::<WIDEST>(factors, rows, values, width, from, target);
    }
    from = product_columns::<WIDE>(factors, rows, values, width, from, target);
    for row in 0..rows {
        for column in from..width {
            let terms = factors.chunks_exact(rows).zip(values.chunks_exact(width));
            target[row * width + column] = terms.fold(0.0, |sum, (factors, values)| sum + factors[row] * values[column]);
        }
    }
}

/// [`product`] of as many blocks of `C` columns as there are after `from`; the column after them.
#[inline(always)]
fn product_columns<const C: usize>(
    factors: &[f32],
    rows: usize,
    values: &[f32],
    width: usize,
    mut from: usize,
    target: &mut [f32],
) -> usize {
    while from + C <= width {
        let terms = || factors.chunks_exact(rows).zip(values.chunks_exact(width).map(|row| block::<C>(row, from)));
        let mut put = |row: usize, sums: [f32; C]| target[row * width + from..][..C].copy_from_slice(&sums);
        let sides = rows / SIDE * SIDE;
        for row in (0..sides).step_by(SIDE) {
            let [mut a, mut b, mut c, mut d] = [[0f32; C]; SIDE];
            for (factors, values) in terms() {
                let [fa, fb, fc, fd] = block::<SIDE>(factors, row);
                add(&mut a, *fa, values);
                add(&mut b, *fb, values);
                add(&mut c, *fc, values);
                add(&mut d, *fd, values);
            }
            [a, b, c, d].into_iter().enumerate().for_each(|(index, sums)| put(row + index, sums));
        }
        for row in sides..rows {
            let mut sums = [0f32; C];
            terms().for_each(|(factors, values)| add(&mut sums, factors[row], values));
            put(row, sums);
        }
        from += C;
    }
    from
}

#[inline(always)]
fn add<const C: usize>(sums: &mut [f32; C], factor: f32, values: &[f32; C]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// `C` neighbours of a row.
#[inline(always)]
fn block<const C: usize>(row: &[f32], column: usize) -> &[f32; C] {
    row[column..].first_chunk().expect("blocks end within their row")
}

/// The transpose of `rows` `[…, width]`, each of its rows `stride` long.
fn turn(rows: &[f32], width: usize, columns: &mut [f32], stride: usize) {
    let mut sides = rows.chunks_exact(SIDE * width);
    let mut place = 0;
    for side in sides.by_ref() {
        let (a, rest) = side.split_at(width);
        let (b, rest) = rest.split_at(width);
        let (c, d) = rest.split_at(width);
        let across = a.iter().zip(b).zip(c).zip(d);
        for (column, (((a, b), c), d)) in columns.chunks_exact_mut(stride).zip(across) {
            column[place..][..SIDE].copy_from_slice(&[*a, *b, *c, *d]);
        }
        place += SIDE;
    }
    for (place, row) in (place..).zip(sides.remainder().chunks_exact(width)) {
        columns.chunks_exact_mut(stride).zip(row).for_each(|(column, value)| column[place] = *value);
    }
}

/// What [`turn`] undoes: rows `[…, width]` of `columns` `[width, stride]`.
fn turn_back(columns: &[f32], stride: usize, rows: &mut [f32], width: usize) {
    for (place, row) in rows.chunks_exact_mut(width).enumerate() {
        row.iter_mut().zip(columns.chunks_exact(stride)).for_each(|(value, column)| *value = column[place]);
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
        for (rows, inputs, outputs) in [(1, 1, 1), (2, 4, 5), (3, 7, 6), (5, 19, 11), (13, 8, 3), (18, 64, 10)] {
            let (x, w, b) = (draw(rows * inputs), draw(outputs * inputs), draw(outputs));
            let layer = Linear { weight: 0..w.len(), bias: w.len()..w.len() + outputs, inputs, outputs };
            let dense = Dense { layers: vec![layer] };
            // A workspace that has seen a larger batch gives the same.
            let mut workspace = Workspace { columns: vec![f32::NAN; 5000], inputs: x.clone(), ..Workspace::default() };
            let found = dense.logits(&[w.clone(), b.clone()].concat(), rows, &mut workspace).to_vec();
            for (place, found) in found.iter().enumerate() {
                let (row, output) = (place / outputs, place % outputs);
                let sum = (0..inputs).fold(0.0, |sum, i| sum + w[output * inputs + i] * x[row * inputs + i]);
                assert_eq!(*found, b[output] + sum, "row {row}, output {output} of {rows}, {inputs}, {outputs}");
            }
            let residuals = draw(rows * outputs);
            let mut gradient = vec![0.0; outputs * inputs];
            product(&residuals, outputs, &x, inputs, &mut gradient);
            for (place, found) in gradient.iter().enumerate() {
                let (output, input) = (place / inputs, place % inputs);
                let sum = (0..rows).fold(0.0, |sum, row| sum + residuals[row * outputs + output] * x[row * inputs + input]);
                assert_eq!(*found, sum, "output {output}, input {input} of {rows}, {inputs}, {outputs}");
            }
        }
    }
}
