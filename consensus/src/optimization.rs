//! The optimisation mathematics of training in rounds: what happens to models besides the rule that
//! combines them.
//!
//! Pure functions over flat f32 vectors, summed in f64 and rounded once: [`fednova`] makes unequal
//! local steps comparable, [`staleness`] weighs late updates, [`server_momentum`] carries a round's
//! change into the next, [`push_sum`] averages over one-way edges, [`scaffold`] and
//! [`gradient_tracking`] correct local gradients for the others' data. D-PSGD, AD-PSGD, epidemic
//! learning and hierarchical averaging need no more than a graph and the rule `mean`; the known
//! answers show how.
//!
//! Not here: local training (another crate), which rule combines (`aggregate`), and when (the
//! peer). All vectors of a call have the same length. Different lengths are our own error, since
//! vectors from peers are checked before.

use crate::registry::{Entry, Registry};
use crate::section::Section;

/// What peers exchange besides their models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Nothing: D-PSGD, or FedAvg among neighbours.
    Plain,
    /// Their mean corrected gradient of the round, from which each peer corrects its next one.
    GradientTracking,
    /// Models as if everybody had taken `reference_steps` local steps.
    FedNova {
        /// Local steps of a round to which everybody's change is scaled.
        reference_steps: u64,
    },
    /// Their control, the mean gradient of the round; each peer corrects its next gradients towards
    /// the mean of all controls.
    Scaffold {
        /// How much of its local training's change a peer sends and mixes: the paper's global step
        /// size; 1 is all of it.
        global_learning_rate: f64,
    },
    /// Sums of the shares of model and mass that they gave so far, over edges that may carry
    /// updates one way.
    PushSum,
}

impl Method {
    /// Number of values in a peer's row for a model of `dimension` values: the model first, then
    /// what the method adds.
    pub fn row_len(self, dimension: usize) -> usize {
        match self {
            Method::Plain | Method::FedNova { .. } => dimension,
            Method::GradientTracking | Method::Scaffold { .. } => 2 * dimension,
            // The mass in two parts, and when the account was opened.
            Method::PushSum => dimension + 3,
        }
    }

    /// Vectors of the model's length that a peer with `senders` senders keeps for the method,
    /// besides model and row.
    pub fn carried_vectors(self, senders: usize) -> usize {
        match self {
            Method::Plain | Method::FedNova { .. } => 0,
            Method::GradientTracking => 2, // the correction, and the row's second half
            Method::PushSum => 1 + senders, // the sum it gave, and the sum it took from each sender
            // The control, the controls' mean, the correction, and the row's second half.
            Method::Scaffold { .. } => 4,
        }
    }

    /// Whether the values that peers exchange besides their models keep a balance that holds only
    /// if every neighbour is mixed.
    pub fn has_balance(self) -> bool {
        !matches!(self, Method::Plain | Method::FedNova { .. })
    }
}

/// A method in the table; `new` reads its keys of `[aggregation]`.
pub type MethodEntry = Entry<fn(&mut Section<'_>) -> Method>;

/// Every method.
pub static METHODS: Registry<fn(&mut Section<'_>) -> Method> = Registry::new(
    "method",
    &[
        MethodEntry {
            name: "plain",
            help: "models alone: D-PSGD with one local step, FedAvg among neighbours with more",
            source: "Lian et al. 2017, arXiv 1705.09056",
            main_key: None,
            new: |_| Method::Plain,
        },
        MethodEntry {
            name: "gradient-tracking",
            help: "also the round's mean corrected gradient, so that unlike data leads to one optimum; twice the bytes",
            source: "Liu et al. 2023 (K-GT), arXiv 2301.01313; with one local step the tracking of Nedic et al. 2017",
            main_key: None,
            new: |_| Method::GradientTracking,
        },
        MethodEntry {
            name: "fednova",
            help: "models as if everybody had taken reference_steps local steps, so that unequal steps do not pull them aside",
            source: "Wang et al. 2020 (FedNova), arXiv 2007.07481",
            main_key: None,
            // 10: a guess. It scales a round's change as a learning rate does.
            new: |section| Method::FedNova {
                reference_steps: section.integer("reference_steps", Some(10), 1..=1_000_000),
            },
        },
        MethodEntry {
            name: "push-sum",
            help: "shares of model and mass, so that one-way edges keep the mean; the next message makes up for a lost one",
            source: "Kempe et al. 2003; Assran et al. 2019 (SGP), arXiv 1811.10792",
            main_key: None,
            new: |_| Method::PushSum,
        },
        MethodEntry {
            name: "scaffold",
            help: "also the round's mean gradient, towards whose mean over the neighbourhood each corrects; twice the bytes",
            source: "Karimireddy et al. 2020 (SCAFFOLD), arXiv 1910.06378",
            main_key: None,
            // 1: the paper's analysis with everybody taking part.
            new: |section| Method::Scaffold {
                global_learning_rate: section.added_number("global_learning_rate", 1.0, 1e-6..=1e3),
            },
        },
    ],
);

pub mod fednova;
pub mod gradient_tracking;
mod optimizer;
pub mod push_sum;
pub mod scaffold;
pub mod server_momentum;
pub mod staleness;

pub use optimizer::Optimizer;

/// `f` of the values of all vectors at each place, rounded to f32 once.
fn each<const N: usize>(vectors: [&[f32]; N], f: impl Fn([f64; N]) -> f64) -> Vec<f32> {
    let length = vectors.first().map_or(0, |vector| vector.len());
    assert!(
        vectors.iter().all(|vector| vector.len() == length),
        "the vectors of a step have one length"
    );
    (0..length)
        .map(|place| f(vectors.map(|vector| f64::from(vector[place]))) as f32)
        .collect()
}
