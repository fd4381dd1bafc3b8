//! The charter's `[training]` section: how a peer trains between two exchanges.

use std::fmt::Debug;
use std::sync::Arc;

use kith_consensus::Section;
use kith_consensus::charter::Declared;
use kith_consensus::optimization::Optimizer;
use kith_consensus::registry::{Entry, Registry};

/// Reads an objective's keys and builds it.
pub type NewObjective = fn(&mut Section<'_>) -> Arc<dyn Objective>;

/// An objective in the table; `new` reads its keys of `[training]`.
pub type ObjectiveEntry = Entry<NewObjective>;

/// Every local objective.
pub static OBJECTIVES: Registry<NewObjective> = Registry::new("objective", &[PLAIN, PROX]);

/// What an objective adds to the loss on the peer's rows.
pub trait Objective: Debug + Send + Sync {
    /// Adds its gradient at `parameters` to `gradient`; `start` is where the round started.
    fn add_gradient(&self, start: &[f32], parameters: &[f32], gradient: &mut [f32]);

    /// Strength of its pull towards the start of the round; 0 is none.
    fn prox(&self) -> f64 {
        0.0
    }
}

const PLAIN: ObjectiveEntry = ObjectiveEntry {
    name: "plain",
    help: "the mean loss on the peer's rows, as in FedAvg and D-PSGD",
    source: "McMahan et al. 2017, arXiv 1602.05629",
    main_key: None,
    new: |_| Arc::new(Plain),
};

#[derive(Debug)]
struct Plain;

impl Objective for Plain {
    fn add_gradient(&self, _: &[f32], _: &[f32], _: &mut [f32]) {}
}

const PROX: ObjectiveEntry = ObjectiveEntry {
    name: "prox",
    help: "FedProx: plus prox_mu / 2 · ‖parameters − round start‖², which holds unlike peers together",
    source: "Li et al. 2020 (FedProx), arXiv 1812.06127",
    main_key: None,
    // 0.01: a guess within the grid {0.001, 0.01, 0.1, 1} that Li et al. (arXiv 1812.06127) tune
    // over.
    new: |section| {
        Arc::new(Prox {
            mu: section.number("prox_mu", Some(0.01), 0.0..=1e6),
        })
    },
};

/// FedProx (Li et al., MLSys 2020, arXiv 1812.06127): gradient + μ·(x − x_start).
#[derive(Debug)]
struct Prox {
    mu: f64,
}

impl Objective for Prox {
    fn add_gradient(&self, start: &[f32], parameters: &[f32], gradient: &mut [f32]) {
        let mu = self.mu as f32;
        for ((gradient, parameter), start) in gradient.iter_mut().zip(parameters).zip(start) {
            *gradient += mu * (parameter - start);
        }
    }

    fn prox(&self) -> f64 {
        self.mu
    }
}

/// How long a peer trains in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// Passes over the peer's rows.
    Epochs(u64),
    /// Optimizer steps, however many rows there are.
    Steps(u64),
}

/// How long the optimizer remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MomentumScope {
    /// The velocity starts at zero every round: training is a function of the round's start alone.
    Round,
    /// The velocity continues from round to round, whatever mixing did to the parameters meanwhile
    /// (local heavy ball).
    Run,
    /// The velocity follows the path of the mixed models, not of the peer's own gradients (Lin et
    /// al. 2021, arXiv 2102.04761).
    QuasiGlobal,
}

/// A momentum scope in the table.
pub type MomentumEntry = Entry<MomentumScope>;

/// Every momentum scope, the default first.
pub static MOMENTUM_SCOPES: Registry<MomentumScope> = Registry::new(
    "momentum_scope",
    &[
        MomentumEntry {
            name: "round",
            help: "local momentum that starts at zero every round, so that a peer that restarts has nothing to remember",
            source: "Polyak 1964 (heavy ball), doi 10.1016/0041-5553(64)90137-5",
            main_key: None,
            new: MomentumScope::Round,
        },
        MomentumEntry {
            name: "run",
            help: "local momentum that continues from round to round, whatever mixing did to the model meanwhile",
            source: "heavy ball; among neighbours as in Lin et al. 2021, arXiv 2102.04761 (DSGDm)",
            main_key: None,
            new: MomentumScope::Run,
        },
        MomentumEntry {
            name: "quasi-global",
            help: "momentum along the path of the mixed model instead of the peer's gradients, for unlike data",
            source: "Lin et al. 2021, arXiv 2102.04761",
            main_key: None,
            new: MomentumScope::QuasiGlobal,
        },
    ],
);

