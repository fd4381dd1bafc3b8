//! Inner products of rows, seen from one of them. A rule that asks for distances again and again
//! needs nothing more.
//!
//! With bᵢⱼ = ⟨xᵢ − x_o, xⱼ − x_o⟩ for an origin o among the rows, every point Σ λᵢ xᵢ with Σ λᵢ =
//! 1 has its distance to every row in n² operations, whatever d is. Products of differences lose
//! digits only if the origin is far from the compared points, so a rule that needs the digits asks
//! again from a nearer origin ([`Rows::gram`](super::Rows::gram) costs one pass, [`Gram::seen_from`] none).

use super::kernel::{self, Lanes};

/// The products bᵢⱼ of `n` rows.
#[derive(Clone, Debug)]
pub(super) struct Gram {
    rows: usize,
    origin: usize,
    /// Row by row, `n²` of them.
    products: Vec<f64>,
}

impl Gram {
    /// From the sums of [`kernel::add_products_in_squares`].
    pub(super) fn new(rows: usize, origin: usize, sums: &[Lanes]) -> Gram {
        let mut products = vec![0.0; rows * rows];
        kernel::each_pair(rows, sums, |low, high, product| {
            (products[low * rows + high], products[high * rows + low]) = (product, product);
        });
        Gram {
            rows,
            origin,
            products,
        }
    }

    /// Number of rows `n`.
    pub(super) fn count(&self) -> usize {
        self.rows
    }

    /// The row that differences are taken to.
    pub(super) fn origin(&self) -> usize {
        self.origin
    }

    /// ⟨xᵢ − x_o, xⱼ − x_o⟩
    pub(super) fn product(&self, a: usize, b: usize) -> f64 {
        self.products[a * self.rows + b]
    }

    /// Squared distance of two rows; exactly 0 if their values are equal.
    pub(super) fn squared_distance(&self, a: usize, b: usize) -> f64 {
        let both = self.product(a, b);
        ((self.product(a, a) - both) + (self.product(b, b) - both)).max(0.0)
    }

    /// The same products seen from another row. Off by about the rounding of that row's squared
    /// distance to the old origin.
    pub(super) fn seen_from(&self, origin: usize) -> Gram {
        let mut products = Vec::with_capacity(self.products.len());
        for a in 0..self.rows {
            for b in 0..self.rows {
                let (from_a, from_b) = (self.product(a, origin), self.product(b, origin));
                products
                    .push((self.product(a, b) - from_a) - (from_b - self.product(origin, origin)));
            }
        }
        for other in 0..self.rows {
            products[origin * self.rows + other] = 0.0;
            products[other * self.rows + origin] = 0.0;
        }
        Gram {
            rows: self.rows,
            origin,
            products,
        }
    }

    /// Bx, where x holds one number for each row.
    pub(super) fn times(&self, x: &[f64]) -> Vec<f64> {
        self.products
            .chunks_exact(self.rows)
            .map(|row| dot(row, x))
            .collect()
    }

    /// The row whose sum of distances to all is least, ties to the lower index; and its distances'
    /// sums.
    pub(super) fn medoid(&self) -> (usize, Vec<f64>) {
        let sum = |row: usize| {
            (0..self.rows)
                .map(|other| self.squared_distance(row, other).sqrt())
                .sum::<f64>()
        };
        let sums: Vec<f64> = (0..self.rows).map(sum).collect();
        let least = (0..self.rows)
            .min_by(|a, b| sums[*a].total_cmp(&sums[*b]))
            .unwrap_or(0);
        (least, sums)
    }

    /// The lower median of a row's squared distances to all rows but itself; 0 for a single row.
    pub(super) fn median_square(&self, row: usize) -> f64 {
        let others = (0..self.rows).filter(|other| *other != row);
        let mut squares: Vec<f64> = others
            .map(|other| self.squared_distance(row, other))
            .collect();
        squares.sort_by(f64::total_cmp);
        squares
            .get(squares.len().saturating_sub(1) / 2)
            .copied()
            .unwrap_or(0.0)
    }
}

/// Σ aᵢ bᵢ, in order.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
