//! Which peers are there: connections, handshakes, addresses, patience, and the neighbourhood that
//! the charter gives a round.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::Digest;
use kith_consensus::charter::{Admission, Charter};
use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::topology::Graph;
use kith_consensus::{PeerId, Sorted};

use super::allowance::Allowance;
use crate::address::{ADDRESSES_MAX, AddressRecord, Scope};
use crate::envelope::{Header, Kind};
use crate::limits::BAN;
use crate::message::RECORD_BYTES_MAX;
use crate::refusal::Refusal;
use crate::roster::Roster;

/// How long an address is not dialled after another key has answered there (guess: its peer may
/// come back to it, and each dial costs whoever answers there a handshake).
const REFUTED: Duration = Duration::from_secs(60);

/// Malformed messages after which a peer is sent away.
const STRIKES_MAX: u32 = 5;

pub(super) struct Overlay {
    own: PeerId,
    roster: Roster,
    /// Number of participants in the charter. In open membership the roster grows to this number
    /// and is then fixed.
    wanted: usize,
    /// This peer's place in the roster, once the roster is complete.
    place: Option<usize>,
    charter: Arc<Charter>,
    /// The graphs of the even and of the odd round that were asked about last: two rounds are in
    /// use at a time.
    near: [RefCell<Option<Near>>; 2],
    /// Members about which something is known, and connected peers. While the roster forms, also
    /// peers whose addresses are known.
    known: Sorted<PeerId, Known>,
}

/// A round's graph, and its edges at this peer as ids: the lists of a large federation may be far
/// away in memory.
struct Near {
    round: u64,
    graph: Arc<Graph>,
    /// Ascending, as all of the graph's lists are.
    receives_from: Vec<PeerId>,
    /// The mixing weight of each of those.
    weights: Vec<f64>,
    sends_to: Vec<PeerId>,
    /// By sender, the peers between this receiver of it and others: see [`Overlay::between`].
    between: RefCell<Sorted<usize, Vec<PeerId>>>,
}

/// What is known of a peer.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Its place in the roster, once that is complete and if the peer is on it.
    place: Option<usize>,
    /// Whether it is connected.
    up: bool,
    /// Whether the carrier has said that it is connected. Its first messages may come before that.
    announced: bool,
    /// The handshake is complete.
    ready: bool,
    /// It was complete at some time.
    met: bool,
    /// It said goodbye after its last round.
    finished: bool,
    expelled: bool,
    /// It was waited for, before the first round or until a deadline, and did not come.
    absent: bool,
    /// It was sent away, and is not dialled until then.
    dismissed: Option<Duration>,
    /// Malformed messages over this connection.
    strikes: u32,
    allowance: Allowance,
    /// Which life it is in, as its handshake or a newer signed header has shown.
    incarnation: u64,
    /// The highest round that it has signed in that life.
    claim: Option<u64>,
    /// When that grew last.
    claimed_at: Duration,
    punctuality: Punctuality,
    /// Addresses at which this peer has reached it; of this peer itself, where it listens.
    addresses: Vec<String>,
    /// Where it can be dialled, as it says itself, by scope.
    records: [Option<Arc<AddressRecord>>; 3],
    /// From how near it is connected: the nearest of its connections counts.
    scope: Scope,
    /// Addresses at which a process with another key answered, and until when they are not dialled.
    refuted: Vec<(String, Duration)>,
    /// Where it says that it has reached this peer.
    reached: Vec<String>,
}

/// How well a neighbour keeps deadlines.
///
/// A missed one counts twice and one that was kept takes one away, so that a neighbour that is late
/// every other time is not waited for in the end. The first time that it is no longer waited for,
/// one update in time is enough to be waited for again. Each further time it takes twice as many,
/// up to [`REGAIN_MAX`], a missed deadline counts three times, and one is enough to lose that again,
/// unless it has kept several since. With each [`REGAIN_MAX`] deadlines that it has kept while it was
/// waited for, one of those times is forgotten: a line that fails now and then costs its peer no more
/// than at first, and a liar has to behave as long as if nothing were ever forgotten.
#[derive(Clone, Debug, Default)]
struct Punctuality {
    /// Deadlines missed in a row.
    missed: u64,
    debt: u64,
    /// Updates in time that it still takes to be waited for again; 0 if it is waited for.
    owed: u64,
    /// How often rounds have ceased to wait for it, at most log₂ [`REGAIN_MAX`].
    lapses: u32,
    /// Updates in time while rounds waited for it, since its last lapse or since a lapse was forgotten.
    kept: u64,
    /// How many updates in time it takes until this neighbour can be given more time as often as at
    /// first.
    granted: u64,
}

impl Punctuality {
    /// Rounds cease to wait for it.
    fn lapse(&mut self) {
        self.owed = (1 << self.lapses).min(REGAIN_MAX).max(self.owed);
        self.lapses = (self.lapses + 1).min(REGAIN_MAX.ilog2());
        self.kept = 0;
    }

