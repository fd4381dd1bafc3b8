//! Differential privacy: what a release of noised values costs, and how the noise is made.
//!
//! Two data sets are neighbours if one has one unit (a row, or a group of rows) that the other
//! lacks. A mechanism is (ε, δ)-private if for neighbours the probability of any outcome differs by
//! at most a factor e^ε and a summand δ. The mechanism here is one: each unit takes part in a step
//! with probability q, independently of all others (Poisson sampling), its contribution is clipped
//! to norm C, and normal noise of standard deviation σ·C is added to the sum.
//!
//! - [`rdp`] (Rényi) is loose by 5 to 30 %, fast, and adds up over steps that are chosen on the
//!   way: [`filter`] is built on it.
//! - [`pld`] (privacy loss distribution) is tight, for steps that are fixed beforehand.
//! - [`gaussian`] is exact where every unit takes part in every step.
//! - [`calibration`] turns them round: the noise for a budget.
//! - [`graph`] tells what one peer's view says of another; for training it is an estimate only.
//! - [`noise`] makes the noise and [`update`] releases a whole update; both take 32 bytes that the
//!   caller has drawn from the operating system.
//!
//! - [`audit`] says what guesses about a run prove of its ε.
//! - [`ledger`] keeps what has been released of a data set, and refuses what its budget cannot bear.
//!
//! Not here: per-example gradients (`kith-models`) and the charter's `[privacy]`.
//! Nothing holds for shuffled or fixed-size batches, nor for neighbours by substitution: their ε can
//! be ten times as large (Lebeda et al. 2024, arXiv 2405.20769), so such claims are refused, not
//! adjusted.

pub mod audit;
pub mod calibration;
pub mod filter;
pub mod gaussian;
pub mod graph;
pub mod ledger;
pub mod noise;
pub mod pld;
pub mod rdp;
pub mod sampling;
pub mod update;

/// Noise multipliers that can be accounted. Below, ε is in the thousands; above, it vanishes
/// (guesses).
const NOISE_MULTIPLIERS: std::ops::RangeInclusive<f64> = 0.01..=1e6;

/// Most steps of a phase: their number is exact in f64.
const STEPS_MAX: u64 = 1 << 52;

/// A value that no accounting is possible for.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivacyError {
    /// σ outside what can be accounted.
    #[error(
        "noise multiplier {found}: expected from 0.01 to 1e6, the noise's standard deviation over the clip norm"
    )]
    NoiseMultiplier {
        /// What was given.
        found: f64,
    },
    /// q outside (0, 1].
    #[error(
        "sampling rate {found}: expected above 0 and at most 1, the probability that a unit takes part in a step"
    )]
    SamplingRate {
        /// What was given.
        found: f64,
    },
    /// No step, or more than can be counted.
    #[error("{found} steps: expected from 1 to 2^52")]
    Steps {
        /// What was given.
        found: u64,
    },
    /// δ outside (0, 1).
    #[error(
        "delta {found}: expected above 0 and below 1, and well below one over the number of units"
    )]
    Delta {
        /// What was given.
        found: f64,
    },
    /// ε at or below 0, or not finite.
    #[error("epsilon {found}: expected above 0 and finite; a budget of 0 permits no release")]
    Epsilon {
        /// What was given.
        found: f64,
    },
    /// A Rényi order at or below 1, or not finite.
    #[error("order {found}: expected above 1 and finite")]
    Order {
        /// What was given.
        found: f64,
    },
    /// σ of a release outside 0.2 to 10⁶.
    #[error(
        "noise multiplier {found} of a release: expected from 0.2 to 1e6; less noise guarantees next to nothing"
    )]
    ReleasedNoise {
        /// What was given.
        found: f64,
    },
    /// A clip norm outside 10⁻⁹ to 10⁹.
    #[error(
        "clip norm {found}: expected from 1e-9 to 1e9, the largest norm of a unit's contribution"
    )]
    ClipNorm {
        /// What was given.
        found: f64,
    },
    /// δ below what 64-bit arithmetic resolves for this composition.
    #[error(
        "delta {delta}: 64-bit arithmetic cannot resolve it over so many steps; expected above {least}"
    )]
    Unresolved {
        /// What was given.
        delta: f64,
        /// What would do.
        least: f64,
    },
    /// No noise multiplier gives the budget.
    #[error(
        "no noise multiplier from 0.01 to 1e6 gives epsilon {epsilon} at delta {delta}; change the budget, the sampling rate or the steps"
    )]
    Unreachable {
        /// The budget's ε.
        epsilon: f64,
        /// The budget's δ.
        delta: f64,
    },
    /// A budget that no order of the filter can hold.
    #[error(
        "epsilon {epsilon} at delta {delta} is too small for a filter at order {order}; expected a larger order or budget"
    )]
    FilterOrder {
        /// The budget's ε.
        epsilon: f64,
        /// The budget's δ.
        delta: f64,
        /// The order.
        order: f64,
    },
    /// A charge that the budget cannot bear.
    #[error(
        "the release costs {cost} at Rényi order {order} and {left} is left of the budget; nothing is released"
    )]
    Exhausted {
        /// Cost of the release.
        cost: f64,
        /// What is left.
        left: f64,
        /// The filter's order.
        order: f64,
    },
}

