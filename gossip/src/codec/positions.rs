//! Positions of the values of a sparse vector: k ascending positions below d, in the shortest of
//! three forms.
//!
//! A tag, k as LEB128, then the gaps as LEB128 (tag 0), or a bitmap of ⌈d/8⌉ bytes (tag 1), or a
//! parameter r and the gaps in Golomb–Rice code (tag 2): gap / 2^r in unary, zeros ended by a one,
//! then the lowest r bits (Rice and Plaunt, 1971). Gaps between places chosen at random with
//! probability p are near 2^r long for r ≈ log₂(0.69/p), which costs about r + 1.5 bits a place,
//! within 0.05 bits of the entropy. The encoder takes the smallest, of equals the lower tag and the
//! lower r; the decoder refuses any other, so positions have one encoding.

use super::CodecError;
use super::bits::{BitReader, BitWriter};

const GAPS: u8 = 0;
const BITMAP: u8 = 1;
const RICE: u8 = 2;

/// Largest parameter of the Rice code: positions have 32 bits.
const PARAMETER_MAX: u32 = 31;

/// The form of some positions, and the bytes that they take after tag and count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Gaps(usize),
    Bitmap(usize),
    Rice(u32, usize),
}

impl Plan {
    fn of(gaps: &[u32], dimension: usize) -> Plan {
        let plain = gaps.iter().map(|gap| leb128_bytes(*gap)).sum();
        let bitmap = dimension.div_ceil(8);
        let (parameter, rice) = best_parameter(gaps);
        if plain <= bitmap && plain <= rice {
            Plan::Gaps(plain)
        } else if bitmap <= rice {
            Plan::Bitmap(bitmap)
        } else {
            Plan::Rice(parameter, rice)
        }
    }

    fn bytes(self) -> usize {
        match self {
            Plan::Gaps(bytes) | Plan::Bitmap(bytes) | Plan::Rice(_, bytes) => bytes,
        }
    }
}

/// Bytes of `count` positions in `dimension`, at most: never more than the bitmap.
pub(super) fn bytes_max(dimension: usize) -> usize {
    1 + 5 + dimension.div_ceil(8)
}

/// The parameter that needs the fewest bits, and the bytes that it needs. The bits are convex in
/// it, so the first rise ends the search.
fn best_parameter(gaps: &[u32]) -> (u32, usize) {
    let bits = |parameter: u32| {
        let unary: u64 = gaps.iter().map(|gap| u64::from(gap >> parameter)).sum();
        unary + gaps.len() as u64 * u64::from(1 + parameter)
    };
    let mut best = (0, bits(0));
    for parameter in 1..=PARAMETER_MAX {
        let next = bits(parameter);
        if next >= best.1 {
            break;
        }
        best = (parameter, next);
    }
    (best.0, 1 + best.1.div_ceil(8) as usize)
}

/// Distances between neighbours, less one; the first counts from position 0.
fn gaps_of(positions: &[u32]) -> Vec<u32> {
    let before = std::iter::once(0).chain(positions.iter().map(|position| position + 1));
    positions
        .iter()
        .zip(before)
        .map(|(position, before)| position - before)
        .collect()
}

/// Gaps as LEB128.
fn write_gaps(gaps: &[u32], bytes: &mut Vec<u8>) {
    gaps.iter().for_each(|gap| write_leb128(bytes, *gap));
}

/// Appends ascending positions below `dimension`.
pub(super) fn encode(positions: &[u32], dimension: usize, mut bytes: Vec<u8>) -> Vec<u8> {
    let gaps = gaps_of(positions);
    let plan = Plan::of(&gaps, dimension);
    bytes.reserve(6 + plan.bytes());
    let tag = match plan {
        Plan::Gaps(_) => GAPS,
        Plan::Bitmap(_) => BITMAP,
        Plan::Rice(..) => RICE,
    };
    bytes.push(tag);
    write_leb128(&mut bytes, positions.len() as u32);
    match plan {
        Plan::Gaps(_) => write_gaps(&gaps, &mut bytes),
        Plan::Bitmap(length) => {
            let start = bytes.len();
            bytes.resize(start + length, 0);
            positions
                .iter()
                .for_each(|position| bytes[start + *position as usize / 8] |= 1 << (position % 8));
        }
        Plan::Rice(parameter, _) => {
            bytes.push(parameter as u8);
            let mut writer = BitWriter::after(bytes);
            for gap in gaps {
                writer.put_unary(u64::from(gap >> parameter));
                writer.put(u64::from(gap & ((1 << parameter) - 1)), parameter);
            }
            return writer.finish();
        }
    }
    bytes
}

