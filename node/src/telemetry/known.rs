//! What is known about a peer from its lines: one pure fold, without clock, locks or I/O.
//!
//! Status, metrics and the testnet's table and JSON all show numbers of this fold, so they cannot
//! disagree. Its memory does not grow with the rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kith_consensus::PeerId;
use kith_gossip::event::{Closed, DroppedShare};
use kith_gossip::{Event, History};
use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, Rounds, Seconds};
use super::line::{Line, NodeEvent, What};

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Encoded bodies of accepted updates.
    pub payload: u64,
    /// Whole replicas that had to be pulled.
    pub keyframes: u64,
    /// Envelopes without inline bodies.
    pub envelope: u64,
    /// What crossed the sockets, both ways, below encryption.
    pub wire: u64,
    /// The same deliveries uncompressed.
    pub dense_equivalent: u64,
}

impl std::ops::AddAssign for Bytes {
    fn add_assign(&mut self, other: Bytes) {
        self.payload += other.payload;
        self.keyframes += other.keyframes;
        self.envelope += other.envelope;
        self.wire += other.wire;
        self.dense_equivalent += other.dense_equivalent;
    }
}

/// Which shares of a neighbour's contributions the rule left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropped {
    /// Sum of the shares.
    pub sum: f64,
    /// The number of contributions.
    pub count: u64,
}

impl std::ops::AddAssign for Dropped {
    fn add_assign(&mut self, other: Dropped) {
        self.sum += other.sum;
        self.count += other.count;
    }
}

impl Dropped {
    /// The mean share; `None` if there were no contributions.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// What is spent of a privacy budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// ε that is spent of the peer's rows, at the charter's δ.
    pub epsilon: f64,
    /// ε that may be spent.
    pub budget: f64,
    /// Whether a release was refused because it would have exceeded the budget.
    pub exhausted: bool,
}

/// Work whose time is measured where it is done, since no line marks both of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// Local training of a round.
    Training,
    /// Evaluation on held-out rows, or of others' models on the peer's own rows.
    Evaluation,
    /// Combining the models of a round.
    Aggregation,
    /// Making a record durable.
    Storing,
}

impl Activity {
    const COUNT: usize = 4;
}

/// Rounds closed, by what closed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClosedRounds {
    /// Enough of the awaited neighbours were in.
    pub quorum: u64,
    /// The deadline passed.
    pub deadline: u64,
}

impl ClosedRounds {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.quorum + self.deadline
    }
}

/// The last round that was opened.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Opened {
    round: u64,
    at_seconds: f64,
}

/// What is known about a peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// The round it is in.
    pub round: Option<u64>,
    /// Number of completed rounds.
    pub completed: u64,
    /// Rounds that it closed since it started.
    pub closed: ClosedRounds,
    /// Time of day at which it closed the last one, as its line has it.
    pub last_closed: Option<String>,
    /// How long its rounds were open.
    pub round_seconds: Histogram<Seconds>,
    opened: Option<Opened>,
    /// Rounds in which updates were still missing after a quarter of the deadline.
    pub rounds_stalled: u64,
    /// The last one of these.
    stalled: Option<u64>,
    /// How often each neighbour came under suspicion.
    pub suspicions: BTreeMap<PeerId, u64>,
    /// Rounds among them with too few models to mix.
    pub mixing_skipped: u64,
    /// Whether its neighbours were connected, and the first round could begin.
    pub ready: bool,
    /// Whether it has neighbours at all.
    pub needs_others: bool,
    /// Whether the last round is done.
    pub finished: bool,
    /// Connected peers, in the order in which they came.
    pub connected: Vec<PeerId>,
    /// Number of neighbours in the newest graph.
    pub neighbours: Option<usize>,
    /// Neighbours whose updates came or were missed.
    pub neighbourhood: BTreeSet<PeerId>,
    /// The peers that an open round waits for.
    pub missing: Vec<PeerId>,
    /// Neighbours that rounds no longer wait for.
    pub no_longer_awaited: Vec<PeerId>,
    /// What the rounds were like; known when the peer stops.
    pub history: History,
    /// Addresses at which it listens.
    pub listening: Vec<String>,
    /// What is spent of the privacy budget; `None` without a guarantee, or before the first charge.
    pub privacy: Option<Budget>,
    /// Number of lines by the event's name; those of other programs are `other`.
    pub events: BTreeMap<String, u64>,
    /// Lines that are missing from the event log.
    pub events_lost: u64,
    /// Peers that signed two different updates for one round.
    pub equivocations: u64,
    /// Mean training loss, newest.
    pub training_loss: Option<f64>,
    /// Loss on held-out rows, newest.
    pub loss: Option<f64>,
    /// Accuracy on held-out rows, newest.
    pub accuracy: Option<f64>,
    /// Root mean square distance of the models combined last to their mean.
    pub spread: Option<f64>,
    /// Rounds that accepted updates were old.
    pub staleness: Histogram<Rounds>,
    /// Number of updates accepted.
    pub accepted: u64,
    /// Refused messages and updates, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Connections ended before any message of theirs was read, as far as lines report them.
    pub denied: u64,
    /// What the rule left out of each neighbour's contributions.
    pub dropped: BTreeMap<PeerId, Dropped>,
    /// Bytes of accepted updates; on the wire the bytes that it sent, known when it stops.
    pub bytes: Bytes,
    /// Actors that were started again, by name.
    pub restarts: BTreeMap<String, u64>,
    /// Time spent on local training, known when it stops.
    pub training_seconds: f64,
    /// Time spent on evaluation, known when it stops.
    pub evaluation_seconds: f64,
    activities: [Histogram<Seconds>; Activity::COUNT],
}

