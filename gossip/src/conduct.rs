//! The one seam for misbehaviour: what happens between "trained" and "encoded".
//!
//! Production installs [`Honest`]. Attacks implement [`Conduct`] elsewhere and are handed to a [`Peer`](crate::Peer) by the
//! simulator, or by the testnet under a charter that is marked as a testnet's.

use kith_consensus::{PeerId, Stream};

/// What a peer knows when it decides what to publish.
#[derive(Debug)]
pub struct View<'a> {
    /// Its round.
    pub round: u64,
    /// Where it started training.
    pub start: &'a [f32],
    /// Where training led.
    pub trained: &'a [f32],
    /// The newest vectors it has received from its neighbours, in the order of their ids (the previous round's, since
    /// those of this round are still to come).
    pub neighbours: &'a [(PeerId, &'a [f32])],
}

/// How a peer behaves.
pub trait Conduct: std::fmt::Debug + Send {
    /// The vector to publish instead of the trained one; `None` publishes nothing this round.
    fn publish(&mut self, view: &View<'_>, random: &mut Stream) -> Option<Vec<f32>>;

    /// Whether this is [`Honest`], so that the trained vector need not be copied.
    fn is_honest(&self) -> bool {
        false
    }
}

/// Publishes what it trained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Honest;

impl Conduct for Honest {
    fn publish(&mut self, view: &View<'_>, _random: &mut Stream) -> Option<Vec<f32>> {
        Some(view.trained.to_vec())
    }

    fn is_honest(&self) -> bool {
        true
    }
}
