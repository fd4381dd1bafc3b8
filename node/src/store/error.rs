//! Why the state of a peer cannot be used.

use std::path::PathBuf;

use kith_consensus::Genesis;

use crate::checkpoint::CheckpointError;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another program has it open.
    #[error("the state folder {} is in use by {holder}; stop that one first (`kith status` tells what it does), or give this peer a folder of its own", path.display())]
    InUse {
        /// Path of the folder.
        path: PathBuf,
        /// The process that has it open, if it says so.
        holder: String,
    },
    /// It belongs to another federation.
    #[error("the state folder {} belongs to federation {found}, the charter is federation {expected}; use another state folder for another charter", path.display())]
    OtherFederation {
        /// Path of the folder.
        path: PathBuf,
        /// The federation that it belongs to.
        found: String,
        /// The charter's federation.
        expected: Genesis,
    },
    /// The file system failed.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// The action as a verb.
        act: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The database failed.
    #[error("the store in {} failed: {why}", path.display())]
    Database {
        /// Path of the folder.
        path: PathBuf,
        /// The database's message.
        why: String,
    },
    /// The transactional file is damaged or gone, and there is something to lose.
    #[error(
        "the state cannot be used: {} is damaged: {why}; put a backup back with `kith restore`, or move {} and {} away to begin anew \
         (the neighbours then tell this peer which rounds it has published)",
        path.display(), state.display(), checkpoints.display()
    )]
    Damaged {
        /// Path of the transactional file.
        path: PathBuf,
        /// Path of the state folder.
        state: PathBuf,
        /// Path of the checkpoints' folder.
        checkpoints: PathBuf,
        /// How the damage was noticed.
        why: String,
    },
    /// No checkpoint can be read.
    #[error("none of the checkpoints can be read ({why}); put a backup back with `kith restore`, or move {} away to begin anew", path.display())]
    NoCheckpoint {
        /// Path of the folder.
        path: PathBuf,
        /// What is wrong with each.
        why: String,
    },
    /// The privacy ledger of the rows cannot be used.
    #[error("the privacy ledger {} cannot be used: {why}{}; nothing is released without it: make it readable, or put its newest copy back", path.display(), because(source.as_ref()))]
    Ledger {
        /// Path of the ledger.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What the operating system said, if it did.
        source: Option<std::io::Error>,
    },
    /// A checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

fn because(source: Option<&std::io::Error>) -> String {
    source.map_or(String::new(), |source| format!(": {source}"))
}

impl StoreError {
    /// What the operating system said, if that is the cause: no space, no permission, a broken
    /// disk.
    pub fn cause(&self) -> Option<&std::io::Error> {
        match self {
            StoreError::Ledger { source, .. } => source.as_ref(),
            StoreError::Io { source, .. }
            | StoreError::Checkpoint(CheckpointError::Io { source, .. }) => Some(source),
            _ => None,
        }
    }
}