impl Known {
    /// Adds what a line says.
    pub fn apply(&mut self, line: &Line) {
        let name = match &line.what {
            What::Other(_) => "other".to_owned(),
            what => what.name(),
        };
        *self.events.entry(name).or_default() += 1;
        match &line.what {
            What::Peer(event) => {
                self.times(event, line);
                self.apply_event(event);
            }
            What::Node(event) => self.apply_node(event),
            What::Other(_) => {}
        }
    }

    /// Adds a piece of work of this process.
    pub fn add_work(&mut self, activity: Activity, time: Duration) {
        self.activities[activity as usize].add_time(time);
    }

    /// How long the pieces of work of this process took.
    pub fn took(&self, activity: Activity) -> &Histogram<Seconds> {
        &self.activities[activity as usize]
    }

    /// When rounds opened and closed.
    fn times(&mut self, event: &Event, line: &Line) {
        let at_seconds = line.at_seconds;
        match *event {
            Event::Started { .. } => self.opened = None,
            Event::RoundOpened { round, .. } => self.opened = Some(Opened { round, at_seconds }),
            Event::RoundClosed { round, .. } => {
                self.last_closed = Some(line.time.clone()).filter(|time| !time.is_empty());
                if let Some(opened) = self.opened.take().filter(|opened| opened.round == round) {
                    self.round_seconds.add(at_seconds - opened.at_seconds);
                }
            }
            _ => {}
        }
    }

    /// Whether the peer can do its work now: it has begun, and somebody is connected if it has
    /// neighbours.
    pub fn is_ready(&self) -> bool {
        self.ready && (!self.needs_others || !self.connected.is_empty())
    }

    fn apply_node(&mut self, event: &NodeEvent) {
        match event {
            NodeEvent::Listening { address } => self.listening.push(address.clone()),
            NodeEvent::Denied { count, .. } => self.denied += count,
            NodeEvent::Restarted { actor } => *self.restarts.entry(actor.clone()).or_default() += 1,
            NodeEvent::Report {
                wire_out_bytes,
                training_seconds,
                evaluation_seconds,
                ..
            } => {
                // Bytes that leave one peer arrive at another: counting one direction counts all
                // once.
                self.bytes.wire += wire_out_bytes;
                self.training_seconds += training_seconds;
                self.evaluation_seconds += evaluation_seconds;
            }
            _ => {}
        }
    }