    /// It has kept a deadline while rounds waited for it.
    fn keeps(&mut self) {
        self.kept += 1;
        if self.kept >= REGAIN_MAX {
            self.lapses = self.lapses.saturating_sub(1);
            self.kept = 0;
        }
    }
}

/// Most updates in time that it takes to be waited for again (guess).
const REGAIN_MAX: u64 = 64;

/// Whether rounds wait for a neighbour, reported when it has just changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Lost,
    Regained,
}

/// Why a peer is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dismissed {
    /// It sent too much, or what is malformed: to be waited for again it has to be on time as often
    /// as if it had been late.
    Misbehaves,
    /// It has another charter, layout or roster: once is enough.
    DoesNotFit,
}

impl Known {
    fn is_addressed(&self) -> bool {
        !self.addresses.is_empty() || self.records().next().is_some()
    }

    fn records(&self) -> impl Iterator<Item = &Arc<AddressRecord>> {
        self.records.iter().flatten()
    }

    /// Where it can be dialled: where it was reached, then where it says that it is.
    fn places(&self) -> Vec<&String> {
        let said = self.records().flat_map(|record| &record.addresses);
        let mut places: Vec<&String> = Vec::new();
        for address in self.addresses.iter().chain(said) {
            if !places.contains(&address) {
                places.push(address);
            }
        }
        places.truncate(ADDRESSES_MAX);
        places
    }

    fn is_dismissed(&self, now: Duration) -> bool {
        self.dismissed.is_some_and(|until| now < until)
    }
}

impl Overlay {
    pub(super) fn new(own: PeerId, roster: Roster, charter: Arc<Charter>) -> Overlay {
        assert!(roster.index(&own).is_some(), "a peer is on its own roster");
        let wanted = match charter.membership.mode {
            Admission::Members => roster.len(),
            Admission::Open => charter.membership.peers,
        };
        assert!(
            roster.len() <= wanted,
            "a roster has no more peers than its charter"
        );
        let place = roster.index(&own).filter(|_| roster.len() == wanted);
        Overlay {
            own,
            roster,
            wanted,
            place,
            charter,
            near: Default::default(),
            known: Sorted::default(),
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
        self.near = Default::default();
        if self.is_formed() {
            self.place = self.roster.index(&self.own);
            self.known
                .iter_mut()
                .for_each(|(peer, known)| known.place = self.roster.index(peer));
        }
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
        if self.is_formed() {
            self.roster.digest()
        } else {
            Digest::default()
        }
    }

    /// Everyone with whom the handshake is complete.
    pub(super) fn everyone_ready(&self) -> Vec<PeerId> {
        self.those(|known| known.ready)
    }

    /// Everyone with whom the handshake was complete at some time since the start.
    pub(super) fn everyone_met(&self) -> Vec<PeerId> {
        self.those(|known| known.met)
    }

    fn those(&self, which: impl Fn(&Known) -> bool) -> Vec<PeerId> {
        self.known
            .iter()
            .filter(|(_, known)| which(known))
            .map(|(peer, _)| *peer)
            .collect()
    }

    fn is(&self, peer: &PeerId, what: impl Fn(&Known) -> bool) -> bool {
        self.known.get(peer).is_some_and(what)
    }

    fn of(&mut self, peer: PeerId) -> &mut Known {
        let place = || {
            self.roster
                .index(&peer)
                .filter(|_| self.roster.len() == self.wanted)
        };
        self.known.entry(peer, || Known {
            place: place(),
            ..Known::default()
        })
    }

    // --- the graph: from charter, roster and round, never from liveness ---

    /// The graph of a round; the charter's topology remembers those of the rounds that are asked
    /// about.
    pub(super) fn graph(&self, round: u64) -> Arc<Graph> {
        Arc::clone(&self.near(round).graph)
    }

    fn near(&self, round: u64) -> Ref<'_, Near> {
        let kept = &self.near[(round % 2) as usize];
        if kept
            .borrow()
            .as_ref()
            .is_none_or(|near| near.round != round)
        {
            let mut kept = kept.borrow_mut();
            let graph = self.charter.topology.graph(self.roster.len(), round);
            let graph = graph
                .expect("the charter was refused unless its topology can be drawn for its roster");
            match kept
                .as_mut()
                .filter(|near| Arc::ptr_eq(&near.graph, &graph))
            {
                Some(near) => near.round = round,
                None => *kept = Some(self.look(round, graph)),
            }
        }
        Ref::map(kept.borrow(), |near| {
            near.as_ref().expect("it was just looked at")
        })
    }

    fn look(&self, round: u64, graph: Arc<Graph>) -> Near {
        let own = self.own_index();
        let ids = |places: &[usize]| places.iter().map(|place| self.roster[*place]).collect();
        let (receives_from, sends_to) = (ids(graph.receives_from(own)), ids(graph.sends_to(own)));
        let weights = graph
            .receives_from(own)
            .iter()
            .map(|from| graph.mixing_weight(own, *from))
            .collect();
        Near {
            round,
            graph,
            receives_from,
            weights,
            sends_to,
            between: RefCell::default(),
        }
    }

