//! What is known about a peer from its lines: one pure fold, without clock, locks or I/O.
//!
//! Status, metrics and the testnet's table and JSON all show numbers of this fold, so they cannot
//! disagree. Its memory does not grow with the rounds.

use std::collections::BTreeMap;

use kith_consensus::PeerId;
use kith_gossip::event::DroppedShare;
use kith_gossip::{Event, History};
use serde::{Deserialize, Serialize};

use super::line::{NodeEvent, What};

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

/// What is known about a peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// The round it is in.
    pub round: Option<u64>,
    /// Number of completed rounds.
    pub completed: u64,
    /// Rounds that it closed since it started.
    pub closed: u64,
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
    /// Mean training loss, newest.
    pub training_loss: Option<f64>,
    /// Loss on held-out rows, newest.
    pub loss: Option<f64>,
    /// Accuracy on held-out rows, newest.
    pub accuracy: Option<f64>,
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
}

impl Known {
    /// Adds what a line says.
    pub fn apply(&mut self, what: &What) {
        match what {
            What::Peer(event) => self.apply_event(event),
            What::Node(event) => self.apply_node(event),
            What::Other(_) => {}
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
            Event::PrivacySpent { .. } | Event::BudgetExhausted { .. } => self.spends(event),
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
            payload_bytes,
            keyframe_bytes,
            envelope_bytes,
            dense_bytes,
            ..
        } = event
        {
            self.accepted += 1;
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
            Event::Waiting { missing, .. }
            | Event::TooFew { missing, .. }
            | Event::Stalled { missing, .. } => self.missing = missing.clone(),
            Event::NoLongerAwaited { peer, .. } => self.no_longer_awaited.push(*peer),
            Event::AwaitedAgain { peer } => self.no_longer_awaited.retain(|known| known != peer),
            _ => {}
        }
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
                (self.ready, self.needs_others) = (true, *neighbours > 0)
            }
            // A peer that resumes opens its round at once.
            Event::RoundOpened {
                round, neighbours, ..
            } => {
                (self.ready, self.needs_others) = (true, self.needs_others || *neighbours > 0);
                self.round = Some(*round);
                self.missing.clear();
            }
            Event::RoundClosed { .. } => self.closed += 1,
            Event::Aggregated { round, dropped, .. } => {
                self.completed = round + 1;
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
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            known.apply(&What::Peer(event));
        }
        let denied = NodeEvent::Denied {
            peer: None,
            why: "full".to_owned(),
            address: None,
            count: 9,
        };
        known.apply(&What::Node(denied));
        assert_eq!(
            known,
            Known {
                connected: vec![peer],
                missing: vec![peer],
                completed: 2,
                mixing_skipped: 2,
                denied: 9,
                ..Known::default()
            }
        );
    }
}
