//! Sizes of parts, and parts of these sizes.

use kith_consensus::Stream;

use super::partitioner::{PartitionError, Rows};

/// Near-equal sizes of all rows, or `rows_per_peer` for each if that is above 0.
pub(super) fn equal_sizes(
    rows: usize,
    peers: usize,
    rows_per_peer: usize,
) -> Result<Vec<usize>, PartitionError> {
    let needed = rows_per_peer.saturating_mul(peers);
    if needed > rows {
        return Err(PartitionError::TooFew {
            rows,
            peers,
            what: format!("{rows_per_peer} rows per peer need {needed}"),
        });
    }
    Ok(if rows_per_peer > 0 {
        vec![rows_per_peer; peers]
    } else {
        near_equal(rows, peers)
    })
}

/// Consecutive parts of `order`, each sorted.
pub(super) fn cut(order: &[usize], sizes: &[usize]) -> Vec<Vec<usize>> {
    let mut rest = order;
    let part = |size: &usize| {
        let (part, other) = rest.split_at(*size);
        rest = other;
        let mut part = part.to_vec();
        part.sort_unstable();
        part
    };
    sizes.iter().map(part).collect()
}

/// Parts of these sizes of all rows in a random order.
pub(super) fn shuffled(
    rows: usize,
    sizes: &[usize],
    stream: &mut Stream,
) -> Result<Vec<Vec<usize>>, PartitionError> {
    let mut order: Vec<usize> = (0..rows).collect();
    stream.shuffle(&mut order);
    Ok(cut(&order, sizes))
}

/// The rows of each class, ascending.
pub(super) fn rows_by_class(rows: Rows<'_>) -> Vec<Vec<usize>> {
    let mut classes = vec![Vec::new(); rows.classes];
    rows.labels
        .iter()
        .enumerate()
        .for_each(|(row, label)| classes[*label as usize].push(row));
    classes
}

/// Cuts `total` into whole parts in proportion to `weights` (not negative, one above 0): floors
/// first, then one more for the largest remainders, ties to the lower index.
///
/// # Panics
/// When the weights are empty, negative, not finite or all 0.
pub fn largest_remainder(total: usize, weights: &[f64]) -> Vec<usize> {
    let sum: f64 = weights.iter().sum();
    assert!(
        sum > 0.0 && sum.is_finite() && weights.iter().all(|weight| *weight >= 0.0),
        "weights: {weights:?}"
    );
    let exact: Vec<f64> = weights
        .iter()
        .map(|weight| total as f64 * weight / sum)
        .collect();
    let mut sizes: Vec<usize> = exact.iter().map(|size| size.floor() as usize).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| {
        (exact[*b].fract())
            .total_cmp(&exact[*a].fract())
            .then(a.cmp(b))
    });
    let missing = total.saturating_sub(sizes.iter().sum());
    order
        .iter()
        .cycle()
        .take(missing)
        .for_each(|index| sizes[*index] += 1);
    sizes
}

/// Near-equal whole parts of `total`, the first ones larger by one.
pub fn near_equal(total: usize, parts: usize) -> Vec<usize> {
    (0..parts)
        .map(|part| total / parts + usize::from(part < total % parts))
        .collect()
}
