//! Gradient tracking: every peer follows an estimate of the gradient of all data, and so reaches
//! the exact common optimum.
//!
//! Di Lorenzo and Scutari 2016, arXiv 1602.00591; Nedić, Olshevsky and Shi 2017, arXiv 1607.03218.
//! Adapt, then combine: X⁺ = W (X − η Y); Y⁺ = W (Y + G⁺ − G) with Y₀ = G₀, where G are gradients
//! at X and G⁺ at X⁺. While W is doubly stochastic the mean of Y is the mean of G. Peers send the
//! model's half step and then the tracked vector's; W is whatever combines them. Doubles the bytes
//! sent; gradients of different batches keep their noise in Y.

use super::each;

/// X − η Y: what a peer sends, and keeps for itself, to be combined into its next model.
///
/// # Panics
/// When lengths differ.
pub fn model_half_step(model: &[f32], tracked: &[f32], learning_rate: f64) -> Vec<f32> {
    each([model, tracked], |[x, y]| x - learning_rate * y)
}

/// Y + G⁺ − G: what a peer sends to be combined into its next tracked vector.
///
/// # Panics
/// When lengths differ.
pub fn tracked_half_step(tracked: &[f32], gradient: &[f32], previous_gradient: &[f32]) -> Vec<f32> {
    each([tracked, gradient, previous_gradient], |[y, new, old]| {
        y + new - old
    })
}
