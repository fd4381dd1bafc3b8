//! Privacy: the one stage between what a peer has learned from its rows and what anybody else gets to
//! see.
//!
//! [`Cleared`] is what may be released. [`clear`] alone makes one, and `Exchange::encode` takes
//! nothing else, so no honest vector gets around this stage. With `[privacy] mechanism = "none"`, the only mechanism
//! that there is, values pass as they are. A mechanism with a guarantee charges its ledger and adds
//! its noise here, before it returns.

use crate::Parameters;

/// What an announcement says about the training, apart from its vector. That follows from the rows
/// too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claims {
    pub(super) samples: u64,
    pub(super) local_steps: u64,
    /// Mean training loss. It is sent if the charter's selection looks at it.
    pub(super) loss: f64,
}

/// A vector with its claims that may be released.
#[derive(Clone, Debug)]
pub(super) struct Cleared {
    vector: Parameters,
    claims: Claims,
}

impl Cleared {
    pub(super) fn vector(&self) -> &Parameters {
        &self.vector
    }

    pub(super) fn claims(&self) -> Claims {
        self.claims
    }
}

/// Clears a vector for release.
pub(super) fn clear(vector: Parameters, claims: Claims) -> Cleared {
    Cleared { vector, claims }
}
