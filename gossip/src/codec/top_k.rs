//! `top-k`: the k values of largest magnitude and where they stand.
//!
//! Ties go to the lower index; contractive with δ = k/d (ALGORITHMS, section D). Always a replica codec: what is not sent
//! now stays in the difference and is sent later. Payload: a tag, k as LEB128, the positions (gaps as LEB128, or a bitmap
//! where that is smaller), then k little-endian 32-bit floats.

use kith_consensus::{Section, Stream};

use super::{Codec, CodecError, Form};

const GAPS: u8 = 0;
const BITMAP: u8 = 1;

#[derive(Debug)]
struct TopK {
    share: f64,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    // 6 %: measured on digits, 8 peers, 30 rounds: within a point of dense at a tenth of the bytes.
    Box::new(TopK { share: section.number("share", Some(0.06), 1e-6..=1.0) })
}

/// The positions of the `k` values of largest magnitude, ascending.
pub(crate) fn largest(values: &[f32], k: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    let by_size = |a: &u32, b: &u32| values[*b as usize].abs().total_cmp(&values[*a as usize].abs()).then(a.cmp(b));
    if k < order.len() {
        order.select_nth_unstable_by(k, by_size);
        order.truncate(k);
    }
    order.sort_unstable();
    order
}

/// Gaps between ascending positions as LEB128; the first gap counts from position 0.
pub(crate) fn encode_gaps(positions: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(positions.len() * 2);
    let mut next = 0;
    for position in positions {
        write_leb128(&mut bytes, u64::from(position - next));
        next = position + 1;
    }
    bytes
}

fn write_leb128(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Reads one number of at most 32 bits in its shortest form, so that a vector has one encoding only.
fn read_leb128(bytes: &mut &[u8]) -> Result<u32, CodecError> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or_else(|| CodecError("the positions end early".into()))?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            if *first == 0 && shift > 0 {
                return Err(CodecError("a position is padded".into()));
            }
            return u32::try_from(value).map_err(|_| CodecError("a position exceeds 32 bits".into()));
        }
    }
    Err(CodecError("a position exceeds 32 bits".into()))
}

impl TopK {
    fn kept(&self, dimension: usize) -> usize {
        ((self.share * dimension as f64).ceil() as usize).clamp(1.min(dimension), dimension)
    }
}

impl Codec for TopK {
    fn name(&self) -> &'static str {
        "top-k"
    }
    fn form(&self) -> Form {
        Form::Replica
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        1 + 5 + dimension.div_ceil(8) + self.kept(dimension) * 4
    }
    fn encode(&self, values: &[f32], _random: &mut Stream) -> Vec<u8> {
        let positions = largest(values, self.kept(values.len()));
        let gaps = encode_gaps(&positions);
        let bitmap_bytes = values.len().div_ceil(8);
        let mut bytes = Vec::with_capacity(6 + gaps.len().min(bitmap_bytes) + positions.len() * 4);
        bytes.push(if gaps.len() <= bitmap_bytes { GAPS } else { BITMAP });
        write_leb128(&mut bytes, positions.len() as u64);
        if gaps.len() <= bitmap_bytes {
            bytes.extend_from_slice(&gaps);
        } else {
            let start = bytes.len();
            bytes.resize(start + bitmap_bytes, 0);
            positions.iter().for_each(|position| bytes[start + *position as usize / 8] |= 1 << (position % 8));
        }
        positions.iter().for_each(|position| bytes.extend_from_slice(&values[*position as usize].to_le_bytes()));
        bytes
    }

    fn decode(&self, mut bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        let (tag, rest) = bytes.split_first().ok_or_else(|| CodecError("an empty body".into()))?;
        bytes = rest;
        let count = read_leb128(&mut bytes)? as usize;
        if count > dimension {
            return Err(CodecError(format!("{count} positions in a vector of {dimension} values")));
        }
        let positions: Vec<usize> = match *tag {
            GAPS => {
                let mut next = 0usize;
                let mut positions = Vec::with_capacity(count);
                for _ in 0..count {
                    let position = next + read_leb128(&mut bytes)? as usize;
                    if position >= dimension {
                        return Err(CodecError(format!("position {position} in a vector of {dimension} values")));
                    }
                    positions.push(position);
                    next = position + 1;
                }
                positions
            }
            BITMAP => {
                let length = dimension.div_ceil(8);
                let bitmap = bytes.get(..length).ok_or_else(|| CodecError("the bitmap ends early".into()))?;
                bytes = &bytes[length..];
                let positions: Vec<usize> = (0..length * 8).filter(|bit| bitmap[bit / 8] >> (bit % 8) & 1 == 1).collect();
                if positions.len() != count || positions.last().is_some_and(|last| *last >= dimension) {
                    return Err(CodecError(format!("the bitmap does not mark {count} of {dimension} values")));
                }
                positions
            }
            other => return Err(CodecError(format!("unknown form {other} of positions"))),
        };
        if bytes.len() != count * 4 {
            return Err(CodecError(format!("{} bytes where {count} values take {}", bytes.len(), count * 4)));
        }
        let mut values = vec![0f32; dimension];
        for (position, word) in positions.into_iter().zip(bytes.chunks_exact(4)) {
            values[position] = f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        }
        Ok(values)
    }
}
