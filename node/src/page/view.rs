//! What the entries add up to: one pure fold over all peers, without clock, locks or I/O.
//!
//! Numbers of a single peer are those of [`Known`], the fold that status, metrics and the testnet's
//! table use. Here is only what needs several peers or the past: curves, rounds, links, and the
//! pairs of receiver and sender.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kith_consensus::PeerId;
use kith_gossip::Event;
use kith_gossip::event::{Closed, DroppedShare};
use serde::Serialize;

use super::curve::Curve;
use super::recording::{Entry, Header, Noticed, Role};
use crate::telemetry::anomaly::Drift;
use crate::telemetry::{Known, Line, What};

/// Notable events that are kept; the page shows as many.
pub(super) const EVENTS_MAX: usize = 500;
/// Rounds of each peer that the timeline shows.
const ROUNDS_MAX: usize = 40;

/// Events that every round has, and that other panels show.
const ROUTINE: [&str; 9] = [
    "accepted",
    "published",
    "round-opened",
    "trained",
    "aggregated",
    "waiting",
    "listening",
    "serving",
    "run-started",
];

/// The state of a peer's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// Not yet in its rounds.
    #[default]
    Starting,
    /// It is in its rounds.
    Running,
    /// It has gone through all rounds.
    Finished,
    /// The one peer that reports has no connection to it.
    Away,
    /// Its process is stopped for a while.
    Paused,
    /// Its process ended before that.
    Gone,
}

/// A round of a peer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Round {
    pub(super) round: u64,
    /// When it opened, in seconds since the testnet's start.
    pub(super) opened: f64,
    /// When and why it closed, and without which neighbours, by position.
    pub(super) closed: Option<(f64, Closed, Vec<usize>)>,
}

/// Messages and updates of one sender that one receiver refused for one reason.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Refusals {
    pub(super) count: u64,
    /// The newest one's reason in words.
    pub(super) words: String,
}

/// One peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) known: Known,
    pub(super) state: State,
    /// What became of its role since the start.
    role: Option<Role>,
    pub(super) training_loss: Curve,
    pub(super) loss: Curve,
    pub(super) accuracy: Curve,
    pub(super) rounds: VecDeque<Round>,
    /// Whether its held-out loss leaves the others'.
    drift: Drift,
    /// Peers that it has suspected.
    pub(super) suspects: BTreeSet<usize>,
    /// Neighbours that its last closed round missed and that have sent nothing since.
    pub(super) absent: BTreeSet<usize>,
    /// Peers whose connection ended and that have not come back.
    disconnected: BTreeSet<usize>,
    /// Share of each neighbour's contribution that its rule left out last.
    pub(super) left_out: BTreeMap<usize, f64>,
    /// Share of its newest model that comes from each neighbour.
    pub(super) influence: BTreeMap<usize, f64>,
    pub(super) refusals: BTreeMap<(usize, &'static str), Refusals>,
}

impl Seen {
    /// Something came from another peer, or its connection began or ended.
    fn meets(&mut self, other: usize, event: &Event) {
        match event {
            Event::Accepted { .. } => drop(self.absent.remove(&other)),
            Event::Connected { .. } => drop(self.disconnected.remove(&other)),
            Event::Disconnected { .. } => drop(self.disconnected.insert(other)),
            Event::Suspected { .. } => drop(self.suspects.insert(other)),
            _ => {}
        }
    }

    /// What the one peer that reports says of this one.
    fn is_met(&mut self, event: &Event) {
        match event {
            _ if self.state == State::Finished => {}
            Event::Departed { finished: true, .. } => self.state = State::Finished,
            Event::Connected { .. } => self.state = State::Running,
            Event::Disconnected { .. } => self.state = State::Away,
            Event::Accepted { of, .. } => {
                self.state = State::Running;
                self.known.completed = self.known.completed.max(*of);
            }
            _ => {}
        }
    }

    /// A line shows that it is in its rounds. The line of a paused process was on its way before.
    fn runs(&mut self) {
        if self.state != State::Paused {
            self.state = State::Running;
        }
    }
}

