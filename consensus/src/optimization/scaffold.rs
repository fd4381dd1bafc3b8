//! SCAFFOLD: local gradients corrected by what all peers' gradients say on average.
//!
//! Karimireddy et al. 2020, arXiv 1910.06378, option II. Peer i holds a control cᵢ and knows c, the
//! controls' mean (among peers each tracks c by gossip). Local steps y ← y − η (g − cᵢ + c); after
//! K of them cᵢ ← cᵢ − c + (x − y) / (K η). With the global step size η_g a round changes the model
//! by η_g times the mean of y − x. Doubles the bytes sent. A control from a liar corrects everybody
//! wrongly, so it has to pass the same rule as the models.

use super::each;

/// The gradient to descend: g − cᵢ + c.
///
/// # Panics
/// When lengths differ.
pub fn corrected_gradient(gradient: &[f32], own_control: &[f32], control: &[f32]) -> Vec<f32> {
    each([gradient, own_control, control], |[gradient, own, all]| {
        gradient - own + all
    })
}

/// What a peer contributes to the round's model: `start` + `global_learning_rate` · (`end` −
/// `start`).
///
/// # Panics
/// When lengths differ.
pub fn scaled_end(start: &[f32], end: &[f32], global_learning_rate: f64) -> Vec<f32> {
    each([start, end], |[start, end]| {
        start + global_learning_rate * (end - start)
    })
}

/// The peer's control after `steps` local steps of `learning_rate` from `start` to `end`.
///
/// # Panics
/// When lengths differ, or there was no step.
pub fn updated_control(
    own_control: &[f32],
    control: &[f32],
    start: &[f32],
    end: &[f32],
    steps: u64,
    learning_rate: f64,
) -> Vec<f32> {
    assert!(
        steps > 0 && learning_rate > 0.0,
        "a control is updated by steps that were taken"
    );
    let way = steps as f64 * learning_rate;
    each(
        [own_control, control, start, end],
        |[own, all, start, end]| own - all + (start - end) / way,
    )
}