    /// A peer's place in the roster. A neighbour's is stored here, since the whole roster may be
    /// far away in memory.
    fn index(&self, peer: &PeerId) -> Option<usize> {
        let own = self.place.filter(|_| *peer == self.own);
        own.or_else(|| self.known.get(peer)?.place)
            .or_else(|| self.roster.index(peer))
    }

    /// This peer's place in the graph; `None` while the roster forms.
    pub(super) fn place(&self) -> Option<usize> {
        self.place
    }

    fn own_index(&self) -> usize {
        self.place
            .or_else(|| self.index(&self.own))
            .expect("a peer is on its own roster")
    }

    /// Whose updates this peer mixes in that round.
    pub(super) fn receives_from(&self, round: u64) -> Vec<PeerId> {
        if !self.is_formed() {
            return Vec::new();
        }
        self.near(round).receives_from.clone()
    }

    /// Those whose updates this peer mixes in that round and that are alternatives of each other,
    /// best first.
    pub(super) fn alternatives(&self, round: u64) -> Vec<Vec<PeerId>> {
        if !self.is_formed() || !self.near(round).graph.has_alternatives() {
            return Vec::new();
        }
        let groups = self.near(round).graph.alternatives(self.own_index());
        groups
            .into_iter()
            .map(|group| group.into_iter().map(|index| self.roster[index]).collect())
            .collect()
    }

    /// The peers that mix `peer`'s updates in that round.
    pub(super) fn audience(&self, peer: &PeerId, round: u64) -> Vec<PeerId> {
        if !self.is_formed() {
            return Vec::new();
        }
        if *peer == self.own {
            return self.near(round).sends_to.clone();
        }
        let graph = &self.near(round).graph;
        let index = self.index(peer);
        index.map_or(Vec::new(), |index| {
            graph
                .sends_to(index)
                .iter()
                .map(|index| self.roster[*index])
                .collect()
        })
    }

    /// The peers to which this peer shows headers of `sender` of that round. Of any two receivers
    /// one shows its header to the other, so each shows to about half of them. So every two honest,
    /// connected receivers compare what they were told, for half of the messages. Two receivers
    /// that are not connected both show theirs to a peer between them.
    pub(super) fn shown(&self, sender: &PeerId, round: u64) -> Vec<PeerId> {
        let Some(sender) = self.index(sender).filter(|_| self.is_formed()) else {
            return Vec::new();
        };
        let (own, graph) = (self.own_index(), &self.near(round).graph);
        let receivers = graph.sends_to(sender);
        let shows = |other: usize| {
            let lower_shows = (own + other) as u64 % 2 == round % 2;
            other != own && (own < other) == lower_shows && receivers.binary_search(&other).is_ok()
        };
        // Known peers are stored here. The graph's lists name many that are not connected, and
        // their names are far away in memory.
        let mut shown = self.those(|known| known.ready && known.place.is_some_and(shows));
        if !self.charter.topology.changes() && !planted(Mutant::ShowReceiversOnly) {
            let between = self.between(sender, round);
            shown.extend(between.iter().filter(|peer| self.is_ready(peer)));
        }
        shown
    }

    /// Peers that are connected to this receiver of `sender` and to another one that is not
    /// connected to this, one for each such other: the first that both have. If that receives from
    /// the sender too, it compares with both anyway. Where graphs change, receivers change with
    /// them, and nobody is in between for long.
    fn between(&self, sender: usize, round: u64) -> Vec<PeerId> {
        let near = self.near(round);
        if let Some(known) = near.between.borrow().get(&sender) {
            return known.clone();
        }
        let (own, graph) = (self.own_index(), &near.graph);
        let touches = |a: usize, b: usize| {
            graph.sends_to(a).binary_search(&b).is_ok()
                || graph.receives_from(a).binary_search(&b).is_ok()
        };
        let receivers = graph.sends_to(sender);
        let mut found = Vec::new();
        if receivers.binary_search(&own).is_ok() {
            let mut around = [graph.sends_to(own), graph.receives_from(own)].concat();
            around.sort_unstable();
            around.dedup();
            for other in receivers.iter().filter(|other| **other != own) {
                if touches(own, *other) {
                    continue;
                }
                let joint = |peer: &&usize| **peer != sender && touches(**peer, *other);
                let first = around.iter().find(joint);
                let first = first.filter(|peer| receivers.binary_search(peer).is_err());
                found.extend(first.map(|peer| self.roster[*peer]));
            }
        }
        found.sort_unstable();
        found.dedup();
        near.between.borrow_mut().insert(sender, found.clone());
        found
    }

    pub(super) fn is_neighbour(&self, peer: &PeerId, round: u64) -> bool {
        if !self.is_formed() {
            return false;
        }
        let near = self.near(round);
        let neighbours = if planted(Mutant::MistakeDirection) {
            &near.sends_to
        } else {
            &near.receives_from
        };
        neighbours.binary_search(peer).is_ok()
    }