/// An event that is listed.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// Its number, from 1.
    pub(super) number: u64,
    pub(super) seconds: f64,
    pub(super) peer: usize,
    pub(super) what: Told,
}

/// What happened to a peer, in its own line or in its supervisor's notice.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Line(Box<What>),
    Process(&'static str),
    /// The peer's held-out loss, which has left the others'.
    Drift(f64),
}

/// Everything that a page shows.
pub(super) struct View {
    pub(super) header: Header,
    places: BTreeMap<PeerId, usize>,
    pub(super) peers: Vec<Seen>,
    pub(super) seconds: f64,
    pub(super) events: VecDeque<Listed>,
    /// Events that were listed so far.
    pub(super) listed: u64,
    /// Peers that are cut off from all others; none without a partition.
    pub(super) apart: Vec<usize>,
    /// Mean accuracy alone, and the pooled one.
    pub(super) baselines: Option<(f64, f64)>,
    pub(super) over: bool,
    /// A remark about the recording itself.
    pub(super) remark: Option<String>,
}

impl View {
    pub(super) fn new(header: Header) -> View {
        let peers = header.peers.iter().enumerate();
        View {
            places: peers.map(|(place, member)| (member.peer, place)).collect(),
            peers: vec![Seen::default(); header.peers.len()],
            header,
            seconds: 0.0,
            events: VecDeque::new(),
            listed: 0,
            apart: Vec::new(),
            baselines: None,
            over: false,
            remark: None,
        }
    }

