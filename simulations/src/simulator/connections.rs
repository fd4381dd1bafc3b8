//! Keeps which peers are connected, and when each end hears of it.

use std::sync::Arc;
use std::time::Duration;

use kith_consensus::PeerId;
use kith_consensus::charter::Charter;
use kith_gossip::Input;

use super::faults::Fault;
use super::member::Process;
use super::queue::Nanoseconds;
use super::{Observer, Simulation};

/// A broken connection is noticed after this (guess: QUIC's and yamux's own limits are of this
/// size).
pub(super) const DETECTION: Duration = Duration::from_secs(10);

/// Which peers are connected from the start.
#[derive(Clone, Debug)]
pub enum Meeting {
    /// Everyone with everyone.
    Everyone,
    /// Each with its neighbours of the round it starts in; others connect when they ask.
    Neighbours(Arc<Charter>),
}

pub(super) struct Connection {
    /// The member at the other end.
    pub(super) member: u32,
    /// When the last message to it arrives.
    pub(super) last: Nanoseconds,
}

impl<O: Observer> Simulation<O> {
    pub(super) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.members[a].connections.contains(&self.ids[b])
    }

    fn connected_with(&self, member: usize) -> Vec<usize> {
        self.members[member]
            .connections
            .values()
            .map(|connection| connection.member as usize)
            .collect()
    }

    pub(super) fn dial(&mut self, member: usize, peer: &PeerId) {
        if let Some(other) = self.member_of(peer) {
            self.connect(member, other);
        }
    }

    pub(super) fn part_from(&mut self, member: usize, peer: &PeerId) {
        if let Some(other) = self.member_of(peer) {
            self.disconnect(member, other);
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        let up = |member: usize| self.members[member].process == Process::Up;
        let cut = self.network.is_cut(a, b) || self.network.is_cut(b, a);
        if a == b || !up(a) || !up(b) || cut || self.is_connected(a, b) {
            return;
        }
        let after = self.network.latency(a, b);
        for (own, other) in [(a, b), (b, a)] {
            let peer = self.id(other);
            let connection = Connection {
                member: other as u32,
                last: self.now + after,
            };
            self.members[own].connections.insert(peer, connection);
            // If everybody can reach everybody, addresses need not be exchanged.
            let addresses = match self.meeting {
                Meeting::Everyone => vec![format!("/memory/{other}")],
                Meeting::Neighbours(_) => Vec::new(),
            };
            self.hear(own, other, Input::PeerUp { peer, addresses }, after);
        }
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        let (id_a, id_b) = (self.id(a), self.id(b));
        if self.members[a].connections.remove(&id_b).is_none() {
            return;
        }
        self.members[b].connections.remove(&id_a);
        for (own, other) in [(a, b), (b, a)] {
            let peer = self.id(other);
            let after = self.network.latency(a, b);
            self.hear(own, other, Input::PeerDown { peer }, after);
        }
    }

    /// Tells a member that a connection began or ended, never before the news of an earlier one.
    fn hear(&mut self, own: usize, other: usize, input: Input, after: Nanoseconds) {
        let last = self.members[own].news.entry(other as u32).or_default();
        *last = (*last).max(self.now + after);
        let after = *last - self.now;
        self.push_input(own, input, after);
    }

    /// Ends all connections of a member.
    pub(super) fn hang_up(&mut self, member: usize) {
        self.connected_with(member)
            .into_iter()
            .for_each(|other| self.disconnect(member, other));
        self.break_pulls(member);
    }

    /// Connects a member that has just started.
    pub(super) fn meet(&mut self, member: usize) {
        let others: Vec<usize> = match &self.meeting {
            Meeting::Everyone => (0..self.members.len())
                .filter(|other| *other != member)
                .collect(),
            Meeting::Neighbours(charter) => {
                let round = self.members[member]
                    .checkpoint
                    .as_ref()
                    .map_or(0, |checkpoint| checkpoint.round);
                let round = round.min(charter.rounds.saturating_sub(1));
                let graph = charter.topology.graph(self.members.len(), round);
                let graph = graph.expect(
                    "the charter was refused unless its topology can be drawn for its peers",
                );
                let place = self
                    .place_of(&self.id(member))
                    .expect("every member has its place");
                let both = graph
                    .receives_from(place)
                    .iter()
                    .chain(graph.sends_to(place));
                both.map(|place| self.member_at[*place] as usize).collect()
            }
        };
        others
            .into_iter()
            .for_each(|other| self.connect(member, other));
    }

    pub(super) fn cut_noticed(&mut self, number: usize) {
        let Fault::Partition { cut, .. } = self.faults[number].clone() else {
            return;
        };
        let inside: Vec<usize> = cut.group.clone();
        for member in inside {
            for other in self.connected_with(member) {
                if self.network.is_cut(member, other) || self.network.is_cut(other, member) {
                    self.disconnect(member, other);
                }
            }
        }
    }
}
