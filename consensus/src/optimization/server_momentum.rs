//! Momentum over rounds: the change that a round made continues in the next ones.
//!
//! Hsu, Qi and Brown 2019 (FedAvgM), arXiv 1909.06335. With Δ the round's change v ← β v + Δ;
//! x ← x + γ v. There is no server here: each peer keeps its own v. Under unlike data the peers' v drift
//! apart with their models.

use super::each;

/// One line of help for the key `aggregation.momentum`.
pub const HELP: &str = "share of the last round's change that is carried on: server momentum, kept by every peer for itself; 0 is none";

/// The paper it comes from.
pub const SOURCE: &str = "Hsu, Qi and Brown 2019 (FedAvgM), arXiv 1909.06335";

/// One step: changes `model` and `velocity` by what the round changed.
///
/// # Panics
/// When lengths differ.
pub fn step(
    model: &mut [f32],
    velocity: &mut [f32],
    change: &[f32],
    momentum: f64,
    learning_rate: f64,
) {
    velocity.copy_from_slice(&each([velocity, change], |[v, change]| {
        momentum * v + change
    }));
    model.copy_from_slice(&each([model, velocity], |[x, v]| x + learning_rate * v));
}
