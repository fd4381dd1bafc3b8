//! The one place for misbehaviour: what a peer publishes in place of what it trained, and what it
//! withholds, repeats or forges.
//!
//! Production installs [`Honest`]. Attacks implement [`Conduct`] elsewhere and are handed to a
//! [`Peer`](crate::Peer) by the simulator, or by the testnet under a charter that is marked as a
//! testnet's.

use std::collections::BTreeMap;

use kith_consensus::topology::Graph;
use kith_consensus::{PeerId, Stream};

pub use crate::message::LOSS_MAX;

/// What a peer knows when it decides what to publish.
#[derive(Debug)]
pub struct View<'a> {
    /// Id of the peer that decides.
    pub own: PeerId,
    /// The round that it publishes in.
    pub round: u64,
    /// Parameters from which it started training.
    pub start: &'a [f32],
    /// Parameters that training led to.
    pub trained: &'a [f32],
    /// The newest vectors it has received from its neighbours, in the order of their ids (the
    /// previous round's, since those of this round are still to come).
    pub neighbours: &'a [(PeerId, &'a [f32])],
    /// The participants, sorted; the graph's numbers are places in this list.
    pub roster: &'a [PeerId],
    /// The graph of this round, which follows from the charter.
    pub graph: &'a Graph,
}

/// What a peer publishes in a round.
#[derive(Clone, Debug, PartialEq)]
pub enum Publication {
    /// Nothing.
    Nothing,
    /// One vector for everybody, as the protocol requires.
    Same(Vec<f32>),
    /// A vector for each receiver, nothing for the others. Two different ones contradict each
    /// other, and a peer that hears of both has a proof.
    Each(BTreeMap<PeerId, Vec<f32>>),
}

/// Something false about an update other than its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fraud {
    /// It announces another state than its body leads to.
    State,
    /// It announces a vector of another length than the federation's.
    Shape,
    /// It comes with a header in the name of another peer, which never signed that.
    Signature,
}

/// How a peer behaves.
pub trait Conduct: std::fmt::Debug + Send {
    /// What to publish instead of the trained vector.
    fn publish(&mut self, view: &View<'_>, random: &mut Stream) -> Publication;

    /// Whether the update of `round` is kept from this receiver (selective silence).
    fn withholds(&mut self, _round: u64, _receiver: &PeerId) -> bool {
        false
    }

    /// An earlier round whose update is sent once more along with this round's.
    fn replays(&mut self, _round: u64) -> Option<u64> {
        None
    }

    /// The training loss to claim in place of the true one, if the charter's selection asks for it:
    /// at most [`LOSS_MAX`].
    fn claims(&self, loss: f64) -> f64 {
        loss
    }

    /// What is false about the update of `round`, apart from its vector.
    fn fraud(&self, _round: u64) -> Option<Fraud> {
        None
    }

    /// Whether this is [`Honest`], so that the trained vector need not be copied.
    fn is_honest(&self) -> bool {
        false
    }
}

/// The honest conduct: publishes what it trained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Honest;

impl Conduct for Honest {
    fn publish(&mut self, view: &View<'_>, _random: &mut Stream) -> Publication {
        Publication::Same(view.trained.to_vec())
    }

    fn is_honest(&self) -> bool {
        true
    }
}
