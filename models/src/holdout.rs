//! Chooses which of a peer's rows are held out for testing.
//!
//! A row's own content decides, not its place: rows that are added, reordered or exported again
//! leave every other row on its side, and equal rows are on the same side. So no row that a peer
//! has trained on becomes a test row when its file grows. The price is that the share is met on
//! average and not exactly, in the whole and in each class.

use std::collections::BTreeSet;

use kith_consensus::{Digest, Seed, Stream};

use crate::data::Dataset;

/// Ascending positions of rows to train on and of rows to hold out, on average this `share` of all.
/// If chance would hold out nothing, the row that comes nearest is held out, with its equals.
pub fn hold_out(rows: &Dataset, share: f64, seed: &Seed) -> (Vec<usize>, Vec<usize>) {
    let draws: Vec<f64> = contents(rows)
        .iter()
        .map(|content| draw(content, seed))
        .collect();
    let lowest = draws.iter().copied().fold(1.0, f64::min);
    (0..rows.len()).partition(|row| draws[*row] >= share && draws[*row] > lowest)
}

/// How many of the `test` rows are also rows of `train`, features and label.
pub fn rows_in_both(train: &Dataset, test: &Dataset) -> usize {
    let known: BTreeSet<Digest> = contents(train).into_iter().collect();
    contents(test)
        .iter()
        .filter(|content| known.contains(content))
        .count()
}

/// A number in [0, 1) that follows from a row's content and the seed.
fn draw(content: &Digest, seed: &Seed) -> f64 {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| content.0[at + byte]));
    Stream::derive(
        "kith.v1 holdout by content",
        seed,
        word(0),
        word(8),
        word(16),
    )
    .unit()
}

/// A name for the content of each row, equal for equal features and labels. The features are the
/// normalised ones, so it does not matter how a file spelled them.
pub(crate) fn contents(rows: &Dataset) -> Vec<Digest> {
    let mut values = Vec::with_capacity(rows.features() + 1);
    let mut content = |row: usize| {
        values.clear();
        rows.write_row(row, &mut values);
        // −0 is written as 0: they are one number.
        values.iter_mut().for_each(|value| *value += 0.0);
        values.push(rows.labels()[row] as f32);
        Digest::of_values(&values)
    };
    (0..rows.len()).map(&mut content).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(f32, u32)]) -> Dataset {
        let numbers = rows.iter().map(|(value, _)| *value).collect();
        Dataset::from_numbers(numbers, rows.iter().map(|(_, label)| *label).collect(), 1)
    }

    /// The rows themselves on either side, in order.
    fn sides(rows: &Dataset, share: f64) -> [Vec<(u32, u32)>; 2] {
        let (train, test) = hold_out(rows, share, &Seed::from_number(3));
        [train, test].map(|side| {
            let mut side: Vec<(u32, u32)> = side
                .iter()
                .map(|row| (rows.row(*row)[0].to_bits(), rows.labels()[*row]))
                .collect();
            side.sort_unstable();
            side
        })
    }

    proptest::proptest! {
        /// Few different values, so that equal rows are common.
        #[test]
        fn rows_that_come_later_move_nothing_into_the_test(
            mut rows in proptest::collection::vec((0u8..60, 0u32..2), 2..80),
            more in proptest::collection::vec((0u8..60, 0u32..2), 0..40),
            turn in 0usize..80,
            share in 0.05f64..0.9,
        ) {
            let dataset = |rows: &[(u8, u32)]| table(&rows.iter().map(|(value, label)| (f32::from(*value), *label)).collect::<Vec<_>>());
            let before = dataset(&rows);
            let [train, test] = sides(&before, share);
            proptest::prop_assert_eq!(train.len() + test.len(), before.len());
            proptest::prop_assert!(!test.is_empty());
            proptest::prop_assert!(train.iter().all(|row| test.binary_search(row).is_err()), "equal rows on both sides");
            let turn = turn % rows.len();
            rows.rotate_left(turn);
            proptest::prop_assert_eq!(&sides(&dataset(&rows), share), &[train.clone(), test]);
            rows.splice(turn / 2..turn / 2, more);
            let [_, test] = sides(&dataset(&rows), share);
            proptest::prop_assert!(train.iter().all(|row| test.binary_search(row).is_err()), "a row trained on is tested");
        }
    }

    #[test]
    fn rows_on_both_sides_are_counted() {
        let train = table(&[(1.0, 0), (2.0, 0), (0.0, 1)]);
        assert_eq!(
            rows_in_both(
                &train,
                &table(&[(1.0, 0), (1.0, 0), (2.0, 1), (-0.0, 1), (3.0, 0)])
            ),
            3
        );
    }

    #[test]
    fn the_share_is_met_on_average_and_another_seed_holds_out_others() {
        let rows = table(&(0..4000).map(|row| (row as f32, 0)).collect::<Vec<_>>());
        let (train, test) = hold_out(&rows, 0.2, &Seed::from_number(1));
        // The standard deviation of 4000 draws at 0.2 is 25.
        assert!(test.len().abs_diff(800) < 100, "{}", test.len());
        assert_eq!(train.len() + test.len(), 4000);
        assert_ne!(test, hold_out(&rows, 0.2, &Seed::from_number(2)).1);
    }
}
