//! The arithmetic that costs time, on tiles of [`BLOCK`] coordinates of all rows, so that a tile
//! stays in cache.
//!
//! Every function exists compiled for AVX-512, AVX2 and the baseline; the first that the CPU has is
//! called. All give the same bits: block size, lanes and reduction tree are fixed, and a
//! multiplication is fused with an addition only where the source says so. The plain versions that
//! the tests compare with are the same source. NaN never gets here; rows are checked before.

use multiversion::multiversion;

/// Coordinates per tile. 20 rows of 128 f64 are 20 KB, less than half of a first-level cache; 256
/// measures the same.
pub(super) const BLOCK: usize = 128;

/// Independent partial sums per block; fixed, since it decides the bits. 64 rather than one
/// register's 8: fewer are unrolled into scalars, which the compiler then packs crosswise, three
/// times slower.
const LANES: usize = 64;

/// Independent partial sums of one pair of rows over all blocks, where four pairs are summed at a
/// time: as many as fill the registers.
const PAIR_LANES: usize = 8;

/// The partial sums of one pair of rows.
pub(super) type Lanes = [f64; PAIR_LANES];

/// Declares each kernel twice: under its name, dispatched by CPU, and in `plain`, for whatever the
/// crate is compiled for.
macro_rules! kernels {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {
        $(
            $(#[$doc])*
            #[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
            pub(super) fn $name($($argument: $type),*) $(-> $result)? {
                plain::$name($($argument),*)
            }
        )*
        mod plain {
            use super::{BLOCK, Lanes, add_product, add_square, compare_exchange, in_squares, product, squared_distance};
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

    /// `wide` (BLOCK values) = `row` in f64, then zeros.
    fn widen(row: &[f32], wide: &mut [f64]) {
        let (real, padding) = wide.split_at_mut(row.len());
        for (slot, value) in real.iter_mut().zip(row) {
            *slot = f64::from(*value);
        }
        padding.fill(0.0);
    }

    /// Adds `row` − `reference` to `sums` and its square to `squares`, each at its place.
    fn add_differences(row: &[f32], reference: &[f32], sums: &mut [f64], squares: &mut [f64]) {
        for (((value, reference), sum), square) in row.iter().zip(reference).zip(sums).zip(squares) {
            let difference = f64::from(*value) - f64::from(*reference);
            *sum += difference;
            *square += difference * difference;
        }
    }

    /// `narrow` = `wide`, each value rounded to f32.
    fn narrow(wide: &[f64], narrow: &mut [f32]) {
        for (slot, value) in narrow.iter_mut().zip(wide) {
            *slot = *value as f32;
        }
    }

    /// Adds the squared distances of all pairs of rows of `tile` (`n` × BLOCK) to `totals`, in the
    /// order (0,1), (0,2), … (1,2), ….
    fn add_pair_distances(tile: &[f64], totals: &mut [f64]) {
        let mut totals = totals.iter_mut();
        for (index, left) in tile.chunks_exact(BLOCK).enumerate() {
            for (right, total) in tile[(index + 1) * BLOCK..].chunks_exact(BLOCK).zip(&mut totals) {
                *total += squared_distance(left, right);
            }
        }
    }

    /// Adds the inner products of the rows of `tile` (`n` × BLOCK, `n` even) to `sums`, two rows by
    /// two, since that reads each value half as often: of rows 0 and 1 with 0 and 1, with 2 and 3,
    /// …, then of 2 and 3 with 2 and 3, …; of each such square four sums, row by row. A product is
    /// the sum of its lanes, [`lanes_summed`].
    fn add_products_in_squares(tile: &[f64], sums: &mut [Lanes]) {
        in_squares(tile, sums, add_product);
    }

    /// The same with squared distances in the place of products.
    fn add_distances_in_squares(tile: &[f64], sums: &mut [Lanes]) {
        in_squares(tile, sums, add_square);
    }

    /// `shifted` (`n` × BLOCK) = each row of `tile` minus `origin` (BLOCK values).
    fn subtract(tile: &[f64], origin: &[f64], shifted: &mut [f64]) {
        for (row, shifted) in tile.chunks_exact(BLOCK).zip(shifted.chunks_exact_mut(BLOCK)) {
            for ((value, origin), shifted) in row.iter().zip(origin).zip(shifted) {
                *shifted = value - origin;
            }
        }
    }

    /// Adds to `totals` the squared distance of each row of `tile` to `point` (BLOCK values).
    fn add_distances_to(tile: &[f64], point: &[f64], totals: &mut [f64]) {
        for (row, total) in tile.chunks_exact(BLOCK).zip(totals) {
            *total += squared_distance(row, point);
        }
    }

    /// Adds to `totals` the inner product of each row of `tile` with `point` (BLOCK values).
    fn add_products_with(tile: &[f64], point: &[f64], totals: &mut [f64]) {
        for (row, total) in tile.chunks_exact(BLOCK).zip(totals) {
            *total += product(row, point);
        }
    }

    /// `sum` (BLOCK values) += `weight` · `row`, for f32 rows of at most BLOCK values.
    fn add_scaled(sum: &mut [f64], row: &[f32], weight: f64) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += weight * f64::from(*value);
        }
    }

    /// The same for four rows, one after the other: the sums are read and written once.
    fn add_four_scaled(sum: &mut [f64], rows: &[&[f32]; 4], weights: &[f64; 4]) {
        let length = sum.len();
        let [a, b, c, d] = rows.map(|row| &row[..length]);
        for place in 0..length {
            let mut value = sum[place];
            value += weights[0] * f64::from(a[place]);
            value += weights[1] * f64::from(b[place]);
            value += weights[2] * f64::from(c[place]);
            value += weights[3] * f64::from(d[place]);
            sum[place] = value;
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

    /// Exchanges values between the rows of `tile` (`n` × BLOCK) so that, per coordinate, each
    /// comparator's first row has the smaller value.
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

/// Per coordinate, the smaller value to `low` and the larger to `high`. Written as selections
/// because these are one instruction each and, unlike f32::min, say which zero wins when 0 meets
/// −0.
#[inline(always)]
fn compare_exchange(low: &mut [f32], high: &mut [f32]) {
    for (low, high) in low.iter_mut().zip(high) {
        let (a, b) = (*low, *high);
        *low = if b < a { b } else { a };
        *high = if b < a { a } else { b };
    }
}

/// ‖left − right‖² over one block: partial sums per lane, which are then halved until one is left.
/// Halving is what vector units do best; any other tree makes the compiler shuffle lanes in the
/// loop.
#[inline(always)]
fn squared_distance(left: &[f64], right: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    for (left, right) in left.chunks_exact(LANES).zip(right.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let difference = left[lane] - right[lane];
            lanes[lane] = difference.mul_add(difference, lanes[lane]);
        }
    }
    halved(lanes)
}

/// The inner product over one block, summed in the same way.
#[inline(always)]
fn product(left: &[f64], right: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    for (left, right) in left.chunks_exact(LANES).zip(right.chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] = left[lane].mul_add(right[lane], lanes[lane]);
        }
    }
    halved(lanes)
}

/// Calls `add` for all pairs of rows of `tile`, two rows by two.
#[inline(always)]
fn in_squares(tile: &[f64], sums: &mut [Lanes], add: impl Fn(&mut Lanes, &Lanes, &Lanes)) {
    let mut squares = sums.chunks_exact_mut(4);
    for (index, left) in tile.chunks_exact(2 * BLOCK).enumerate() {
        for (right, square) in tile[2 * index * BLOCK..]
            .chunks_exact(2 * BLOCK)
            .zip(&mut squares)
        {
            let (mut a, mut b, mut c, mut d) = (square[0], square[1], square[2], square[3]);
            let (upper, lower) = left.split_at(BLOCK);
            let (first, second) = right.split_at(BLOCK);
            for place in (0..BLOCK).step_by(PAIR_LANES) {
                let [upper, lower, first, second] =
                    [upper, lower, first, second].map(|row| lanes_at(row, place));
                add(&mut a, &upper, &first);
                add(&mut b, &upper, &second);
                add(&mut c, &lower, &first);
                add(&mut d, &lower, &second);
            }
            square.copy_from_slice(&[a, b, c, d]);
        }
    }
}

#[inline(always)]
fn lanes_at(row: &[f64], place: usize) -> Lanes {
    let mut lanes = [0.0; PAIR_LANES];
    lanes.copy_from_slice(&row[place..place + PAIR_LANES]);
    lanes
}

#[inline(always)]
fn add_product(sum: &mut Lanes, left: &Lanes, right: &Lanes) {
    for lane in 0..PAIR_LANES {
        sum[lane] = left[lane].mul_add(right[lane], sum[lane]);
    }
}

#[inline(always)]
fn add_square(sum: &mut Lanes, left: &Lanes, right: &Lanes) {
    for lane in 0..PAIR_LANES {
        let difference = left[lane] - right[lane];
        sum[lane] = difference.mul_add(difference, sum[lane]);
    }
}

/// The sum of a pair's lanes, the upper half added to the lower until one is left.
pub(super) fn lanes_summed(lanes: &Lanes) -> f64 {
    let half = |width: usize, lanes: Lanes| -> Lanes {
        std::array::from_fn(|lane| lanes[lane] + lanes[(lane + width) % PAIR_LANES])
    };
    half(1, half(2, half(4, *lanes)))[0]
}

/// How many sums [`add_products_in_squares`] and [`add_distances_in_squares`] need for `rows` rows.
pub(super) fn squares_of(rows: usize) -> usize {
    let halves = rows.div_ceil(2);
    2 * halves * (halves + 1)
}

/// Calls `visit(low, high, sum)` for each pair that those have summed, with low ≤ high.
pub(super) fn each_pair(rows: usize, sums: &[Lanes], mut visit: impl FnMut(usize, usize, f64)) {
    let halves = rows.div_ceil(2);
    let squares =
        (0..halves).flat_map(|upper| (upper..halves).map(move |first| (2 * upper, 2 * first)));
    for ((upper, first), square) in squares.zip(sums.chunks_exact(4)) {
        for (place, lanes) in square.iter().enumerate() {
            let (low, high) = (upper + place / 2, first + place % 2);
            if low <= high && high < rows {
                visit(low, high, lanes_summed(lanes));
            }
        }
    }
}

/// The sum of all lanes, the upper half added to the lower until one is left.
#[inline(always)]
fn halved(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Comparators, in order, that sort `rows` rows: Batcher's merge exchange (Knuth, volume 3,
/// algorithm 5.2.2M).
pub(super) fn sorting_network(rows: usize) -> Vec<(usize, usize)> {
    let mut network = Vec::new();
    let top = rows.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            network.extend((0..rows - d).filter(|i| i & p == r).map(|i| (i, i + d)));
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    network
}

/// Comparators, in order, that bring the `dropped` smallest values of `rows` to the first rows and
/// the `dropped` largest to the last; the order within the three groups is left open.
///
/// Of two networks the smaller one: the sorting network without the comparators whose two outputs
/// end in the same group, or peeling off one extreme after the other.
pub(super) fn middle_network(rows: usize, dropped: usize) -> Vec<(usize, usize)> {
    let mut peeling = Vec::new();
    for layer in 0..dropped {
        let last = rows - 1 - layer;
        peeling.extend((layer + 1..=last).map(|other| (layer, other)));
        peeling.extend((layer + 1..last).map(|other| (other, last)));
    }
    let merging = sorting_network(rows);
    let group = |row: usize| {
        (
            usize::from(row >= dropped),
            usize::from(row >= rows - dropped),
        )
    };
    let mut touched = vec![false; rows];
    let mut kept: Vec<(usize, usize)> = Vec::new();
    for (low, high) in merging.into_iter().rev() {
        if touched[low] || touched[high] || group(low) != group(high) {
            (touched[low], touched[high]) = (true, true);
            kept.push((low, high));
        }
    }
    kept.reverse();
    if peeling.len() < kept.len() {
        peeling
    } else {
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    /// Values of many magnitudes, each exact in f32, the same on every machine.
    fn values(count: usize) -> Vec<f64> {
        let mut stream = Seed::from_number(7).stream("kernel tests");
        let mut value = || {
            (stream.bounded(1 << 24) as f64 - (1 << 23) as f64)
                / (1u64 << stream.bounded(30)) as f64
        };
        (0..count).map(|_| value()).collect()
    }

    /// The dispatched kernels against the same source without vector extensions beyond the
    /// baseline's.
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
            let (mut fast, mut plain) = (vec![0.5; rows], vec![0.5; rows]);
            add_products_with(&tile, &tile[..BLOCK], &mut fast);
            plain::add_products_with(&tile, &tile[..BLOCK], &mut plain);
            assert_eq!(fast, plain);
            let even = values(rows.next_multiple_of(2) * BLOCK);
            let squares = (even.len() / (2 * BLOCK)) * (even.len() / (2 * BLOCK) + 1) / 2;
            let (mut fast, mut plain) = (
                vec![[0.5; PAIR_LANES]; 4 * squares],
                vec![[0.5; PAIR_LANES]; 4 * squares],
            );
            add_products_in_squares(&even, &mut fast);
            plain::add_products_in_squares(&even, &mut plain);
            assert_eq!(fast, plain);
            let terms: Vec<(usize, f64)> =
                (0..rows).map(|row| (row, 1.0 / (row + 3) as f64)).collect();
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

    /// Peers that sum in different orders disagree. If this fails, the wire protocol's version has
    /// to change.
    #[test]
    fn sums_never_change_their_bits() {
        let tile = values(5 * BLOCK);
        let mut totals = vec![0.0; 10];
        add_pair_distances(&tile, &mut totals);
        let bytes: Vec<u8> = totals
            .iter()
            .flat_map(|total| total.to_bits().to_le_bytes())
            .collect();
        assert_eq!(crate::identity::Digest::of(&bytes).short(), "d644fed6");
    }

    /// A network that splits every sequence of 0 and 1 correctly splits everything correctly
    /// (zero–one principle).
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
                    let count = |range: std::ops::Range<usize>| {
                        line[range].iter().filter(|bit| **bit).count()
                    };
                    assert_eq!(
                        count(0..dropped),
                        ones.saturating_sub(rows - dropped),
                        "{rows} rows, {dropped} dropped"
                    );
                    assert_eq!(
                        count(rows - dropped..rows),
                        ones.min(dropped),
                        "{rows} rows, {dropped} dropped"
                    );
                }
            }
        }
    }

    #[test]
    fn sorting_networks_sort() {
        for rows in 1..=12usize {
            let network = sorting_network(rows);
            for bits in 0..1u32 << rows {
                let mut line: Vec<bool> = (0..rows).map(|row| bits >> row & 1 == 1).collect();
                for (low, high) in &network {
                    if line[*low] && !line[*high] {
                        line.swap(*low, *high);
                    }
                }
                assert!(line.is_sorted(), "{rows} rows: {bits:b}");
            }
        }
    }

    #[test]
    fn one_value_that_is_not_finite_is_found_anywhere() {
        let mut values = vec![1.0f32; 10_000];
        assert!(all_finite(&values));
        for (index, wrong) in [
            (0, f32::NAN),
            (4096, f32::INFINITY),
            (9_999, f32::NEG_INFINITY),
        ] {
            values[index] = wrong;
            assert!(!all_finite(&values));
            values[index] = f32::MAX;
        }
        assert!(all_finite(&values));
    }
}
