//! One round's window: whom it awaits, who is in, and when it may close.

use std::collections::{BTreeMap, BTreeSet};

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId};

use crate::effect::Parameters;

/// A neighbour's contribution to a round.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) values: Parameters,
    /// The round that its sender made it in.
    pub(super) round: u64,
    /// Hash of the values, where it is known.
    pub(super) state: Option<Digest>,
    pub(super) samples: u64,
    pub(super) local_steps: u64,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    awaited: BTreeSet<PeerId>,
    arrived: BTreeMap<PeerId, Arrived>,
}

impl Window {
    pub(super) fn new(awaited: BTreeSet<PeerId>) -> Window {
        Window { awaited, arrived: BTreeMap::new() }
    }

    /// Adds a contribution; the first of a sender counts.
    pub(super) fn insert(&mut self, peer: PeerId, arrived: Arrived) {
        self.arrived.entry(peer).or_insert(arrived);
    }

    /// Puts a newer contribution of a sender in place of the one that is there.
    pub(super) fn replace(&mut self, peer: PeerId, arrived: Arrived) {
        self.arrived.insert(peer, arrived);
    }

    /// Takes a sender out again: its contribution and the wait for it.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.arrived.remove(peer);
        self.awaited.remove(peer);
    }

    /// No longer waits for a peer, though its contribution still counts.
    pub(super) fn release(&mut self, peer: &PeerId) {
        self.awaited.remove(peer);
    }

    /// Leaves only the contributions of these senders.
    pub(super) fn keep(&mut self, mixed: &BTreeSet<PeerId>) {
        self.arrived.retain(|peer, _| mixed.contains(peer));
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.arrived.contains_key(peer)
    }

    pub(super) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    pub(super) fn missing(&self) -> Vec<PeerId> {
        self.awaited.iter().filter(|peer| !self.arrived.contains_key(peer)).copied().collect()
    }

    pub(super) fn arrived(&self) -> &BTreeMap<PeerId, Arrived> {
        &self.arrived
    }

    /// Whether enough of the awaited are in: `quorum` is their share, rounded up.
    pub(super) fn is_complete(&self, quorum: f64) -> bool {
        let share = quorum * self.awaited.len() as f64;
        let needed = if planted(Mutant::LowQuorum) { share.floor() } else { share.ceil() } as usize;
        self.awaited.len() - self.missing().len() >= needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn peer(number: u8) -> PeerId {
        PeerId([number; 32])
    }

    fn arrived() -> Arrived {
        Arrived { values: Arc::new(vec![0.0]), state: None, round: 0, samples: 1, local_steps: 1 }
    }

    #[test]
    fn a_contribution_nobody_waits_for_does_not_close_the_round() {
        let mut window = Window::new([peer(1), peer(2)].into());
        window.insert(peer(3), arrived());
        window.insert(peer(1), arrived());
        assert!(!window.is_complete(1.0));
        assert!(window.is_complete(0.5));
        window.insert(peer(2), arrived());
        assert!(window.is_complete(1.0));
        assert_eq!(window.arrived().len(), 3);
    }

    #[test]
    fn whoever_left_is_not_waited_for() {
        let mut window = Window::new([peer(1), peer(2)].into());
        window.insert(peer(1), arrived());
        window.release(&peer(2));
        assert!(window.is_complete(1.0));
    }
}
