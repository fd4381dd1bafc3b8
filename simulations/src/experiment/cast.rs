//! The peers that take part: their keys, ids and names, which of them lie and which evaluate.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_consensus::charter::Admission;
use kith_consensus::optimization::Method;
use kith_consensus::topology::Graph;
use kith_consensus::{PeerId, Seed};
use kith_gossip::{Authenticator, Roster};

use super::Experiment;
use crate::attack::{Collusion, Knowledge, Means, Oracle, entry_of};
use crate::world::Signatures;

/// All peers, in the order of ids, so that a peer's number is its place in the graph.
pub(super) struct Cast {
    pub(super) keys: Vec<Authenticator>,
    pub(super) roster: Roster,
    /// What people call each.
    pub(super) names: Vec<String>,
    pub(super) lies: Vec<bool>,
    /// Which peers evaluate on the held-out rows.
    pub(super) evaluating: Vec<bool>,
    /// What honest peers publish, for liars whose attack is omniscient.
    pub(super) oracle: Option<Arc<Oracle>>,
    /// What liars that attack with messages share.
    pub(super) collusion: Option<Arc<Collusion>>,
}

impl Cast {
    pub(super) fn of(experiment: &Experiment, seed: &Seed) -> Cast {
        let keys = experiment.keys(seed);
        let ids: Vec<PeerId> = keys.iter().map(Authenticator::peer).collect();
        let liars = experiment.liars();
        let lies: Vec<bool> = (0..keys.len())
            .map(|peer| liars.binary_search(&peer).is_ok())
            .collect();
        let attack = entry_of(&experiment.world.attack).filter(|_| !liars.is_empty());
        let oracle = attack.is_some_and(|attack| attack.new.knowledge == Knowledge::Omniscient);
        let speaks =
            attack.is_some_and(|attack| matches!(attack.new.means, Means::Messages { .. }));
        let honest = keys.iter().zip(&lies).filter(|(_, lies)| !**lies);
        let honest = honest.map(|(key, _)| key.clone());
        let collusion = speaks.then(|| Arc::new(Collusion::new(honest.collect())));
        Cast {
            names: experiment.names(&ids),
            evaluating: experiment.evaluating(seed, &lies),
            roster: Roster::new(ids),
            keys,
            lies,
            oracle: oracle.then(|| Arc::new(Oracle::default())),
            collusion,
        }
    }

    pub(super) fn honest(&self) -> impl Iterator<Item = usize> {
        (0..self.lies.len()).filter(|peer| !self.lies[*peer])
    }

    pub(super) fn liars(&self) -> impl Iterator<Item = usize> {
        (0..self.lies.len()).filter(|peer| self.lies[*peer])
    }

    /// Turns values by peer number into values by peer name.
    pub(super) fn by_name<T>(
        &self,
        known: impl Iterator<Item = (usize, T)>,
    ) -> BTreeMap<String, T> {
        known
            .map(|(peer, value)| (self.names[peer].clone(), value))
            .collect()
    }
}

impl Experiment {
    fn liars(&self) -> Vec<usize> {
        self.world.adversaries_among(self.peers())
    }

    fn keys(&self, seed: &Seed) -> Vec<Authenticator> {
        let secret = seed.child("signatures").0;
        let own = |peer: usize| seed.child(&format!("key {peer}")).0;
        let hashed = |peer: PeerId| Authenticator::KeyedHash { peer, secret };
        let mut keys: Vec<Authenticator> =
            match (self.charter.membership.mode, self.world.signatures) {
                (Admission::Members, _) => self.charter.roster().into_iter().map(hashed).collect(),
                (Admission::Open, Signatures::Ed25519) => (0..self.peers())
                    .map(|peer| Authenticator::from_secret(&own(peer)))
                    .collect(),
                (Admission::Open, Signatures::KeyedHash) => (0..self.peers())
                    .map(|peer| hashed(PeerId(own(peer))))
                    .collect(),
            };
        keys.sort_by_cached_key(Authenticator::peer);
        keys
    }

