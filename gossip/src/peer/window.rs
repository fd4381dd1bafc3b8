//! One round's window: whom it awaits, whose update is in, and when it may close.
//!
//! Senders may be alternatives of each other, best first. Then one model is awaited from them all
//! and the best that comes counts. The wait ends once no better one can come.

use std::collections::BTreeSet;

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId, Sorted};

use crate::Parameters;

/// A neighbour's contribution to a round.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) values: Parameters,
    /// How old it is, in this peer's rounds: if peers keep step, since the round that it was made
    /// in, otherwise since it was heard of.
    pub(super) age: u64,
    /// Hash of the values, if it is known.
    pub(super) state: Option<Digest>,
    pub(super) samples: u64,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    /// Senders that the round waits for, ascending.
    awaited: Vec<PeerId>,
    arrived: Sorted<PeerId, Arrived>,
    /// Groups of alternatives, best first. A peer in no group stands alone.
    alternatives: Vec<Vec<PeerId>>,
    /// Whether this peer's model is the last of all alternatives: then it waits for connected peers
    /// only.
    stands_in: bool,
}

impl Window {
    pub(super) fn new(
        mut awaited: Vec<PeerId>,
        alternatives: Vec<Vec<PeerId>>,
        stands_in: bool,
    ) -> Window {
        awaited.sort_unstable();
        Window {
            arrived: Sorted::with_room(awaited.len()),
            awaited,
            alternatives,
            stands_in,
        }
    }

    /// Adds a contribution; the first of a sender counts.
    pub(super) fn insert(&mut self, peer: PeerId, arrived: Arrived) {
        self.arrived.entry(peer, || arrived);
    }

    /// Puts a newer contribution of a sender in place of the one that is there.
    pub(super) fn replace(&mut self, peer: PeerId, arrived: Arrived) {
        self.arrived.insert(peer, arrived);
    }