    fn apply_event(&mut self, event: &Event) {
        match event {
            Event::Trained { loss, .. } => self.training_loss = *loss,
            Event::PrivacySpent { .. }
            | Event::BudgetExhausted { .. }
            | Event::LedgerBehind { .. } => self.spends(event),
            Event::Accepted { .. } => self.accepts(event),
            Event::Refused { reason, .. } => *self.refused.entry(reason.name()).or_default() += 1,
            Event::Evaluated { loss, accuracy, .. } => {
                (self.loss, self.accuracy) = (Some(*loss), Some(*accuracy))
            }
            Event::Connected { .. }
            | Event::Disconnected { .. }
            | Event::Waiting { .. }
            | Event::TooFew { .. }
            | Event::Stalled { .. }
            | Event::Departed { .. }
            | Event::NoLongerAwaited { .. }
            | Event::AwaitedAgain { .. } => self.neighbours(event),
            _ => self.rounds(event),
        }
    }

    /// What is spent of the privacy budget.
    fn spends(&mut self, event: &Event) {
        if let Event::PrivacySpent {
            epsilon, budget, ..
        }
        | Event::BudgetExhausted {
            epsilon, budget, ..
        }
        | Event::LedgerBehind {
            charged: epsilon,
            budget,
            ..
        } = event
        {
            self.privacy = Some(Budget {
                epsilon: *epsilon,
                budget: *budget,
                exhausted: matches!(event, Event::BudgetExhausted { .. }),
            });
        }
    }

    fn accepts(&mut self, event: &Event) {
        if let Event::Accepted {
            peer,
            staleness,
            payload_bytes,
            keyframe_bytes,
            envelope_bytes,
            dense_bytes,
            ..
        } = event
        {
            self.accepted += 1;
            self.neighbourhood.insert(*peer);
            self.staleness.add(*staleness as f64);
            self.bytes += Bytes {
                payload: *payload_bytes as u64,
                keyframes: *keyframe_bytes as u64,
                envelope: *envelope_bytes as u64,
                wire: 0,
                dense_equivalent: *dense_bytes as u64,
            };
        }
    }

    /// Which peers are connected, and which are waited for.
    fn neighbours(&mut self, event: &Event) {
        match event {
            Event::Connected { peer } if !self.connected.contains(peer) => {
                self.connected.push(*peer)
            }
            Event::Disconnected { peer } => self.connected.retain(|known| known != peer),
            Event::Waiting { missing, .. } | Event::TooFew { missing, .. } => self.misses(missing),
            Event::Stalled { round, missing } => {
                self.misses(missing);
                // It is said again while the round waits.
                if self.stalled.replace(*round) != Some(*round) {
                    self.rounds_stalled += 1;
                }
            }
            // It is gone for good, and nobody misses it.
            Event::Departed {
                peer,
                finished: true,
            } => drop(self.neighbourhood.remove(peer)),
            Event::NoLongerAwaited { peer, .. } => self.no_longer_awaited.push(*peer),
            Event::AwaitedAgain { peer } => self.no_longer_awaited.retain(|known| known != peer),
            _ => {}
        }
    }

    fn misses(&mut self, missing: &[PeerId]) {
        self.neighbourhood.extend(missing);
        self.missing = missing.to_vec();
    }

    fn closes(&mut self, why: Closed, missing: &[PeerId]) {
        match why {
            Closed::Quorum => self.closed.quorum += 1,
            Closed::Deadline => self.closed.deadline += 1,
        }
        self.neighbourhood.extend(missing);
    }

    fn drops(&mut self, dropped: &[DroppedShare]) {
        for dropped in dropped {
            *self.dropped.entry(dropped.peer).or_default() += Dropped {
                sum: dropped.share,
                count: 1,
            };
        }
    }