    /// The mixing weight with which `from` enters this peer's models.
    pub(super) fn mixing_weight(&self, from: &PeerId, round: u64) -> f64 {
        let near = self.near(round);
        match near.receives_from.binary_search(from) {
            Ok(place) => near.weights[place],
            Err(_) if *from == self.own => {
                near.graph.mixing_weight(self.own_index(), self.own_index())
            }
            Err(_) => 0.0,
        }
    }

    /// Everyone this peer exchanges updates with in that round, in either direction.
    pub(super) fn neighbourhood(&self, round: u64) -> BTreeSet<PeerId> {
        if !self.is_formed() {
            return self.neighbourhood_of(&self.own, round);
        }
        let near = self.near(round);
        near.receives_from
            .iter()
            .chain(&near.sends_to)
            .copied()
            .collect()
    }

    /// Everyone that `peer` exchanges updates with in that round, in either direction; anyone,
    /// while the roster forms.
    pub(super) fn neighbourhood_of(&self, peer: &PeerId, round: u64) -> BTreeSet<PeerId> {
        if !self.is_formed() {
            return self
                .roster
                .iter()
                .filter(|other| *other != peer)
                .copied()
                .collect();
        }
        let graph = &self.near(round).graph;
        let index = self.index(peer);
        let both = index.map(|index| {
            graph
                .receives_from(index)
                .iter()
                .chain(graph.sends_to(index))
        });
        both.into_iter()
            .flatten()
            .map(|index| self.roster[*index])
            .collect()
    }

    pub(super) fn on_roster(&self, peer: &PeerId) -> bool {
        self.index(peer).is_some()
    }

    // --- connections and handshakes ---

    /// A connection from within `scope`. Returns whether there was one already that the carrier had
    /// announced.
    pub(super) fn connected(&mut self, peer: PeerId, scope: Scope) -> bool {
        let known = self.of(peer);
        (known.up, known.dismissed) = (true, None);
        known.scope = known.scope.min(scope);
        std::mem::replace(&mut known.announced, true)
    }

    /// A peer was sent away at time `now`: it is not dialled while it is banned; it may come back
    /// by itself. Rounds do not wait for it until it has been on time again.
    pub(super) fn dismiss(&mut self, peer: PeerId, why: Dismissed, now: Duration) {
        if self.on_roster(&peer) {
            let until = match planted(Mutant::DismissForever) {
                true => Duration::MAX,
                false => now + BAN,
            };
            let known = self.of(peer);
            known.dismissed = Some(until);
            match why {
                Dismissed::Misbehaves => known.punctuality.lapse(),
                Dismissed::DoesNotFit => known.punctuality.owed = known.punctuality.owed.max(1),
            }
        }
    }

    /// Whether the handshake was complete before.
    pub(super) fn disconnected(&mut self, peer: &PeerId) -> bool {
        let Some(known) = self.known.get_mut(peer) else {
            return false;
        };
        let was_ready = known.ready;
        (known.up, known.announced) = (false, false);
        (known.ready, known.strikes) = (false, 0);
        known.scope = Scope::default();
        // Nothing is remembered of strangers that could pile up.
        if !known.is_addressed() && self.roster.index(peer).is_none() {
            self.known.remove(peer);
        }
        was_ready
    }

    /// Whether the handshake is new.
    pub(super) fn admit(&mut self, peer: PeerId) -> bool {
        let known = self.of(peer);
        let fresh = !known.ready;
        (known.up, known.finished, known.ready, known.met) = (true, false, true, true);
        known.absent = false;
        fresh
    }

    /// Connected peers whose handshake has not come: a message may be lost with a connection while
    /// another one stays.
    pub(super) fn speechless(&self, now: Duration) -> Vec<PeerId> {
        self.those(|known| known.up && !known.ready && !known.is_dismissed(now))
    }

    pub(super) fn is_up(&self, peer: &PeerId) -> bool {
        self.is(peer, |known| known.up)
    }

    pub(super) fn is_ready(&self, peer: &PeerId) -> bool {
        self.is(peer, |known| known.ready)
    }

    /// Counts a message of `peer` against what it may send.
    ///
    /// # Errors
    /// It is one too many.
    pub(super) fn spend(&mut self, peer: PeerId, kind: Kind, now: Duration) -> Result<(), Refusal> {
        let (period, peers) = (self.charter.round.deadline, self.wanted);
        match self.known.get_mut(&peer) {
            Some(known) if !planted(Mutant::AllowFloods) => {
                known.allowance.spend(kind, now, period, peers)
            }
            _ => Ok(()),
        }
    }

    /// Counts a request for a body after `published` updates; false when it is one too many.
    pub(super) fn may_pull(&mut self, peer: PeerId, published: u64) -> bool {
        planted(Mutant::AllowFloods)
            || (self.known.get_mut(&peer)).is_none_or(|known| known.allowance.pull(published))
    }

