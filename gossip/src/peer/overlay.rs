//! Who is there: connections, handshakes, addresses, patience, and the neighbourhood that the charter gives a round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_consensus::Digest;
use kith_consensus::PeerId;
use kith_consensus::charter::{Admission, Charter};
use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::topology::Graph;

use crate::message::{ADDRESS_PEERS_MAX, ADDRESSES_MAX};
use crate::roster::Roster;

/// Malformed messages after which a peer is sent away (RELIABILITY, section 5).
const STRIKES_MAX: u32 = 5;

pub(super) struct Overlay {
    own: PeerId,
    roster: Roster,
    /// Participants that the charter has; in open membership the roster grows to this number and then is fixed.
    wanted: usize,
    charter: Arc<Charter>,
    up: BTreeSet<PeerId>,
    ready: BTreeSet<PeerId>,
    gone: BTreeSet<PeerId>,
    expelled: BTreeSet<PeerId>,
    dismissed: BTreeSet<PeerId>,
    addresses: BTreeMap<PeerId, Vec<String>>,
    claims: BTreeMap<PeerId, u64>,
    missed: BTreeMap<PeerId, u64>,
    strikes: BTreeMap<PeerId, u32>,
}

impl Overlay {
    pub(super) fn new(own: PeerId, roster: Roster, charter: Arc<Charter>) -> Overlay {
        assert!(roster.index(&own).is_some(), "a peer is on its own roster");
        let wanted = match charter.membership.mode {
            Admission::Members => roster.len(),
            Admission::Open => charter.membership.peers,
        };
        assert!(roster.len() <= wanted, "a roster has no more peers than its charter");
        Overlay {
            own,
            roster,
            wanted,
            charter,
            up: BTreeSet::new(),
            ready: BTreeSet::new(),
            gone: BTreeSet::new(),
            expelled: BTreeSet::new(),
            dismissed: BTreeSet::new(),
            addresses: BTreeMap::new(),
            claims: BTreeMap::new(),
            missed: BTreeMap::new(),
            strikes: BTreeMap::new(),
        }
    }

    // --- the roster ---

    /// Whether the roster is complete. Until then there is no graph, and nobody is a neighbour.
    pub(super) fn is_formed(&self) -> bool {
        self.roster.len() == self.wanted
    }

    /// Puts a peer on a roster that is still forming; true when that completed it.
    pub(super) fn enlist(&mut self, peer: PeerId) -> bool {
        if self.is_formed() || self.roster.index(&peer).is_some() {
            return false;
        }
        self.roster = self.roster.with(peer);
        self.is_formed()
    }

    /// Takes a roster back from a checkpoint.
    pub(super) fn restore(&mut self, roster: &[PeerId]) {
        for peer in roster {
            self.enlist(*peer);
        }
    }

    pub(super) fn roster(&self) -> Roster {
        self.roster.clone()
    }

    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Name of a complete roster; zeros while it forms.
    pub(super) fn roster_digest(&self) -> Digest {
        if self.is_formed() { self.roster.digest() } else { Digest::default() }
    }

    /// Everyone with whom the handshake is complete.
    pub(super) fn everyone_ready(&self) -> Vec<PeerId> {
        self.ready.iter().copied().collect()
    }

    // --- the graph: from charter, roster and round, never from liveness ---

    /// The graph of a round; the charter's topology remembers those of the rounds that are asked about.
    pub(super) fn graph(&self, round: u64) -> Arc<Graph> {
        let graph = self.charter.topology.graph(self.roster.len(), round);
        graph.expect("the charter was refused unless its topology can be drawn for its roster")
    }

    fn index(&self, peer: &PeerId) -> Option<usize> {
        self.roster.index(peer)
    }

    fn own_index(&self) -> usize {
        self.index(&self.own).expect("a peer is on its own roster")
    }

    /// Whose updates this peer mixes in that round.
    pub(super) fn receives_from(&self, round: u64) -> Vec<PeerId> {
        if !self.is_formed() {
            return Vec::new();
        }
        let graph = self.graph(round);
        graph.receives_from(self.own_index()).iter().map(|index| self.roster[*index]).collect()
    }

    /// Who mixes `peer`'s updates in that round.
    pub(super) fn audience(&self, peer: &PeerId, round: u64) -> Vec<PeerId> {
        if !self.is_formed() {
            return Vec::new();
        }
        let graph = self.graph(round);
        let index = self.index(peer);
        index.map_or(Vec::new(), |index| graph.sends_to(index).iter().map(|index| self.roster[*index]).collect())
    }

