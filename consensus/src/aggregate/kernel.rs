//! The arithmetic that costs time, on tiles of [`BLOCK`] coordinates of all rows, so that a tile stays in cache.
//!
//! Every function exists compiled for AVX-512, AVX2 and the baseline; the first that the CPU has is called. All give the
//! same bits: block size, lanes and reduction tree are fixed, Rust never fuses a multiplication with an addition, and the
//! plain versions that the tests compare with are the same source. NaN never gets here; rows are checked before.

use multiversion::multiversion;

/// Coordinates per tile. 20 rows of 128 f64 are 20 KB, less than half of a first-level cache (measured best of 64 to 512).
pub(super) const BLOCK: usize = 128;

/// Independent partial sums per block. Eight f64 are one AVX-512 register; fixed, since it decides the bits.
const LANES: usize = 8;

/// Declares each kernel twice: under its name, dispatched by CPU, and in `plain`, for whatever the crate is compiled for.
macro_rules! kernels {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {
        $(
            $(#[$doc])*
            #[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
            pub(super) fn $name($($argument: $type),*) $(-> $result)? {
                plain::$name($($argument),*)
            }
        )*
        mod plain {
            use super::{BLOCK, compare_exchange, squared_distance, squared_distances};
            $(#[inline(always)] pub(super) fn $name($($argument: $type),*) $(-> $result)? $body)*
        }
    };
}

kernels! {
    /// Whether no value is NaN or infinite.
    fn all_finite(values: &[f32]) -> bool {
        const EXPONENT: u32 = 0x7f80_0000;
        values.chunks(4096).all(|chunk| {
            let wrong = chunk.iter().fold(0, |wrong, value| wrong | u32::from(value.to_bits() & EXPONENT == EXPONENT));
            wrong == 0
        })
    }

    /// Adds the squared distances of all pairs of rows of `tile` (`n` × BLOCK) to `totals`, in the order (0,1), (0,2), … (1,2), ….
    fn add_pair_distances(tile: &[f64], totals: &mut [f64]) {
        let rows = tile.len() / BLOCK;
        let row = |index: usize| &tile[index * BLOCK..(index + 1) * BLOCK];
        let mut pair = 0;
        for left in 0..rows {
            let mut right = left + 1;
            // Four pairs at a time share the loads of the left row; each pair's sum is the same as alone.
            while right + 4 <= rows {
                let sums = squared_distances(row(left), [row(right), row(right + 1), row(right + 2), row(right + 3)]);
                for (total, sum) in totals[pair..pair + 4].iter_mut().zip(sums) {
                    *total += sum;
                }
                pair += 4;
                right += 4;
            }
            while right < rows {
                totals[pair] += squared_distance(row(left), row(right));
                pair += 1;
                right += 1;
            }
        }
    }

    /// Adds to `totals` the squared distance of each row of `tile` to `point` (BLOCK values).
    fn add_distances_to(tile: &[f64], point: &[f64], totals: &mut [f64]) {
        for (row, total) in tile.chunks_exact(BLOCK).zip(totals) {
            *total += squared_distance(row, point);
        }
    }

    /// `sum` (BLOCK values) += `weight` · `row`, for f32 rows of at most BLOCK values.
    fn add_scaled(sum: &mut [f64], row: &[f32], weight: f64) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += weight * f64::from(*value);
        }
    }

    /// `sum` = Σ wᵢ rowᵢ over (row of `tile`, weight) pairs, in their order; BLOCK values.
    fn mix(tile: &[f64], terms: &[(usize, f64)], sum: &mut [f64]) {
        let mut sums = [0.0; BLOCK];
        for (index, weight) in terms {
            let row = &tile[index * BLOCK..(index + 1) * BLOCK];
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
        sum.copy_from_slice(&sums);
    }

    /// Exchanges values between the rows of `tile` (`n` × BLOCK) so that, per coordinate, each comparator's first row has
    /// the smaller value.
    fn sort_columns(tile: &mut [f32], comparators: &[(usize, usize)]) {
        for (low, high) in comparators {
            let (before, after) = tile.split_at_mut(high * BLOCK);
            compare_exchange(&mut before[low * BLOCK..(low + 1) * BLOCK], &mut after[..BLOCK]);
        }
    }

    /// The mean over the rows of `tile` (`n` × BLOCK), per coordinate.
    fn mean_rows(tile: &[f32], means: &mut [f32]) {
        let mut sums = [0.0; BLOCK];
        for row in tile.chunks_exact(BLOCK) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        let count = (tile.len() / BLOCK) as f64;
        for (mean, sum) in means.iter_mut().zip(sums) {
            *mean = (sum / count) as f32;
        }
    }
}

/// Per coordinate, the smaller value to `low` and the larger to `high`. Written as selections because these are one
/// instruction each and, unlike f32::min, say which zero wins when 0 meets −0.
#[inline(always)]
fn compare_exchange(low: &mut [f32], high: &mut [f32]) {
    for (low, high) in low.iter_mut().zip(high) {
        let (a, b) = (*low, *high);
        *low = if b < a { b } else { a };
        *high = if b < a { a } else { b };
    }
}

/// ‖left − rightₖ‖² over one block, for `N` right rows at once.
#[inline(always)]
fn squared_distances<const N: usize>(left: &[f64], right: [&[f64]; N]) -> [f64; N] {
    let mut lanes = [[0.0; LANES]; N];
    for start in (0..BLOCK).step_by(LANES) {
        let left = &left[start..start + LANES];
        for (lanes, right) in lanes.iter_mut().zip(right) {
            let right = &right[start..start + LANES];
            for lane in 0..LANES {
                let difference = left[lane] - right[lane];
                lanes[lane] += difference * difference;
            }
        }
    }
    lanes.map(|lane| ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7])))
}

