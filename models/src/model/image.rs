//! Convolution and max-pooling with gradients of our own, because candle 0.11's do not serve on CPUs: the backward pass of its
//! convolution is right but takes most of a step, and that of its `max_pool2d` is wrong: it gives a quarter of the gradient
//! to the only maximum of a 2×2 window (it multiplies by the number of maxima over four instead of dividing by it).

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

/// The maximum of each 2×2 window: `[…, height, width]`, both even, to `[…, height / 2, width / 2]`. The gradient goes to the
/// first maximum of the window.
#[derive(Debug)]
pub(super) struct MaxPool;

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let pixels = contiguous(storage, layout)?;
        let (a, b, height, width) = layout.shape().dims4()?;
        let mut pooled = Vec::with_capacity(pixels.len() / 4);
        each_window(width, pixels.len(), |window| pooled.push(pixels[first_maximum(pixels, window)]));
        Ok((CpuStorage::F32(pooled), Shape::from((a, b, height / 2, width / 2))))
    }

    fn bwd(&self, argument: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(argument.apply_op2_no_bwd(&gradient.contiguous()?, &Unpool)?))
    }
}

/// The gradient of [`MaxPool`]: its argument and the gradient of its result to the gradient of the argument.
struct Unpool;

impl CustomOp2 for Unpool {
    fn name(&self) -> &'static str {
        "max-pool-gradient"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        place: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let pixels = contiguous(storage, layout)?;
        let mut gradients = contiguous(gradient, place)?.iter();
        let (.., width) = layout.shape().dims4()?;
        let mut out = vec![0.0; pixels.len()];
        each_window(width, pixels.len(), |window| {
            if let Some(gradient) = gradients.next() {
                out[first_maximum(pixels, window)] = *gradient;
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

/// Visits the four places of each 2×2 window, in the order of the pooled values. Even heights let windows ignore image bounds.
fn each_window(width: usize, pixels: usize, mut visit: impl FnMut([usize; 4])) {
    for pair in (0..pixels).step_by(2 * width) {
        (pair..pair + width).step_by(2).for_each(|place| visit([place, place + 1, place + width, place + width + 1]));
    }
}

fn first_maximum(pixels: &[f32], window: [usize; 4]) -> usize {
    window[1..].iter().fold(window[0], |best, place| if pixels[*place] > pixels[best] { *place } else { best })
}

/// The k × k neighbourhoods of every pixel, padded with zeros: `[channels, rows, height, width]` to
/// `[channels · k · k, rows · height · width]`, which a weight `[outputs, channels · k · k]` multiplies from the left.
#[derive(Debug)]
pub(super) struct Patches {
    pub(super) kernel: usize,
}

impl CustomOp1 for Patches {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (channels, rows, height, width) = layout.shape().dims4()?;
        let pixels = contiguous(storage, layout)?;
        let mut patches = vec![0.0; pixels.len() * self.kernel * self.kernel];
        each_run([channels, rows, height, width], self.kernel, |pixel, patch, length| {
            patches[patch..patch + length].copy_from_slice(&pixels[pixel..pixel + length]);
        });
        let shape = Shape::from((channels * self.kernel * self.kernel, rows * height * width));
        Ok((CpuStorage::F32(patches), shape))
    }

    fn bwd(&self, argument: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (channels, rows, height, width) = argument.dims4()?;
        let sum = PatchSums { sides: [channels, rows, height, width], kernel: self.kernel };
        Ok(Some(gradient.contiguous()?.apply_op1_no_bwd(&sum)?))
    }
}

/// The gradient of [`Patches`]: every pixel's sum over the neighbourhoods that hold it.
struct PatchSums {
    sides: [usize; 4],
    kernel: usize,
}

impl CustomOp1 for PatchSums {
    fn name(&self) -> &'static str {
        "patch-sums"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let patches = contiguous(storage, layout)?;
        let mut pixels = vec![0.0; self.sides.iter().product()];
        each_run(self.sides, self.kernel, |pixel, patch, length| {
            pixels[pixel..pixel + length].iter_mut().zip(&patches[patch..patch + length]).for_each(|(sum, value)| *sum += value);
        });
        let [channels, rows, height, width] = self.sides;
        Ok((CpuStorage::F32(pixels), Shape::from((channels, rows, height, width))))
    }
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values: &[f32] = storage.as_slice()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => Err(candle_core::Error::Msg("this operation needs contiguous values".to_owned())),
    }
}

/// Visits every run of pixels in an image line that is also a run of patch values: (first pixel, first patch value, length).
fn each_run([channels, rows, height, width]: [usize; 4], kernel: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let reach = kernel / 2;
    let columns = rows * height * width;
    for channel in 0..channels {
        for down in 0..kernel {
            for right in 0..kernel {
                let patch_row = ((channel * kernel + down) * kernel + right) * columns;
                // Pixel x + right − reach must lie inside the line.
                let first = reach.saturating_sub(right);
                let length = width - reach.abs_diff(right);
                for row in 0..rows {
                    for line in reach.saturating_sub(down)..height.min(height + reach - down) {
                        let source = ((channel * rows + row) * height + line + down - reach) * width + first + right - reach;
                        visit(source, patch_row + (row * height + line) * width + first, length);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn filled(shape: &[usize], seed: u64) -> Var {
        let mut stream = kith_consensus::Seed::from_number(seed).stream("test convolution");
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
        Var::from_slice(&values, shape, &Device::Cpu).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn near(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        for (a, b) in values(a).iter().zip(values(b)) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn pooling_gives_the_maximum_and_its_gradient_to_the_maximum_alone() {
        let images = Var::from_slice(&[1f32, 2., 0., 0., 4., 3., 0., 9.], (1, 1, 2, 4), &Device::Cpu).unwrap();
        let pooled = images.apply_op1(MaxPool).unwrap();
        assert_eq!(values(&pooled), [4., 9.]);
        assert_eq!(values(&pooled), values(&images.max_pool2d(2).unwrap()));
        let direction = Tensor::from_slice(&[5f32, 7.], (1, 1, 1, 2), &Device::Cpu).unwrap();
        let gradients = pooled.mul(&direction).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(values(gradients.get(&images).unwrap()), [0., 0., 0., 0., 5., 0., 0., 7.]);
    }

    #[test]
    fn patches_give_candles_own_convolution_and_gradients() {
        for (kernel, height, width) in [(3, 6, 8), (5, 6, 6), (1, 4, 4), (5, 5, 7)] {
            let images = filled(&[2, 3, height, width], 1);
            let weight = filled(&[4, 3, kernel, kernel], 2);
            let direction = filled(&[2, 4, height, width], 3);
            let own = weight
                .flatten_from(1)
                .and_then(|weight| weight.matmul(&images.transpose(0, 1)?.contiguous()?.apply_op1(Patches { kernel })?))
                .and_then(|product| product.reshape((4, 2, height, width))?.transpose(0, 1))
                .unwrap();
            let candles = images.conv2d(&weight, kernel / 2, 1, 1, 1).unwrap();
            near(&own.contiguous().unwrap(), &candles);
            let gradient = |output: &Tensor| output.mul(direction.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
            let (own, candles) = (gradient(&own), gradient(&candles));
            for variable in [&images, &weight] {
                near(own.get(variable).unwrap(), candles.get(variable).unwrap());
            }
        }
    }
}
