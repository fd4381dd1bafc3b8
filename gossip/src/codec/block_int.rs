//! `int8` and `int4`: blocks of values, each as small integers times one 32-bit scale.
//!
//! scale = f32(max|x| / q) with q = 127 or 7; code = x / scale rounded, in 64-bit arithmetic .
//! `rounding = "nearest"` (halves away from zero) is contractive: 1 − δ ≤ B / (4q²) for block
//! length B, and no value ends further from itself than zero is. `rounding = "stochastic"` is
//! unbiased with ω ≤ B / (4q²); as a replica codec its scale is divided by 1 + ω, which makes it
//! contractive with δ = 1 / (1 + ω). Either stands alone by default. At 8 bits the error is small
//! next to the model; 4 bits keep 1/14 of a block's largest value, so `replica = true` is worth its
//! memory. Payload: all scales, then all codes, at 4 bits two in a byte, the first in the lower
//! half: 4⌈d/B⌉ + ⌈d·bits/8⌉ bytes.

use kith_consensus::{Section, Stream};

use super::{Codec, CodecError, Form, Randomness, form, unit_of};

/// Adding this to a number of few bits leaves its nearest integer in the lowest bits: doubles are
/// that coarse there.
const SHIFTER: f64 = 6_755_399_441_055_744.0; // 1.5 · 2⁵²

/// Moves halves away from zero, and moves nothing else over a half. The quotient of two 32-bit
/// floats below 128, if it is no half, is at least 2⁻²⁵ away from one. The product with the
/// reciprocal is at most 2⁻⁴⁵ away from the quotient.
const AWAY_FROM_ZERO: f64 = 1.0 + 1.0 / (1u64 << 38) as f64;

/// Words drawn at a time, unless a block is longer.
const DRAWN: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Bits8,
    Bits4,
}

impl Width {
    fn code_max(self) -> i8 {
        if self == Width::Bits8 { 127 } else { 7 }
    }
    fn bytes(self, dimension: usize) -> usize {
        if self == Width::Bits8 {
            dimension
        } else {
            dimension.div_ceil(2)
        }
    }
}

#[derive(Debug)]
struct BlockInt {
    form: Form,
    width: Width,
    block: usize,
    stochastic: bool,
}

pub(super) fn int8(section: &mut Section<'_>) -> Box<dyn Codec> {
    // 64: 1.6 % of scales; a guess between 32 (finer) and 256 (smaller).
    read(section, Width::Bits8, 64)
}

pub(super) fn int4(section: &mut Section<'_>) -> Box<dyn Codec> {
    // 32: 1 − δ ≤ 0.164; from 196 on the bound promises nothing.
    read(section, Width::Bits4, 32)
}

/// The codec that stands alone and has one scale for all.
pub(super) fn one_block(width: Width) -> Box<dyn Codec> {
    Box::new(BlockInt {
        form: Form::Stateless,
        width,
        block: usize::MAX,
        stochastic: false,
    })
}

fn read(section: &mut Section<'_>, width: Width, block: u64) -> Box<dyn Codec> {
    let block = section.integer("block", Some(block), 1..=65_536) as usize;
    let stochastic =
        section.choice("rounding", Some("nearest"), &["nearest", "stochastic"]) == "stochastic";
    Box::new(BlockInt {
        form: form(section, Form::Stateless),
        width,
        block,
        stochastic,
    })
}

/// The scale with which the largest magnitude has the code `code_max`.
pub(super) fn scale_of(block: &[f32], code_max: i8) -> f32 {
    // Magnitudes are ordered as their bits are, and integers are compared several at a time.
    let largest = block.iter().fold(0i32, |largest, value| {
        largest.max((value.to_bits() & 0x7fff_ffff).cast_signed())
    });
    (f64::from(f32::from_bits(largest.cast_unsigned())) / f64::from(code_max)) as f32
}

