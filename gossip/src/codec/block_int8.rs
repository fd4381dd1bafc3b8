//! `int8`: blocks of values, each as 8-bit integers times one 32-bit scale.
//!
//! scale = f32(max|x| / 127), code = round-half-away(x / scale), in 64-bit arithmetic (ALGORITHMS, section D; contractive
//! with 1 − δ ≤ B / (4 · 127²) for block length B). Payload: all scales, then all codes: 4⌈d/B⌉ + d bytes.

use kith_consensus::{Section, Stream};

use super::{Codec, CodecError, Form, form};

/// Largest code of 8 bits.
const LARGEST: f64 = 127.0;

#[derive(Debug)]
struct BlockInt8 {
    form: Form,
    block: usize,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    // 64: 1.6 % of scales; a guess between 32 (finer) and 256 (smaller).
    let block = section.integer("block", Some(64), 1..=65_536) as usize;
    Box::new(BlockInt8 { form: form(section, Form::Stateless), block })
}

/// Scale and codes of one block, with codes from −`code_max` to `code_max`.
pub(crate) fn quantise(block: &[f32], code_max: f64) -> (f32, Vec<i8>) {
    let largest = block.iter().fold(0f64, |largest, value| largest.max(f64::from(*value).abs()));
    let scale = (largest / code_max) as f32;
    let code = |value: &f32| {
        if scale == 0.0 { 0 } else { (f64::from(*value) / f64::from(scale)).round().clamp(-code_max, code_max) as i8 }
    };
    (scale, block.iter().map(code).collect())
}

impl Codec for BlockInt8 {
    fn name(&self) -> &'static str {
        "int8"
    }
    fn form(&self) -> Form {
        self.form
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        dimension.div_ceil(self.block) * 4 + dimension
    }
    fn encode(&self, values: &[f32], _random: &mut Stream) -> Vec<u8> {
        let blocks: Vec<(f32, Vec<i8>)> = values.chunks(self.block).map(|block| quantise(block, LARGEST)).collect();
        let mut bytes = Vec::with_capacity(self.bytes_max(values.len()));
        blocks.iter().for_each(|(scale, _)| bytes.extend_from_slice(&scale.to_le_bytes()));
        blocks.iter().for_each(|(_, codes)| bytes.extend(codes.iter().map(|code| code.to_le_bytes()[0])));
        bytes
    }
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        let expected = self.bytes_max(dimension);
        if bytes.len() != expected {
            return Err(CodecError(format!("{} bytes where {dimension} values take {expected}", bytes.len())));
        }
        let (scales, codes) = bytes.split_at(dimension.div_ceil(self.block) * 4);
        let scales = scales.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let blocks = codes.chunks(self.block).zip(scales);
        Ok(blocks
            .flat_map(|(codes, scale)| codes.iter().map(move |code| (f64::from(code.cast_signed()) * f64::from(scale)) as f32))
            .collect())
    }
}