    /// Takes a sender out again: its contribution and the wait for it.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.arrived.remove(peer);
        self.release(peer);
    }

    /// No longer waits for a peer, though its contribution still counts.
    pub(super) fn release(&mut self, peer: &PeerId) {
        if let Ok(place) = self.awaited.binary_search(peer) {
            self.awaited.remove(place);
        }
    }

    /// Waits for this one or nobody; updates that have come stay.
    pub(super) fn await_only(&mut self, peer: Option<PeerId>) {
        self.awaited = peer.into_iter().collect();
    }

    /// No longer waits for those that are `late` and have not come.
    pub(super) fn release_those(&mut self, late: impl Fn(&PeerId) -> bool) {
        let mut awaited = std::mem::take(&mut self.awaited);
        awaited.retain(|peer| self.contains(peer) || !late(peer));
        self.awaited = awaited;
    }

    pub(super) fn awaits(&self, peer: &PeerId) -> bool {
        self.awaited.binary_search(peer).is_ok()
    }

    /// Leaves only the contributions of these senders.
    pub(super) fn keep(&mut self, mixed: &BTreeSet<PeerId>) {
        self.arrived.retain(|peer, _| mixed.contains(peer));
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.arrived.contains(peer)
    }

    /// How many models are awaited; a group of alternatives counts as one.
    pub(super) fn awaited(&self) -> usize {
        let grouped = |group: &&Vec<PeerId>| group.iter().any(|peer| self.awaits(peer));
        let surplus =
            |group: &Vec<PeerId>| group.iter().filter(|peer| self.awaits(peer)).count() - 1;
        self.awaited.len()
            - self
                .alternatives
                .iter()
                .filter(grouped)
                .map(surplus)
                .sum::<usize>()
    }

    /// For every awaited model that is not in, the peer that is to send it; of alternatives, the
    /// best. `reachable` says which peers are connected: a better alternative that is not is no
    /// longer waited for once another one is in.
    pub(super) fn missing(&self, reachable: impl Fn(&PeerId) -> bool) -> Vec<PeerId> {
        let waits = |peer: &PeerId| self.awaits(peer) && !self.contains(peer);
        let open = |group: &Vec<PeerId>| {
            let first = group
                .iter()
                .find(|peer| self.contains(peer) || (waits(peer) && reachable(peer)));
            let settled = first.map_or(self.stands_in, |peer| self.contains(peer));
            if settled {
                None
            } else {
                group.iter().copied().find(waits)
            }
        };
        let alone = |peer: &&PeerId| {
            waits(peer) && !self.alternatives.iter().any(|group| group.contains(peer))
        };
        let alone = self.awaited.iter().filter(alone).copied();
        let mut missing: Vec<PeerId> = alone
            .chain(self.alternatives.iter().filter_map(open))
            .collect();
        missing.sort_unstable();
        missing
    }

    /// All peers whose contribution would still be of use.
    pub(super) fn unheard(&self) -> Vec<PeerId> {
        let waits = |peer: &&PeerId| !self.contains(peer) && !self.is_overtaken(peer);
        self.awaited.iter().filter(waits).copied().collect()
    }

    /// Whether a better alternative to this peer is in, so that its own contribution does not
    /// count.
    pub(super) fn is_overtaken(&self, peer: &PeerId) -> bool {
        let group = self.alternatives.iter().find(|group| group.contains(peer));
        let mut better = group
            .into_iter()
            .flatten()
            .take_while(|other| *other != peer);
        better.any(|other| self.contains(other))
    }

    /// The contributions that count.
    pub(super) fn counted(&self) -> impl Iterator<Item = (&PeerId, &Arrived)> {
        self.arrived
            .iter()
            .filter(|(peer, _)| !self.is_overtaken(peer))
    }

    /// Whether enough of the awaited models are in: `quorum` is their share, rounded up. For
    /// `reachable` see [`Window::missing`].
    pub(super) fn is_complete(&self, quorum: f64, reachable: impl Fn(&PeerId) -> bool) -> bool {
        let awaited = self.awaited();
        let share = quorum * awaited as f64;
        let needed = if planted(Mutant::LowQuorum) {
            share.floor()
        } else {
            share.ceil()
        } as usize;
        awaited - self.missing(reachable).len() >= needed
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
        Arrived {
            values: Arc::new(vec![0.0]),
            state: None,
            age: 0,
            samples: 1,
        }
    }

    fn up(_: &PeerId) -> bool {
        true
    }

    #[test]
    fn a_contribution_nobody_waits_for_does_not_close_the_round() {
        let mut window = Window::new([peer(1), peer(2)].into(), Vec::new(), false);
        window.insert(peer(3), arrived());
        window.insert(peer(1), arrived());
        assert!(!window.is_complete(1.0, up));
        assert!(window.is_complete(0.5, up));
        window.insert(peer(2), arrived());
        assert!(window.is_complete(1.0, up));
        assert_eq!(window.counted().count(), 3);
    }

    #[test]
    fn whoever_left_is_not_waited_for() {
        let mut window = Window::new([peer(1), peer(2)].into(), Vec::new(), false);
        window.insert(peer(1), arrived());
        window.release(&peer(2));
        assert!(window.is_complete(1.0, up));
    }

    /// Of two clusters, 1 before 2 before 3, and 5 before 4; and 6 alone.
    fn ranked() -> Window {
        Window::new(
            (1..=6).map(peer).collect(),
            vec![vec![peer(1), peer(2), peer(3)], vec![peer(5), peer(4)]],
            false,
        )
    }

    fn counted(window: &Window) -> Vec<PeerId> {
        window.counted().map(|(peer, _)| *peer).collect()
    }

    #[test]
    fn of_alternatives_the_best_that_came_counts_and_nobody_waits_for_a_worse_one() {
        let mut window = ranked();
        assert_eq!(
            (window.awaited(), window.missing(up)),
            (3, vec![peer(1), peer(5), peer(6)])
        );
        window.insert(peer(2), arrived());
        window.insert(peer(4), arrived());
        window.insert(peer(6), arrived());
        // The best may still come.
        assert_eq!(
            (counted(&window), window.missing(up)),
            (vec![peer(2), peer(4), peer(6)], vec![peer(1), peer(5)])
        );
        assert_eq!(window.unheard(), [peer(1), peer(5)]);
        assert!(!window.is_complete(1.0, up) && window.is_complete(0.3, up));
        window.insert(peer(1), arrived());
        window.insert(peer(5), arrived());
        assert_eq!(
            (counted(&window), window.missing(up)),
            (vec![peer(1), peer(5), peer(6)], vec![])
        );
        assert!(
            window.is_complete(1.0, up)
                && window.is_overtaken(&peer(3))
                && !window.is_overtaken(&peer(1))
        );
        // One that contradicts itself makes room for the next.
        window.remove(&peer(1));
        assert_eq!(
            (counted(&window), window.awaited()),
            (vec![peer(2), peer(5), peer(6)], 3)
        );
        assert!(window.is_complete(1.0, up));
    }

    #[test]
    fn a_better_alternative_that_cannot_come_is_not_waited_for() {
        let mut window = ranked();
        window.insert(peer(3), arrived());
        window.insert(peer(6), arrived());
        let lost = |other: &PeerId| *other != peer(1) && *other != peer(5);
        assert_eq!(
            window.missing(lost),
            [peer(1), peer(5)],
            "peer 2 and peer 4 may come"
        );
        window.release(&peer(2));
        assert_eq!(window.missing(lost), [peer(5)]);
        assert_eq!(
            window.missing(up),
            [peer(1), peer(5)],
            "an update of a connected peer may still come"
        );
        window.insert(peer(4), arrived());
        assert!(window.is_complete(1.0, lost));
        // A disconnected peer without alternatives is still awaited, and so is a group of which
        // nobody came.
        let nobody = |_: &PeerId| false;
        assert_eq!(ranked().missing(nobody), [peer(1), peer(5), peer(6)]);
        // A peer that is itself the next choice continues.
        let mut deputy = Window::new([peer(1)].into(), vec![vec![peer(1)]], true);
        assert!(deputy.is_complete(1.0, nobody) && !deputy.is_complete(1.0, up));
        deputy.insert(peer(1), arrived());
        assert_eq!(counted(&deputy), [peer(1)]);
    }
}