    /// Adds what an entry says. One about a peer that is not on the roster says nothing.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.seconds = self.seconds.max(entry.seconds);
        match &entry.what {
            Noticed::Line(line) => self.line(entry.seconds, line),
            Noticed::Began(peer) => self.process(entry.seconds, *peer, State::Starting),
            Noticed::Gone(peer) => self.process(entry.seconds, *peer, State::Gone),
            Noticed::Paused(peer) => self.process(entry.seconds, *peer, State::Paused),
            Noticed::Resumed(peer) => self.process(entry.seconds, *peer, State::Running),
            Noticed::Conduct { peer, attack } => self.conduct(entry.seconds, *peer, attack),
            Noticed::Parted { side } => self.parts(entry.seconds, side),
            Noticed::Healed => self.parts(entry.seconds, &[]),
            Noticed::Baselines { local_only, pooled } => {
                self.baselines = Some((*local_only, *pooled));
            }
            Noticed::Over => self.over = true,
        }
    }

    /// The position of a peer on the roster.
    pub(super) fn place(&self, peer: &PeerId) -> Option<usize> {
        self.places.get(peer).copied()
    }

    fn positions(&self, peers: &[PeerId]) -> Vec<usize> {
        peers.iter().filter_map(|peer| self.place(peer)).collect()
    }

    /// Peers that suspect a peer.
    pub(super) fn suspected_by(&self, peer: usize) -> usize {
        let suspecting = self.peers.iter();
        suspecting
            .filter(|seen| seen.suspects.contains(&peer))
            .count()
    }

    fn process(&mut self, seconds: f64, peer: usize, state: State) {
        let Some(seen) = self.peers.get_mut(peer) else {
            return;
        };
        let finished = seen.state == State::Finished;
        if !finished {
            seen.state = state;
        }
        match state {
            State::Gone if !finished => self.list(seconds, peer, Told::Process("process-gone")),
            State::Paused => self.list(seconds, peer, Told::Process("process-paused")),
            State::Running => self.list(seconds, peer, Told::Process("process-resumed")),
            // The first start is no news.
            State::Starting if self.seconds > 0.0 && self.peers[peer].known.round.is_some() => {
                self.list(seconds, peer, Told::Process("process-began"));
            }
            _ => {}
        }
    }

    fn conduct(&mut self, seconds: f64, peer: usize, attack: &Option<String>) {
        let Some(seen) = self.peers.get_mut(peer) else {
            return;
        };
        let (role, told) = match attack {
            Some(_) => (Role::Adversary, "lies-from-now-on"),
            None => (Role::Honest, "honest-from-now-on"),
        };
        seen.role = Some(role);
        self.list(seconds, peer, Told::Process(told));
    }

    /// A partition begins, or ends if there is nobody on its side.
    fn parts(&mut self, seconds: f64, side: &[usize]) {
        let known = |peer: &usize| *peer < self.peers.len();
        let side = side.iter().copied().filter(known).collect();
        let before = std::mem::replace(&mut self.apart, side);
        for peer in before {
            if !self.apart.contains(&peer) {
                self.list(seconds, peer, Told::Process("no-longer-cut-off"));
            }
        }
        for peer in self.apart.clone() {
            self.list(seconds, peer, Told::Process("cut-off"));
        }
    }

    /// Whether a peer lies now. Sums and means go by what the roster says of the start.
    pub(super) fn role(&self, peer: usize) -> Role {
        self.peers[peer]
            .role
            .unwrap_or(self.header.peers[peer].role)
    }

    fn line(&mut self, seconds: f64, line: &Line) {
        let Some(peer) = self.place(&line.node) else {
            return;
        };
        self.peers[peer].known.apply(line);
        if let What::Peer(event) = &line.what {
            self.event(seconds, peer, event);
        }
        if !ROUTINE.contains(&line.what.name().as_str()) {
            self.list(seconds, peer, Told::Line(Box::new(line.what.clone())));
        }
    }

    fn list(&mut self, seconds: f64, peer: usize, what: Told) {
        self.listed += 1;
        self.events.push_back(Listed {
            number: self.listed,
            seconds,
            peer,
            what,
        });
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    fn event(&mut self, seconds: f64, peer: usize, event: &Event) {
        match event {
            // In a simulation nobody else says that a process began again.
            Event::Started { .. } => {
                self.peers[peer].state = State::Starting;
                self.peers[peer].disconnected.clear();
            }
            Event::Ready { .. } => self.peers[peer].runs(),
            Event::Finished { .. } => self.peers[peer].state = State::Finished,
            Event::Trained {
                round,
                loss: Some(loss),
                ..
            } => self.peers[peer].training_loss.add(*round, *loss),
            Event::Evaluated {
                round,
                loss,
                accuracy,
                ..
            } => {
                self.peers[peer].loss.add(*round, *loss);
                self.peers[peer].accuracy.add(*round, *accuracy);
                self.compare(seconds, peer, *loss);
            }
            Event::Accepted { peer: other, .. }
            | Event::Connected { peer: other }
            | Event::Disconnected { peer: other }
            | Event::Departed { peer: other, .. }
            | Event::Suspected { peer: other, .. } => {
                if let Some(other) = self.place(other) {
                    self.peers[peer].meets(other, event);
                    if self.header.seen_by.is_some() {
                        self.peers[other].is_met(event);
                    }
                }
            }
            Event::Aggregated { dropped, .. } => self.weigh(peer, dropped),
            Event::Refused {
                peer: sender,
                reason,
                ..
            } => {
                if let Some(sender) = self.place(sender) {
                    let refusals = self.peers[peer].refusals.entry((sender, reason.name()));
                    let refusals = refusals.or_default();
                    refusals.count += 1;
                    refusals.words = reason.to_string();
                }
            }
            Event::RoundOpened { round, .. } => self.opens(seconds, peer, *round),
            Event::RoundClosed {
                round,
                why,
                missing,
                ..
            } => {
                let missing = self.positions(missing);
                self.closes(seconds, peer, (*round, *why, missing));
            }
            _ => {}
        }
    }

    /// Holds a peer's new held-out loss against the others' newest ones.
    fn compare(&mut self, seconds: f64, peer: usize, loss: f64) {
        let others = self.peers.iter().enumerate();
        let others = others.filter(|(other, _)| *other != peer);
        let losses: Vec<f64> = others.filter_map(|(_, seen)| seen.known.loss).collect();
        if self.peers[peer].drift.add(loss, &losses) {
            self.list(seconds, peer, Told::Drift(loss));
        }
    }

    /// Notes how much each neighbour counts in a peer's newest model.
    fn weigh(&mut self, peer: usize, dropped: &[DroppedShare]) {
        let of = |pick: fn(&DroppedShare) -> f64| {
            let pairs = dropped.iter();
            pairs
                .filter_map(|share| Some((self.place(&share.peer)?, pick(share))))
                .collect()
        };
        let (left_out, influence) = (of(|share| share.share), of(|share| share.influence));
        let seen = &mut self.peers[peer];
        (seen.left_out, seen.influence) = (left_out, influence);
    }

    fn opens(&mut self, seconds: f64, peer: usize, round: u64) {
        let seen = &mut self.peers[peer];
        seen.runs();
        seen.rounds.push_back(Round {
            round,
            opened: seconds,
            closed: None,
        });
        if seen.rounds.len() > ROUNDS_MAX {
            seen.rounds.pop_front();
        }
    }

    fn closes(
        &mut self,
        seconds: f64,
        peer: usize,
        (round, why, missing): (u64, Closed, Vec<usize>),
    ) {
        let seen = &mut self.peers[peer];
        seen.absent = missing.iter().copied().collect();
        if let Some(open) = seen.rounds.back_mut().filter(|open| open.round == round) {
            open.closed = Some((seconds, why, missing));
        }
    }

    /// Whether nothing comes along a link now: the process at one end is gone, or a running peer has
    /// lost its connection to the other or missed it in its last round.
    pub(super) fn is_missing(&self, (a, b): (usize, usize)) -> bool {
        let misses = |peer: usize, other: usize| {
            let seen = &self.peers[peer];
            // A peer that has finished ends its connections, and nobody misses it.
            let lost =
                seen.disconnected.contains(&other) && self.peers[other].state != State::Finished;
            matches!(seen.state, State::Gone | State::Paused)
                || seen.state == State::Running && (lost || seen.absent.contains(&other))
        };
        misses(a, b) || misses(b, a)
    }
}

