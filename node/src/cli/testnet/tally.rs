//! What the peers' lines add up to. Nothing is counted anywhere else.

use std::collections::BTreeMap;
use std::time::Instant;

use kith_consensus::PeerId;
use kith_gossip::Event;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::telemetry::{Bytes, Line, NodeEvent, What};

/// Events that are counted, by name. The others are not even read: in a large testnet most of what
/// peers write is who is missing.
const COUNTED: [&str; 16] = [
    "started",
    "ready",
    "round-opened",
    "trained",
    "accepted",
    "refused",
    "round-closed",
    "aggregated",
    "mixing-skipped",
    "adopted",
    "kept",
    "evaluated",
    "finished",
    "denied",
    "restarted",
    "report",
];

/// A line, if what it tells is counted.
pub(super) fn counted(text: &str) -> Option<Line> {
    #[derive(Deserialize)]
    struct Named<'a> {
        event: &'a str,
    }
    let named: Named<'_> = serde_json::from_str(text).ok()?;
    if COUNTED.contains(&named.event) {
        serde_json::from_str(text).ok()
    } else {
        None
    }
}

/// Where a peer's process stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// Not yet connected to its neighbours.
    #[default]
    Starting,
    /// In its rounds.
    Running,
    /// Through all rounds.
    Finished,
    /// Its process ended before that.
    Ended,
}

/// One peer's sums.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeTally {
    pub(super) state: State,
    pub(super) pid: Option<u32>,
    pub(super) round: u64,
    pub(super) rounds: u64,
    pub(super) training_loss: Option<f64>,
    pub(super) accuracy: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) accepted: u64,
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) skipped: u64,
    pub(super) restarts: u64,
    pub(super) wire: u64,
    pub(super) pss_bytes: u64,
    pub(super) training_seconds: f64,
    pub(super) evaluation_seconds: f64,
}

/// All peers' sums.
pub(super) struct Tally {
    pub(super) nodes: Vec<NodeTally>,
    index: BTreeMap<PeerId, usize>,
    lies: Vec<bool>,
    pub(super) bytes: Bytes,
    /// Per peer: sum of the shares that honest peers dropped of it, and their number.
    dropped: Vec<(f64, u64)>,
    closed: u64,
    first_opened: Option<Instant>,
    last_closed: Option<Instant>,
    pub(super) last_finished: Option<Instant>,
    /// The lowest round that not all living honest peers have completed.
    pub(super) common_round: u64,
}

impl Tally {
    pub(super) fn new(plan: &Plan) -> Tally {
        let count = plan.members.len();
        Tally {
            nodes: vec![NodeTally::default(); count],
            index: plan
                .members
                .iter()
                .enumerate()
                .map(|(index, member)| (member.peer, index))
                .collect(),
            lies: plan.members.iter().map(|member| member.lies).collect(),
            bytes: Bytes::default(),
            dropped: vec![(0.0, 0); count],
            closed: 0,
            first_opened: None,
            last_closed: None,
            last_finished: None,
            common_round: 0,
        }
    }

    /// Adds a line of peer `index`; whether it completed a round for all living honest peers.
    pub(super) fn add(&mut self, index: usize, line: &Line) -> bool {
        match &line.what {
            What::Peer(event) => self.add_event(index, event),
            What::Node(NodeEvent::Denied { count, .. }) => {
                *self.nodes[index]
                    .refused
                    .entry("denied".to_owned())
                    .or_default() += count
            }
            What::Node(NodeEvent::Restarted { .. }) => self.nodes[index].restarts += 1,
            What::Node(NodeEvent::Report {
                wire_in_bytes,
                wire_out_bytes,
                training_seconds,
                evaluation_seconds,
                ..
            }) => {
                let node = &mut self.nodes[index];
                // Both ends count, so what leaves one is what arrives at another: counting one
                // direction counts all once.
                let _ = wire_in_bytes;
                node.wire += wire_out_bytes;
                node.training_seconds += training_seconds;
                node.evaluation_seconds += evaluation_seconds;
            }
            _ => {}
        }
        self.advance()
    }

