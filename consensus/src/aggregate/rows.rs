//! The models that a rule combines, read tile by tile.

use super::kernel::{self, BLOCK};

/// Per row made, the rows it is made of and the factor of each, in ascending row order.
pub type Mixing = Vec<Vec<(usize, f64)>>;

/// `n` rows of `d` values with their mixing weights.
///
/// Rows that a pre-aggregator made are linear combinations of the models; they are never stored but made anew, tile by tile.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    models: Vec<&'a [f32]>,
    /// `None`: the rows are the models.
    mixing: Option<Mixing>,
    weights: Vec<f64>,
}

impl<'a> Rows<'a> {
    /// The models themselves. All finite, all of one length.
    pub(super) fn new(models: Vec<&'a [f32]>, weights: Vec<f64>) -> Rows<'a> {
        Rows { models, mixing: None, weights }
    }

    /// Rows made of these rows. A made row's weight is the average over what it is made of.
    pub(super) fn mixed(&self, mixing: Mixing) -> Rows<'a> {
        let weight = |terms: &Vec<(usize, f64)>| {
            let total: f64 = terms.iter().map(|(_, factor)| factor).sum();
            terms.iter().map(|(row, factor)| factor * self.weights[*row]).sum::<f64>() / total
        };
        let weights = mixing.iter().map(weight).collect();
        let mixing = match &self.mixing {
            None => mixing,
            Some(before) => mixing.iter().map(|terms| compose(terms, before, self.models.len())).collect(),
        };
        Rows { models: self.models.clone(), mixing: Some(mixing), weights }
    }

    /// Number of rows `n`.
    pub fn count(&self) -> usize {
        self.mixing.as_ref().map_or(self.models.len(), Vec::len)
    }

    /// Values per row `d`.
    pub fn dimension(&self) -> usize {
        self.models[0].len()
    }

    /// Mixing weight of each row.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Per model, its factor in Σ shareᵢ · rowᵢ.
    fn model_factors(&self, shares: &[f64]) -> Vec<f64> {
        match &self.mixing {
            None => shares.to_vec(),
            Some(mixing) => {
                let mut factors = vec![0.0; self.models.len()];
                for (terms, share) in mixing.iter().zip(shares) {
                    for (model, factor) in terms {
                        factors[*model] += share * factor;
                    }
                }
                factors
            }
        }
    }

    /// Σ shareᵢ · rowᵢ.
    pub(super) fn weighted_sum(&self, shares: &[f64]) -> Vec<f32> {
        let factors = self.model_factors(shares);
        let mut result = vec![0.0; self.dimension()];
        for (block, values) in result.chunks_mut(BLOCK).enumerate() {
            let start = block * BLOCK;
            let mut sum = [0.0; BLOCK];
            for (model, factor) in self.models.iter().zip(&factors).filter(|(_, factor)| **factor != 0.0) {
                kernel::add_scaled(&mut sum, &model[start..start + values.len()], *factor);
            }
            for (value, sum) in values.iter_mut().zip(sum) {
                *value = sum as f32;
            }
        }
        result
    }

    /// Calls `visit(start, values, tile)` for each block of coordinates: `tile` holds `count` × BLOCK values, of which the
    /// first `values` per row are real and the rest 0.
    pub(super) fn tiles(&self, mut visit: impl FnMut(usize, usize, &[f64])) {
        let mut wide = vec![0.0; self.models.len() * BLOCK];
        let mut made = vec![0.0; self.mixing.as_ref().map_or(0, |mixing| mixing.len() * BLOCK)];
        for start in (0..self.dimension()).step_by(BLOCK) {
            let values = BLOCK.min(self.dimension() - start);
            for (model, row) in self.models.iter().zip(wide.chunks_exact_mut(BLOCK)) {
                kernel::widen(&model[start..start + values], row);
            }
            let Some(mixing) = &self.mixing else {
                visit(start, values, &wide);
                continue;
            };
            for (terms, row) in mixing.iter().zip(made.chunks_exact_mut(BLOCK)) {
                kernel::mix(&wide, terms, row);
            }
            visit(start, values, &made);
        }
    }

    /// [`Rows::tiles`] in f32, which a visitor may overwrite.
    pub(super) fn narrow_tiles(&self, mut visit: impl FnMut(usize, usize, &mut [f32])) {
        let mut tile = vec![0.0; self.count() * BLOCK];
        if self.mixing.is_some() {
            return self.tiles(|start, values, wide| {
                kernel::narrow(wide, &mut tile);
                visit(start, values, &mut tile);
            });
        }
        for start in (0..self.dimension()).step_by(BLOCK) {
            let values = BLOCK.min(self.dimension() - start);
            for (model, row) in self.models.iter().zip(tile.chunks_exact_mut(BLOCK)) {
                row[..values].copy_from_slice(&model[start..start + values]);
            }
            visit(start, values, &mut tile);
        }
    }

    /// The values of all rows at one coordinate.
    pub(super) fn column(&self, coordinate: usize) -> impl Iterator<Item = f64> + '_ {
        let model = move |index: usize| f64::from(self.models[index][coordinate]);
        let made = move |row: usize| match &self.mixing {
            None => model(row),
            Some(mixing) => mixing[row].iter().map(|(index, factor)| factor * model(*index)).sum(),
        };
        (0..self.count()).map(made)
    }

    /// Squared Euclidean distances of all pairs.
    pub(super) fn distances(&self) -> Distances {
        let rows = self.count();
        let mut pairs = vec![0.0; rows * (rows - 1) / 2];
        self.tiles(|_, _, tile| kernel::add_pair_distances(tile, &mut pairs));
        Distances { rows, pairs }
    }
}

/// The factors of a row made of rows that `before` made of `models` models.
fn compose(terms: &[(usize, f64)], before: &Mixing, models: usize) -> Vec<(usize, f64)> {
    let mut factors = vec![0.0; models];
    for (row, factor) in terms {
        for (model, inner) in &before[*row] {
            factors[*model] += factor * inner;
        }
    }
    factors.into_iter().enumerate().filter(|(_, factor)| *factor != 0.0).collect()
}

/// Squared Euclidean distances between rows.
#[derive(Debug)]
pub(super) struct Distances {
    rows: usize,
    /// (0,1), (0,2), …, (1,2), …
    pairs: Vec<f64>,
}

impl Distances {
    /// Squared distance between two rows; 0 to itself.
    pub(super) fn between(&self, a: usize, b: usize) -> f64 {
        let (low, high) = (a.min(b), a.max(b));
        if low == high {
            return 0.0;
        }
        // Before row `low` come rows − 1, rows − 2, … pairs.
        self.pairs[low * (2 * self.rows - low - 1) / 2 + high - low - 1]
    }

    /// The other rows from the nearest to the farthest; ties to the lower index.
    pub(super) fn neighbours(&self, row: usize) -> Vec<usize> {
        let mut others: Vec<usize> = (0..self.rows).filter(|other| *other != row).collect();
        others.sort_by(|a, b| self.between(row, *a).total_cmp(&self.between(row, *b)));
        others
    }
}
