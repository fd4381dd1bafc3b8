//! The models that a rule combines.

/// Whether no value is NaN or infinite.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// `n` rows of `d` values with their mixing weights.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    base: Vec<&'a [f32]>,
    weights: Vec<f64>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(base: Vec<&'a [f32]>, weights: Vec<f64>) -> Rows<'a> {
        Rows { base, weights }
    }

    /// Number of rows `n`.
    pub fn count(&self) -> usize {
        self.base.len()
    }

    /// Values per row `d`.
    pub fn dimension(&self) -> usize {
        self.base[0].len()
    }

    /// Mixing weight of each row.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Σ wᵢ xᵢ for the given weights, in row order.
    pub(crate) fn weighted_sum(&self, weights: &[f64]) -> Vec<f32> {
        (0..self.dimension())
            .map(|k| self.base.iter().zip(weights).map(|(row, weight)| weight * f64::from(row[k])).sum::<f64>() as f32)
            .collect()
    }
}
