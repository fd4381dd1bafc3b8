//! FedNova: averaging normalised by how far each peer's local training could have gone.
//!
//! Wang et al. 2020, arXiv 2007.07481. After τ local steps from x₀ a model is xᵢ = x₀ − η Σₖ aₖ gₖ,
//! where aₖ says how often gradient gₖ was applied (τ times 1 for plain SGD, more for early
//! gradients under momentum). With pᵢ the peers' shares, x⁺ = x₀ − τ_eff Σᵢ pᵢ (x₀ − xᵢ) / ‖aᵢ‖₁
//! and τ_eff = Σᵢ pᵢ ‖aᵢ‖₁. Without it peers that take more steps pull the model to their own
//! optimum. Local steps are claimed, not proven: a peer that claims few gets a large weight, so
//! claims must be clamped to the charter's range.

/// How a peer trains in a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalTraining {
    /// Number of local steps τ in the round.
    pub steps: u64,
    /// Learning rate η of the first step.
    pub learning_rate: f64,
    /// Factor of the learning rate after each step; 1: it stays the same.
    pub learning_rate_decay: f64,
    /// Momentum ρ of the heavy ball v ← ρ v + g; 0: none. It starts anew each round.
    pub momentum: f64,
    /// Weight μ of the pull towards the start of the round (FedProx); 0: none.
    pub prox: f64,
}

impl LocalTraining {
    /// `a`: how much each step's gradient counts in the whole change, in units of η; `steps`
    /// values. Costs `steps` in time and memory, so others' claims are clamped before.
    pub fn coefficients(&self) -> Vec<f64> {
        // With δ = (x₀ − x)/η a step is v ← ρ v + g − μ η δ; δ ← δ + dₖ v. How much the final δ
        // takes from g of step k is found backwards: (p, q) is how much it takes from (v, δ) after
        // step k.
        let mut coefficients = vec![0.0; usize::try_from(self.steps).unwrap_or(usize::MAX)];
        let mut decay: Vec<f64> = vec![1.0; coefficients.len()];
        (1..decay.len()).for_each(|step| decay[step] = decay[step - 1] * self.learning_rate_decay);
        let (mut p, mut q) = (0.0, 1.0);
        for (coefficient, decay) in coefficients.iter_mut().zip(&decay).rev() {
            let taken = p + decay * q;
            *coefficient = taken;
            p = self.momentum * taken;
            q -= self.prox * self.learning_rate * taken;
        }
        coefficients
    }

    /// ‖a‖₁: how many plain steps its training amounts to.
    pub fn effective_steps(&self) -> f64 {
        self.coefficients()
            .iter()
            .map(|coefficient| coefficient.abs())
            .sum()
    }
}

/// One peer's part in a normalised average.
#[derive(Clone, Copy, Debug)]
pub struct Normalised {
    /// Share pᵢ; all sum to 1.
    pub share: f64,
    /// ‖aᵢ‖₁, positive.
    pub effective_steps: f64,
}

/// τ_eff: how many plain steps the average amounts to.
pub fn effective_steps(peers: &[Normalised]) -> f64 {
    peers
        .iter()
        .map(|peer| peer.share * peer.effective_steps)
        .sum()
}

/// The weight τ_eff pᵢ / ‖aᵢ‖₁ of each peer's change xᵢ − x₀. They need not sum to 1.
///
/// # Panics
/// When some effective steps are not positive: a peer that did not train has no change to weigh.
pub fn weights(peers: &[Normalised]) -> Vec<f64> {
    assert!(
        peers.iter().all(|peer| peer.effective_steps > 0.0),
        "effective steps are positive"
    );
    let all = effective_steps(peers);
    peers
        .iter()
        .map(|peer| all * peer.share / peer.effective_steps)
        .collect()
}

/// x₀ + Σ weightᵢ (xᵢ − x₀).
///
/// # Panics
/// When lengths differ.
pub fn average(start: &[f32], models: &[&[f32]], weights: &[f64]) -> Vec<f32> {
    assert_eq!(models.len(), weights.len(), "one weight for each model");
    assert!(
        models.iter().all(|model| model.len() == start.len()),
        "the vectors of a step have one length"
    );
    let value = |place: usize| {
        let start = f64::from(start[place]);
        let change: f64 = models
            .iter()
            .zip(weights)
            .map(|(model, weight)| weight * (f64::from(model[place]) - start))
            .sum();
        (start + change) as f32
    };
    (0..start.len()).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_have_the_papers_closed_forms() {
        let plain = LocalTraining {
            steps: 9,
            learning_rate: 0.1,
            learning_rate_decay: 1.0,
            momentum: 0.0,
            prox: 0.0,
        };
        assert_eq!(plain.coefficients(), [1.0; 9]);
        let rho = 0.8f64;
        let momentum = LocalTraining {
            momentum: rho,
            ..plain
        }
        .effective_steps();
        assert!(
            (momentum - (9.0 - rho * (1.0 - rho.powi(9)) / (1.0 - rho)) / (1.0 - rho)).abs()
                < 1e-12
        );
        let pull = 0.1 * 0.3f64;
        let prox = LocalTraining { prox: 0.3, ..plain }.effective_steps();
        assert!((prox - (1.0 - (1.0 - pull).powi(9)) / pull).abs() < 1e-12);
        assert_eq!(LocalTraining { steps: 0, ..plain }.effective_steps(), 0.0);
    }

    /// Two peers whose optima are ±1 and that take 1 and 20 steps: the normalised average rests in
    /// the middle, the plain one does not.
    #[test]
    fn unequal_steps_do_not_move_the_optimum() {
        let steps = [1u64, 20];
        let optima = [1.0f32, -1.0];
        let rest = |normalised: bool| {
            let mut model = vec![0.5f32];
            for _ in 0..3000 {
                let local = |peer: usize| {
                    (0..steps[peer])
                        .fold(model[0], |value, _| value - 0.01 * (value - optima[peer]))
                };
                let ends = [[local(0)], [local(1)]];
                let peers = steps.map(|steps| Normalised {
                    share: 0.5,
                    effective_steps: steps as f64,
                });
                let weights = if normalised {
                    weights(&peers)
                } else {
                    vec![0.5; 2]
                };
                model = average(&model, &[&ends[0], &ends[1]], &weights);
            }
            model[0]
        };
        assert!(rest(true).abs() < 0.1, "{}", rest(true));
        assert!(rest(false) < -0.8, "{}", rest(false));
    }
}
