//! Why there is no aggregate.

/// Why there is no aggregate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AggregateError {
    /// No contribution, or contributions without values.
    #[error("nothing to aggregate: {0}")]
    EmptyInput(&'static str),
    /// Contributions of different length.
    #[error("contribution {index} has {found} values, the first has {expected}")]
    DimensionMismatch {
        /// Place of the contribution that differs.
        index: usize,
        /// Values of the first contribution.
        expected: usize,
        /// Values of contribution `index`.
        found: usize,
    },
    /// Too few models to tolerate `byzantine` of them being arbitrary.
    #[error("rule {rule:?} with byzantine = {byzantine} needs {needed} models, there are {found}")]
    TooManyByzantine {
        /// The rule as the charter names it.
        rule: String,
        /// The assumed bound of arbitrary models.
        byzantine: usize,
        /// Fewest models that the rule accepts.
        needed: usize,
        /// Models with finite values.
        found: usize,
    },
    /// A parameter of the rule does not fit these contributions.
    #[error("{parameter} of rule {rule:?}: {reason}")]
    InvalidParameter {
        /// The rule's name.
        rule: &'static str,
        /// The parameter's key.
        parameter: &'static str,
        /// What is wrong with it and what was expected.
        reason: String,
    },
    /// The rule cannot work without something that the aggregating peer knows.
    #[error("rule {rule:?} needs {what}, and there is none")]
    Missing {
        /// The rule's name.
        rule: &'static str,
        /// What it needs, in words for people.
        what: &'static str,
    },
    /// Every contribution holds a value that is not finite.
    #[error("none of the {0} contributions is finite")]
    NoFiniteInput(usize),
    /// The rule would have to search too many subsets.
    #[error("rule {rule:?} would search {subsets:.0} subsets, at most {limit} are accepted", subsets = f64::from_bits(*.subset_bits))]
    TooExpensive {
        /// The rule's name.
        rule: &'static str,
        /// Number of subsets as the bits of an f64 (so that errors stay comparable).
        subset_bits: u64,
        /// Most subsets accepted.
        limit: u64,
    },
}

impl AggregateError {
    /// The error's name in reports and known answers.
    pub fn code(&self) -> &'static str {
        match self {
            AggregateError::EmptyInput(_) => "empty_input",
            AggregateError::DimensionMismatch { .. } => "dimension_mismatch",
            AggregateError::TooManyByzantine { .. } => "too_many_byzantine",
            AggregateError::InvalidParameter { .. } => "invalid_parameter",
            AggregateError::Missing { .. } => "missing",
            AggregateError::NoFiniteInput(_) => "no_finite_input",
            AggregateError::TooExpensive { .. } => "too_expensive",
        }
    }
}
