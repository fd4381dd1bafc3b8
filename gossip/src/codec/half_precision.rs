//! `f16`: IEEE half precision, round to nearest even. Payload 2d bytes; relative error at most 2⁻¹¹ for magnitudes from
//! 6.1e-5 to 65504. Larger values are clamped to the largest half float, so that an encoding never makes an infinity.

use half::f16;
use kith_consensus::Section;

use super::{Codec, CodecError, Form, Randomness, form};

#[derive(Debug)]
struct HalfPrecision {
    form: Form,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    Box::new(HalfPrecision { form: form(section, Form::Stateless) })
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
        values.iter().flat_map(|value| f16::from_f32(value.clamp(low, high)).to_le_bytes()).collect()
    }
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        if bytes.len() != dimension * 2 {
            return Err(CodecError(format!("{} bytes where {dimension} half floats take {}", bytes.len(), dimension * 2)));
        }
        Ok(bytes.chunks_exact(2).map(|word| f16::from_le_bytes([word[0], word[1]]).to_f32()).collect())
    }
}