impl MomentumScope {
    /// Values that the optimizer carries from round to round for `dimension` parameters.
    pub fn memory_len(self, dimension: usize) -> usize {
        match self {
            MomentumScope::Round => 0,
            MomentumScope::Run => dimension,
            MomentumScope::QuasiGlobal => 2 * dimension,
        }
    }
}

/// The charter's `[training]`.
///
/// A local step with gradient g, correction c (0 if none is asked for) and round k, for
/// [`MomentumScope::Round`] and [`MomentumScope::Run`]:
///
/// v ← ρ·v + (1 − δ)·(clip(g) + c + λ·x), x ← x − η_k·v, η_k = η·`learning_rate_decay`^⌊k /
/// `decay_rounds`⌋.
///
/// For [`MomentumScope::QuasiGlobal`] v = ρ·m̂ + (1 − δ)·(clip(g) + c + λ·x) with an m̂ that does
/// not change during the round. At the start of a round it takes in the path of the model since the
/// start of the one before, the peer's steps and mixing together: m̂ ← ρ·m̂ + (1 − ρ)·(x_before −
/// x_now) / (η_(k−1)·steps); in the first round m̂ is 0. The paper's β and μ are both ρ, as in its
/// experiments; the division by the steps makes it a mean per step, as its authors' program does
/// for several steps.
#[derive(Clone, Debug)]
pub struct TrainingSection {
    /// Name of the entry in [`OBJECTIVES`].
    pub objective: &'static str,
    /// Name of the optimizer; `sgd`.
    pub optimizer: String,
    /// Learning rate η, above 0.
    pub learning_rate: f64,
    /// The learning rate is multiplied by this, in (0, 1] …
    pub learning_rate_decay: f64,
    /// … every this many rounds.
    pub decay_rounds: u64,
    /// Momentum ρ in [0, 1).
    pub momentum: f64,
    /// How long it lasts.
    pub momentum_scope: MomentumScope,
    /// Dampening δ in [0, 1): the share of a gradient that does not enter the velocity; ρ makes it
    /// a running mean.
    pub dampening: f64,
    /// Weight decay λ: λ·x is added to the gradient.
    pub weight_decay: f64,
    /// Rows in a batch; a shorter batch ends each pass.
    pub batch_size: usize,
    /// Length of a round's training.
    pub local: Local,
    /// A batch's gradient is scaled to at most this Euclidean norm; 0 leaves it alone. Protects
    /// against divergence, not privacy.
    pub clip_norm: f64,
    pub(crate) kind: Arc<dyn Objective>,
}

impl TrainingSection {
    /// Declares what the rest of the charter needs to know.
    pub fn declare(&self, declared: &mut Declared) {
        declared.optimizer = self.optimizer();
        declared.local_steps = match self.local {
            Local::Epochs(_) => None,
            Local::Steps(steps) => Some(steps),
        };
        declared.batch_size = self.batch_size;
        declared.clips_batches = self.clip_norm != 0.0;
    }

    /// How far gradients lead.
    pub fn optimizer(&self) -> Optimizer {
        Optimizer {
            momentum: self.momentum,
            dampening: self.dampening,
            prox: self.kind.prox(),
            is_lasting: self.momentum_scope != MomentumScope::Round,
        }
    }

    /// Reads `[training]`. Problems are noted in the section.
    pub fn read(section: &mut Section<'_>) -> TrainingSection {
        let (objective, kind) = OBJECTIVES.build(section, "objective", Some("plain"));
        let optimizer = section.choice("optimizer", Some("sgd"), &["sgd"]);
        // 0.05 with momentum 0.9: measured on digits, Fashion-MNIST and heart
        // (models/tests/accuracy.rs).
        let learning_rate = section.number("learning_rate", Some(0.05), 1e-9..=1e3);
        // Factors 1: a constant rate, which every measured default here was measured with.
        let learning_rate_decay = section.number("learning_rate_decay", Some(1.0), 1e-9..=1.0);
        let decay_rounds = section.integer("decay_rounds", Some(1), 1..=1 << 40);
        let momentum = section.number("momentum", Some(0.9), 0.0..=0.9999);
        // `round`: a peer that restarts has nothing to remember (a design decision, not a
        // measurement).
        let default = &MOMENTUM_SCOPES[0];
        let scope = MOMENTUM_SCOPES.choose(section, "momentum_scope", Some(default.name));
        let momentum_scope = scope.unwrap_or(default).new;
        // 0: PyTorch's value; the learning rates here were measured with it.
        let dampening = section.number("dampening", Some(0.0), 0.0..=0.9999);
        let weight_decay = section.number("weight_decay", Some(0.0), 0.0..=1e3);
        let batch_size = section.integer("batch_size", Some(32), 1..=1 << 20) as usize;
        let steps = section.integer("local_steps", Some(0), 0..=1_000_000);
        // One pass a round by default: the mildest client drift (McMahan et al., arXiv 1602.05629,
        // E = 1).
        let epochs = section.integer("local_epochs", Some(u64::from(steps == 0)), 0..=100_000);
        let local = match (epochs, steps) {
            (epochs, 0) if epochs > 0 => Local::Epochs(epochs),
            (0, steps) if steps > 0 => Local::Steps(steps),
            _ => {
                let what = format!(
                    "exactly one of local_epochs ({epochs}) and local_steps ({steps}) must be above 0"
                );
                section.note("local_epochs", what);
                Local::Epochs(1)
            }
        };
        let clip_norm = section.number("clip_norm", Some(0.0), 0.0..=1e9);
        TrainingSection {
            objective,
            optimizer,
            learning_rate,
            learning_rate_decay,
            decay_rounds,
            momentum,
            momentum_scope,
            dampening,
            weight_decay,
            batch_size,
            local,
            clip_norm,
            kind,
        }
    }