/// Nearest codes from −`code_max` to `code_max`, for the scale that [`scale_of`] gives.
pub(super) fn round_nearest(block: &[f32], scale: f32, code_max: i8, codes: &mut [i8]) {
    if scale == 0.0 {
        return codes.fill(0);
    }
    let (factor, most) = (AWAY_FROM_ZERO / f64::from(scale), f64::from(code_max));
    if scale >= f32::MIN_POSITIVE {
        // The scale is off by a part in 2²⁴ at most, so no quotient comes near the next code.
        for (code, value) in codes.iter_mut().zip(block) {
            *code = (f64::from(*value) * factor + SHIFTER).to_bits() as i8;
        }
        return;
    }
    for (code, value) in codes.iter_mut().zip(block) {
        *code = ((f64::from(*value) * factor).clamp(-most, most) + SHIFTER).to_bits() as i8;
    }
}

/// Codes whose mean over the draws is the value, with one random word a value.
fn round_stochastic(block: &[f32], scale: f32, code_max: i8, codes: &mut [i8], words: &[u64]) {
    if scale == 0.0 {
        return codes.fill(0);
    }
    let (factor, most) = (1.0 / f64::from(scale), f64::from(code_max));
    for ((code, value), word) in codes.iter_mut().zip(block).zip(words) {
        let draw = unit_of(*word) - 0.5;
        *code = ((f64::from(*value) * factor + draw).clamp(-most, most) + SHIFTER).to_bits() as i8;
    }
}

/// Two codes of 4 bits in a byte.
fn pack(codes: &[i8], bytes: &mut Vec<u8>) {
    let pairs = codes.chunks_exact(2);
    let last = pairs
        .remainder()
        .first()
        .map(|code| code.cast_unsigned() & 0xf);
    bytes
        .extend(pairs.map(|pair| (pair[0].cast_unsigned() & 0xf) | (pair[1].cast_unsigned() << 4)));
    bytes.extend(last);
}

/// The inverse of [`pack`], for `count` codes; `None` when the last half byte is padding other than
/// zero.
fn unpack(bytes: &[u8], count: usize) -> Option<Vec<i8>> {
    let mut codes = vec![0i8; count];
    for (pair, byte) in codes.chunks_exact_mut(2).zip(bytes) {
        pair[0] = (byte << 4).cast_signed() >> 4;
        pair[1] = byte.cast_signed() >> 4;
    }
    if let (true, Some(byte)) = (count % 2 == 1, bytes.last()) {
        codes[count - 1] = (byte << 4).cast_signed() >> 4;
        return (byte >> 4 == 0).then_some(codes);
    }
    Some(codes)
}

/// `codes · scale`: the product has 32 bits at most, so it is rounded once, in 32-bit arithmetic
/// too.
fn restore(codes: &[i8], scale: f32, values: &mut [f32]) {
    values
        .iter_mut()
        .zip(codes)
        .for_each(|(value, code)| *value = f32::from(*code) * scale);
}

/// A scale from outside.
pub(super) fn read_scale(word: [u8; 4]) -> Result<f32, CodecError> {
    let scale = f32::from_le_bytes(word);
    let usable = scale.is_finite() && !scale.is_sign_negative();
    usable
        .then_some(scale)
        .ok_or_else(|| CodecError(format!("{scale} as a scale")))
}

/// Refuses a code that no encoder writes: an integer type has one more negative number than
/// positive ones.
fn check_codes(codes: &[i8], code_max: i8) -> Result<(), CodecError> {
    let beyond = codes
        .iter()
        .fold(false, |beyond, code| beyond | (*code < -code_max));
    if beyond {
        Err(CodecError(format!("a code below -{code_max}")))
    } else {
        Ok(())
    }
}

/// Words of a stream, drawn for several blocks at once.
#[derive(Default)]
struct Words {
    drawn: Vec<u64>,
    used: usize,
}

impl Words {
    fn next(&mut self, count: usize, stream: &mut Stream) -> &[u64] {
        if self.drawn.len() - self.used < count {
            self.drawn.drain(..self.used);
            let left = self.drawn.len();
            self.drawn.resize(count.max(DRAWN), 0);
            stream.fill(&mut self.drawn[left..]);
            self.used = 0;
        }
        self.used += count;
        &self.drawn[self.used - count..self.used]
    }
}

impl BlockInt {
    fn scale_bytes(&self, dimension: usize) -> usize {
        dimension.div_ceil(self.block) * 4
    }

    /// The divisor of the scales (see the head of this file).
    fn damping(&self) -> f64 {
        let code_max = f64::from(self.width.code_max());
        let omega = self.block as f64 / (4.0 * code_max * code_max);
        if self.stochastic && self.form == Form::Replica {
            1.0 + omega
        } else {
            1.0
        }
    }
}

