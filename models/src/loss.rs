//! Cross-entropy of logits, and its gradient.

use crate::model::exp_negative;

/// −ln of the label's probability; not finite if a logit is not. It uses the exponentials of
/// [`exp_negative`], which are right to 2·10⁻⁷: no less exact than the logits.
pub(crate) fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    if !logits.iter().all(|logit| logit.is_finite()) {
        return f64::NAN;
    }
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits
        .iter()
        .map(|logit| exp_negative(logit - largest))
        .sum();
    f64::from(largest) - f64::from(logits[label]) + f64::from(sum).ln()
}

/// ln Σ exp(logit), shifted by the largest so that it cannot overflow.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - largest).exp())
        .sum();
    f64::from(largest) + sum.ln()
}

/// Replaces logits by the gradients of their rows' mean cross-entropy, (softmax − one-hot) / rows;
/// returns the mean, which is not finite if a logit is not.
pub(crate) fn residuals(
    logits: &mut [f32],
    classes: usize,
    labels: impl ExactSizeIterator<Item = usize> + Clone,
) -> f64 {
    let scale = 1.0 / labels.len() as f32;
    let count = labels.len() as f64;
    let mut loss = 0.0;
    for (logits, label) in logits.chunks_exact_mut(classes).zip(labels.clone()) {
        if !logits.iter().all(|logit| logit.is_finite()) {
            return f64::NAN;
        }
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        loss += f64::from(largest) - f64::from(logits[label]);
        logits.iter_mut().for_each(|logit| *logit -= largest);
    }
    // One loop over all rows, because a row is shorter than the CPU's vectors.
    logits
        .iter_mut()
        .for_each(|logit| *logit = exp_negative(*logit));
    for (powers, label) in logits.chunks_exact_mut(classes).zip(labels) {
        let sum: f32 = powers.iter().sum();
        loss += f64::from(sum).ln();
        let factor = scale / sum;
        powers.iter_mut().for_each(|power| *power *= factor);
        powers[label] -= scale;
    }
    loss / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_of_logits_that_are_not_finite_are_no_loss() {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!residuals(&mut [0.0, 1.0, broken, 0.0], 2, [0, 1].into_iter()).is_finite());
        }
        let mut logits = [1000.0, 0.0, -1000.0, 0.0];
        assert!((residuals(&mut logits, 2, [1, 1].into_iter()) - 500.0).abs() < 1e-6);
        assert_eq!(logits, [0.5, -0.5, 0.0, 0.0]);
    }
}
