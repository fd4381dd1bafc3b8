//! How the values that a sparse codec keeps are written: key `values` of `top-k` and `random-k`.
//!
//! `f32` as they are; `f16` as half floats, clamped to the largest; `int8` as integers from −127 to 127 times one 32-bit
//! scale, rounded to nearest. In a replica codec what the rounding loses stays in the difference and is sent later.

use kith_consensus::Section;

use super::block_int::{check_codes, read_scale, restore, round_nearest, scale_of};
use super::{CodecError, half_precision, identity};

const CODE_MAX: i8 = 127;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptValues {
    F32,
    F16,
    Int8,
}

impl KeptValues {
    pub(super) fn from_section(section: &mut Section<'_>) -> KeptValues {
        match section.choice("values", Some("f32"), &["f32", "f16", "int8"]).as_str() {
            "f16" => KeptValues::F16,
            "int8" => KeptValues::Int8,
            _ => KeptValues::F32,
        }
    }

    /// Exactly what `count` values take.
    pub(super) fn bytes(self, count: usize) -> usize {
        match self {
            KeptValues::F32 => 4 * count,
            KeptValues::F16 => 2 * count,
            KeptValues::Int8 => 4 + count,
        }
    }

    pub(super) fn write(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            KeptValues::F32 => bytes.extend_from_slice(&identity::to_bytes(values)),
            KeptValues::F16 => bytes.extend_from_slice(&half_precision::to_bytes(values)),
            KeptValues::Int8 => {
                let mut codes = vec![0; values.len()];
                let scale = scale_of(values, CODE_MAX);
                round_nearest(values, scale, CODE_MAX, &mut codes);
                bytes.extend_from_slice(&scale.to_le_bytes());
                bytes.extend(codes.iter().map(|code| code.cast_unsigned()));
            }
        }
    }

    /// Reads exactly `count` values.
    pub(super) fn read(self, bytes: &[u8], count: usize) -> Result<Vec<f32>, CodecError> {
        let expected = self.bytes(count);
        if bytes.len() != expected {
            return Err(CodecError(format!("{} bytes where {count} values take {expected}", bytes.len())));
        }
        match (self, bytes.split_first_chunk()) {
            (KeptValues::F32, _) => identity::from_bytes(bytes, count),
            (KeptValues::F16, _) => half_precision::from_bytes(bytes, count),
            (KeptValues::Int8, Some((scale, codes))) => {
                let codes: Vec<i8> = codes.iter().map(|code| code.cast_signed()).collect();
                check_codes(&codes, CODE_MAX)?;
                let mut values = vec![0f32; count];
                restore(&codes, read_scale(*scale)?, &mut values);
                Ok(values)
            }
            (KeptValues::Int8, None) => Err(CodecError("no scale".into())),
        }
    }
}
