//! How far local training leads: the effect of its settings on a number of steps.

use super::fednova::LocalTraining;

/// The settings of the charter's `[training]` that determine how far gradients lead. By default
/// plain steps, as in worlds whose objective is a formula.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Optimizer {
    /// Momentum of the local steps, in [0, 1).
    pub momentum: f64,
    /// Share of each gradient that momentum leaves out, in [0, 1).
    pub dampening: f64,
    /// Strength μ of the pull towards the start of the round (FedProx); 0 is none.
    pub prox: f64,
    /// Whether momentum carries over from round to round.
    pub is_lasting: bool,
}

impl Optimizer {
    /// ‖a‖₁ of FedNova: how many plain steps `steps` local steps of size `rate` amount to. If
    /// momentum carries over between rounds, it is what they amount to in the long run. Weight
    /// decay is left out.
    pub fn effective_steps(&self, steps: u64, rate: f64) -> f64 {
        let fresh = 1.0 - self.dampening;
        if self.is_lasting {
            return fresh * steps as f64 / (1.0 - self.momentum);
        }
        if self.momentum == 0.0 && self.prox == 0.0 {
            return fresh * steps as f64;
        }
        let (momentum, prox) = (self.momentum, self.prox);
        let (learning_rate, learning_rate_decay) = (fresh * rate, 1.0);
        let training = LocalTraining {
            steps,
            learning_rate,
            learning_rate_decay,
            momentum,
            prox,
        };
        fresh * training.effective_steps()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_steps_are_those_of_fednova_times_what_dampening_leaves() {
        let plain = Optimizer::default();
        assert_eq!(plain.effective_steps(7, 0.1), 7.0);
        // v = g, ρ g + g, …: 1, 1.5, 1.75 of η after three steps.
        let momentum = Optimizer {
            momentum: 0.5,
            ..plain
        };
        assert!((momentum.effective_steps(3, 0.1) - 4.25).abs() < 1e-12);
        let damped = Optimizer {
            dampening: 0.5,
            ..momentum
        };
        assert!((damped.effective_steps(3, 0.1) - 2.125).abs() < 1e-12);
        let lasting = Optimizer {
            is_lasting: true,
            ..momentum
        };
        assert_eq!(lasting.effective_steps(3, 0.1), 6.0);
        let prox = Optimizer { prox: 1.0, ..plain };
        assert!((prox.effective_steps(2, 0.5) - 1.5).abs() < 1e-12);
    }
}
