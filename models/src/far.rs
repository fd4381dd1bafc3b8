//! Values absurdly far from the others of their column: a sentinel such as 999999, a slipped
//! decimal point, a damaged cell. They are numbers, so a table may hold them, but training on one
//! of them can fail or drown the rest.

use crate::data::Dataset;

/// Spreads away from its column's middle at which a value is reported. Heavy tails reach some tens;
/// a sentinel or a broken cell reaches far more (a guess).
const FAR: f64 = 1000.0;
/// Share of a column's values, the nearest to its middle, that give its spread, so that far values
/// do not hide themselves.
const NEAREST: f64 = 0.95;
/// Most values reported; one is enough to look into a file.
const TOLD_MAX: usize = 8;

/// A value far from the others of its column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FarValue {
    /// Its row, from 0.
    pub row: usize,
    /// Its feature, from 0.
    pub feature: usize,
    /// The value as the model gets it, normalised.
    pub value: f32,
    /// Median of its column, normalised.
    pub median: f32,
}

/// The values that lie more than a thousand spreads from the median of their column, at most eight.
/// A spread is the root mean square distance of the nearest 95 % from the median, and at least 1,
/// the deviation that the schema normalises to.
pub fn far_values(rows: &Dataset) -> Vec<FarValue> {
    if rows.is_bytes() {
        return Vec::new();
    }
    let mut column = Vec::with_capacity(rows.len());
    let mut far = Vec::new();
    for feature in 0..rows.features() {
        column.clear();
        column.extend((0..rows.len()).map(|row| rows.value(row, feature)));
        let (median, limit) = reach(&mut column.clone());
        let beyond = column
            .iter()
            .enumerate()
            .filter(|(_, value)| f64::from((**value - median).abs()) > limit);
        far.extend(beyond.map(|(row, value)| FarValue {
            row,
            feature,
            value: *value,
            median,
        }));
        if far.len() >= TOLD_MAX {
            break;
        }
    }
    far.truncate(TOLD_MAX);
    far
}

/// The median of a column and the distance from it at which a value is far; the column's order is
/// lost.
fn reach(column: &mut [f32]) -> (f32, f64) {
    let middle = column.len() / 2;
    let median = *column.select_nth_unstable_by(middle, f32::total_cmp).1;
    column
        .iter_mut()
        .for_each(|value| *value = (*value - median).abs());
    // At least all but one: a single far value among few must not count itself.
    let nearest = ((column.len() as f64 * NEAREST) as usize)
        .min(column.len() - 1)
        .max(1);
    column.select_nth_unstable_by(nearest - 1, f32::total_cmp);
    let squares: f64 = column[..nearest]
        .iter()
        .map(|distance| f64::from(*distance).powi(2))
        .sum();
    (median, FAR * (squares / nearest as f64).sqrt().max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::Seed;

    fn far(values: Vec<f32>, features: usize) -> Vec<(usize, usize, f32)> {
        let rows = values.len() / features;
        far_values(&Dataset::from_numbers(values, vec![0; rows], features))
            .iter()
            .map(|far| (far.row, far.feature, far.value))
            .collect()
    }

    #[test]
    fn a_value_far_from_its_column_is_found_and_a_wide_column_is_not() {
        let mut stream = Seed::from_number(1).stream("test far");
        let mut values: Vec<f32> = (0..200)
            .flat_map(|_| [stream.normal() as f32, 1e6 * stream.normal() as f32])
            .collect();
        assert_eq!(far(values.clone(), 2), []);
        for value in [3e38, -1e30, 999_999.0] {
            values[2 * 5] = value;
            values[2 * 90] = value;
            assert_eq!(far(values.clone(), 2), [(5, 0, value), (90, 0, value)]);
        }
        assert_eq!(far(vec![0.0, 0.0, 1.0, 3e38], 1), [(3, 0, 3e38)]);
        assert_eq!(far(vec![0.0; 50], 1), []);
        assert_eq!(
            far([vec![0.0; 95], vec![800.0; 5]].concat(), 1),
            [],
            "a rare large value in a sparse column"
        );
        assert_eq!(far(vec![7.0], 1), []);
        assert_eq!(
            far(vec![9e37; 600], 3),
            [],
            "far from 0, but not from each other"
        );
        assert_eq!(
            far(
                vec![3e38; 600]
                    .into_iter()
                    .enumerate()
                    .map(|(row, value)| if row == 30 { -value } else { value })
                    .collect(),
                3
            )
            .len(),
            1
        );
    }
}