    /// Counts a header of another's present life that is old, at time `now`; false when it is one too
    /// many.
    pub(super) fn may_show_late(&mut self, peer: PeerId, now: Duration) -> bool {
        let period = self.charter.round.deadline;
        let known = self.known.get_mut(&peer);
        known.is_none_or(|known| known.allowance.show_late(now, period))
    }

    /// Counts a header of another's earlier life, at time `now`; false when it is one too many.
    pub(super) fn may_repeat(&mut self, peer: PeerId, now: Duration) -> bool {
        let (period, peers) = (self.charter.round.deadline, self.wanted);
        let known = self.known.get_mut(&peer);
        known.is_none_or(|known| known.allowance.repeat(now, period, peers))
    }

    /// Counts a malformed message; true when it was one too many.
    pub(super) fn strike(&mut self, peer: &PeerId) -> bool {
        let Some(known) = self.known.get_mut(peer).filter(|known| known.up) else {
            return false;
        };
        known.strikes += 1;
        known.strikes == STRIKES_MAX // it is sent away once
    }

    pub(super) fn strikes_max() -> usize {
        STRIKES_MAX as usize
    }

    // --- addresses ---

    /// While the roster forms, addresses of a few more peers are kept than will be on it: some may
    /// never answer.
    fn has_room(&self) -> bool {
        let addressed = self.known.values().filter(|known| known.is_addressed());
        !self.is_formed() && addressed.count() < 2 * self.wanted
    }

    /// Remembers where a member was reached, or where this peer listens; returns whether that is
    /// news. Peers beyond the roster are not remembered, so the roster bounds this.
    pub(super) fn learn_addresses(&mut self, peer: PeerId, addresses: Vec<String>) -> bool {
        if !self.on_roster(&peer) && !self.has_room() {
            return false;
        }
        let known = &mut self.of(peer).addresses;
        let fresh: Vec<String> = addresses
            .into_iter()
            .filter(|address| !known.contains(address))
            .collect();
        let news = !fresh.is_empty();
        known.splice(0..0, fresh);
        known.truncate(ADDRESSES_MAX);
        news
    }

    /// Remembers where a member says that it can be dialled, if that is newer than what it said
    /// before. The caller has checked the record. Returns whether to tell the member's neighbours.
    pub(super) fn learn_record(&mut self, record: AddressRecord, now: Duration) -> bool {
        let period = self.charter.round.deadline;
        if !self.on_roster(&record.peer) && !self.has_room() {
            return false;
        }
        let known = self.of(record.peer);
        let kept = &mut known.records[record.scope as usize];
        let before = kept.as_ref();
        let says_more = before.is_none_or(|before| before.addresses != record.addresses);
        *kept = Some(Arc::new(record));
        says_more && known.allowance.introduce(now, period)
    }

    /// Whether a record says something newer than the one that is known.
    pub(super) fn is_news(&self, record: &AddressRecord) -> bool {
        let known = self.record_of(&record.peer, record.scope);
        known.is_none_or(|known| record.is_newer_than(&known))
    }

    pub(super) fn record_of(&self, peer: &PeerId, scope: Scope) -> Option<Arc<AddressRecord>> {
        self.known.get(peer)?.records[scope as usize].clone()
    }

    /// Whether a peer is connected from where addresses of a scope lead to their peer.
    pub(super) fn is_within(&self, peer: &PeerId, scope: Scope) -> bool {
        planted(Mutant::TellAllAddresses) || self.is(peer, |known| known.scope <= scope)
    }

    /// A process with another key answered at an address of a peer at time `now`. It is not dialled
    /// for a while.
    pub(super) fn refute(&mut self, peer: PeerId, address: String, now: Duration) {
        if !self.on_roster(&peer) || planted(Mutant::DialRefuted) {
            return;
        }
        let refuted = &mut self.of(peer).refuted;
        refuted.retain(|(other, until)| *other != address && *until > now);
        refuted.truncate(ADDRESSES_MAX - 1);
        refuted.push((address, now + REFUTED));
    }

    /// Where `peer` says at time `now` that it has reached this one; whether that is news that counts:
    /// a peer may change its mind a few times in a deadline.
    pub(super) fn was_reached(&mut self, peer: PeerId, at: Vec<String>, now: Duration) -> bool {
        let period = self.charter.round.deadline;
        let known = self.of(peer);
        let is_news = known.reached != at && known.allowance.moves(now, period);
        if is_news {
            known.reached = at;
        }
        is_news
    }

    /// Where others have reached this peer, those that most of them name first.
    pub(super) fn reached_at(&self) -> Vec<String> {
        let mut votes: BTreeMap<&String, usize> = BTreeMap::new();
        for address in self.known.values().flat_map(|known| &known.reached) {
            *votes.entry(address).or_default() += 1;
        }
        let mut named: Vec<(&String, usize)> = votes.into_iter().collect();
        named.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
        named
            .into_iter()
            .map(|(address, _)| address.clone())
            .collect()
    }