/// Reads exactly `count` positions below `dimension` and takes their bytes away.
pub(super) fn decode(
    bytes: &mut &[u8],
    count: usize,
    dimension: usize,
) -> Result<Vec<u32>, CodecError> {
    let (tag, rest) = bytes
        .split_first()
        .ok_or_else(|| CodecError("an empty body".into()))?;
    *bytes = rest;
    let found = read_leb128(bytes)? as usize;
    if found != count {
        return Err(CodecError(format!(
            "{found} positions where {dimension} values have {count}"
        )));
    }
    let (positions, parameter) = match *tag {
        GAPS => (read_gaps(bytes, count, dimension)?, 0),
        BITMAP => (read_bitmap(bytes, count, dimension)?, 0),
        RICE => read_rice(bytes, count, dimension)?,
        other => return Err(CodecError(format!("unknown form {other} of positions"))),
    };
    match (*tag, Plan::of(&gaps_of(&positions), dimension)) {
        (GAPS, Plan::Gaps(_)) | (BITMAP, Plan::Bitmap(_)) => Ok(positions),
        (RICE, Plan::Rice(best, _)) if best == parameter => Ok(positions),
        (_, plan) => Err(CodecError(format!(
            "form {tag} of positions where the shortest is {plan:?}"
        ))),
    }
}

/// The position that a gap after `next` leads to.
fn step(next: u64, gap: u64, dimension: usize) -> Result<u32, CodecError> {
    let position = next + gap;
    if position < dimension as u64 && position <= u64::from(u32::MAX) {
        return Ok(position as u32);
    }
    Err(CodecError(format!(
        "position {position} in a vector of {dimension} values"
    )))
}

fn read_gaps(bytes: &mut &[u8], count: usize, dimension: usize) -> Result<Vec<u32>, CodecError> {
    if count > bytes.len() {
        return Err(CodecError("the positions end early".into()));
    }
    let mut next = 0;
    let mut positions = Vec::with_capacity(count);
    for _ in 0..count {
        let position = step(next, u64::from(read_leb128(bytes)?), dimension)?;
        positions.push(position);
        next = u64::from(position) + 1;
    }
    Ok(positions)
}

fn read_bitmap(bytes: &mut &[u8], count: usize, dimension: usize) -> Result<Vec<u32>, CodecError> {
    let early = || CodecError("the bitmap ends early".into());
    let (bitmap, rest) = bytes
        .split_at_checked(dimension.div_ceil(8))
        .ok_or_else(early)?;
    *bytes = rest;
    let marked: usize = bitmap.iter().map(|byte| byte.count_ones() as usize).sum();
    let padded = bitmap
        .last()
        .is_some_and(|last| !dimension.is_multiple_of(8) && last >> (dimension % 8) != 0);
    if marked != count || padded {
        return Err(CodecError(format!(
            "the bitmap does not mark {count} of {dimension} values"
        )));
    }
    let mut positions = Vec::with_capacity(count);
    for (index, byte) in bitmap.iter().enumerate() {
        let mut left = *byte;
        while left != 0 {
            positions.push(index as u32 * 8 + left.trailing_zeros());
            left &= left - 1;
        }
    }
    Ok(positions)
}

fn read_rice(
    bytes: &mut &[u8],
    count: usize,
    dimension: usize,
) -> Result<(Vec<u32>, u32), CodecError> {
    let early = || CodecError("the positions end early".into());
    let (parameter, rest) = bytes.split_first().ok_or_else(early)?;
    let parameter = u32::from(*parameter);
    // A position takes at least one bit.
    if parameter > PARAMETER_MAX || count.div_ceil(8) > rest.len() {
        return Err(early());
    }
    let mut reader = BitReader::new(rest);
    let mut next = 0;
    let mut positions = Vec::with_capacity(count);
    for _ in 0..count {
        let high = reader.take_unary().ok_or_else(early)?;
        let low = reader.take(parameter).ok_or_else(early)?;
        // A quotient beyond the vector is capped at one that is still beyond it, so that the shift
        // keeps all its bits.
        let position = step(
            next,
            high.min(u64::from(u32::MAX)) << parameter | low,
            dimension,
        )?;
        positions.push(position);
        next = u64::from(position) + 1;
    }
    *bytes = reader
        .finish()
        .ok_or_else(|| CodecError("the positions are padded".into()))?;
    Ok((positions, parameter))
}