    pub(super) fn is_neighbour(&self, peer: &PeerId, round: u64) -> bool {
        if !self.is_formed() {
            return false;
        }
        let graph = self.graph(round);
        let own = self.own_index();
        let neighbours = if planted(Mutant::MistakeDirection) { graph.sends_to(own) } else { graph.receives_from(own) };
        self.index(peer).is_some_and(|index| neighbours.contains(&index))
    }

    /// The mixing weight with which `from` enters this peer's models.
    pub(super) fn mixing_weight(&self, from: &PeerId, round: u64) -> f64 {
        let graph = self.graph(round);
        self.index(from).map_or(0.0, |index| graph.mixing_weight(self.own_index(), index))
    }

    /// Everyone this peer exchanges updates with in that round, in either direction.
    pub(super) fn neighbourhood(&self, round: u64) -> BTreeSet<PeerId> {
        let own = self.own;
        self.neighbourhood_of(&own, round)
    }

    /// Everyone that `peer` exchanges updates with in that round, in either direction; anyone, while the roster forms.
    pub(super) fn neighbourhood_of(&self, peer: &PeerId, round: u64) -> BTreeSet<PeerId> {
        if !self.is_formed() {
            return self.roster.iter().filter(|other| *other != peer).copied().collect();
        }
        let graph = self.graph(round);
        let index = self.index(peer);
        let both = index.map(|index| graph.receives_from(index).iter().chain(graph.sends_to(index)));
        both.into_iter().flatten().map(|index| self.roster[*index]).collect()
    }

    pub(super) fn on_roster(&self, peer: &PeerId) -> bool {
        self.index(peer).is_some()
    }

    // --- connections and handshakes ---

    pub(super) fn connected(&mut self, peer: PeerId) {
        self.up.insert(peer);
        self.dismissed.remove(&peer);
    }

    /// A peer was sent away: it is not dialled again; it may come back by itself.
    pub(super) fn dismiss(&mut self, peer: PeerId) {
        if self.on_roster(&peer) {
            self.dismissed.insert(peer);
        }
    }

    /// Whether the handshake was complete before.
    pub(super) fn disconnected(&mut self, peer: &PeerId) -> bool {
        self.up.remove(peer);
        self.strikes.remove(peer);
        self.ready.remove(peer)
    }

    /// Whether the handshake is new.
    pub(super) fn admit(&mut self, peer: PeerId) -> bool {
        self.up.insert(peer);
        self.gone.remove(&peer);
        self.ready.insert(peer)
    }

    /// Connected peers whose handshake has not come: a message may be lost with a connection while another one stays.
    pub(super) fn speechless(&self) -> Vec<PeerId> {
        self.up.iter().filter(|peer| !self.ready.contains(peer) && !self.dismissed.contains(peer)).copied().collect()
    }

    pub(super) fn is_up(&self, peer: &PeerId) -> bool {
        self.up.contains(peer)
    }

    pub(super) fn is_ready(&self, peer: &PeerId) -> bool {
        self.ready.contains(peer)
    }

    /// Counts a malformed message; true when it was one too many.
    pub(super) fn strike(&mut self, peer: &PeerId) -> bool {
        if !self.up.contains(peer) {
            return false;
        }
        let strikes = self.strikes.entry(*peer).or_default();
        *strikes += 1;
        *strikes >= STRIKES_MAX
    }

    pub(super) fn strikes_max() -> usize {
        STRIKES_MAX as usize
    }

    // --- addresses ---

    /// Remembers where a member can be dialled; whether that is news. Peers beyond the roster are not remembered, so this is
    /// bounded by it.
    /// `first_hand` tells that the peer itself named them, or that it was reached there.
    pub(super) fn learn_addresses(&mut self, peer: PeerId, addresses: Vec<String>, first_hand: bool) -> bool {
        // While the roster forms, a few more than will be on it: some may never answer.
        let room = !self.is_formed() && self.addresses.len() < 2 * self.wanted;
        if !self.on_roster(&peer) && !room {
            return false;
        }
        let known = self.addresses.entry(peer).or_default();
        let mut fresh: Vec<String> = addresses.into_iter().filter(|address| !known.contains(address)).collect();
        if !first_hand {
            fresh.truncate(ADDRESSES_MAX.saturating_sub(known.len())); // what others say pushes nothing out
        }
        let news = !fresh.is_empty();
        known.splice(if first_hand { 0..0 } else { known.len()..known.len() }, fresh);
        known.truncate(ADDRESSES_MAX);
        news
    }

