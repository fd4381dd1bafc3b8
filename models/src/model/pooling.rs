//! Max-pooling for candle with a gradient of our own, because that of candle 0.11's `max_pool2d` is
//! wrong. It gives a quarter of the gradient to the only maximum of a 2×2 window: it multiplies by
//! the number of maxima over four instead of dividing by it.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

/// The maximum of each 2×2 window: `[…, height, width]`, both even, to `[…, height / 2, width /
/// 2]`. The gradient goes to the first maximum of the window.
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
        each_window(width, pixels.len(), |window| {
            pooled.push(pixels[first_maximum(pixels, window)])
        });
        Ok((
            CpuStorage::F32(pooled),
            Shape::from((a, b, height / 2, width / 2)),
        ))
    }

    fn bwd(&self, argument: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(
            argument.apply_op2_no_bwd(&gradient.contiguous()?, &Unpool)?,
        ))
    }
}

/// The gradient of [`MaxPool`]: its argument and the gradient of its result to the gradient of the
/// argument.
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

/// Visits the four places of each 2×2 window, in the order of the pooled values. Even heights let
/// windows ignore image bounds.
fn each_window(width: usize, pixels: usize, mut visit: impl FnMut([usize; 4])) {
    for pair in (0..pixels).step_by(2 * width) {
        (pair..pair + width)
            .step_by(2)
            .for_each(|place| visit([place, place + 1, place + width, place + width + 1]));
    }
}

fn first_maximum(pixels: &[f32], window: [usize; 4]) -> usize {
    window[1..].iter().fold(window[0], |best, place| {
        if pixels[*place] > pixels[best] {
            *place
        } else {
            best
        }
    })
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values: &[f32] = storage.as_slice()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => Err(candle_core::Error::Msg(
            "this operation needs contiguous values".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn pooling_gives_the_maximum_and_its_gradient_to_the_maximum_alone() {
        let images = Var::from_slice(
            &[1f32, 2., 0., 0., 4., 3., 0., 9.],
            (1, 1, 2, 4),
            &Device::Cpu,
        )
        .unwrap();
        let pooled = images.apply_op1(MaxPool).unwrap();
        assert_eq!(values(&pooled), [4., 9.]);
        assert_eq!(values(&pooled), values(&images.max_pool2d(2).unwrap()));
        let direction = Tensor::from_slice(&[5f32, 7.], (1, 1, 1, 2), &Device::Cpu).unwrap();
        let gradients = pooled
            .mul(&direction)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        assert_eq!(
            values(gradients.get(&images).unwrap()),
            [0., 0., 0., 0., 5., 0., 0., 7.]
        );
    }
}
