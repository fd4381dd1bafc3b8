//! What is computed for each row of a batch apart: squares of norms, scaled rows, the gradients of a
//! convolution. Each row has a lane of its own, so its bits do not depend on the rows beside it.

use pulp::{Simd, WithSimd};

use super::{ConvolutionWeights, Plane, QUAD, SUMS, dispatch};

/// The gradients `[outputs, channels, kernel, kernel, SUMS]` of a convolution's weights, each row's
/// in a lane, for inputs `[channels, height, width, SUMS]` and residuals `[outputs, height, width,
/// SUMS]` of [`SUMS`] rows.
///
/// It is the sum across lanes of [`super::convolution_weights`] left out.
pub(in crate::model) fn convolution_rows(
    plane: Plane,
    channels: usize,
    inputs: &[f32],
    residuals: &[f32],
    gradients: &mut [f32],
) {
    dispatch(ConvolutionRows {
        channels,
        products: ConvolutionWeights {
            plane,
            channels,
            inputs,
            residuals,
            stride: SUMS,
            gradient: &mut [],
            sums: Vec::new(),
        },
        gradients,
    });
}

struct ConvolutionRows<'a> {
    channels: usize,
    products: ConvolutionWeights<'a>,
    gradients: &'a mut [f32],
}

impl WithSimd for ConvolutionRows<'_> {
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

impl ConvolutionRows<'_> {
    #[inline(always)]
    fn all<S: Simd, const N: usize>(&mut self, simd: S) {
        let pixels = self.products.plane.pixels() * SUMS;
        let outputs = self.products.residuals.len() / pixels;
        let sides = |count: usize| {
            let quads = (0..count / QUAD).map(|quad| (quad * QUAD, true));
            quads.chain((count / QUAD * QUAD..count).map(|single| (single, false)))
        };
        for (output, outputs_quad) in sides(outputs) {
            for (channel, channels_quad) in sides(self.channels) {
                let place = [output, channel];
                match (outputs_quad, channels_quad) {
                    (true, true) => self.side::<S, N, QUAD, QUAD>(simd, place),
                    (true, false) => self.side::<S, N, QUAD, 1>(simd, place),
                    (false, true) => self.side::<S, N, 1, QUAD>(simd, place),
                    (false, false) => self.side::<S, N, 1, 1>(simd, place),
                }
            }
        }
    }

    #[inline(always)]
    fn side<S: Simd, const N: usize, const O: usize, const C: usize>(
        &mut self,
        simd: S,
        [output, channel]: [usize; 2],
    ) {
        let products = &mut self.products;
        products.add_quad::<S, N, O, C>(simd, [output, channel]);
        let taps = products.plane.kernel * products.plane.kernel;
        for (place, sums) in products.sums.chunks_exact(SUMS).enumerate() {
            let (tap, o, c) = (place / (O * C), place / C % O, place % C);
            let target = ((output + o) * self.channels + channel + c) * taps + tap;
            self.gradients[target * SUMS..][..SUMS].copy_from_slice(sums);
        }
    }
}

/// Adds each lane's squares over `columns` `[features, stride]` to `squares` `[stride]`.
pub(in crate::model) fn add_squares(columns: &[f32], squares: &mut [f64]) {
    struct Op<'a>(&'a [f32], &'a mut [f64]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Op(columns, squares) = self;
            let stride = squares.len();
            for (lane, squares) in squares.chunks_mut(SUMS).enumerate() {
                // The sums of a few lanes stay in registers.
                let mut sums = [0.0; SUMS];
                sums[..squares.len()].copy_from_slice(squares);
                for lanes in columns.chunks_exact(stride) {
                    let lanes = &lanes[lane * SUMS..];
                    for (sum, value) in sums.iter_mut().zip(&lanes[..squares.len()]) {
                        let value = f64::from(*value);
                        *sum += value * value;
                    }
                }
                squares.copy_from_slice(&sums[..squares.len()]);
            }
        }
    }
    dispatch(Op(columns, squares));
}

/// Multiplies each lane of `columns` `[features, stride]` by its factor; 0 gives 0 whatever the
/// value is.
pub(in crate::model) fn scale(columns: &mut [f32], factors: &[f32]) {
    struct Op<'a>(&'a mut [f32], &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Op(columns, factors) = self;
            for lanes in columns.chunks_exact_mut(factors.len()) {
                for (value, factor) in lanes.iter_mut().zip(factors) {
                    *value = if *factor == 0.0 { 0.0 } else { *value * factor };
                }
            }
        }
    }
    dispatch(Op(columns, factors));
}

/// Adds f32 values to f64 sums.
pub(in crate::model) fn add(values: &[f32], sums: &mut [f64]) {
    struct Op<'a>(&'a [f32], &'a mut [f64]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (sum, value) in self.1.iter_mut().zip(self.0) {
                *sum += f64::from(*value);
            }
        }
    }
    dispatch(Op(values, sums));
}

/// Adds to each sum the sum of its lanes of `columns` `[sums, stride]` in f64.
pub(in crate::model) fn add_lanes(columns: &[f32], stride: usize, sums: &mut [f64]) {
    struct Op<'a>(&'a [f32], usize, &'a mut [f64]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Op(columns, stride, sums) = self;
            for (sum, lanes) in sums.iter_mut().zip(columns.chunks_exact(stride)) {
                let (chunks, rest) = lanes.as_chunks::<8>();
                let mut parts = [0.0; 8];
                for chunk in chunks {
                    for (part, value) in parts.iter_mut().zip(chunk) {
                        *part += f64::from(*value);
                    }
                }
                let rest = rest.iter().map(|value| f64::from(*value));
                *sum += parts.into_iter().chain(rest).sum::<f64>();
            }
        }
    }
    dispatch(Op(columns, stride, sums));
}
