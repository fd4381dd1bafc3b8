//! The participants of a federation in their one order.

use std::ops::Deref;
use std::sync::Arc;

use kith_consensus::{Digest, PeerId};

/// Participants, sorted by id and without repetition, with the name of the whole list. Cheap to
/// clone: the peers of one process share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    peers: Vec<PeerId>,
    digest: Digest,
    /// For each value of an id's first bits, the first peer whose id begins with it or a larger
    /// one. Keys are as good as random, so a search ends among one or two.
    starts: Vec<u32>,
    /// Of an id's first 32 bits, the number that are not among those first bits.
    shift: u32,
}

impl Roster {
    /// The roster of these peers, in whatever order they come; a repeated one counts once.
    pub fn new(mut peers: Vec<PeerId>) -> Roster {
        peers.sort_unstable();
        peers.dedup();
        let digest = Digest::of(&peers.iter().flat_map(|peer| peer.0).collect::<Vec<u8>>());
        let bits = (usize::BITS - peers.len().leading_zeros()).clamp(1, 24);
        let shift = 32 - bits;
        let starts = (0..=1u32 << bits)
            .map(|bucket| peers.partition_point(|peer| (first_bits(peer) >> shift) < bucket) as u32)
            .collect();
        Roster {
            inner: Arc::new(Inner {
                peers,
                digest,
                starts,
                shift,
            }),
        }
    }

    /// Name of the whole list: equal for equal rosters.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// The place of a peer in the order; the graph numbers peers by these places.
    pub fn index(&self, peer: &PeerId) -> Option<usize> {
        let bucket = (first_bits(peer) >> self.inner.shift) as usize;
        let (from, to) = (
            self.inner.starts[bucket] as usize,
            self.inner.starts[bucket + 1] as usize,
        );
        self.inner.peers[from..to]
            .binary_search(peer)
            .ok()
            .map(|place| from + place)
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

fn first_bits(peer: &PeerId) -> u32 {
    let [a, b, c, d, ..] = peer.0;
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::Seed;

    #[test]
    fn every_peer_is_found_in_its_place_and_no_other() {
        let mut random = Seed::from_number(1).stream("test");
        for count in [0u64, 1, 2, 3, 100, 1000] {
            // Also ids that begin alike, unlike real keys.
            let id = |index: u64, random: &mut kith_consensus::Stream| {
                let mut bytes = [if index.is_multiple_of(3) { 0 } else { 255 }; 32];
                if index.is_multiple_of(2) {
                    bytes[..8].copy_from_slice(&random.next_u64().to_be_bytes());
                }
                bytes[24..].copy_from_slice(&index.to_be_bytes());
                PeerId(bytes)
            };
            let roster: Roster = (0..count).map(|index| id(index, &mut random)).collect();
            assert_eq!(roster.len() as u64, count);
            assert!(roster.windows(2).all(|pair| pair[0] < pair[1]));
            for (place, peer) in roster.iter().enumerate() {
                assert_eq!(roster.index(peer), Some(place));
                let mut other = *peer;
                other.0[31] ^= 128;
                assert_eq!(
                    roster.index(&other),
                    roster.iter().position(|peer| *peer == other)
                );
            }
        }
    }
}
