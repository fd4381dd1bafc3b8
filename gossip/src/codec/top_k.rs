//! `top-k`: the k values of largest magnitude and their positions.
//!
//! Ties go to the lower index; contractive with δ = k/d. Always a replica codec: unsent values stay
//! in the difference and are sent later. Payload: the positions (see `positions`), then the k
//! values (see `kept_values`), 4k bytes with `values = "f32"`. At share 0.01 with `values = "int8"`
//! about two bytes a kept value, 1/200 of the dense bytes; with `values = "sign"` about one.

use kith_consensus::Section;

use super::{Codec, CodecError, Form, Randomness, kept, kept_values, positions};

/// Bits of a magnitude below the part that the histogram counts.
const FINE_BITS: u32 = 20;
const COARSE: usize = 1 << (31 - FINE_BITS);

#[derive(Debug)]
struct TopK {
    share: f64,
    values: Box<dyn Codec>,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    // 6 %: measured on digits, 8 peers, 30 rounds: within a point of dense at a tenth of the bytes.
    let share = section.number("share", Some(0.06), 1e-6..=1.0);
    Box::new(TopK {
        share,
        values: kept_values::from_section(section),
    })
}

/// Bits that are ordered as the magnitudes are.
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// The positions of the `k` values of largest magnitude, ascending.
pub(super) fn largest(values: &[f32], k: usize) -> Vec<u32> {
    if k == 0 || k >= values.len() {
        return (0..values.len().min(k) as u32).collect();
    }
    let (threshold, mut ties, surplus) = threshold(values, k);
    let mut positions = vec![0u32; k + surplus + 1];
    let mut found = 0;
    for (index, value) in values.iter().enumerate() {
        // Always written and seldom kept: cheaper than a branch that cannot be predicted.
        // `threshold` does the same.
        positions[found] = index as u32;
        found += usize::from(magnitude(*value) >= threshold);
    }
    positions.truncate(k + surplus);
    if surplus > 0 {
        positions.retain(|position| {
            let tie = magnitude(values[*position as usize]) == threshold;
            let keep = !tie || ties > 0;
            ties -= usize::from(tie && keep);
            keep
        });
    }
    positions
}

/// The `k`-th largest magnitude, how many of those equal to it are among the `k`, and how many are
/// not.
fn threshold(values: &[f32], k: usize) -> (u32, usize, usize) {
    let mut counts = vec![[0u32; COARSE]; 4];
    let coarse = |value: f32| (magnitude(value) >> FINE_BITS) as usize;
    let (fours, rest) = values.as_chunks::<4>();
    for four in fours {
        // Separate counts: neighbours often share a bucket and would wait for each other.
        counts
            .iter_mut()
            .zip(four)
            .for_each(|(counts, value)| counts[coarse(*value)] += 1);
    }
    rest.iter().for_each(|value| counts[0][coarse(*value)] += 1);
    let (mut above, mut bucket) = (0, COARSE);
    let count = loop {
        bucket -= 1;
        let count: usize = counts.iter().map(|counts| counts[bucket] as usize).sum();
        if above + count >= k {
            break count;
        }
        above += count;
    };
    let mut near = vec![0; count + 1];
    let mut found = 0;
    for value in values {
        near[found] = magnitude(*value);
        found += usize::from(coarse(*value) == bucket);
    }
    near.truncate(count);
    let wanted = k - above;
    let (larger, threshold, smaller) = near.select_nth_unstable_by(wanted - 1, |a, b| b.cmp(a));
    let equal = |keys: &[u32]| keys.iter().filter(|key| **key == *threshold).count();
    (*threshold, 1 + equal(larger), equal(smaller))
}

impl Codec for TopK {
    fn name(&self) -> &'static str {
        "top-k"
    }
    fn form(&self) -> Form {
        Form::Replica
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        positions::bytes_max(dimension) + self.values.bytes_max(kept(self.share, dimension))
    }
    fn encode(&self, values: &[f32], random: &mut Randomness) -> Vec<u8> {
        let positions = largest(values, kept(self.share, values.len()));
        let chosen: Vec<f32> = positions
            .iter()
            .map(|position| values[*position as usize])
            .collect();
        let mut bytes = positions::encode(&positions, values.len(), Vec::new());
        bytes.extend(self.values.encode(&chosen, random));
        bytes
    }
    fn decode(&self, mut bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        let count = kept(self.share, dimension);
        let positions = positions::decode(&mut bytes, count, dimension)?;
        let chosen = self.values.decode(bytes, count)?;
        let mut values = vec![0f32; dimension];
        positions
            .iter()
            .zip(chosen)
            .for_each(|(position, value)| values[*position as usize] = value);
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use kith_consensus::Seed;

    use super::*;

    #[test]
    fn the_largest_are_those_of_a_full_sort() {
        let mut stream = Seed::from_number(11).stream("test");
        for case in 0..600 {
            let dimension = 1 + stream.bounded(300) as usize;
            let values: Vec<f32> = (0..dimension)
                .map(|_| match case % 3 {
                    0 => stream.normal() as f32,
                    1 => stream.bounded(7) as f32 - 3.0, // ties, zeros of both signs
                    _ => {
                        f32::from_bits(stream.next_u64() as u32 & 0xbf7f_ffff)
                            * [1.0, -1.0][stream.bounded(2) as usize]
                    }
                })
                .collect();
            let k = stream.bounded(dimension as u64 + 1) as usize;
            let mut order: Vec<u32> = (0..dimension as u32).collect();
            order.sort_by(|a, b| {
                values[*b as usize]
                    .abs()
                    .total_cmp(&values[*a as usize].abs())
                    .then(a.cmp(b))
            });
            order.truncate(k);
            order.sort_unstable();
            assert_eq!(largest(&values, k), order, "case {case}");
        }
    }
}
