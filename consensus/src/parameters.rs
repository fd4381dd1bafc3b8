//! The form in which all parts pass a model on.

use std::sync::Arc;

/// Model parameters as one vector, shared rather than copied between peer, trainer and store.
pub type Parameters = Arc<Vec<f32>>;
