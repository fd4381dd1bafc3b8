//! Mean around the median: per coordinate average the n − f values nearest the median.
//!
//! Xie, Koyejo and Gupta 2018, arXiv 1802.10116. Needs n ≥ 2f + 1. Cost d · n log² n. Keeps f
//! values more than the trimmed mean, and from one side if the honest values are skewed. Each
//! coordinate is judged alone, with the same weakness: a model that stays within the honest spread
//! of every coordinate is not noticed.

use super::kernel::{self, BLOCK};
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "meamed",
    help: "per coordinate average the n - f values nearest the median; n >= 2f + 1",
    source: "Xie, Koyejo and Gupta 2018, arXiv 1802.10116",
    main_key: None,
    new: |_, byzantine| Box::new(MeaMed { byzantine }),
};

#[derive(Debug)]
struct MeaMed {
    byzantine: usize,
}

impl Rule for MeaMed {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        2 * self.byzantine + 1
    }

    fn combine(&self, _: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let kept = rows.count() - self.byzantine;
        let parameters = mean_around_median(rows, kept);
        Ok(Aggregate {
            parameters,
            influence: influence_around_median(rows, kept),
            scores: Vec::new(),
        })
    }
}

/// Per coordinate, the mean of the `kept` values nearest the median.
pub(super) fn mean_around_median(rows: &Rows<'_>, kept: usize) -> Vec<f32> {
    let network = kernel::sorting_network(rows.count());
    let mut result = vec![0.0; rows.dimension()];
    let mut unsorted = Vec::new();
    let mut column = vec![0.0; rows.count()];
    rows.narrow_tiles(|start, values, tile| {
        unsorted.clear();
        unsorted.extend_from_slice(tile);
        kernel::sort_columns(tile, &network);
        for (place, mean) in result[start..start + values].iter_mut().enumerate() {
            read_column(tile, place, &mut column);
            let sum: f64 = match nearest_run(&column, kept) {
                Some(first) => column[first..first + kept].iter().sum(),
                None => {
                    read_column(&unsorted, place, &mut column);
                    nearest_to_median(&column, kept)
                        .iter()
                        .map(|row| column[*row])
                        .sum()
                }
            };
            *mean = (sum / kept as f64) as f32;
        }
    });
    result
}

/// How often each row is among the `kept` nearest the median, estimated as for the trimmed mean.
pub(super) fn influence_around_median(rows: &Rows<'_>, kept: usize) -> Vec<f64> {
    rows.sampled_influence(|column, shares| {
        nearest_to_median(column, kept)
            .iter()
            .for_each(|row| shares[*row] += 1.0)
    })
}

fn read_column(tile: &[f32], place: usize, column: &mut [f64]) {
    column
        .iter_mut()
        .zip(tile.chunks_exact(BLOCK))
        .for_each(|(slot, row)| *slot = f64::from(row[place]));
}

fn median_of(sorted: &[f64]) -> f64 {
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

/// Where in a sorted column the `kept` values nearest the median begin; they are neighbours there.
/// `None` if the two values at the ends are equally far and differ, so that the rows have to
/// decide.
fn nearest_run(sorted: &[f64], kept: usize) -> Option<usize> {
    let median = median_of(sorted);
    let mut first = 0;
    while first + kept < sorted.len() {
        let (below, above) = (median - sorted[first], sorted[first + kept] - median);
        if below == above && below > 0.0 {
            return None;
        }
        if below <= above {
            break;
        }
        first += 1;
    }
    Some(first)
}

/// The rows of the `kept` values nearest the median; ties to the lower row.
fn nearest_to_median(column: &[f64], kept: usize) -> Vec<usize> {
    let mut sorted = column.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = median_of(&sorted);
    let mut order: Vec<usize> = (0..column.len()).collect();
    order.sort_by(|a, b| {
        (column[*a] - median)
            .abs()
            .total_cmp(&(column[*b] - median).abs())
    });
    order.truncate(kept);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_values_equally_far_the_lower_row_counts() {
        for (rows, expected) in [([-1.0f32, 0.0, 1.0], -0.5), ([1.0, 0.0, -1.0], 0.5)] {
            let models: Vec<&[f32]> = rows.iter().map(std::slice::from_ref).collect();
            assert_eq!(
                mean_around_median(&Rows::new(models, vec![1.0; 3]), 2),
                [expected]
            );
        }
    }

    /// The shortcut over sorted columns against the definition.
    #[test]
    fn the_run_in_a_sorted_column_holds_the_nearest_rows() {
        let mut stream = crate::random::Seed::from_number(1).stream("meamed");
        for _ in 0..2000 {
            let count = 1 + stream.bounded(9) as usize;
            let kept = 1 + stream.bounded(count as u64) as usize;
            let column: Vec<f64> = (0..count).map(|_| stream.bounded(8) as f64).collect();
            let mut sorted = column.clone();
            sorted.sort_by(f64::total_cmp);
            if let Some(first) = nearest_run(&sorted, kept) {
                let mut nearest: Vec<f64> = nearest_to_median(&column, kept)
                    .iter()
                    .map(|row| column[*row])
                    .collect();
                nearest.sort_by(f64::total_cmp);
                assert_eq!(
                    nearest,
                    sorted[first..first + kept],
                    "{column:?}, {kept} kept"
                );
            }
        }
    }
}
