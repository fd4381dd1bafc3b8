//! `qsgd`: every value as its share of the vector's norm in one of s levels, rounded at random.
//!
//! Paper: Alistarh, Grubic, Li, Tomioka, Vojnović, "QSGD" (NeurIPS 2017), without its Elias coding.
//! level = ⌊r⌋ + (u < r − ⌊r⌋) for r = s·|x| / norm and a uniform u per value; decoded as norm ·
//! sign · level / s. Unbiased with ω = min(d/s², √d/s). One norm for all values makes ω grow with
//! d. So few levels suit short or sparse vectors, and `int4` with stochastic rounding is finer for
//! long dense ones. Unbiased updates may stand alone, so the default is stateless; as a replica
//! codec the norm is divided by 1 + ω, which makes it contractive with δ = 1 / (1 + ω). Payload:
//! the norm as a 32-bit float, then sign and level of each value in 1 + ⌈log₂(s+1)⌉ bits, the sign
//! lowest: 4 + ⌈d(1 + ⌈log₂(s+1)⌉)/8⌉ bytes.

use kith_consensus::{Section, Stream};

use super::bits::{BitReader, BitWriter};
use super::block_int::read_scale;
use super::sums::sum_of;
use super::{Codec, CodecError, Form, Randomness, form, unit_of};

/// Words drawn at a time.
const DRAWN: usize = 256;

/// 2⁵²: doubles are whole numbers from here on, so adding it rounds to the nearest and leaves that
/// in the lowest bits.
const WHOLE: f64 = (1u64 << 52) as f64;

#[derive(Debug)]
struct Qsgd {
    form: Form,
    levels: u32,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    // 127: a byte a value; a guess, fine enough that √d/s stays near 1 for small models.
    let levels = section.integer("levels", Some(127), 1..=32_767) as u32;
    Box::new(Qsgd {
        form: form(section, Form::Stateless),
        levels,
    })
}

/// The norm that stands for `values`.
pub(super) fn norm_of(values: &[f32]) -> f32 {
    (sum_of(values, |value| value * value).sqrt() as f32).min(f32::MAX)
}

/// Sign (the lowest bit, 1 for negative) and level (the bits above) of every value, with one draw
/// each. No draws and zeros when the norm is 0.
pub(super) fn quantise(
    values: &[f32],
    norm: f32,
    levels: u32,
    stream: &mut Stream,
    codes: &mut [u32],
) {
    if norm == 0.0 {
        return codes.fill(0);
    }
    let (most, factor) = (f64::from(levels), f64::from(levels) / f64::from(norm));
    let mut words = [0; DRAWN];
    for (values, codes) in values.chunks(DRAWN).zip(codes.chunks_mut(DRAWN)) {
        let words = &mut words[..values.len()];
        stream.fill(words);
        for ((value, code), word) in values.iter().zip(codes).zip(words) {
            let ratio = f64::from(value.abs()) * factor;
            let nearest = (ratio + WHOLE) - WHOLE;
            let lower = nearest - if nearest > ratio { 1.0 } else { 0.0 };
            let up = if unit_of(*word) < ratio - lower {
                1.0
            } else {
                0.0
            };
            // The norm was rounded to 32 bits: a single value may exceed it by that much.
            let level = ((lower + up).min(most) + WHOLE).to_bits() as u32;
            *code = level << 1 | ((value.to_bits() >> 31) & u32::from(level > 0));
        }
    }
}

impl Qsgd {
    fn width(&self) -> u32 {
        1 + (u32::BITS - self.levels.leading_zeros())
    }

    /// The divisor of the norm (see the head of this file).
    fn damping(&self, dimension: usize) -> f64 {
        let (d, s) = (dimension as f64, f64::from(self.levels));
        if self.form == Form::Replica {
            1.0 + (d / (s * s)).min(d.sqrt() / s)
        } else {
            1.0
        }
    }
}

impl Codec for Qsgd {
    fn name(&self) -> &'static str {
        "qsgd"
    }
    fn form(&self) -> Form {
        self.form
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        4 + (dimension * self.width() as usize).div_ceil(8)
    }
    fn encode(&self, values: &[f32], random: &mut Randomness) -> Vec<u8> {
        let (norm, width) = (norm_of(values), self.width());
        let mut bytes = Vec::with_capacity(self.bytes_max(values.len()));
        bytes.extend_from_slice(
            &((f64::from(norm) / self.damping(values.len())) as f32).to_le_bytes(),
        );
        let mut writer = BitWriter::after(bytes);
        let mut codes = [0; 4 * DRAWN];
        for values in values.chunks(4 * DRAWN) {
            let codes = &mut codes[..values.len()];
            quantise(values, norm, self.levels, &mut random.own, codes);
            writer.put_all(codes, width);
        }
        writer.finish()
    }
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        let expected = self.bytes_max(dimension);
        let (Some((norm, packed)), true) = (bytes.split_first_chunk(), bytes.len() == expected)
        else {
            return Err(CodecError(format!(
                "{} bytes where {dimension} values take {expected}",
                bytes.len()
            )));
        };
        let step = f64::from(read_scale(*norm)?) / f64::from(self.levels);
        let width = self.width();
        let mut reader = BitReader::new(packed);
        let mut values = vec![0f32; dimension];
        let mut beyond = false;
        for value in &mut values {
            let code = reader
                .take(width)
                .ok_or_else(|| CodecError("the levels end early".into()))?
                as u32;
            beyond |= code == 1 || code >> 1 > self.levels;
            let magnitude = f64::from((code >> 1).cast_signed()) * step;
            *value = (if code & 1 == 1 { -magnitude } else { magnitude }) as f32;
        }
        match reader.finish() {
            Some([]) if !beyond => Ok(values),
            _ => Err(CodecError(format!(
                "a level beyond {}, a negative zero, or bits after the last",
                self.levels
            ))),
        }
    }
}