    /// The learning rate η_k of round k.
    pub fn rate(&self, round: u64) -> f64 {
        // By squaring: the same bits on every machine, which powf does not guarantee.
        let (mut rate, mut factor, mut exponent) = (
            self.learning_rate,
            self.learning_rate_decay,
            round / self.decay_rounds,
        );
        while exponent > 0 {
            if exponent % 2 == 1 {
                rate *= factor;
            }
            factor *= factor;
            exponent /= 2;
        }
        rate
    }

    /// Local steps of a round over `rows` rows.
    pub fn steps(&self, rows: usize) -> u64 {
        match self.local {
            Local::Epochs(epochs) => epochs * rows.div_ceil(self.batch_size) as u64,
            Local::Steps(steps) => steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::section::Document;

    fn read(text: &str) -> Result<TrainingSection, Vec<String>> {
        let mut document = Document::parse(text).unwrap();
        let training = document.section("training", TrainingSection::read);
        document
            .finish()
            .map(|_| training)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_round_lasts_epochs_or_steps_and_never_both() {
        assert_eq!(read("").unwrap().local, Local::Epochs(1));
        assert_eq!(
            read("[training]\nlocal_steps = 7\n").unwrap().local,
            Local::Steps(7)
        );
        assert_eq!(read("[training]\nlocal_epochs = 2\n").unwrap().steps(65), 6);
        assert!(
            read("[training]\nlocal_steps = 7\nlocal_epochs = 1\n").unwrap_err()[0]
                .contains("exactly one")
        );
        assert!(read("[training]\nlocal_epochs = 0\n").is_err());
    }

    #[test]
    fn the_learning_rate_falls_every_so_many_rounds() {
        let training =
            read("[training]\nlearning_rate = 0.8\nlearning_rate_decay = 0.5\ndecay_rounds = 50\n")
                .unwrap();
        assert_eq!(
            [0, 49, 50, 149, 150].map(|round| training.rate(round)),
            [0.8, 0.8, 0.4, 0.2, 0.1]
        );
        let constant = read("").unwrap();
        assert_eq!(
            constant.rate(u64::MAX).to_bits(),
            constant.learning_rate.to_bits()
        );
        assert!(read("[training]\nlearning_rate_decay = 1.1\n").is_err());
    }

    #[test]
    fn a_momentum_scope_is_one_of_three() {
        assert_eq!(read("").unwrap().momentum_scope, MomentumScope::Round);
        assert_eq!(
            read("[training]\nmomentum_scope = \"run\"\n")
                .unwrap()
                .momentum_scope,
            MomentumScope::Run
        );
        assert_eq!(
            read("[training]\nmomentum_scope = \"quasi-global\"\n")
                .unwrap()
                .momentum_scope,
            MomentumScope::QuasiGlobal
        );
        assert!(read("[training]\nmomentum_scope = \"rund\"\n").unwrap_err()[0].contains("round"));
    }

    #[test]
    fn an_objectives_keys_belong_to_it_alone() {
        assert!(read("[training]\nobjective = \"prox\"\nprox_mu = 0.1\n").is_ok());
        assert!(
            read("[training]\nprox_mu = 0.1\n").unwrap_err()[0].contains("unknown key \"prox_mu\"")
        );
        let problems = read("[training]\nobjective = \"prxo\"\nprox_mu = 0.1\n").unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("did you mean \"prox\""));
    }
}