    /// Addresses at which this peer has reached `peer`, or listens itself.
    pub(super) fn own_addresses_of(&self, peer: &PeerId) -> Vec<String> {
        self.known
            .get(peer)
            .map(|known| known.addresses.clone())
            .unwrap_or_default()
    }

    /// Known addresses at which a member can be dialled: where it was reached, then where it says
    /// that it is.
    pub(super) fn addresses_of(&self, peer: &PeerId) -> Vec<String> {
        let known = self.known.get(peer);
        let places = known.into_iter().flat_map(Known::places);
        places.cloned().collect()
    }

    /// Where to dial a peer at time `now`; `None` if all that is known are addresses at which
    /// another key has answered. An empty list leaves it to the carrier, which may know an address
    /// that no peer announced (mDNS, an earlier connection).
    fn dialled_at(&self, peer: &PeerId, now: Duration) -> Option<Vec<String>> {
        let Some(known) = self.known.get(peer) else {
            return Some(Vec::new());
        };
        let places = known.places();
        let refutes = |place: &str| {
            let mut refuted = known.refuted.iter();
            refuted.any(|(address, until)| address == place && *until > now)
        };
        let open = places.iter().filter(|place| !refutes(place));
        let open: Vec<String> = open.map(|place| (*place).clone()).collect();
        (places.is_empty() || !open.is_empty()).then_some(open)
    }

    /// Records to tell `receiver`, bounded by what a handshake may carry: this peer's own first, then
    /// those of the receiver's neighbours.
    pub(super) fn address_book(&self, receiver: &PeerId, round: u64) -> Vec<AddressRecord> {
        let neighbours = self.neighbourhood_of(receiver, round);
        let others = |peer: &PeerId| peer != receiver && *peer != self.own;
        let (near, far): (Vec<_>, Vec<_>) = self
            .known
            .iter()
            .filter(|(peer, known)| others(peer) && known.records().next().is_some())
            .partition(|(peer, _)| neighbours.contains(*peer));
        let mut room = RECORD_BYTES_MAX;
        let own = self.known.get(&self.own);
        let others = near.into_iter().chain(far).map(|(_, known)| known);
        own.into_iter()
            .chain(others)
            .flat_map(Known::records)
            .filter(|record| self.is_within(receiver, record.scope))
            .filter(|record| {
                let fits = record.size() <= room;
                room -= if fits { record.size() } else { 0 };
                fits
            })
            .map(|record| AddressRecord::clone(record))
            .collect()
    }

    /// Neighbours of `round` that are not connected, with the addresses that are known.
    pub(super) fn unreached(&self, round: u64, now: Duration) -> Vec<(PeerId, Vec<String>)> {
        let neighbours = match self.is_formed() {
            true => self.neighbourhood(round),
            false => self
                .those(Known::is_addressed)
                .into_iter()
                .filter(|peer| *peer != self.own)
                .collect(),
        };
        let lost = |peer: &PeerId| {
            !self.is(peer, |known| {
                known.up || known.finished || known.is_dismissed(now)
            })
        };
        let unreached = neighbours.into_iter().filter(lost);
        unreached
            .filter_map(|peer| Some((peer, self.dialled_at(&peer, now)?)))
            .collect()
    }

    // --- which peers are awaited ---

    /// A peer said goodbye after its last round; returns whether that is news. It still serves its
    /// sent updates, as long as it is connected.
    pub(super) fn finish(&mut self, peer: PeerId) -> bool {
        !planted(Mutant::ForgetGoodbye) && !std::mem::replace(&mut self.of(peer).finished, true)
    }

    pub(super) fn has_finished(&self, peer: &PeerId) -> bool {
        self.is(peer, |known| known.finished)
    }

    pub(super) fn expel(&mut self, peer: PeerId) {
        self.of(peer).expelled = true;
    }

    pub(super) fn is_expelled(&self, peer: &PeerId) -> bool {
        self.is(peer, |known| known.expelled)
    }

    /// Whether an update of a peer may still come: a finished peer serves its last ones until its
    /// connection ends.
    pub(super) fn may_come(&self, peer: &PeerId) -> bool {
        !self.is(peer, |known| {
            known.expelled || (known.finished && !known.up)
        })
    }

    /// Whether a peer was sent away for what it did, or was late too often in a row.
    pub(super) fn is_given_up(&self, peer: &PeerId) -> bool {
        self.is(peer, |known| known.punctuality.lapses > 0)
    }

    /// Whether a round waits for this neighbour: its update may come, and it was not late too often
    /// in a row.
    pub(super) fn is_awaited(&self, peer: &PeerId) -> bool {
        self.may_come(peer) && !self.is(peer, |known| known.punctuality.owed > 0)
    }

