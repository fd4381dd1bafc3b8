//! The products of training, on slices, in vector registers.
//!
//! The rows of a batch are the innermost axis, one lane each: a layer's values are `[features,
//! stride]` with `stride` rows, padded to whole vectors. Then a product with weights needs no
//! transposed copy of them and no sum across lanes, an image's neighbours are whole vectors, and
//! pooling is a maximum of vectors.
//!
//! Sums are f32, term after term in one fixed order, never fused: over the inputs for an output,
//! over the outputs for an input's gradient, over the rows for a weight's. So the width of a CPU's
//! registers changes no bit. The one sum across lanes, for a convolution's weight, has sixteen
//! partial sums on every CPU.
//!
//! A large product is shared by the threads of rayon's pool, each with outputs of its own, so their
//! number changes no bit either.
//!
//! The obvious loops are slow because of memory. Each product here reads its weights once, in the
//! order in which they are stored, and holds as many sums in registers as there are registers.

// A loop over a constant number of vectors is unrolled into registers; an iterator or a copy may
// pass them through memory.
#![allow(clippy::needless_range_loop, clippy::manual_memcpy)]

pub(super) mod per_row;

use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Outputs computed at once.
pub(super) const SIDE: usize = 8;
/// Outputs whose terms [`transposed`] adds before it moves to the next inputs: as many lines of
/// weights as stay in the first cache.
const TERMS: usize = 16;
/// Multiplications for which a second thread is worth its start, some microseconds (a guess).
const SHARED: usize = 1 << 22;
/// Partial sums of a sum across lanes, a multiple of every CPU's lanes.
pub(super) const SUMS: usize = 16;
/// Outputs and channels whose products [`convolution_weights`] computes at once.
const QUAD: usize = 4;

/// Runs on the widest registers that this CPU has.
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    // Asking the CPU takes as long as a small product.
    static ARCH: OnceLock<Arch> = OnceLock::new();
    match *ARCH.get_or_init(Arch::new) {
        // Such a CPU can do more than one value at a time: the compiler turns four into its
        // vectors.
        Arch::Scalar => op.with_simd(pulp::Scalar128b),
        #[allow(unreachable_patterns)] // where a CPU's vectors are unknown to pulp
        arch => arch.dispatch(op),
    }
}

/// Of `count` outputs, how many each thread takes, a multiple of `side`; `None` if one thread does
/// it all, because it is the only one or the multiplications are few. Then rayon is not used; it
/// would hand even a single part to another thread.
fn share(count: usize, side: usize, multiplications: usize) -> Option<usize> {
    let threads = if multiplications < SHARED {
        1
    } else {
        rayon::current_num_threads()
    };
    (threads > 1).then(|| count.div_ceil(threads).next_multiple_of(side))
}

/// Lanes of this CPU's vectors: strides are multiples of them.
pub(super) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    dispatch(Lanes)
}

/// Calls a function for `$place` from 0 to `$count`, each time with as many of them at once (its
/// second parameter) as there are.
macro_rules! in_sides {
    ($count:expr, $place:ident, $call:ident($($argument:tt)*)) => {
        let count = $count;
        let mut $place = 0;
        while $place < count {
            $place += match count - $place {
                SIDE.. => {
                    $call::<S, SIDE>($($argument)*);
                    SIDE
                }
                4.. => {
                    $call::<S, 4>($($argument)*);
                    4
                }
                2.. => {
                    $call::<S, 2>($($argument)*);
                    2
                }
                _ => {
                    $call::<S, 1>($($argument)*);
                    1
                }
            };
        }
    };
}

#[inline(always)]
fn load<S: Simd, const N: usize>(simd: S, values: &[f32]) -> [S::f32s; N] {
    let (vectors, _) = S::as_simd_f32s(&values[..N * S::F32_LANES]);
    let mut loaded = [simd.splat_f32s(0.0); N];
    for n in 0..N {
        loaded[n] = vectors[n];
    }
    loaded
}

