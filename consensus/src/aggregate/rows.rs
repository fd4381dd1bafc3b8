//! The models that a rule combines, read tile by tile.

use super::gram::Gram;

use super::kernel::{self, BLOCK, Lanes, squares_of};

/// For each new row, the rows that it is made of and the factor of each, in ascending row order.
pub type Mixing = Vec<Vec<(usize, f64)>>;

/// `n` rows of `d` values with their mixing weights.
///
/// Rows that a pre-aggregator made are linear combinations of the models; they are made anew, tile
/// by tile, for each pass, unless a rule asks for them to be kept (`Rows::kept`).
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    models: Vec<&'a [f32]>,
    /// `None`: the rows are the models.
    mixing: Option<Mixing>,
    weights: Vec<f64>,
    /// The tiles of rows that a pre-aggregator made, one after the other.
    tiles: Option<Vec<f64>>,
}

/// Most values of mixed rows that are kept: 32 MB, ten times the memory that a rule takes besides
/// the models without them (a guess).
const KEPT_MAX: usize = 1 << 22;

impl<'a> Rows<'a> {
    /// The models themselves. All finite, all of one length.
    pub(super) fn new(models: Vec<&'a [f32]>, weights: Vec<f64>) -> Rows<'a> {
        Rows {
            models,
            mixing: None,
            weights,
            tiles: None,
        }
    }

    /// Rows made of these rows. A mixed row's weight is the average over its parts.
    pub(super) fn mixed(&self, mixing: Mixing) -> Rows<'a> {
        let weight = |terms: &Vec<(usize, f64)>| {
            shares_of(terms)
                .map(|(row, share)| share * self.weights[row])
                .sum()
        };
        let weights = mixing.iter().map(weight).collect();
        let mixing = match &self.mixing {
            None => mixing,
            Some(before) => mixing
                .iter()
                .map(|terms| compose(terms, before, self.models.len()))
                .collect(),
        };
        Rows {
            models: self.models.clone(),
            mixing: Some(mixing),
            weights,
            tiles: None,
        }
    }

    /// The same rows for a rule that goes through them many times: if they are small enough, a
    /// pre-aggregator's rows are computed once.
    pub(super) fn kept(&self) -> Rows<'a> {
        let mut rows = self.clone();
        if self.mixing.is_some() && self.count() * self.dimension() <= KEPT_MAX {
            let mut tiles =
                Vec::with_capacity(self.count() * self.dimension().next_multiple_of(BLOCK));
            self.tiles(|_, _, tile| tiles.extend_from_slice(tile));
            rows.tiles = Some(tiles);
        }
        rows
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

    /// Σ shareᵢ · rowᵢ. A value beyond the range of f32 becomes the largest f32.
    pub(super) fn weighted_sum(&self, shares: &[f64]) -> Vec<f32> {
        self.weighted_sum_and(shares, None)
    }