    /// Of these neighbours, whom a round waits for: those that are awaited, or, if those are too
    /// few for the rule, every peer that may still come. So a peer that is cut off continues slowly
    /// and alone instead of running ahead of everybody.
    pub(super) fn awaited(&self, neighbours: Vec<PeerId>, round: u64) -> Vec<PeerId> {
        if neighbours.is_empty() {
            return neighbours;
        }
        let awaited: Vec<PeerId> = neighbours
            .iter()
            .filter(|peer| self.is_awaited(peer))
            .copied()
            .collect();
        let graph = self.graph(round);
        let own = self.own_index();
        let models = match graph.has_alternatives() {
            false => awaited.len(),
            true => self
                .alternatives(round)
                .iter()
                .filter(|group| group.iter().any(|peer| awaited.contains(peer)))
                .count(),
        };
        let enough = if graph.adopts(own) {
            2
        } else {
            self.charter.aggregation.rule.minimum().max(2)
        };
        if models + 1 >= enough {
            return awaited;
        }
        neighbours
            .into_iter()
            .filter(|peer| self.may_come(peer))
            .collect()
    }

    /// Records whether a neighbour was on time; returns what that changes, if anything.
    pub(super) fn on_time(&mut self, peer: PeerId, on_time: bool) -> Option<Patience> {
        let most = 2 * self.charter.round.patience;
        let of_peer = &mut self.of(peer).punctuality;
        if on_time && !planted(Mutant::NeverForgive) {
            of_peer.missed = 0;
            of_peer.granted = of_peer.granted.saturating_sub(1);
            of_peer.debt = match planted(Mutant::ForgiveAtOnce) {
                true => 0,
                false => of_peer.debt.saturating_sub(1),
            };
            let was_owed = of_peer.owed;
            of_peer.owed = was_owed.saturating_sub(1);
            if was_owed == 1 {
                of_peer.debt = most.saturating_sub(1);
                return Some(Patience::Regained);
            }
            if was_owed == 0 {
                of_peer.keeps();
            }
        } else if !on_time {
            of_peer.missed += 1;
            // One that rounds have ceased to wait for before is not given as much again.
            let weight = if of_peer.lapses > 0 { 3 } else { 2 };
            of_peer.debt = (of_peer.debt + weight).min(most);
            if of_peer.debt >= most && of_peer.owed == 0 {
                of_peer.lapse();
                return Some(Patience::Lost);
            }
        }
        None
    }

    /// Gives a neighbour more time for its update of `round`, if it is connected, was in time before,
    /// and was in an earlier round half a deadline ago, where it may have waited for another peer. At
    /// first it is given time as often as a peer may be late, and once more with each
    /// [`REGAIN_MAX`] updates in time: a liar gains little.
    pub(super) fn grant_time(&mut self, peer: &PeerId, round: u64, now: Duration) -> bool {
        let most = self.charter.round.patience.saturating_mul(REGAIN_MAX);
        let lately = now.saturating_sub(self.charter.round.deadline / 2);
        let Some(known) = self.known.get_mut(peer) else {
            return false;
        };
        let punctuality = &mut known.punctuality;
        let granted = punctuality.granted.saturating_add(REGAIN_MAX);
        let was_earlier = known
            .claim
            .is_some_and(|claim| claim < round || (claim == round && known.claimed_at > lately));
        let grants = known.ready && was_earlier && punctuality.missed == 0 && granted <= most;
        if grants {
            punctuality.granted = granted;
        }
        grants
    }

    /// Deadlines that a neighbour has missed in a row.
    pub(super) fn missed(&self, peer: &PeerId) -> u64 {
        self.known
            .get(peer)
            .map_or(0, |known| known.punctuality.missed)
    }

    // --- how far peers are ---

    /// Whether a neighbour needs this peer's update to close that round, unless it gives up on it.
    fn needs_own(&self, peer: &PeerId, round: u64) -> bool {
        let (Some(peer), Ok(graph)) = (
            self.index(peer),
            self.charter.topology.graph(self.roster.len(), round),
        ) else {
            return false;
        };
        let own = self.own_index();
        graph.sends_to(own).binary_search(&peer).is_ok() && graph.rank(peer, own) == 0
    }

    /// A peer that is connected has shown which life it is in.
    pub(super) fn lives(&mut self, peer: PeerId, incarnation: u64) {
        let known = self.of(peer);
        if known.incarnation != incarnation {
            (known.incarnation, known.claim) = (incarnation, None);
        }
    }

    /// Whether a peer has shown a later life than this.
    pub(super) fn is_of_earlier_life(&self, peer: &PeerId, incarnation: u64) -> bool {
        self.is(peer, |known| incarnation < known.incarnation)
    }

    /// A signed header says in which round its sender is. It counts if the peer was met in that life,
    /// or in an earlier one.
    pub(super) fn claim(&mut self, header: &Header, now: Duration) {
        let (incarnation, round) = (header.incarnation, header.round);
        let known = self.of(header.sender);
        let counts = known.met && incarnation >= known.incarnation;
        if !(counts || planted(Mutant::BelieveRecordings)) {
            return;
        }
        if incarnation > known.incarnation {
            (known.incarnation, known.claim) = (incarnation, None);
        }
        if known.claim < Some(round) {
            (known.claim, known.claimed_at) = (Some(round), now);
        }
    }

