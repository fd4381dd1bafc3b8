//! `f16`: IEEE half precision, round to nearest even. Payload 2d bytes; relative error at most 2⁻¹¹
//! for magnitudes from 6.1e-5 to 65504. Larger values are clamped to the largest half float, so
//! that an encoding never makes an infinity.

use half::f16;
use half::slice::HalfFloatSliceExt;
use kith_consensus::Section;

use super::{Codec, CodecError, Form, Randomness, form};

/// Values converted at a time: a CPU that can converts several at once.
const CHUNK: usize = 512;

#[derive(Debug)]
struct HalfPrecision {
    form: Form,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    Box::new(HalfPrecision {
        form: form(section, Form::Stateless),
    })
}

/// The codec that stands alone.
pub(super) fn plain() -> Box<dyn Codec> {
    Box::new(HalfPrecision {
        form: Form::Stateless,
    })
}

impl Codec for HalfPrecision {
    fn name(&self) -> &'static str {
        "f16"
    }
    fn form(&self) -> Form {
        self.form
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        dimension * 2
    }
    fn encode(&self, values: &[f32], _random: &mut Randomness) -> Vec<u8> {
        let (low, high) = (f16::MIN.to_f32(), f16::MAX.to_f32());
        let mut bytes = vec![0; values.len() * 2];
        let (mut clamped, mut halves) = ([0f32; CHUNK], [f16::ZERO; CHUNK]);
        for (values, bytes) in values.chunks(CHUNK).zip(bytes.chunks_mut(2 * CHUNK)) {
            let (clamped, halves) = (&mut clamped[..values.len()], &mut halves[..values.len()]);
            clamped
                .iter_mut()
                .zip(values)
                .for_each(|(clamped, value)| *clamped = value.clamp(low, high));
            halves.convert_from_f32_slice(clamped);
            bytes
                .as_chunks_mut()
                .0
                .iter_mut()
                .zip(halves)
                .for_each(|(word, half)| *word = half.to_le_bytes());
        }
        bytes
    }
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        if bytes.len() != dimension * 2 {
            return Err(CodecError(format!(
                "{} bytes where {dimension} half floats take {}",
                bytes.len(),
                dimension * 2
            )));
        }
        let mut values = vec![0f32; dimension];
        let mut halves = [f16::ZERO; CHUNK];
        for (values, bytes) in values.chunks_mut(CHUNK).zip(bytes.chunks(2 * CHUNK)) {
            let halves = &mut halves[..values.len()];
            halves
                .iter_mut()
                .zip(bytes.as_chunks().0)
                .for_each(|(half, word)| *half = f16::from_le_bytes(*word));
            halves.convert_to_f32_slice(values);
        }
        Ok(values)
    }
}
