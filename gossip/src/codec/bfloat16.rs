//! `bf16`: the upper half of a 32-bit float, rounded to nearest even. Payload 2d bytes; relative
//! error at most 2⁻⁸ over nearly the whole range of 32-bit floats, where `f16` is finer (2⁻¹¹) but
//! ends at 65504. Values beyond the largest bfloat16 are clamped to it, so that an encoding never
//! makes an infinity.

use half::bf16;
use kith_consensus::Section;

use super::{Codec, CodecError, Form, Randomness, form};

#[derive(Debug)]
struct BFloat16 {
    form: Form,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    Box::new(BFloat16 {
        form: form(section, Form::Stateless),
    })
}

impl Codec for BFloat16 {
    fn name(&self) -> &'static str {
        "bf16"
    }
    fn form(&self) -> Form {
        self.form
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        dimension * 2
    }
    fn encode(&self, values: &[f32], _random: &mut Randomness) -> Vec<u8> {
        let (low, high) = (bf16::MIN.to_f32(), bf16::MAX.to_f32());
        values
            .iter()
            .flat_map(|value| bf16::from_f32(value.clamp(low, high)).to_le_bytes())
            .collect()
    }
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        if bytes.len() != dimension * 2 {
            return Err(CodecError(format!(
                "{} bytes where {dimension} bfloat16 values take {}",
                bytes.len(),
                dimension * 2
            )));
        }
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|word| bf16::from_le_bytes(*word).to_f32())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::Seed;

    #[test]
    fn values_of_every_magnitude_keep_eight_bits_and_the_largest_stay_finite() {
        let codec = BFloat16 {
            form: Form::Stateless,
        };
        let values = [1e-30, -3.3, 0.1, 65505.0, 1e30, f32::MAX, f32::MIN];
        let stream = |name| Seed::from_number(1).stream(name);
        let mut random = Randomness {
            own: stream("own"),
            shared: stream("shared"),
        };
        let decoded = codec
            .decode(&codec.encode(&values, &mut random), values.len())
            .expect("its own encoding");
        for (value, decoded) in values.iter().zip(decoded) {
            assert!(
                decoded.is_finite() && ((decoded - value) / value).abs() <= 1.0 / 256.0,
                "{value} became {decoded}"
            );
        }
    }
}