#[cfg(test)]
mod tests {
    use super::super::recording::tests::{entry, header};
    use super::*;

    fn process(seconds: f64, what: Noticed) -> Entry {
        Entry { seconds, what }
    }

    fn opened(round: u64) -> Event {
        Event::RoundOpened {
            round,
            neighbours: 2,
            selected: 2,
        }
    }

    fn closed(round: u64, missing: &[u8]) -> Event {
        Event::RoundClosed {
            round,
            why: Closed::Deadline,
            have: 1,
            awaited: 2,
            missing: missing.iter().map(|number| PeerId([*number; 32])).collect(),
        }
    }

    fn accepted(from: u8) -> Event {
        Event::Accepted {
            round: 1,
            peer: PeerId([from; 32]),
            of: 1,
            staleness: 0,
            payload_bytes: 10,
            keyframe_bytes: 0,
            envelope_bytes: 5,
            dense_bytes: 100,
        }
    }

    #[test]
    fn a_link_is_missing_while_an_end_is_gone_or_its_update_did_not_come() {
        let mut view = View::new(header());
        view.add(&entry(1.0, 1, opened(0)));
        view.add(&entry(1.0, 2, opened(0)));
        assert!(!view.is_missing((0, 1)));
        view.add(&entry(2.0, 1, closed(0, &[2])));
        assert!(view.is_missing((0, 1)) && !view.is_missing((0, 2)));
        view.add(&entry(3.0, 1, accepted(2)));
        assert!(!view.is_missing((0, 1)), "it is back");
        view.add(&process(4.0, Noticed::Gone(1)));
        assert!(view.is_missing((0, 1)) && view.is_missing((1, 2)));
        view.add(&process(5.0, Noticed::Began(1)));
        assert!(!view.is_missing((0, 1)));
        let finished = Event::Finished {
            rounds: 2,
            state: Default::default(),
        };
        view.add(&entry(6.0, 2, finished));
        view.add(&process(7.0, Noticed::Gone(1)));
        assert!(!view.is_missing((0, 1)), "it had finished");
        assert_eq!(view.peers[1].state, State::Finished);
    }