    /// Whether the signer of this header may have said more since: more is known of it, or it was
    /// never met.
    pub(super) fn may_have_said_more(&self, peer: &PeerId, header: &Header) -> bool {
        let said = (header.incarnation, Some(header.round));
        !self.is(peer, |known| {
            known.met && said >= (known.incarnation, known.claim)
        })
    }

    /// Of these neighbours, those whose claims count: a peer that has finished is in no round, and
    /// is asked only if no other is there.
    fn asked(&self, neighbours: &BTreeSet<PeerId>) -> Vec<PeerId> {
        let is_running = |peer: &PeerId| !self.is(peer, |known| known.finished);
        let is_there = |known: &Known| known.ready && known.claim.is_some();
        let others_run = |peer: &PeerId| is_running(peer) && self.is(peer, is_there);
        let some_run = neighbours.iter().any(others_run);
        let asked = neighbours
            .iter()
            .filter(|peer| !some_run || is_running(peer));
        asked.copied().collect()
    }

    /// These neighbours were waited for, before the first round or until a deadline, and are not there.
    pub(super) fn are_absent(&mut self, missing: &[PeerId]) {
        for peer in missing {
            self.of(*peer).absent = true;
        }
    }

    /// Whether a neighbour may still come and say in which round it is: it is not there, and has not
    /// been waited for in vain.
    fn may_speak(&self, peer: &PeerId) -> bool {
        let spoken = |known: &Known| {
            let punctuality = &known.punctuality;
            let in_vain = known.absent || punctuality.missed > 0 || punctuality.owed > 0;
            known.ready || known.claim.is_some() || known.dismissed.is_some() || in_vain
        };
        self.may_come(peer) && !self.is(peer, spoken)
    }

    /// Whether a neighbour is there and can say what it knows, or may still come.
    pub(super) fn may_tell(&self, peer: &PeerId) -> bool {
        self.is_ready(peer) || self.may_speak(peer)
    }

    /// Whether neighbours claim to be in round `claimed` or later, too few to be believed, and
    /// another may still come and say so too.
    pub(super) fn may_be_confirmed(&self, claimed: u64, round: u64) -> bool {
        let neighbours = self.neighbourhood(round);
        let is_there = |peer: &&PeerId| self.is(peer, |known| known.claim >= Some(claimed));
        let ahead = neighbours.iter().filter(is_there).count();
        let needed = (self.charter.aggregation.byzantine + 1).max(2);
        (1..needed).contains(&ahead) && neighbours.iter().any(|peer| self.may_speak(peer))
    }

    /// The newest round that connected peers claim which are no neighbours in this round; `None` if
    /// there is none. Where graphs are re-drawn, a round may have a single neighbour, and these
    /// are all that can confirm what it says.
    fn newest_of_others(&self, neighbours: &BTreeSet<PeerId>) -> Option<u64> {
        let others = self
            .known
            .iter()
            .filter(|(peer, known)| known.ready && !known.finished && !neighbours.contains(*peer));
        others.filter_map(|(_, known)| known.claim).max()
    }

    /// The (byzantine + 1)-th highest round that distinct neighbours have claimed: at least one
    /// honest peer got that far. Two must agree in any case, if there are two to ask, or may be soon.
    /// A peer that has finished is in no round, and is asked only if there is no other. If the graph
    /// changes, a claim counts only if the neighbour continued without this peer's update. A
    /// neighbour that does not need it may be ahead by the topology's `lead` while nobody fails; and a
    /// round's only neighbour is believed as far as another peer has come.
    pub(super) fn credible_round(&self, round: u64, byzantine: usize, lead: u64) -> Option<u64> {
        // Mostly nobody is ahead.
        if self.known.values().all(|known| known.claim <= Some(round)) {
            return None;
        }
        let neighbours = self.neighbourhood(round);
        let claim = |peer: &PeerId| Some((*peer, self.known.get(peer)?.claim?));
        let went_on = |(peer, claim): &(PeerId, u64)| {
            let needs = |at: u64| self.needs_own(peer, at);
            !self.charter.topology.changes()
                || *claim <= round
                || *claim > round.saturating_add(lead)
                || (round + 1..*claim).any(needs)
        };
        let asked = self.asked(&neighbours);
        let to_come = neighbours.iter().filter(|peer| self.may_speak(peer));
        let can_confirm = asked.iter().filter_map(claim).count() + to_come.count();
        let claims = asked.iter().filter_map(claim).filter(went_on);
        let mut claims: Vec<u64> = claims.map(|(_, claim)| claim).collect();
        claims.sort_unstable_by(|a, b| b.cmp(a));
        let confirmed = can_confirm >= 2 && !planted(Mutant::BelieveSoleClaim);
        let needed = byzantine.max(usize::from(confirmed));
        let credible = claims
            .get(needed.saturating_sub(usize::from(planted(Mutant::BelieveOne))))
            .copied();
        match self.charter.topology.changes() && can_confirm < 2 {
            true => credible.min(self.newest_of_others(&neighbours).or(credible)),
            false => credible,
        }
    }
}
