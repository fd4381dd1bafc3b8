//! The participants of a federation in their one order.

use std::ops::Deref;
use std::sync::Arc;

use kith_consensus::{Digest, PeerId};

/// Participants, sorted by id and without repetition, with the name of the whole list. Cheap to clone: the peers of one
/// process share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    peers: Vec<PeerId>,
    digest: Digest,
}

impl Roster {
    /// The roster of these peers, in whatever order they come; a repeated one counts once.
    pub fn new(mut peers: Vec<PeerId>) -> Roster {
        peers.sort_unstable();
        peers.dedup();
        let digest = Digest::of(&peers.iter().flat_map(|peer| peer.0).collect::<Vec<u8>>());
        Roster { inner: Arc::new(Inner { peers, digest }) }
    }

    /// Name of the whole list: equal for equal rosters.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// The place of a peer in the order; the graph's numbers are such places.
    pub fn index(&self, peer: &PeerId) -> Option<usize> {
        self.inner.peers.binary_search(peer).ok()
    }

    /// The same roster with one more peer.
    pub(crate) fn with(&self, peer: PeerId) -> Roster {
        Roster::new(self.inner.peers.iter().copied().chain([peer]).collect())
    }
}

impl Deref for Roster {
    type Target = [PeerId];

    fn deref(&self) -> &[PeerId] {
        &self.inner.peers
    }
}

impl FromIterator<PeerId> for Roster {
    fn from_iter<I: IntoIterator<Item = PeerId>>(peers: I) -> Roster {
        Roster::new(peers.into_iter().collect())
    }
}