    #[test]
    fn a_paused_peer_stays_paused_whatever_was_on_its_way() {
        let mut view = View::new(header());
        view.add(&entry(1.0, 1, opened(0)));
        view.add(&process(2.0, Noticed::Paused(0)));
        view.add(&entry(2.1, 1, opened(1)));
        assert_eq!(view.peers[0].state, State::Paused);
        assert!(view.is_missing((0, 1)));
        view.add(&process(3.0, Noticed::Resumed(0)));
        assert_eq!(view.peers[0].state, State::Running);
        let attack = Some("sign-flip".to_owned());
        view.add(&process(4.0, Noticed::Conduct { peer: 0, attack }));
        assert_eq!(view.role(0), Role::Adversary);
        view.add(&process(
            5.0,
            Noticed::Conduct {
                peer: 0,
                attack: None,
            },
        ));
        assert_eq!(view.role(0), Role::Honest);
    }

    #[test]
    fn a_link_is_missing_while_a_running_end_has_lost_the_other() {
        let mut view = View::new(header());
        let (lost, back) = (
            Event::Disconnected {
                peer: PeerId([2; 32]),
            },
            Event::Connected {
                peer: PeerId([2; 32]),
            },
        );
        view.add(&entry(1.0, 1, opened(0)));
        view.add(&process(2.0, Noticed::Parted { side: vec![0, 9] }));
        assert_eq!(view.apart, [0], "the other one is not on the roster");
        view.add(&entry(2.0, 1, lost.clone()));
        assert!(view.is_missing((0, 1)) && !view.is_missing((0, 2)));
        view.add(&process(3.0, Noticed::Healed));
        view.add(&entry(3.0, 1, back));
        assert!(!view.is_missing((0, 1)) && view.apart.is_empty());
        let notices = view.events.iter().filter_map(|event| match event.what {
            Told::Process(what) => Some((event.peer, what)),
            Told::Line(_) | Told::Drift(_) => None,
        });
        let notices: Vec<_> = notices.collect();
        assert_eq!(notices, [(0, "cut-off"), (0, "no-longer-cut-off")]);
        view.add(&entry(4.0, 1, lost));
        let finished = Event::Finished {
            rounds: 2,
            state: Default::default(),
        };
        view.add(&entry(4.0, 2, finished));
        assert!(!view.is_missing((0, 1)), "the other end has finished");
    }

    #[test]
    fn one_peers_log_shows_of_the_others_what_that_peer_saw() {
        let mut header = header();
        header.seen_by = Some(0);
        let mut view = View::new(header);
        let other = PeerId([2; 32]);
        let states = [
            Event::Connected { peer: other },
            accepted(2),
            Event::Disconnected { peer: other },
            Event::Departed {
                peer: other,
                finished: true,
            },
            Event::Disconnected { peer: other },
        ]
        .map(|event| {
            view.add(&entry(1.0, 1, event));
            view.peers[1].state
        });
        let expected = [State::Running, State::Running, State::Away];
        assert_eq!(states[..3], expected);
        assert_eq!(states[3..], [State::Finished, State::Finished]);
        assert_eq!(view.peers[1].known.completed, 1);
        let suspected = Event::Suspected {
            peer: PeerId([3; 32]),
            score: 0.9,
        };
        view.add(&entry(2.0, 1, suspected));
        let suspected_by = [0, 1, 2].map(|peer| view.suspected_by(peer));
        assert_eq!(suspected_by, [0, 0, 1]);
    }

    #[test]
    fn entries_about_strangers_change_nothing() {
        let mut view = View::new(header());
        view.add(&entry(1.0, 9, opened(0)));
        view.add(&process(1.0, Noticed::Gone(9)));
        view.add(&entry(1.0, 1, closed(0, &[9])));
        assert!(view.peers.iter().all(|seen| seen.rounds.is_empty()));
        assert!(!view.is_missing((0, 1)));
    }

    #[test]
    fn memory_does_not_grow_with_the_rounds() {
        let mut view = View::new(header());
        for round in 0..2000 {
            view.add(&entry(round as f64, 1, opened(round)));
            view.add(&entry(round as f64 + 0.5, 1, closed(round, &[2])));
        }
        assert_eq!(view.peers[0].rounds.len(), ROUNDS_MAX);
        assert_eq!((view.events.len(), view.listed), (EVENTS_MAX, 2000));
        assert_eq!(view.peers[0].rounds.back().unwrap().round, 1999);
    }
}