impl Codec for BlockInt {
    fn name(&self) -> &'static str {
        if self.width == Width::Bits8 {
            "int8"
        } else {
            "int4"
        }
    }
    fn form(&self) -> Form {
        self.form
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        self.scale_bytes(dimension) + self.width.bytes(dimension)
    }
    fn encode(&self, values: &[f32], random: &mut Randomness) -> Vec<u8> {
        let (code_max, damping) = (self.width.code_max(), self.damping());
        let mut bytes = Vec::with_capacity(self.bytes_max(values.len()));
        let mut codes = vec![0i8; values.len()];
        let mut words = Words::default();
        for (block, codes) in values.chunks(self.block).zip(codes.chunks_mut(self.block)) {
            let scale = scale_of(block, code_max);
            if self.stochastic {
                round_stochastic(
                    block,
                    scale,
                    code_max,
                    codes,
                    words.next(block.len(), &mut random.own),
                );
            } else {
                round_nearest(block, scale, code_max, codes);
            }
            bytes.extend_from_slice(&((f64::from(scale) / damping) as f32).to_le_bytes());
        }
        match self.width {
            Width::Bits8 => bytes.extend(codes.iter().map(|code| code.cast_unsigned())),
            Width::Bits4 => pack(&codes, &mut bytes),
        }
        bytes
    }
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        let expected = self.bytes_max(dimension);
        if bytes.len() != expected {
            return Err(CodecError(format!(
                "{} bytes where {dimension} values take {expected}",
                bytes.len()
            )));
        }
        let (scales, codes) = bytes.split_at(self.scale_bytes(dimension));
        let codes: Vec<i8> = match self.width {
            Width::Bits8 => codes.iter().map(|code| code.cast_signed()).collect(),
            Width::Bits4 => unpack(codes, dimension)
                .ok_or_else(|| CodecError("the last half byte is set".into()))?,
        };
        check_codes(&codes, self.width.code_max())?;
        let mut values = vec![0f32; dimension];
        let blocks = values.chunks_mut(self.block).zip(codes.chunks(self.block));
        for ((values, codes), word) in blocks.zip(scales.as_chunks().0) {
            restore(codes, read_scale(*word)?, values);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use kith_consensus::Seed;

    use super::*;

    #[test]
    fn nearest_codes_are_the_rounded_quotients_halves_included() {
        let mut stream = Seed::from_number(5).stream("test");
        for case in 0..4000 {
            let scale = match case % 4 {
                0 => f32::from_bits(stream.bounded(40) as u32 + 1), // subnormal
                1 => 1.0,
                2 => 2f32.powi(stream.bounded(60) as i32 - 30),
                _ => stream.unit() as f32 + 1e-3,
            };
            for code_max in [7i8, 127] {
                let values: Vec<f32> = (0..64)
                    .map(|_| {
                        let half = (stream.bounded(2 * code_max as u64 + 2) as f32
                            - f32::from(code_max))
                            / 2.0
                            * scale;
                        // The half itself and its neighbours among the floats.
                        f32::from_bits(
                            (half.to_bits() + stream.bounded(3) as u32).saturating_sub(1),
                        )
                    })
                    .filter(|value| value.is_finite())
                    .collect();
                let mut codes = vec![0; values.len()];
                round_nearest(&values, scale, code_max, &mut codes);
                for (code, value) in codes.iter().zip(&values) {
                    let most = f64::from(code_max);
                    let expected = (f64::from(*value) / f64::from(scale))
                        .round()
                        .clamp(-most, most);
                    assert_eq!(f64::from(*code), expected, "{value:e} / {scale:e}");
                }
            }
        }
    }

    #[test]
    fn half_bytes_survive_and_what_fills_up_must_be_zero() {
        for count in 0..9 {
            let codes: Vec<i8> = (0..count).map(|index| (index * 5 % 15) as i8 - 7).collect();
            let mut bytes = Vec::new();
            pack(&codes, &mut bytes);
            assert_eq!(unpack(&bytes, count), Some(codes));
            if count % 2 == 1 {
                bytes[count / 2] |= 0x10;
                assert_eq!(unpack(&bytes, count), None);
            }
        }
    }
}
