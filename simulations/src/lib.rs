//! The simulator: the same [`kith_gossip::Peer`] that a node runs, under virtual time.
//!
//! [`simulator`] drives peers over a network that can lose, repeat, delay, reorder and cut, and
//! restarts them. [`experiment`] reads a charter and a [`world`] from one file, runs them and
//! measures ([`metrics`]) while invariants are watched ([`check`]). [`attack`] holds the ways of
//! misbehaving; [`trainer`] objectives whose optimum is known. [`sites`] compares what sites gain
//! from learning together.
//!
//! Nothing here knows tokio or libp2p. Start reading at [`experiment`].

pub mod attack;
pub mod check;
pub mod experiment;
pub mod learner;
pub mod metrics;
pub mod plot;
mod remembered;
mod replace;
pub mod report;
pub mod simulator;
pub mod sites;
pub mod sweep;
pub mod trainer;
pub mod world;

/// The environment variable, and its value, that let jemalloc ask the kernel for large pages: a
/// world of ten thousand peers spends a tenth of its time finding small ones (measured).
pub const LARGE_PAGES: (&str, &str) = ("_RJEM_MALLOC_CONF", "thp:always,metadata_thp:always");
