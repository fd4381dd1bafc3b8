//! Kith's peers without sockets: the same [`kith_gossip::Peer`] that a node runs, driven by one queue of events.
//!
//! Nothing here knows tokio or libp2p. [`memory`] drives peers over a network that can lose, repeat, delay and reorder
//! messages and restart peers; [`attack`] holds the ways of misbehaving that a world or a testnet can hand to a peer.
//!
//! [`sites`] compares what sites gain from learning together.
//!
//! Start reading at [`memory`].

pub mod attack;
pub mod learner;
pub mod memory;
pub mod sites;