    /// Where a member can be dialled, as far as it is known.
    pub(super) fn addresses_of(&self, peer: &PeerId) -> Vec<String> {
        self.addresses.get(peer).cloned().unwrap_or_default()
    }

    /// Addresses to tell others, bounded by what a handshake may carry.
    pub(super) fn address_book(&self) -> BTreeMap<PeerId, Vec<String>> {
        self.addresses.iter().take(ADDRESS_PEERS_MAX).map(|(peer, addresses)| (*peer, addresses.clone())).collect()
    }

    /// Neighbours of `round` that are not connected, with the addresses that are known.
    pub(super) fn unreached(&self, round: u64) -> Vec<(PeerId, Vec<String>)> {
        let neighbours = match self.is_formed() {
            true => self.neighbourhood(round),
            false => self.addresses.keys().filter(|peer| **peer != self.own).copied().collect(),
        };
        let lost = |peer: &PeerId| [&self.up, &self.gone, &self.dismissed].iter().all(|there| !there.contains(peer));
        let unreached = neighbours.into_iter().filter(lost);
        // An empty list leaves it to the carrier, which may know an address that nobody told (mDNS, an earlier connection).
        unreached.map(|peer| (peer, self.addresses.get(&peer).cloned().unwrap_or_default())).collect()
    }

    // --- who is awaited ---

    /// A peer said goodbye.
    pub(super) fn leave(&mut self, peer: PeerId) {
        if !planted(Mutant::ForgetGoodbye) {
            self.gone.insert(peer);
        }
    }

    pub(super) fn is_gone(&self, peer: &PeerId) -> bool {
        self.gone.contains(peer)
    }

    pub(super) fn expel(&mut self, peer: PeerId) {
        self.expelled.insert(peer);
    }

    pub(super) fn is_expelled(&self, peer: &PeerId) -> bool {
        self.expelled.contains(peer)
    }

    /// Whether a round waits for this neighbour: not gone, not expelled, and not late too often in a row.
    fn is_awaited(&self, peer: &PeerId) -> bool {
        let patient = self.missed.get(peer).copied().unwrap_or(0) < self.charter.round.patience;
        patient && !self.gone.contains(peer) && !self.expelled.contains(peer)
    }

    /// Of these neighbours, whom a round waits for: those that are awaited, or, where those are too few for the rule, everyone who may
    /// still come. So a peer that is cut off goes on slowly and alone instead of running ahead of everybody.
    pub(super) fn awaited(&self, neighbours: Vec<PeerId>) -> BTreeSet<PeerId> {
        let awaited: BTreeSet<PeerId> = neighbours.iter().filter(|peer| self.is_awaited(peer)).copied().collect();
        let enough = self.charter.aggregation.rule.minimum().max(2);
        if awaited.len() + 1 >= enough {
            return awaited;
        }
        neighbours.into_iter().filter(|peer| !self.gone.contains(peer) && !self.expelled.contains(peer)).collect()
    }

    /// Records whether a neighbour was on time.
    pub(super) fn on_time(&mut self, peer: PeerId, on_time: bool) {
        if on_time && !planted(Mutant::NeverForgive) {
            self.missed.remove(&peer);
        } else if !on_time {
            *self.missed.entry(peer).or_default() += 1;
        }
    }

    /// Deadlines that a neighbour has missed in a row.
    pub(super) fn missed(&self, peer: &PeerId) -> u64 {
        self.missed.get(peer).copied().unwrap_or(0)
    }

    // --- who is how far ---

    /// A signed header said that `peer` is in `round`.
    pub(super) fn claim(&mut self, peer: PeerId, round: u64) {
        let claim = self.claims.entry(peer).or_default();
        *claim = (*claim).max(round);
    }

    /// The (byzantine + 1)-th highest round that distinct neighbours have claimed: at least one honest peer got that far.
    pub(super) fn credible_round(&self, round: u64, byzantine: usize) -> Option<u64> {
        let neighbours = self.neighbourhood(round);
        let mut claims: Vec<u64> = neighbours.iter().filter_map(|peer| self.claims.get(peer).copied()).collect();
        claims.sort_unstable_by(|a, b| b.cmp(a));
        claims.get(byzantine.saturating_sub(usize::from(planted(Mutant::BelieveOne)))).copied()
    }
}