#[inline(always)]
fn store<S: Simd, const N: usize>(values: &mut [f32], vectors: [S::f32s; N]) {
    let (target, _) = S::as_mut_simd_f32s(&mut values[..N * S::F32_LANES]);
    for n in 0..N {
        target[n] = vectors[n];
    }
}

/// sums[o] += factors[o] · values.
#[inline(always)]
fn add_products<S: Simd, const O: usize, const N: usize>(
    simd: S,
    sums: &mut [[S::f32s; N]; O],
    factors: [f32; O],
    values: [S::f32s; N],
) {
    for o in 0..O {
        let factor = simd.splat_f32s(factors[o]);
        for n in 0..N {
            sums[o][n] = simd.add_f32s(sums[o][n], simd.mul_f32s(factor, values[n]));
        }
    }
}

/// outputs `[outputs, stride]` = W·inputs + b for W `[outputs, width]` and inputs `[width,
/// stride]`.
pub(super) fn transform(
    weights: &[f32],
    bias: &[f32],
    width: usize,
    inputs: &[f32],
    stride: usize,
    outputs: &mut [f32],
) {
    let Some(each) = share(bias.len(), SIDE, weights.len() * stride) else {
        return dispatch(Transform {
            weights,
            bias,
            width,
            inputs,
            stride,
            outputs,
        });
    };
    let parts = outputs
        .par_chunks_mut(each * stride)
        .zip(weights.par_chunks(each * width))
        .zip(bias.par_chunks(each));
    parts.for_each(|((outputs, weights), bias)| {
        dispatch(Transform {
            weights,
            bias,
            width,
            inputs,
            stride,
            outputs,
        })
    });
}

struct Transform<'a> {
    weights: &'a [f32],
    bias: &'a [f32],
    width: usize,
    inputs: &'a [f32],
    stride: usize,
    outputs: &'a mut [f32],
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        in_sides!(
            self.bias.len(),
            output,
            transform_side(simd, &mut self, output)
        );
    }
}

#[inline(always)]
fn transform_side<S: Simd, const O: usize>(simd: S, all: &mut Transform<'_>, output: usize) {
    let mut from = 0;
    while from < all.stride {
        // Two vectors of every output if registers are wide; then there are also more than sixteen.
        if S::F32_LANES >= 16 && all.stride - from >= 2 * S::F32_LANES {
            transform_block::<S, O, 2>(simd, all, output, from);
            from += 2 * S::F32_LANES;
        } else {
            transform_block::<S, O, 1>(simd, all, output, from);
            from += S::F32_LANES;
        }
    }
}

#[inline(always)]
fn transform_block<S: Simd, const O: usize, const N: usize>(
    simd: S,
    all: &mut Transform<'_>,
    output: usize,
    from: usize,
) {
    let (width, stride) = (all.width, all.stride);
    let mut rows: [&[f32]; O] = [&[]; O];
    for o in 0..O {
        rows[o] = &all.weights[(output + o) * width..][..width];
    }
    let mut sums = [[simd.splat_f32s(0.0); N]; O];
    let mut place = from;
    for k in 0..width {
        let values = load::<S, N>(simd, &all.inputs[place..]);
        place += stride;
        let mut factors = [0.0; O];
        for o in 0..O {
            factors[o] = rows[o][k];
        }
        add_products(simd, &mut sums, factors, values);
    }
    for o in 0..O {
        let bias = simd.splat_f32s(all.bias[output + o]);
        for n in 0..N {
            sums[o][n] = simd.add_f32s(bias, sums[o][n]);
        }
        store::<S, N>(&mut all.outputs[(output + o) * stride + from..], sums[o]);
    }
}

