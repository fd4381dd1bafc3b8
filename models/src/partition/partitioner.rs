//! What a partitioner is, what it is given, and why it may refuse.

use std::fmt::Debug;
use std::sync::Arc;

use kith_consensus::registry::Entry;
use kith_consensus::{Section, Seed, Stream};

use crate::data::Dataset;
use crate::site::Site;

/// Reads a partition's keys and builds it.
pub type NewPartitioner = fn(&mut Section<'_>) -> Arc<dyn Partitioner>;

/// A kind of partition in the table; `new` reads its parameters.
pub type PartitionEntry = Entry<NewPartitioner>;

/// The rows to deal.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The class of each row.
    pub labels: &'a [u32],
    /// Number of classes.
    pub classes: usize,
    /// The sites that they come from, if known; positions as in `labels`.
    pub sites: Option<&'a [Site]>,
}

/// A peer for which rows are changed.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The peer, from 0.
    pub peer: usize,
    /// Number of peers.
    pub peers: usize,
    /// Number of classes.
    pub classes: usize,
    /// Seed of all peers' changes; a peer's own stream is derived from it.
    pub seed: &'a Seed,
}

/// A kind of partition with its parameters set: it assigns rows to peers.
pub trait Partitioner: Debug + Send + Sync {
    /// The rows of each peer, ascending, at least one; no row twice, except that two peers may hold
    /// the same row if [`Partitioner::overlaps`] says so. Called with at least one peer, and with a row
    /// for each unless rows overlap.
    ///
    /// # Errors
    /// When the rows cannot be dealt in this way.
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError>;

    /// Whether two peers may hold the same row.
    fn overlaps(&self) -> bool {
        false
    }

    /// Whether [`Partitioner::transform`] changes anything.
    fn changes_rows(&self) -> bool {
        false
    }

    /// Whether rows of this number of features can be changed in this way.
    ///
    /// # Errors
    /// When they cannot, with the reason.
    fn fits(&self, _features: usize) -> Result<(), PartitionError> {
        Ok(())
    }

    /// A peer's rows as it sees them, if [`Partitioner::fits`] allows it; by default unchanged.
    fn transform(&self, place: &Place<'_>, data: &Dataset) -> Dataset {
        let _ = place;
        data.clone()
    }
}

/// Rows that cannot be dealt as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// A text that names no partition.
    #[error("partition {text:?}: {what}")]
    Text {
        /// The text.
        text: String,
        /// What is wrong with it.
        what: String,
    },
    /// Fewer rows than needed.
    #[error("{rows} rows cannot be dealt to {peers} peers: {what}")]
    TooFew {
        /// Number of rows.
        rows: usize,
        /// Number of peers asked for.
        peers: usize,
        /// What was expected, in words for people.
        what: String,
    },
    /// Sites that are unknown or of another number.
    #[error("{0}")]
    Sites(String),
    /// Rows whose features cannot be changed as asked.
    #[error("{0}")]
    Features(String),
}