    fn add_event(&mut self, index: usize, event: &Event) {
        let node = &mut self.nodes[index];
        match event {
            Event::Started { round, .. } => (node.round, node.rounds) = (*round, *round),
            Event::Ready { .. } => node.state = State::Running,
            Event::RoundOpened { round, .. } => {
                node.state = State::Running;
                node.round = *round;
                self.first_opened.get_or_insert_with(Instant::now);
            }
            Event::Trained { loss, .. } => node.training_loss = Some(*loss),
            Event::Accepted {
                payload_bytes,
                keyframe_bytes,
                envelope_bytes,
                dense_bytes,
                ..
            } => {
                node.accepted += 1;
                self.bytes.payload += *payload_bytes as u64;
                self.bytes.keyframes += *keyframe_bytes as u64;
                self.bytes.envelope += *envelope_bytes as u64;
                self.bytes.dense_equivalent += *dense_bytes as u64;
            }
            Event::Refused { reason, .. } => {
                *node.refused.entry(reason.name().to_owned()).or_default() += 1
            }
            Event::RoundClosed { .. } => {
                self.closed += 1;
                self.last_closed = Some(Instant::now());
            }
            Event::Aggregated { round, dropped, .. } => {
                node.rounds = round + 1;
                if !self.lies[index] {
                    for share in dropped {
                        if let Some(whose) = self.index.get(&share.peer) {
                            self.dropped[*whose].0 += share.share;
                            self.dropped[*whose].1 += 1;
                        }
                    }
                }
            }
            Event::MixingSkipped { round, .. } => {
                node.rounds = round + 1;
                node.skipped += 1;
            }
            Event::Adopted { round, .. } | Event::Kept { round, .. } => node.rounds = round + 1,
            Event::Evaluated { loss, accuracy, .. } => {
                (node.loss, node.accuracy) = (Some(*loss), Some(*accuracy))
            }
            Event::Finished { rounds, .. } => {
                (node.rounds, node.state) = (*rounds, State::Finished);
                self.last_finished = Some(Instant::now());
            }
            _ => {}
        }
    }

    fn advance(&mut self) -> bool {
        let living = (0..self.nodes.len())
            .filter(|index| !self.lies[*index] && self.nodes[*index].state != State::Ended);
        let common = living
            .map(|index| self.nodes[index].rounds)
            .min()
            .unwrap_or(self.common_round);
        let advanced = common > self.common_round;
        self.common_round = self.common_round.max(common);
        advanced
    }

    /// Share of a peer's contributions that honest peers dropped; `None` where it made none.
    pub(super) fn dropped_share(&self, index: usize) -> Option<f64> {
        let (sum, count) = self.dropped[index];
        (count > 0).then(|| sum / count as f64)
    }

    /// The same over all liars, or over all others.
    pub(super) fn dropped_share_of(&self, liars: bool) -> Option<f64> {
        let chosen = self
            .dropped
            .iter()
            .zip(&self.lies)
            .filter(|(_, lies)| **lies == liars);
        let (sum, count) = chosen.fold((0.0, 0), |(sum, count), ((share, number), _)| {
            (sum + share, count + number)
        });
        (count > 0).then(|| sum / count as f64)
    }

    /// Mean training loss of honest peers, newest.
    pub(super) fn training_loss(&self) -> Option<f64> {
        mean(self.honest().filter_map(|node| node.training_loss))
    }

    /// Mean accuracy of honest peers, newest.
    pub(super) fn accuracy(&self) -> Option<f64> {
        mean(self.honest().filter_map(|node| node.accuracy))
    }

    /// Refusals of honest peers, by reason.
    pub(super) fn refused(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (reason, count) in self.honest().flat_map(|node| &node.refused) {
            *sums.entry(reason.clone()).or_default() += count;
        }
        sums
    }

    /// Rounds closed by all peers together per second, from the first round's opening to the last
    /// one's close.
    pub(super) fn peer_rounds_per_second(&self) -> Option<f64> {
        let seconds = self
            .last_closed?
            .duration_since(self.first_opened?)
            .as_secs_f64();
        (seconds > 0.0).then(|| self.closed as f64 / seconds)
    }

    fn honest(&self) -> impl Iterator<Item = &NodeTally> {
        self.nodes
            .iter()
            .zip(&self.lies)
            .filter(|(_, lies)| !**lies)
            .map(|(node, _)| node)
    }
}

/// `None` of nothing.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_that_changes_a_sum_is_read() {
        let peer = PeerId([7; 32]);
        let finished = serde_json::json!({"at_seconds": 1.0, "node": peer, "event": "finished", "rounds": 3, "state": "00".repeat(32)});
        let line = counted(&finished.to_string()).unwrap();
        assert!(matches!(
            line.what,
            What::Peer(Event::Finished { rounds: 3, .. })
        ));
        let waiting = serde_json::json!({"at_seconds": 1.0, "node": peer, "event": "waiting", "ready": 1, "needed": 2, "missing": [peer]});
        assert!(counted(&waiting.to_string()).is_none());
        // Whatever `add` and `add_event` match has to be in the list; their source names it.
        let source = include_str!("tally.rs");
        let (from, to) = (
            source.find("fn add(").unwrap(),
            source.find("fn advance(").unwrap(),
        );
        let variants = source[from..to].split("Event::").skip(1);
        for variant in
            variants.filter_map(|rest| rest.split(|letter: char| !letter.is_alphabetic()).next())
        {
            let kebab: String = (variant.char_indices())
                .flat_map(|(place, letter)| {
                    let dash = (place > 0 && letter.is_uppercase()).then_some('-');
                    dash.into_iter().chain(letter.to_lowercase())
                })
                .collect();
            assert!(
                COUNTED.contains(&kebab.as_str()),
                "{kebab} would never arrive"
            );
        }
    }
}