/// inputs `[width, stride]` = Wᵀ·residuals for W `[outputs, width]` and residuals `[outputs,
/// stride]`.
pub(super) fn transposed(
    weights: &[f32],
    width: usize,
    residuals: &[f32],
    stride: usize,
    inputs: &mut [f32],
) {
    let Some(each) = share(width, SIDE, weights.len() * stride) else {
        return dispatch(Transposed {
            weights,
            width,
            first: 0,
            residuals,
            stride,
            inputs,
        });
    };
    let parts = inputs.par_chunks_mut(each * stride).enumerate();
    parts.for_each(|(part, inputs)| {
        dispatch(Transposed {
            weights,
            width,
            first: part * each,
            residuals,
            stride,
            inputs,
        })
    });
}

struct Transposed<'a> {
    weights: &'a [f32],
    width: usize,
    /// The first of the inputs in `inputs`.
    first: usize,
    residuals: &'a [f32],
    stride: usize,
    inputs: &'a mut [f32],
}

impl WithSimd for Transposed<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let outputs = self.weights.len() / self.width;
        let mut terms = 0..0;
        while terms.end < outputs {
            terms = terms.end..(terms.end + TERMS).min(outputs);
            in_sides!(
                self.inputs.len() / self.stride,
                input,
                transposed_side(simd, &mut self, input, terms.clone())
            );
        }
    }
}

#[inline(always)]
fn transposed_side<S: Simd, const I: usize>(
    simd: S,
    all: &mut Transposed<'_>,
    input: usize,
    terms: std::ops::Range<usize>,
) {
    let mut from = 0;
    while from < all.stride {
        if S::F32_LANES >= 16 && all.stride - from >= 2 * S::F32_LANES {
            transposed_block::<S, I, 2>(simd, all, input, terms.clone(), from);
            from += 2 * S::F32_LANES;
        } else {
            transposed_block::<S, I, 1>(simd, all, input, terms.clone(), from);
            from += S::F32_LANES;
        }
    }
}

#[inline(always)]
fn transposed_block<S: Simd, const I: usize, const N: usize>(
    simd: S,
    all: &mut Transposed<'_>,
    input: usize,
    terms: std::ops::Range<usize>,
    from: usize,
) {
    let (width, stride) = (all.width, all.stride);
    let mut sums = [[simd.splat_f32s(0.0); N]; I];
    if terms.start > 0 {
        for i in 0..I {
            sums[i] = load::<S, N>(simd, &all.inputs[(input + i) * stride + from..]);
        }
    }
    for term in terms {
        let values = load::<S, N>(simd, &all.residuals[term * stride + from..]);
        let row = &all.weights[term * width + all.first + input..][..I];
        let mut factors = [0.0; I];
        factors.copy_from_slice(row);
        add_products(simd, &mut sums, factors, values);
    }
    for i in 0..I {
        store::<S, N>(&mut all.inputs[(input + i) * stride + from..], sums[i]);
    }
}

/// gradient `[outputs, width]` = residuals·rows for residuals `[outputs, stride]`, of which the
/// first `rows.len()` lanes count, and rows of `width` values. The values may be followed by others
/// up to a multiple of two vectors.
pub(super) fn weight_gradient(
    residuals: &[f32],
    stride: usize,
    rows: &Rows<'_>,
    gradient: &mut [f32],
) {
    let Some(each) = share(
        gradient.len() / rows.width,
        SIDE,
        gradient.len() * rows.count,
    ) else {
        return dispatch(WeightGradient {
            residuals,
            stride,
            rows,
            gradient,
        });
    };
    let parts = gradient
        .par_chunks_mut(each * rows.width)
        .zip(residuals.par_chunks(each * stride));
    parts.for_each(|(gradient, residuals)| {
        dispatch(WeightGradient {
            residuals,
            stride,
            rows,
            gradient,
        })
    });
}

/// The rows of a batch, one after the other, followed by room for two vectors.
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) count: usize,
    pub(super) width: usize,
    /// Distance from one row to the next; at least the width.
    pub(super) stride: usize,
}

