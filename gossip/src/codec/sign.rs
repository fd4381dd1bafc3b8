//! `sign`: one bit a value, times the mean magnitude.
//!
//! Paper: Karimireddy, Rebjock, Stich, Jaggi, "Error Feedback Fixes SignSGD" (ICML 2019). Biased;
//! contractive with δ = ‖x‖₁² / (d‖x‖₂²) ≥ 1/d. A model's signs alone say too little about it, so
//! the default is a replica codec, whose replica approaches the model round by round;
//! `replica = false` is for experiments. Payload: mean|x| as a 32-bit float, then the signs, 1 for
//! ≥ 0, lowest bit first: 4 + ⌈d/8⌉ bytes.

use kith_consensus::Section;

use super::block_int::read_scale;
use super::sums::sum_of;
use super::{Codec, CodecError, Form, Randomness, form};

#[derive(Debug)]
struct Sign {
    form: Form,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    Box::new(Sign {
        form: form(section, Form::Replica),
    })
}

/// The codec that stands alone.
pub(super) fn plain() -> Box<dyn Codec> {
    Box::new(Sign {
        form: Form::Stateless,
    })
}

impl Codec for Sign {
    fn name(&self) -> &'static str {
        "sign"
    }
    fn form(&self) -> Form {
        self.form
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        4 + dimension.div_ceil(8)
    }
    fn encode(&self, values: &[f32], _random: &mut Randomness) -> Vec<u8> {
        let scale = sum_of(values, f64::abs) / values.len().max(1) as f64;
        let mut bytes = Vec::with_capacity(self.bytes_max(values.len()));
        bytes.extend_from_slice(&(scale as f32).to_le_bytes());
        let byte = |bits: &[f32]| {
            bits.iter()
                .rev()
                .fold(0, |byte, value| byte << 1 | u8::from(*value >= 0.0))
        };
        let (whole, rest) = values.as_chunks::<8>();
        bytes.extend(whole.iter().map(|values| byte(values)));
        bytes.extend((!rest.is_empty()).then(|| byte(rest)));
        bytes
    }
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        let expected = self.bytes_max(dimension);
        let (Some((scale, signs)), true) = (bytes.split_first_chunk(), bytes.len() == expected)
        else {
            return Err(CodecError(format!(
                "{} bytes where {dimension} values take {expected}",
                bytes.len()
            )));
        };
        let scale = read_scale(*scale)?;
        if signs
            .last()
            .is_some_and(|last| !dimension.is_multiple_of(8) && last >> (dimension % 8) != 0)
        {
            return Err(CodecError("a sign after the last value".into()));
        }
        let mut values = vec![0f32; dimension];
        let write = |values: &mut [f32], byte: u8| {
            for (bit, value) in values.iter_mut().enumerate() {
                *value = if byte & (1 << bit) == 0 {
                    -scale
                } else {
                    scale
                };
            }
        };
        let (whole, rest) = values.as_chunks_mut::<8>();
        whole
            .iter_mut()
            .zip(signs)
            .for_each(|(values, byte)| write(values, *byte));
        write(rest, signs.last().copied().unwrap_or_default());
        Ok(values)
    }
}