#[inline(always)]
fn squared_distance(left: &[f64], right: &[f64]) -> f64 {
    squared_distances(left, [right])[0]
}

/// Comparators, in order, that bring the `dropped` smallest values of `rows` to the first rows and the `dropped` largest to
/// the last; the order within the three groups is left open.
///
/// Of two networks the smaller one: Batcher's merge exchange (Knuth, volume 3, algorithm 5.2.2M) without the comparators
/// whose two outputs end in the same group, or peeling off one extreme after the other.
pub(super) fn middle_network(rows: usize, dropped: usize) -> Vec<(usize, usize)> {
    let mut peeling = Vec::new();
    for layer in 0..dropped {
        let last = rows - 1 - layer;
        peeling.extend((layer + 1..=last).map(|other| (layer, other)));
        peeling.extend((layer + 1..last).map(|other| (other, last)));
    }
    let mut merging = Vec::new();
    let top = rows.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            merging.extend((0..rows - d).filter(|i| i & p == r).map(|i| (i, i + d)));
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    let group = |row: usize| (usize::from(row >= dropped), usize::from(row >= rows - dropped));
    let mut touched = vec![false; rows];
    let mut kept: Vec<(usize, usize)> = Vec::new();
    for (low, high) in merging.into_iter().rev() {
        if touched[low] || touched[high] || group(low) != group(high) {
            (touched[low], touched[high]) = (true, true);
            kept.push((low, high));
        }
    }
    kept.reverse();
    if peeling.len() < kept.len() { peeling } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    fn values(count: usize) -> Vec<f64> {
        let mut stream = Seed::from_number(7).stream("kernel tests");
        (0..count).map(|_| f64::from((stream.normal() * 10f64.powf(stream.unit() * 6.0)) as f32)).collect()
    }

    /// The dispatched kernels against the same source without vector extensions beyond the baseline's.
    #[test]
    fn vector_and_plain_paths_give_equal_bits() {
        for rows in [1, 2, 5, 6, 11, 20] {
            let tile = values(rows * BLOCK);
            let narrow: Vec<f32> = tile.iter().map(|value| *value as f32).collect();
            let pairs = rows * (rows - 1) / 2;
            let (mut fast, mut plain) = (vec![0.5; pairs], vec![0.5; pairs]);
            add_pair_distances(&tile, &mut fast);
            plain::add_pair_distances(&tile, &mut plain);
            assert_eq!(fast, plain);
            let (mut fast, mut plain) = (vec![0.5; rows], vec![0.5; rows]);
            add_distances_to(&tile, &tile[..BLOCK], &mut fast);
            plain::add_distances_to(&tile, &tile[..BLOCK], &mut plain);
            assert_eq!(fast, plain);
            let terms: Vec<(usize, f64)> = (0..rows).map(|row| (row, 1.0 / (row + 3) as f64)).collect();
            let (mut fast, mut plain) = (vec![0.0; BLOCK], vec![0.0; BLOCK]);
            mix(&tile, &terms, &mut fast);
            plain::mix(&tile, &terms, &mut plain);
            assert_eq!(fast, plain);
            add_scaled(&mut fast, &narrow[..BLOCK - 3], 0.3);
            plain::add_scaled(&mut plain, &narrow[..BLOCK - 3], 0.3);
            assert_eq!(fast, plain);
            let (mut fast, mut plain) = (narrow.clone(), narrow);
            sort_columns(&mut fast, &middle_network(rows, 0));
            plain::sort_columns(&mut plain, &middle_network(rows, 0));
            assert_eq!(fast, plain);
            let (mut fast_mean, mut plain_mean) = ([0.0; BLOCK], [0.0; BLOCK]);
            mean_rows(&fast, &mut fast_mean);
            plain::mean_rows(&plain, &mut plain_mean);
            assert_eq!(fast_mean, plain_mean);
        }
    }

    /// A network that splits every sequence of 0 and 1 rightly splits everything rightly (zero–one principle).
    #[test]
    fn networks_separate_the_extremes_from_the_middle() {
        for rows in 1..=12usize {
            for dropped in 0..=(rows - 1) / 2 {
                let network = middle_network(rows, dropped);
                for bits in 0..1u32 << rows {
                    let mut line: Vec<bool> = (0..rows).map(|row| bits >> row & 1 == 1).collect();
                    for (low, high) in &network {
                        if line[*low] && !line[*high] {
                            line.swap(*low, *high);
                        }
                    }
                    let ones = bits.count_ones() as usize;
                    let count = |range: std::ops::Range<usize>| line[range].iter().filter(|bit| **bit).count();
                    assert_eq!(count(0..dropped), ones.saturating_sub(rows - dropped), "{rows} rows, {dropped} dropped");
                    assert_eq!(count(rows - dropped..rows), ones.min(dropped), "{rows} rows, {dropped} dropped");
                }
            }
        }
    }

    #[test]
    fn one_value_that_is_not_finite_is_found_anywhere() {
        let mut values = vec![1.0f32; 10_000];
        assert!(all_finite(&values));
        for (index, wrong) in [(0, f32::NAN), (4096, f32::INFINITY), (9_999, f32::NEG_INFINITY)] {
            values[index] = wrong;
            assert!(!all_finite(&values));
            values[index] = f32::MAX;
        }
        assert!(all_finite(&values));
    }
}
