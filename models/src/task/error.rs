//! Why a model, parameters or training cannot be used.

/// A model, parameters or training that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A parameter vector of another length than the model's.
    #[error("expected {expected} parameters, found {found}")]
    Dimension {
        /// Number of the model's parameters.
        expected: usize,
        /// Number of the vector's values.
        found: usize,
    },
    /// A memory or a correction of another length than the model and `training.momentum_scope`
    /// need.
    #[error("expected {expected} values of {what}, found {found}")]
    Companion {
        /// What the values are.
        what: &'static str,
        /// How many were expected.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// Rows of another size than the schema's.
    #[error("expected rows of {expected} features (data.shape), found {found}")]
    Features {
        /// Features of the schema's rows.
        expected: usize,
        /// Features of these rows.
        found: usize,
    },
    /// A label beyond the schema's classes.
    #[error("row {row} has label {label}, expected less than {classes} (data.classes)")]
    Label {
        /// The row, from 0.
        row: usize,
        /// The row's label.
        label: u32,
        /// Number of the schema's classes.
        classes: usize,
    },
    /// Nothing to train on or to evaluate.
    #[error("there is no row to train on or to evaluate")]
    NoRows,
    /// Loss or parameters ceased to be finite.
    #[error(
        "training diverged in round {round}, local step {step}: loss or parameters are not finite; lower learning_rate, or set clip_norm"
    )]
    Diverged {
        /// The round in which it happened.
        round: u64,
        /// The local step, from 0.
        step: u64,
    },
    /// A model file that is not this model's.
    #[error("{0}")]
    File(String),
    /// Candle refused; a model of [`crate::MODELS`] is wrong.
    #[error("the model could not be computed: {0}")]
    Tensor(#[from] candle_core::Error),
}