/// Values to follow the last row of [`Rows`].
pub(super) const ROOM: usize = 2 * SUMS;

struct WeightGradient<'a> {
    residuals: &'a [f32],
    stride: usize,
    rows: &'a Rows<'a>,
    gradient: &'a mut [f32],
}

impl WithSimd for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        in_sides!(
            self.gradient.len() / self.rows.width,
            output,
            gradient_side(simd, &mut self, output)
        );
    }
}

#[inline(always)]
fn gradient_side<S: Simd, const O: usize>(simd: S, all: &mut WeightGradient<'_>, output: usize) {
    let mut from = 0;
    while from < all.rows.width {
        if S::F32_LANES >= 16 && all.rows.width - from > S::F32_LANES {
            gradient_block::<S, O, 2>(simd, all, output, from);
            from += 2 * S::F32_LANES;
        } else {
            gradient_block::<S, O, 1>(simd, all, output, from);
            from += S::F32_LANES;
        }
    }
}

#[inline(always)]
fn gradient_block<S: Simd, const O: usize, const N: usize>(
    simd: S,
    all: &mut WeightGradient<'_>,
    output: usize,
    from: usize,
) {
    let Rows {
        values,
        count,
        width,
        stride,
    } = *all.rows;
    let mut lines: [&[f32]; O] = [&[]; O];
    for o in 0..O {
        lines[o] = &all.residuals[(output + o) * all.stride..][..count];
    }
    let mut sums = [[simd.splat_f32s(0.0); N]; O];
    let mut place = from;
    for row in 0..count {
        let values = load::<S, N>(simd, &values[place..]);
        place += stride;
        let mut factors = [0.0; O];
        for o in 0..O {
            factors[o] = lines[o][row];
        }
        add_products(simd, &mut sums, factors, values);
    }
    for o in 0..O {
        let target = &mut all.gradient[(output + o) * width + from..(output + o + 1) * width];
        if target.len() >= N * S::F32_LANES {
            store::<S, N>(target, sums[o]);
        } else {
            for (n, rest) in target.chunks_mut(S::F32_LANES).enumerate() {
                simd.partial_store_f32s(rest, sums[o][n]);
            }
        }
    }
}

/// The sizes of a convolution of stride 1 that pads to the same size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Side of the square kernel, odd.
    pub(super) kernel: usize,
}

impl Plane {
    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Places of the kernel that lie inside the image for a pixel at `at` of `side`.
    #[inline(always)]
    fn taps(&self, at: usize, side: usize) -> std::ops::Range<usize> {
        let reach = self.kernel / 2;
        reach.saturating_sub(at)..self.kernel.min(side + reach - at)
    }

    /// Pixels of `side` whose neighbour at place `tap` of the kernel lies inside the image.
    #[inline(always)]
    fn span(&self, tap: usize, side: usize) -> std::ops::Range<usize> {
        let reach = self.kernel / 2;
        reach.saturating_sub(tap)..side.min((side + reach).saturating_sub(tap))
    }
}

/// Puts weights `[outputs, channels·kernel²]` in the order in which [`convolve`] reads them: for
/// each side of outputs, term after term, the outputs' weights next to each other. `at` gives the
/// weight of an output and a term.
pub(super) fn pack(
    outputs: usize,
    terms: usize,
    packed: &mut Vec<f32>,
    at: impl Fn(usize, usize) -> f32,
) {
    packed.clear();
    let mut output = 0;
    while output < outputs {
        let side = side_of(outputs - output);
        packed.extend(
            (0..terms)
                .flat_map(|term| (output..output + side).map(move |output| (output, term)))
                .map(|(o, t)| at(o, t)),
        );
        output += side;
    }
}

/// The largest number of outputs computed at once of those left.
fn side_of(left: usize) -> usize {
    if left >= SIDE {
        SIDE
    } else {
        1 << left.ilog2()
    }
}