    /// Σ shareᵢ · rowᵢ, and a further vector times its factor.
    pub(super) fn weighted_sum_and(
        &self,
        shares: &[f64],
        further: Option<(&[f32], f64)>,
    ) -> Vec<f32> {
        /// Values of a row that are read at once: enough that the processor reads ahead by itself,
        /// few enough that their sums stay in the first-level cache.
        const RUN: usize = 1024;
        let factors = self.model_factors(shares);
        let models = self.models.iter().copied().zip(factors);
        let used: Vec<(&'a [f32], f64)> = models.filter(|(_, factor)| *factor != 0.0).collect();
        let mut result = vec![0.0; self.dimension()];
        for (run, values) in result.chunks_mut(RUN).enumerate() {
            let start = run * RUN;
            let mut sum = [0.0; RUN];
            let part = |model: &'a [f32]| &model[start..start + values.len()];
            let (fours, rest) = used.as_chunks::<4>();
            for four in fours {
                kernel::add_four_scaled(
                    &mut sum[..values.len()],
                    &four.map(|(model, _)| part(model)),
                    &four.map(|(_, factor)| factor),
                );
            }
            for (model, factor) in rest {
                kernel::add_scaled(&mut sum, part(model), *factor);
            }
            if let Some((vector, factor)) = further {
                kernel::add_scaled(&mut sum, &vector[start..start + values.len()], factor);
            }
            for (value, sum) in values.iter_mut().zip(sum) {
                *value = (sum as f32).clamp(f32::MIN, f32::MAX);
            }
        }
        result
    }

    /// Calls `visit(start, values, tile)` for each block of coordinates: `tile` holds `count` ×
    /// BLOCK values, of which the first `values` per row are real and the rest 0.
    pub(super) fn tiles(&self, mut visit: impl FnMut(usize, usize, &[f64])) {
        if let Some(tiles) = &self.tiles {
            let starts = (0..self.dimension()).step_by(BLOCK);
            let tiles = tiles.chunks_exact(self.count() * BLOCK);
            return starts
                .zip(tiles)
                .for_each(|(start, tile)| visit(start, BLOCK.min(self.dimension() - start), tile));
        }
        self.tiles_up_to(self.dimension(), visit);
    }

    /// Calls `visit` for the first block of coordinates.
    fn first_tile(&self, mut visit: impl FnMut(&[f64])) {
        self.tiles_up_to(BLOCK.min(self.dimension()), |_, _, tile| visit(tile));
    }

    /// [`Rows::tiles`] for the blocks that begin before `end`, made of the models.
    fn tiles_up_to(&self, end: usize, mut visit: impl FnMut(usize, usize, &[f64])) {
        let mut wide = vec![0.0; self.models.len() * BLOCK];
        let mut made = vec![
            0.0;
            self.mixing
                .as_ref()
                .map_or(0, |mixing| mixing.len() * BLOCK)
        ];
        for start in (0..end).step_by(BLOCK) {
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

    /// Which share of a result comes from each row if rows count differently in each coordinate;
    /// sums to 1. `add` gets the values of one coordinate and adds what each row counts there.
    /// Estimated on evenly spaced coordinates. It is a statistic and decides nothing about the
    /// result.
    pub(super) fn sampled_influence(&self, mut add: impl FnMut(&[f64], &mut [f64])) -> Vec<f64> {
        /// Coordinates looked at; a share of 5 % is then known to about 0.7 % (binomial standard
        /// deviation).
        const SAMPLES: usize = 1024;
        let samples = self.dimension().min(SAMPLES);
        let mut shares = vec![0.0; self.count()];
        let mut column = Vec::with_capacity(self.count());
        for sample in 0..samples {
            column.clear();
            column.extend(self.column(sample * self.dimension() / samples));
            add(&column, &mut shares);
        }
        let total: f64 = shares.iter().sum();
        shares.into_iter().map(|share| share / total).collect()
    }

    /// The values of all rows at one coordinate.
    pub(super) fn column(&self, coordinate: usize) -> impl Iterator<Item = f64> + '_ {
        let model = move |index: usize| f64::from(self.models[index][coordinate]);
        let made = move |row: usize| match &self.mixing {
            None => model(row),
            Some(mixing) => mixing[row]
                .iter()
                .map(|(index, factor)| factor * model(*index))
                .sum(),
        };
        (0..self.count()).map(made)
    }

    /// Squared Euclidean norm of each row.
    pub(super) fn squared_norms(&self) -> Vec<f64> {
        let mut squares = vec![0.0; self.count()];
        self.tiles(|_, _, tile| kernel::add_distances_to(tile, &[0.0; BLOCK], &mut squares));
        squares
    }

    /// Squared Euclidean distance of each row to row `row`.
    pub(super) fn squared_distances_to_row(&self, row: usize) -> Vec<f64> {
        let mut squares = vec![0.0; self.count()];
        self.tiles(|_, _, tile| {
            kernel::add_distances_to(tile, &tile[row * BLOCK..(row + 1) * BLOCK], &mut squares)
        });
        squares
    }

    /// Squared Euclidean distance of each row to `point`, `d` values.
    pub(super) fn squared_distances_to(&self, point: &[f64]) -> Vec<f64> {
        let mut squares = vec![0.0; self.count()];
        self.tiles(|start, values, tile| {
            let mut block = [0.0; BLOCK];
            block[..values].copy_from_slice(&point[start..start + values]);
            kernel::add_distances_to(tile, &block, &mut squares);
        });
        squares
    }

    /// Inner product of each row with row `row`.
    pub(super) fn products_with_row(&self, row: usize) -> Vec<f64> {
        let mut products = vec![0.0; self.count()];
        self.tiles(|_, _, tile| {
            kernel::add_products_with(tile, &tile[row * BLOCK..(row + 1) * BLOCK], &mut products)
        });
        products
    }

    /// Inner products of all pairs of rows, seen from row `origin`.
    pub(super) fn gram(&self, origin: usize) -> Gram {
        let rows = self.count();
        let mut sums = vec![Lanes::default(); squares_of(rows)];
        // A row of zeros is added if their number is odd.
        let mut shifted = vec![0.0; rows.next_multiple_of(2) * BLOCK];
        self.tiles(|_, _, tile| {
            kernel::subtract(
                tile,
                &tile[origin * BLOCK..(origin + 1) * BLOCK],
                &mut shifted,
            );
            kernel::add_products_in_squares(&shifted, &mut sums);
        });
        Gram::new(rows, origin, &sums)
    }

    /// The products seen from [`Gram::medoid`], accurate to about 1e-12 of the squared lower median
    /// distance from there.
    pub(super) fn gram_at_the_medoid(&self) -> Gram {
        /// How far away the origin may be, in squared median distances. Times the rounding of f64
        /// that is 1e-12.
        const FAR: f64 = 4096.0;
        let mut gram = self.gram(self.central_row());
        // Two rounds: if the first origin is far off, only the second may show which row is the
        // medoid.
        for _ in 0..2 {
            let (medoid, _) = gram.medoid();
            let median = gram.median_square(medoid);
            if medoid != gram.origin() && gram.product(medoid, medoid) > FAR * median {
                gram = self.gram(medoid);
            } else {
                break;
            }
        }
        let (medoid, _) = gram.medoid();
        if medoid == gram.origin() {
            gram
        } else {
            gram.seen_from(medoid)
        }
    }

    /// Which row is nearest to the others, judged by the first coordinates: a guess at a central
    /// row.
    pub(super) fn central_row(&self) -> usize {
        let rows = self.count();
        let mut pairs = vec![0.0; rows * (rows - 1) / 2];
        self.first_tile(|tile| kernel::add_pair_distances(tile, &mut pairs));
        let distances = Distances { rows, pairs };
        let sum = |row: usize| {
            (0..rows)
                .map(|other| distances.between(row, other).sqrt())
                .sum::<f64>()
        };
        let sums: Vec<f64> = (0..rows).map(sum).collect();
        (0..rows)
            .min_by(|a, b| sums[*a].total_cmp(&sums[*b]))
            .unwrap_or(0)
    }

    /// Squared Euclidean distances of all pairs.
    pub(super) fn distances(&self) -> Distances {
        let rows = self.count();
        let mut sums = vec![Lanes::default(); squares_of(rows)];
        // A row of zeros is added if their number is odd.
        let mut even = vec![0.0; rows.next_multiple_of(2) * BLOCK];
        self.tiles(|_, _, tile| {
            let tile = if rows.is_multiple_of(2) {
                tile
            } else {
                even[..tile.len()].copy_from_slice(tile);
                &even
            };
            kernel::add_distances_in_squares(tile, &mut sums);
        });
        let mut pairs = vec![0.0; rows * (rows - 1) / 2];
        kernel::each_pair(rows, &sums, |low, high, distance| {
            if low < high {
                pairs[place_of(rows, low, high)] = distance;
            }
        });
        Distances { rows, pairs }
    }
}

/// The factors of a row made of rows that `before` made of `models` models.
fn compose(terms: &[(usize, f64)], before: &Mixing, models: usize) -> Vec<(usize, f64)> {
    let mut factors = vec![None; models];
    for (row, factor) in terms {
        for (model, inner) in &before[*row] {
            *factors[*model].get_or_insert(0.0) += factor * inner;
        }
    }
    factors
        .into_iter()
        .enumerate()
        .filter_map(|(model, factor)| Some((model, factor?)))
        .collect()
}

/// How much of a mixed row comes from each of its parts; sums to 1. A row that was clipped to zero
/// is shared equally.
pub(super) fn shares_of(terms: &[(usize, f64)]) -> impl Iterator<Item = (usize, f64)> + '_ {
    let total: f64 = terms.iter().map(|(_, factor)| factor).sum();
    let share = move |factor: f64| {
        if total > 0.0 {
            factor / total
        } else {
            1.0 / terms.len() as f64
        }
    };
    terms
        .iter()
        .map(move |(row, factor)| (*row, share(*factor)))
}

/// Where the pair of two rows stands among all pairs: before those of row `low` come rows − 1, rows
/// − 2, … others.
fn place_of(rows: usize, low: usize, high: usize) -> usize {
    low * (2 * rows - low - 1) / 2 + high - low - 1
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
        self.pairs[place_of(self.rows, low, high)]
    }

