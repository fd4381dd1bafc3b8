//! Why a node could not start or had to stop.

use std::path::{Path, PathBuf};

use kith_gossip::net::NetworkError;

use crate::identity::IdentityError;
use crate::problems::BadFiles;
use crate::secrets::redacted;
use crate::store::StoreError;
use crate::token::TokenError;

/// Why a node could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file or an option that a person wrote is wrong.
    #[error(transparent)]
    Files(#[from] BadFiles),
    /// There is no configuration.
    #[error("there is no configuration at {}; make one with `kith init --dir {}`", path.display(), path.parent().unwrap_or(Path::new(".")).display())]
    NoConfig {
        /// Path at which it was looked for.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// The action as a verb: read, write, …
        act: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The key file cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The secret for the status server cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The peer's own rows cannot be used.
    #[error("the own rows cannot be used: {}", redacted(why))]
    Data {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The charter and the configuration do not fit together.
    #[error("{0}")]
    Unfit(String),
    /// The sockets cannot be opened.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The status address cannot be served.
    #[error(
        "cannot serve status at {address}: {source}; choose another [status] listen, for example \"127.0.0.1:0\""
    )]
    Status {
        /// The address that was to be served.
        address: std::net::SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The federation runs another charter or program.
    #[error(
        "the federation refused this peer: {why}; compare charters with `kith charter diff` and programs with `kith --version`"
    )]
    RefusedByFederation {
        /// What its peers said.
        why: String,
    },
    /// Another process has this peer's key.
    #[error(
        "another process runs with this peer's key at {address}; if its folder was copied, make a key of its own for the copy with `kith \
         init`, else stop the other one"
    )]
    KeyElsewhere {
        /// Address at which it answered.
        address: String,
    },
    /// Nobody is left to train with.
    #[error(
        "the federation is over: every neighbour has finished, {rounds} rounds are done here; take the model of a member that has \
         finished (`kith model inspect` tells how its rounds were mixed)"
    )]
    Over {
        /// Number of completed rounds.
        rounds: u64,
    },
    /// The disk failed a running peer.
    #[error(
        "the disk does not take what this peer has to keep: {why}; nothing that was promised is lost: make room, or mend the disk, and \
         start again with `kith run`"
    )]
    Disk {
        /// What could not be written, where, and what the operating system said.
        why: String,
    },
    /// The machine refuses a resource that a running peer needs.
    #[error(
        "this machine does not allow what a peer needs: {why}; raise the limit (`ulimit -a`, or the container's) and start again"
    )]
    Machine {
        /// What was refused, in words for people.
        why: String,
    },
    /// One of our own parts failed.
    #[error(
        "the {actor} failed: {why}; the state is safe, start again with `kith run`, and please report this"
    )]
    Broken {
        /// Name of the actor.
        actor: String,
        /// Its panic or error.
        why: String,
    },
}

impl NodeError {
    /// A failure of the file system.
    pub fn io(act: &'static str, path: &Path, source: std::io::Error) -> NodeError {
        NodeError::Io {
            act,
            path: path.to_owned(),
            source,
        }
    }

    /// The process's exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            NodeError::RefusedByFederation { .. } => 3,
            NodeError::Store(StoreError::InUse { .. }) => 4,
            NodeError::KeyElsewhere { .. } => 6,
            NodeError::Over { .. } => 7,
            NodeError::Broken { .. } => 70,
            NodeError::Machine { .. } => 71,
            NodeError::Disk { .. } => 74,
            NodeError::Store(error) if error.cause().is_some_and(is_full) => 74,
            NodeError::Io { source, .. } if is_full(source) => 74,
            _ => 1,
        }
    }
}

/// Whether a disk has no room, or the user no share of it.
fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    )
}
