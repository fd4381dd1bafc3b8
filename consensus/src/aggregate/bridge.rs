//! BRIDGE-T: per coordinate drop the b smallest and b largest of the neighbours' values, average
//! the rest with the peer's own value.
//!
//! Fang, Yang and Bajwa 2022, arXiv 1908.08098. The trimmed mean of a peer that trusts itself: its
//! own value is never dropped. Needs 2b + 1 neighbours, so n ≥ 2b + 2 models (any number for b =
//! 0). Cost d · n log² n. Each coordinate is judged alone, as in the trimmed mean, with the same
//! weaknesses.

use super::kernel::{self, BLOCK};
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "bridge",
    help: "per coordinate the mean of its own value and the neighbours' trimmed ones; n >= 2f + 2",
    source: "Fang, Yang and Bajwa 2022, arXiv 1908.08098",
    main_key: None,
    new: |_, byzantine| Box::new(Bridge { byzantine }),
};

#[derive(Debug)]
struct Bridge {
    byzantine: usize,
}

impl Rule for Bridge {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        if self.byzantine == 0 {
            1
        } else {
            2 * self.byzantine + 2
        }
    }

    fn needs_own(&self) -> bool {
        true
    }

    fn stays_in_honest_range(&self) -> bool {
        true
    }

    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let own = context.own_row(ENTRY.name)?;
        let (neighbours, dropped) = (rows.count() - 1, self.byzantine);
        let network = kernel::middle_network(neighbours, dropped);
        let mut parameters = vec![0.0; rows.dimension()];
        let block = |row: usize| row * BLOCK..(row + 1) * BLOCK;
        let mut own_values = [0.0; BLOCK];
        rows.narrow_tiles(|start, values, tile| {
            // The last row takes the place of the peer's own, so that the neighbours stand
            // together.
            own_values.copy_from_slice(&tile[block(own)]);
            tile.copy_within(block(neighbours), own * BLOCK);
            kernel::sort_columns(&mut tile[..neighbours * BLOCK], &network);
            // The peer's own values stand where the largest begin, next to the kept ones.
            tile[block(neighbours - dropped)].copy_from_slice(&own_values);
            let kept = dropped * BLOCK..(neighbours - dropped + 1) * BLOCK;
            kernel::mean_rows(&tile[kept], &mut parameters[start..start + values]);
        });
        let influence = rows.sampled_influence(|column, shares| {
            let mut order: Vec<usize> = (0..column.len()).filter(|row| *row != own).collect();
            order.sort_by(|a, b| column[*a].total_cmp(&column[*b]));
            order[dropped..neighbours - dropped]
                .iter()
                .for_each(|row| shares[*row] += 1.0);
            shares[own] += 1.0;
        });
        Ok(Aggregate {
            parameters,
            influence,
            scores: Vec::new(),
        })
    }
}