    /// The other rows from the nearest to the farthest; ties to the lower index.
    pub(super) fn neighbours(&self, row: usize) -> Vec<usize> {
        let mut others: Vec<usize> = (0..self.rows).filter(|other| *other != row).collect();
        others.sort_by(|a, b| self.between(row, *a).total_cmp(&self.between(row, *b)));
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    /// Dimensions with and without a rest in the last tile.
    #[test]
    fn kept_rows_are_the_rows_made_anew() {
        let mut stream = Seed::from_number(5).stream("test rows");
        for dimension in [1, BLOCK - 1, BLOCK, 3 * BLOCK + 7] {
            let models: Vec<Vec<f32>> = (0..4)
                .map(|_| (0..dimension).map(|_| stream.normal() as f32).collect())
                .collect();
            let rows = Rows::new(models.iter().map(Vec::as_slice).collect(), vec![0.25; 4]);
            let mixed = rows.mixed(vec![
                vec![(0, 0.5), (2, 0.5)],
                vec![(1, 1.0)],
                vec![(0, 0.25), (1, 0.25), (3, 0.5)],
            ]);
            let visits = |rows: &Rows<'_>| {
                let mut visits = Vec::new();
                rows.tiles(|start, values, tile| visits.push((start, values, tile.to_vec())));
                visits
            };
            let kept = mixed.kept();
            assert!(
                kept.tiles.is_some() && rows.kept().tiles.is_none(),
                "models are there already"
            );
            assert_eq!(visits(&kept), visits(&mixed));
            // Rows mixed from kept rows are again made of the models.
            let further = vec![vec![(0, 0.5), (1, 0.5)]];
            assert_eq!(
                visits(&kept.mixed(further.clone())),
                visits(&mixed.mixed(further))
            );
        }
    }
}