    fn names(&self, ids: &[PeerId]) -> Vec<String> {
        let member = |id: &PeerId| match self.charter.member(id) {
            Some(member) => member.name.clone(),
            None => id.short(),
        };
        match self.charter.membership.mode {
            Admission::Members => ids.iter().map(member).collect(),
            Admission::Open => (0..ids.len()).map(|peer| peer.to_string()).collect(),
        }
    }

    fn evaluating(&self, seed: &Seed, lies: &[bool]) -> Vec<bool> {
        if self.world.evaluating == 0 {
            return lies.iter().map(|lies| !lies).collect();
        }
        let mut honest: Vec<usize> = (0..lies.len()).filter(|peer| !lies[*peer]).collect();
        seed.stream("kith.v1 evaluating").shuffle(&mut honest);
        let mut chosen = vec![false; lies.len()];
        honest
            .iter()
            .take(self.world.evaluating)
            .for_each(|peer| chosen[*peer] = true);
        chosen
    }

    /// The honest peer that hears most liars in one of the first rounds, and how many; `None` if
    /// nobody lies.
    pub fn worst_neighbourhood(&self) -> Option<(usize, usize)> {
        /// Rounds that are looked at if graphs follow each other (guess: this many draws are
        /// typical).
        const ROUNDS_MAX: u64 = 64;
        let liars = self.liars();
        let lies = |peer: &usize| liars.binary_search(peer).is_ok();
        let rounds = match (liars.is_empty(), self.charter.topology.changes()) {
            (true, _) => 0,
            (false, true) => ROUNDS_MAX,
            (false, false) => 1,
        };
        let mut worst = None;
        for graph in self.graphs(rounds) {
            for peer in (0..self.peers()).filter(|peer| !lies(peer)) {
                let senders = graph.receives_from(peer).iter();
                let heard = senders.filter(|sender| lies(sender)).count();
                if worst.is_none_or(|(_, most)| heard > most) {
                    worst = Some((peer, heard));
                }
            }
        }
        worst
    }

    /// Whether honest models must stay between the honest objectives' optima: the rule says that it
    /// keeps every coordinate inside the honest range, and nobody adopts a liar's model.
    pub(super) fn stays_in_hull(&self) -> bool {
        let liars = self.liars();
        self.tolerates(liars.len()) && !self.believes(&liars)
    }

    /// Whether the rule says that it keeps every coordinate inside the honest range with `liars`
    /// liars in a neighbourhood.
    fn tolerates(&self, liars: usize) -> bool {
        let aggregation = &self.charter.aggregation;
        // Other methods and momentum step further than a peer's own gradient leads.
        let plain = aggregation.method == Method::Plain && aggregation.momentum == 0.0;
        let rule = &aggregation.rule;
        plain && (liars == 0 || (rule.stays_in_honest_range() && liars <= rule.byzantine()))
    }

    /// Whether the topology lets a peer adopt a liar's model unchanged, in some round.
    fn believes(&self, liars: &[usize]) -> bool {
        /// Rounds that are looked at: each period of a hierarchy draws other heads (guess: more
        /// rounds than a test's world has).
        const ROUNDS_MAX: u64 = 4096;
        let staged = self.charter.topology.has_stages(self.peers());
        self.graphs(if staged { ROUNDS_MAX } else { 0 })
            .any(|graph| {
                liars
                    .iter()
                    .any(|liar| graph.sends_to(*liar).iter().any(|to| graph.adopts(*to)))
            })
    }

    /// The graphs of at most `rounds_max` of the first rounds.
    fn graphs(&self, rounds_max: u64) -> impl Iterator<Item = Arc<Graph>> {
        let (topology, peers) = (&self.charter.topology, self.peers());
        (0..self.charter.rounds.min(rounds_max))
            .filter_map(move |round| topology.graph(peers, round).ok())
    }
}