    /// How the rounds go.
    fn rounds(&mut self, event: &Event) {
        match event {
            Event::Started { round, .. } => {
                (self.round, self.completed) = (Some(*round), *round);
            }
            Event::Ready { neighbours, .. } => {
                (self.ready, self.needs_others) = (true, *neighbours > 0);
                self.neighbours = Some(*neighbours);
            }
            // A peer that resumes opens its round at once.
            Event::RoundOpened {
                round, neighbours, ..
            } => {
                (self.ready, self.needs_others) = (true, self.needs_others || *neighbours > 0);
                (self.round, self.neighbours) = (Some(*round), Some(*neighbours));
                self.missing.clear();
            }
            Event::RoundClosed { why, missing, .. } => self.closes(*why, missing),
            Event::Aggregated {
                round,
                dropped,
                spread,
                ..
            } => {
                (self.completed, self.spread) = (round + 1, Some(*spread));
                self.drops(dropped);
            }
            Event::MixingSkipped { round, .. } => {
                self.completed = round + 1;
                self.mixing_skipped += 1;
            }
            Event::Adopted { round, .. }
            | Event::CaughtUp { round, .. }
            | Event::Kept { round, .. } => self.completed = round + 1,
            Event::Finished { rounds, .. } => (self.completed, self.finished) = (*rounds, true),
            Event::Left { history, .. } => self.history = history.clone(),
            Event::Equivocated { .. } => self.equivocations += 1,
            Event::Suspected { peer, .. } => *self.suspicions.entry(*peer).or_default() += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at_seconds: f64, what: What) -> Line {
        Line {
            time: format!("2026-01-02T03:04:{at_seconds:06.3}Z"),
            at_seconds,
            node: PeerId([1; 32]),
            what,
        }
    }

    #[test]
    fn a_round_that_waits_counts_once_and_each_suspicion_counts() {
        let peer = PeerId([2; 32]);
        let stalled = |round| Event::Stalled {
            round,
            missing: vec![peer],
        };
        let suspected = Event::Suspected { peer, score: 0.7 };
        let mut known = Known::default();
        let events = [
            stalled(3),
            stalled(3),
            stalled(4),
            suspected.clone(),
            suspected,
        ];
        for event in events {
            known.apply(&line(1.0, What::Peer(event)));
        }
        assert_eq!(known.rounds_stalled, 2);
        assert_eq!(known.suspicions, BTreeMap::from([(peer, 2)]));
    }

    #[test]
    fn rounds_are_timed_by_their_own_lines_and_not_across_restarts() {
        let opened = |round| Event::RoundOpened {
            round,
            neighbours: 2,
            selected: 2,
        };
        let missing = PeerId([8; 32]);
        let closed = |round, why| Event::RoundClosed {
            round,
            why,
            have: 1,
            awaited: 2,
            missing: vec![missing],
        };
        let started = Event::Started {
            round: 2,
            resumed: true,
            federation: Default::default(),
        };
        let mut known = Known::default();
        for (at_seconds, event) in [
            (10.0, opened(0)),
            (12.0, closed(0, Closed::Quorum)),
            (12.0, opened(1)),
            (0.5, started),
            (0.6, closed(1, Closed::Deadline)),
            (1.0, opened(2)),
            (1.25, closed(2, Closed::Deadline)),
        ] {
            known.apply(&line(at_seconds, What::Peer(event)));
        }
        let seconds = &known.round_seconds;
        assert_eq!((seconds.count(), seconds.sum()), (2, 2.25));
        assert_eq!(
            known.closed,
            ClosedRounds {
                quorum: 1,
                deadline: 2
            }
        );
        assert_eq!(
            known.last_closed.as_deref(),
            Some("2026-01-02T03:04:01.250Z")
        );
        assert_eq!(known.neighbourhood, BTreeSet::from([missing]));
        let left = Event::Departed {
            peer: missing,
            finished: true,
        };
        known.apply(&line(2.0, What::Peer(left)));
        assert!(known.neighbourhood.is_empty());
    }

    #[test]
    fn lines_add_up() {
        let peer = PeerId([7; 32]);
        let mut known = Known::default();
        let skipped = |round| Event::MixingSkipped {
            round,
            have: 1,
            need: 3,
        };
        for event in [
            Event::Connected { peer },
            Event::Connected { peer },
            Event::Stalled {
                round: 0,
                missing: vec![peer],
            },
            skipped(0),
            skipped(1),
        ] {
            known.apply(&line(0.0, What::Peer(event)));
        }
        let denied = NodeEvent::Denied {
            peer: None,
            why: "full".to_owned(),
            address: None,
            count: 9,
        };
        known.apply(&line(0.0, What::Node(denied)));
        assert_eq!(
            known,
            Known {
                connected: vec![peer],
                missing: vec![peer],
                neighbourhood: BTreeSet::from([peer]),
                events: [
                    ("connected", 2),
                    ("stalled", 1),
                    ("mixing-skipped", 2),
                    ("denied", 1)
                ]
                .map(|(event, count)| (event.to_owned(), count))
                .into(),
                completed: 2,
                mixing_skipped: 2,
                rounds_stalled: 1,
                stalled: Some(0),
                denied: 9,
                ..Known::default()
            }
        );
    }
}