/// outputs `[outputs, height, width, stride]` of inputs `[channels, height, width, stride]` and
/// packed weights, without a bias.
pub(super) fn convolve(
    plane: Plane,
    channels: usize,
    packed: &[f32],
    inputs: &[f32],
    stride: usize,
    outputs: &mut [f32],
) {
    let (size, terms) = (
        plane.pixels() * stride,
        channels * plane.kernel * plane.kernel,
    );
    let Some(each) = share(outputs.len() / size, SIDE, outputs.len() * terms) else {
        return dispatch(Convolve {
            plane,
            channels,
            packed,
            inputs,
            stride,
            outputs,
        });
    };
    let parts = outputs
        .par_chunks_mut(each * size)
        .zip(packed.par_chunks(each * terms));
    parts.for_each(|(outputs, packed)| {
        dispatch(Convolve {
            plane,
            channels,
            packed,
            inputs,
            stride,
            outputs,
        })
    });
}

struct Convolve<'a> {
    plane: Plane,
    channels: usize,
    packed: &'a [f32],
    inputs: &'a [f32],
    stride: usize,
    outputs: &'a mut [f32],
}

impl WithSimd for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let outputs = self.outputs.len() / (self.plane.pixels() * self.stride);
        in_sides!(outputs, output, convolve_side(simd, &mut self, output));
    }
}

#[inline(always)]
fn convolve_side<S: Simd, const O: usize>(simd: S, all: &mut Convolve<'_>, output: usize) {
    for y in 0..all.plane.height {
        for x in 0..all.plane.width {
            let mut from = 0;
            while from < all.stride {
                if S::F32_LANES >= 16 && all.stride - from >= 2 * S::F32_LANES {
                    convolve_pixel::<S, O, 2>(simd, all, output, [y, x], from);
                    from += 2 * S::F32_LANES;
                } else {
                    convolve_pixel::<S, O, 1>(simd, all, output, [y, x], from);
                    from += S::F32_LANES;
                }
            }
        }
    }
}

#[inline(always)]
fn convolve_pixel<S: Simd, const O: usize, const N: usize>(
    simd: S,
    all: &mut Convolve<'_>,
    output: usize,
    [y, x]: [usize; 2],
    from: usize,
) {
    let (plane, stride) = (all.plane, all.stride);
    let Plane {
        height,
        width,
        kernel,
    } = plane;
    let (down, right) = (plane.taps(y, height), plane.taps(x, width));
    let terms = all.channels * kernel * kernel;
    let packed = &all.packed[output * terms..][..O * terms];
    let reach = kernel / 2;
    let mut sums = [[simd.splat_f32s(0.0); N]; O];
    for channel in 0..all.channels {
        for tap in down.clone() {
            let line = (channel * height + y + tap - reach) * width + x + right.start - reach;
            let mut place = line * stride + from;
            let term = (channel * kernel + tap) * kernel;
            let (factors, _) =
                packed[(term + right.start) * O..(term + right.end) * O].as_chunks::<O>();
            for factors in factors {
                let values = load::<S, N>(simd, &all.inputs[place..]);
                place += stride;
                add_products(simd, &mut sums, *factors, values);
            }
        }
    }
    for o in 0..O {
        let pixel = ((output + o) * height + y) * width + x;
        store::<S, N>(&mut all.outputs[pixel * stride + from..], sums[o]);
    }
}

