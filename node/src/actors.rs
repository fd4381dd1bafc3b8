//! The actors around the [`Peer`](kith_gossip::Peer). They carry out effects and hand in inputs;
//! they decide nothing.
//!
//! Mailboxes are bounded, and no two actors wait for room in each other's. The network keeps taking
//! commands while one of its events waits for room at the peer, and trainer and store never get
//! more work than their mailboxes hold. The trainer is started again when it panics, since every
//! round starts from parameters that the peer holds. If another actor panics, the node ends with a
//! reason, since that actor's state may be half changed; the store is safe.

pub(crate) mod network;
pub(crate) mod peer;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod supervisor;
pub(crate) mod trainer;

/// Held, as its last field, by an actor that owns a lock or a port: once all are dropped these are
/// free again. (An actor's stop is reported before its state is dropped.)
pub(crate) type Alive = tokio::sync::mpsc::Sender<std::convert::Infallible>;
