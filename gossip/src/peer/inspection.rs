//! What a driver or a test may ask of a peer: nothing here changes it.

use std::collections::BTreeSet;

use kith_consensus::{Digest, PeerId};

use super::Peer;
use crate::Parameters;
use crate::packet::Packet;

/// How many things a peer keeps, each bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Others' updates that wait for their round or their body.
    pub waiting: usize,
    /// This peer's updates that are kept to be sent again.
    pub outgoing: usize,
    /// Headers remembered to notice contradictions.
    pub headers: usize,
}

impl Peer {
    /// The id of this peer.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// The round that it is in; equals the charter's rounds when it has finished.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// The parameters that the last completed round led to.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The round of which `bytes` announce this peer's update, while that is kept.
    pub fn announced_in(&self, bytes: &Packet) -> Option<u64> {
        self.exchange.announced_in(bytes)
    }

    /// Whether the codec's bodies build on the vectors before them, so that peers hold each
    /// other's.
    pub fn keeps_replicas(&self) -> bool {
        self.exchange.keeps_replicas()
    }

    /// Hash of what this peer holds as `sender`'s vector; `None` if the codec needs no replicas or
    /// nothing has come.
    pub fn replica_of(&self, sender: &PeerId) -> Option<Digest> {
        self.exchange.replica_of(sender)
    }

    /// Everyone this peer exchanges updates with in its round, or in the last one when it has
    /// finished.
    pub fn neighbours(&self) -> BTreeSet<PeerId> {
        self.overlay.neighbourhood(self.last_or_current_round())
    }

    /// How much this peer keeps of others.
    pub fn load(&self) -> Load {
        let (waiting, outgoing) = self.exchange.load();
        Load {
            waiting,
            outgoing,
            headers: self.witness.len(),
        }
    }
}