/// gradient `[outputs, channels, kernel, kernel]` of a convolution's weights for inputs `[channels,
/// height, width, stride]` and residuals `[outputs, height, width, stride]`. The stride is a
/// multiple of [`SUMS`], and its padding holds zeros.
pub(super) fn convolution_weights(
    plane: Plane,
    channels: usize,
    inputs: &[f32],
    residuals: &[f32],
    stride: usize,
    gradient: &mut [f32],
) {
    let (size, terms) = (
        plane.pixels() * stride,
        channels * plane.kernel * plane.kernel,
    );
    let Some(each) = share(gradient.len() / terms, QUAD, residuals.len() * terms) else {
        return dispatch(ConvolutionWeights {
            plane,
            channels,
            inputs,
            residuals,
            stride,
            gradient,
            sums: Vec::new(),
        });
    };
    let parts = gradient
        .par_chunks_mut(each * terms)
        .zip(residuals.par_chunks(each * size));
    parts.for_each(|(gradient, residuals)| {
        dispatch(ConvolutionWeights {
            plane,
            channels,
            inputs,
            residuals,
            stride,
            gradient,
            sums: Vec::new(),
        });
    });
}

struct ConvolutionWeights<'a> {
    plane: Plane,
    channels: usize,
    inputs: &'a [f32],
    residuals: &'a [f32],
    stride: usize,
    gradient: &'a mut [f32],
    /// The partial sums of a quad of outputs and channels, for each place of the kernel.
    sums: Vec<f32>,
}

impl WithSimd for ConvolutionWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match S::F32_LANES {
            16 => self.all::<S, 1>(simd),
            8 => self.all::<S, 2>(simd),
            _ => self.all::<S, 4>(simd),
        }
    }
}