/// δ of a guarantee, in (0, 1).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Delta(f64);

impl Delta {
    /// A δ.
    ///
    /// # Errors
    /// Outside (0, 1).
    pub fn new(delta: f64) -> Result<Delta, PrivacyError> {
        if delta.is_normal() && delta > 0.0 && delta < 1.0 {
            Ok(Delta(delta))
        } else {
            Err(PrivacyError::Delta { found: delta })
        }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// ε of a budget, above 0.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Epsilon(f64);

impl Epsilon {
    /// An ε.
    ///
    /// # Errors
    /// At or below 0, or not finite.
    pub fn new(epsilon: f64) -> Result<Epsilon, PrivacyError> {
        if epsilon.is_normal() && epsilon > 0.0 {
            Ok(Epsilon(epsilon))
        } else {
            Err(PrivacyError::Epsilon { found: epsilon })
        }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// The Gaussian mechanism on a Poisson sample of the units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledGaussian {
    noise_multiplier: f64,
    sampling_rate: f64,
}

impl SampledGaussian {
    /// A step with noise of standard deviation `noise_multiplier` times the clip norm on the sum,
    /// in which each unit takes part with probability `sampling_rate`.
    ///
    /// # Errors
    /// A noise multiplier outside 0.01 to 10⁶, a rate outside (0, 1].
    pub fn new(noise_multiplier: f64, sampling_rate: f64) -> Result<SampledGaussian, PrivacyError> {
        if !NOISE_MULTIPLIERS.contains(&noise_multiplier) {
            return Err(PrivacyError::NoiseMultiplier {
                found: noise_multiplier,
            });
        }
        if !(sampling_rate.is_normal() && sampling_rate > 0.0 && sampling_rate <= 1.0) {
            return Err(PrivacyError::SamplingRate {
                found: sampling_rate,
            });
        }
        Ok(SampledGaussian {
            noise_multiplier,
            sampling_rate,
        })
    }

    /// σ: the noise's standard deviation over the clip norm.
    pub fn noise_multiplier(&self) -> f64 {
        self.noise_multiplier
    }

    /// q: the probability that a unit takes part in a step.
    pub fn sampling_rate(&self) -> f64 {
        self.sampling_rate
    }
}

/// Equal steps, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    mechanism: SampledGaussian,
    steps: u64,
}

impl Phase {
    /// So many steps of a mechanism.
    ///
    /// # Errors
    /// No step, or more than 2⁵².
    pub fn new(mechanism: SampledGaussian, steps: u64) -> Result<Phase, PrivacyError> {
        if steps == 0 || steps > STEPS_MAX {
            return Err(PrivacyError::Steps { found: steps });
        }
        Ok(Phase { mechanism, steps })
    }

    /// What is done in each step.
    pub fn mechanism(&self) -> SampledGaussian {
        self.mechanism
    }

    /// How many steps.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

/// The phases in one canonical order, those of one mechanism joined: what is composed in another
/// order costs the same, to the bit.
fn canonical(phases: &[Phase]) -> Vec<Phase> {
    let key = |phase: &Phase| {
        let SampledGaussian {
            noise_multiplier,
            sampling_rate,
        } = phase.mechanism;
        // Positive numbers are ordered as their bits are.
        (noise_multiplier.to_bits(), sampling_rate.to_bits())
    };
    let mut sorted = phases.to_vec();
    sorted.sort_by_key(key);
    let mut joined: Vec<Phase> = Vec::new();
    for phase in sorted {
        match joined.last_mut() {
            Some(last) if key(last) == key(&phase) => last.steps += phase.steps,
            _ => joined.push(phase),
        }
    }
    joined
}