fn leb128_bytes(value: u32) -> usize {
    (32 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn write_leb128(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Reads one number of at most 32 bits in its shortest form, so that a vector has one encoding
/// only.
fn read_leb128(bytes: &mut &[u8]) -> Result<u32, CodecError> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let (first, rest) = bytes
            .split_first()
            .ok_or_else(|| CodecError("the positions end early".into()))?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            if *first == 0 && shift > 0 {
                return Err(CodecError("a position is padded".into()));
            }
            return u32::try_from(value)
                .map_err(|_| CodecError("a position exceeds 32 bits".into()));
        }
    }
    Err(CodecError("a position exceeds 32 bits".into()))
}

/// Bytes of the gaps of `positions` as LEB128, as the known answers count them.
#[cfg(test)]
pub(super) fn leb128_gaps_bytes(positions: &[u32]) -> usize {
    let mut bytes = Vec::new();
    write_gaps(&gaps_of(positions), &mut bytes);
    bytes.len()
}

#[cfg(test)]
mod tests {
    use kith_consensus::Seed;

    use super::*;

    /// All three forms of some positions, each as an encoder that chose it would write it.
    fn forms(positions: &[u32], dimension: usize) -> Vec<Vec<u8>> {
        let gaps = gaps_of(positions);
        let start = |tag| {
            let mut bytes = vec![tag];
            write_leb128(&mut bytes, positions.len() as u32);
            bytes
        };
        let mut plain = start(GAPS);
        write_gaps(&gaps, &mut plain);
        let mut bitmap = start(BITMAP);
        let before = bitmap.len();
        bitmap.resize(before + dimension.div_ceil(8), 0);
        positions
            .iter()
            .for_each(|position| bitmap[before + *position as usize / 8] |= 1 << (position % 8));
        let rice = (0..12).map(|parameter| {
            let mut bytes = start(RICE);
            bytes.push(parameter as u8);
            let mut writer = BitWriter::after(bytes);
            for gap in &gaps {
                writer.put_unary(u64::from(gap >> parameter));
                writer.put(u64::from(gap & ((1 << parameter) - 1)), parameter);
            }
            writer.finish()
        });
        [plain, bitmap].into_iter().chain(rice).collect()
    }

    #[test]
    fn of_all_forms_the_shortest_is_written_and_no_other_is_read() {
        let mut stream = Seed::from_number(13).stream("test");
        let mut seen = [0; 3];
        for case in 0..400 {
            let dimension = 1 + stream.bounded([30, 300, 40_000][case % 3]) as usize;
            let share = [0.001, 0.01, 0.1, 0.5, 1.0][stream.bounded(5) as usize];
            let positions: Vec<u32> = (0..dimension as u32)
                .filter(|_| stream.unit() < share)
                .collect();
            let bytes = encode(&positions, dimension, Vec::new());
            assert!(bytes.len() <= bytes_max(dimension));
            seen[bytes[0] as usize] += 1;
            let forms = forms(&positions, dimension);
            assert_eq!(
                forms.iter().map(Vec::len).min(),
                Some(bytes.len()),
                "{positions:?} of {dimension}"
            );
            for form in forms {
                let mut left = &form[..];
                let read = decode(&mut left, positions.len(), dimension);
                if form == bytes {
                    assert_eq!((read.as_ref(), left), (Ok(&positions), &[][..]));
                } else {
                    assert!(
                        read.is_err(),
                        "{form:?} is a second encoding of {positions:?} of {dimension}"
                    );
                }
            }
        }
        assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
    }

    #[test]
    fn random_places_cost_little_more_than_their_entropy() {
        let mut stream = Seed::from_number(17).stream("test");
        for probability in [0.003f64, 0.01, 0.06] {
            let positions: Vec<u32> = (0..200_000)
                .filter(|_| stream.unit() < probability)
                .collect();
            let entropy = -probability.log2() * probability
                - (1.0 - probability).log2() * (1.0 - probability);
            let bits = encode(&positions, 200_000, Vec::new()).len() as f64 * 8.0;
            assert!(
                bits < entropy * 200_000.0 * 1.05,
                "{bits} bits at {probability}, entropy {}",
                entropy * 200_000.0
            );
        }
    }
}