impl ConvolutionWeights<'_> {
    #[inline(always)]
    fn all<S: Simd, const N: usize>(&mut self, simd: S) {
        let outputs = self.residuals.len() / (self.plane.pixels() * self.stride);
        for output in (0..outputs).step_by(QUAD) {
            for channel in (0..self.channels).step_by(QUAD) {
                match (outputs - output >= QUAD, self.channels - channel >= QUAD) {
                    (true, true) => self.quad::<S, N, QUAD, QUAD>(simd, output, channel),
                    (true, false) => {
                        (channel..self.channels)
                            .for_each(|channel| self.quad::<S, N, QUAD, 1>(simd, output, channel));
                    }
                    (false, true) => (output..outputs)
                        .for_each(|output| self.quad::<S, N, 1, QUAD>(simd, output, channel)),
                    (false, false) => {
                        for output in output..outputs {
                            (channel..self.channels)
                                .for_each(|channel| self.quad::<S, N, 1, 1>(simd, output, channel));
                        }
                    }
                }
            }
        }
    }

    /// The gradients of `O` outputs and `C` channels: every line of pixels is read while it is in
    /// the first cache.
    #[inline(always)]
    fn quad<S: Simd, const N: usize, const O: usize, const C: usize>(
        &mut self,
        simd: S,
        output: usize,
        channel: usize,
    ) {
        self.add_quad::<S, N, O, C>(simd, [output, channel]);
        let (channels, kernel) = (self.channels, self.plane.kernel);
        for (place, sums) in self.sums.chunks_exact(SUMS).enumerate() {
            let (tap, o, c) = (place / (O * C), place / C % O, place % C);
            let target = ((output + o) * channels + channel + c) * kernel * kernel + tap;
            self.gradient[target] = sums.iter().sum();
        }
    }

    /// The partial sums of `O` outputs and `C` channels, in `sums`.
    #[inline(always)]
    fn add_quad<S: Simd, const N: usize, const O: usize, const C: usize>(
        &mut self,
        simd: S,
        place: [usize; 2],
    ) {
        let Plane { height, kernel, .. } = self.plane;
        self.sums.clear();
        self.sums.resize(kernel * kernel * O * C * SUMS, 0.0);
        for y in 0..height {
            for down in self.plane.taps(y, height) {
                for right in 0..kernel {
                    self.run::<S, N, O, C>(simd, place, y, [down, right]);
                }
            }
        }
    }

    /// Adds the products of a line of residuals and a line of inputs to the sums of a place of the
    /// kernel.
    #[inline(always)]
    fn run<S: Simd, const N: usize, const O: usize, const C: usize>(
        &mut self,
        simd: S,
        [output, channel]: [usize; 2],
        y: usize,
        [down, right]: [usize; 2],
    ) {
        let Plane {
            height,
            width,
            kernel,
        } = self.plane;
        let reach = kernel / 2;
        let span = self.plane.span(right, width);
        let length = span.len() * self.stride;
        let mut residuals: [&[f32]; O] = [&[]; O];
        for o in 0..O {
            let line = ((output + o) * height + y) * width + span.start;
            residuals[o] = &self.residuals[line * self.stride..][..length];
        }
        let mut inputs: [&[f32]; C] = [&[]; C];
        for c in 0..C {
            let line =
                ((channel + c) * height + y + down - reach) * width + span.start + right - reach;
            inputs[c] = &self.inputs[line * self.stride..][..length];
        }
        let kept = &mut self.sums[(down * kernel + right) * O * C * SUMS..][..O * C * SUMS];
        let mut sums = [[[simd.splat_f32s(0.0); N]; C]; O];
        for o in 0..O {
            for c in 0..C {
                sums[o][c] = load::<S, N>(simd, &kept[(o * C + c) * SUMS..]);
            }
        }
        for place in (0..length).step_by(SUMS) {
            let mut values = [[simd.splat_f32s(0.0); N]; C];
            for c in 0..C {
                values[c] = load::<S, N>(simd, &inputs[c][place..]);
            }
            for o in 0..O {
                let factors = load::<S, N>(simd, &residuals[o][place..]);
                for c in 0..C {
                    for n in 0..N {
                        sums[o][c][n] =
                            simd.add_f32s(sums[o][c][n], simd.mul_f32s(factors[n], values[c][n]));
                    }
                }
            }
        }
        for o in 0..O {
            for c in 0..C {
                store::<S, N>(&mut kept[(o * C + c) * SUMS..], sums[o][c]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::{Seed, Stream};

    fn draw(stream: &mut Stream, count: usize) -> Vec<f32> {
        (0..count).map(|_| stream.normal() as f32).collect()
    }

    /// Every product by this CPU's registers and by four lanes.
    #[test]
    fn the_width_of_registers_changes_no_bit() {
        let mut stream = Seed::from_number(7).stream("test kernel");
        let stream = &mut stream;
        for (width, outputs, stride) in [(5, 3, 16), (33, 23, 48), (64, 10, 32), (40, 16, 16)] {
            let (weights, bias) = (draw(stream, width * outputs), draw(stream, outputs));
            let (inputs, residuals) =
                (draw(stream, width * stride), draw(stream, outputs * stride));
            let each = |length: usize, run: &mut dyn FnMut(bool, &mut [f32])| {
                let mut found = [vec![f32::NAN; length], vec![f32::NAN; length]];
                run(true, &mut found[0]);
                run(false, &mut found[1]);
                assert_eq!(found[0], found[1], "{width}, {outputs}, {stride}");
            };
            each(outputs * stride, &mut |narrow, outputs| {
                let op = Transform {
                    weights: &weights,
                    bias: &bias,
                    width,
                    inputs: &inputs,
                    stride,
                    outputs,
                };
                if narrow {
                    op.with_simd(pulp::Scalar128b)
                } else {
                    dispatch(op)
                }
            });
            each(width * stride, &mut |narrow, inputs| {
                let op = Transposed {
                    weights: &weights,
                    width,
                    first: 0,
                    residuals: &residuals,
                    stride,
                    inputs,
                };
                if narrow {
                    op.with_simd(pulp::Scalar128b)
                } else {
                    dispatch(op)
                }
            });
            let values = draw(stream, stride * width + ROOM);
            let rows = Rows {
                values: &values,
                count: stride - 3,
                width,
                stride: width,
            };
            each(width * outputs, &mut |narrow, gradient| {
                let op = WeightGradient {
                    residuals: &residuals,
                    stride,
                    rows: &rows,
                    gradient,
                };
                if narrow {
                    op.with_simd(pulp::Scalar128b)
                } else {
                    dispatch(op)
                }
            });
        }
    }

    /// Against the definition, term after term in the order that the module documents.
    #[test]
    fn convolutions_are_the_plain_sums_on_every_width() {
        let mut stream = Seed::from_number(8).stream("test convolution");
        let stream = &mut stream;
        for (channels, outputs, height, width, kernel) in [
            (1, 6, 4, 6, 3),
            (6, 5, 6, 4, 1),
            (5, 9, 6, 8, 5),
            (4, 4, 4, 4, 3),
        ] {
            let (plane, stride, taps) = (
                Plane {
                    height,
                    width,
                    kernel,
                },
                16,
                kernel * kernel,
            );
            let weights = draw(stream, outputs * channels * taps);
            let inputs = draw(stream, channels * plane.pixels() * stride);
            let residuals = draw(stream, outputs * plane.pixels() * stride);
            // The input's place for a pixel and a tap, if that lies inside.
            let source = |channel: usize, [y, x]: [usize; 2], tap: usize| {
                let y = (y + tap / kernel)
                    .checked_sub(kernel / 2)
                    .filter(|y| *y < height)?;
                let x = (x + tap % kernel)
                    .checked_sub(kernel / 2)
                    .filter(|x| *x < width)?;
                Some(((channel * height + y) * width + x) * stride)
            };
            let mut packed = Vec::new();
            pack(outputs, channels * taps, &mut packed, |output, term| {
                weights[output * channels * taps + term]
            });
            for narrow in [true, false] {
                let mut found = vec![f32::NAN; outputs * plane.pixels() * stride];
                let op = Convolve {
                    plane,
                    channels,
                    packed: &packed,
                    inputs: &inputs,
                    stride,
                    outputs: &mut found,
                };
                if narrow {
                    op.with_simd(pulp::Scalar128b)
                } else {
                    dispatch(op)
                }
                for (place, found) in found.iter().enumerate() {
                    let (lane, pixel) = (place % stride, place / stride);
                    let (output, at) = (
                        pixel / plane.pixels(),
                        [pixel / width % height, pixel % width],
                    );
                    let terms = (0..channels * taps).filter_map(|term| {
                        let input = source(term / taps, at, term % taps)?;
                        Some(weights[output * channels * taps + term] * inputs[input + lane])
                    });
                    assert_eq!(*found, terms.fold(0.0, |sum, term| sum + term));
                }
            }
            let mut gradients = [vec![f32::NAN; weights.len()], vec![f32::NAN; weights.len()]];
            for (narrow, gradient) in [true, false].into_iter().zip(&mut gradients) {
                let sums = Vec::new();
                let op = ConvolutionWeights {
                    plane,
                    channels,
                    inputs: &inputs,
                    residuals: &residuals,
                    stride,
                    gradient,
                    sums,
                };
                if narrow {
                    op.with_simd(pulp::Scalar128b)
                } else {
                    dispatch(op)
                }
            }
            assert_eq!(gradients[0], gradients[1]);
            for (place, found) in gradients[0].iter().enumerate() {
                let (output, channel, tap) = (
                    place / (channels * taps),
                    place / taps % channels,
                    place % taps,
                );
                let mut sum = 0.0f64;
                for pixel in 0..plane.pixels() {
                    let Some(input) = source(channel, [pixel / width, pixel % width], tap) else {
                        continue;
                    };
                    let line = (output * plane.pixels() + pixel) * stride;
                    sum += (0..stride)
                        .map(|lane| {
                            f64::from(residuals[line + lane]) * f64::from(inputs[input + lane])
                        })
                        .sum::<f64>();
                }
                // At most 768 terms of size about 1: f32 sums are off by less than 768 · 2⁻²⁴ · 30.
                assert!((sum - f64::from(*found)).abs() < 2e-3, "{sum} {found}");
            }
        }
    }
}
