//! Privacy of a whole update: the peer with all its rows is the unit (McMahan et al. 2018, arXiv
//! 1710.06963, without a server).
//!
//! What a round of training changed is clipped to norm C as one vector, and noise of deviation σ·C
//! is added to each value. The peer goes on from the noised parameters: nothing of the exact ones
//! survives the round. Every round in which the peer publishes is one step with q = 1, since all
//! its neighbours see that it takes part.
//!
//! Cost: three passes over the values besides the noise.

use super::noise::{Noise, NoiseScale, ReleaseKey};
use crate::mutant::{Mutant, planted};

/// The share by which the update is clipped further, so that rounding cannot lead beyond C: norm,
/// scale and products are each right to some d·10⁻¹⁶ for d values, and d is at most 2²⁸.
const ROUNDING: f64 = 1e-7;

/// The parameters from which a peer goes on, and which it may publish: `start` plus the clipped and
/// noised change to `trained`. A change that is not finite counts as none, so that a peer whose
/// training failed publishes like any other.
///
/// # Panics
/// When the lengths differ.
pub fn release_update(
    start: &[f32],
    trained: &[f32],
    scale: NoiseScale,
    key: ReleaseKey,
) -> Vec<f32> {
    assert_eq!(start.len(), trained.len(), "parameters of one model");
    let change = |(start, trained): (&f32, &f32)| f64::from(*trained) - f64::from(*start);
    let mut sums: Vec<f64> = start.iter().zip(trained).map(change).collect();
    let square: f64 = sums.iter().map(|change| change * change).sum();
    if planted(Mutant::NoClip) {
        // Nothing is cut off.
    } else if square.is_finite() {
        let factor = (scale.clip() * (1.0 - ROUNDING) / square.sqrt()).min(1.0);
        sums.iter_mut().for_each(|change| *change *= factor);
    } else {
        sums.fill(0.0);
    }
    let mut released = vec![0.0; start.len()];
    Noise::new(&key, 0, scale).release(&sums, &mut released);
    let add = |(released, start): (&mut f32, &f32)| *released += start;
    released.iter_mut().zip(start).for_each(add);
    released
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    fn draw(count: usize) -> Vec<f32> {
        let mut stream = Seed::from_number(2).stream("update");
        (0..count).map(|_| stream.normal() as f32).collect()
    }

    fn release(start: &[f32], trained: &[f32], scale: NoiseScale) -> Vec<f64> {
        let released = release_update(start, trained, scale, ReleaseKey::new([8; 32]));
        let change = |(released, start): (&f32, &f32)| f64::from(*released) - f64::from(*start);
        released.iter().zip(start).map(change).collect()
    }

    fn norm(values: &[f64]) -> f64 {
        values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    #[test]
    fn a_long_update_is_clipped_to_the_norm_and_a_short_one_is_kept() {
        let scale = NoiseScale::new(0.2, 2.0).unwrap();
        let start = vec![0.0; 20_000];
        let noise = release(&start, &start, scale);
        for (length, expected) in [(50.0, 2.0), (1.0, 1.0)] {
            let direction = draw(start.len());
            let unit = length / norm(&direction.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
            let trained: Vec<f32> = direction
                .iter()
                .map(|x| (f64::from(*x) * unit) as f32)
                .collect();
            let found = release(&start, &trained, scale);
            // The same key, so the same noise: what is left is the clipped update and two roundings.
            let left: Vec<f64> = found.iter().zip(&noise).map(|(a, b)| a - b).collect();
            let rounding = scale.grid() * (start.len() as f64).sqrt();
            assert!(
                (norm(&left) - expected).abs() < 0.02 + rounding,
                "{length}: {}",
                norm(&left)
            );
            let along: f64 = left
                .iter()
                .zip(&trained)
                .map(|(a, b)| a * f64::from(*b))
                .sum();
            assert!(
                (along / length - expected).abs() < 0.01 * expected,
                "{length}: {along}"
            );
        }
    }

    #[test]
    fn every_value_is_noised_and_the_start_is_where_it_goes_on_from() {
        let scale = NoiseScale::new(1.0, 0.5).unwrap();
        let start = draw(50_000);
        let found = release(&start, &start, scale);
        let deviation = norm(&found) / (start.len() as f64).sqrt();
        assert!((deviation / 0.5 - 1.0).abs() < 0.02, "{deviation}");
        assert!(found.iter().filter(|value| **value == 0.0).count() < 200);
    }

    #[test]
    fn a_failed_training_is_released_like_one_that_changed_nothing() {
        let scale = NoiseScale::new(1.0, 0.5).unwrap();
        let start = draw(1000);
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut trained = start.clone();
            trained[7] = broken;
            assert_eq!(
                release(&start, &trained, scale),
                release(&start, &start, scale)
            );
        }
    }
}
