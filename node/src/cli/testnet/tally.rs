//! The sums of the peers' lines: what is known about each peer, and about the whole testnet.

use std::collections::BTreeMap;
use std::time::Instant;

use kith_consensus::PeerId;
use kith_gossip::Event;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::telemetry::{Budget, Bytes, Dropped, Known, Line, What};

/// The event that is not even read: in a large testnet most lines say which other peers a peer
/// waits for before its first round.
const UNREAD: &str = "waiting";

/// A line, unless nobody asks for it.
pub(super) fn heard(text: &str) -> Option<Line> {
    #[derive(Deserialize)]
    struct Named<'a> {
        event: &'a str,
    }
    let named: Named<'_> = serde_json::from_str(text).ok()?;
    if named.event == UNREAD {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// The state of a peer's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum State {
    /// Not yet connected to its neighbours.
    #[default]
    Starting,
    /// It is in its rounds.
    Running,
    /// It has gone through all rounds.
    Finished,
    /// Its process ended before that.
    Ended,
}

impl State {
    /// Its name, as in JSON.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Finished => "finished",
            State::Ended => "ended",
        }
    }
}

/// One peer.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeTally {
    pub(super) state: State,
    pub(super) pid: Option<u32>,
    /// How often its process was started again.
    pub(super) processes_restarted: u64,
    pub(super) pss_bytes: u64,
    /// What the lines of all its processes say.
    pub(super) known: Known,
}

impl NodeTally {
    pub(super) fn refused(&self) -> u64 {
        self.known.refused.values().sum::<u64>() + self.known.denied
    }

    pub(super) fn restarts(&self) -> u64 {
        self.known.restarts.values().sum::<u64>() + self.processes_restarted
    }
}

/// The peers that a sum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Honest,
    Liars,
}

/// All peers of a testnet, and what their lines add up to.
pub(super) struct Tally {
    pub(super) nodes: Vec<NodeTally>,
    peers: Vec<PeerId>,
    lies: Vec<bool>,
    first_opened: Option<Instant>,
    last_closed: Option<Instant>,
    pub(super) last_finished: Option<Instant>,
    /// The lowest round that not all living honest peers have completed.
    pub(super) common_round: u64,
}

impl Tally {
    pub(super) fn new(plan: &Plan) -> Tally {
        Tally {
            nodes: vec![NodeTally::default(); plan.members.len()],
            peers: plan.members.iter().map(|member| member.peer).collect(),
            lies: plan.members.iter().map(|member| member.lies).collect(),
            first_opened: None,
            last_closed: None,
            last_finished: None,
            common_round: 0,
        }
    }

    /// Adds a line of peer `index`; whether it completed a round for all living honest peers.
    pub(super) fn add(&mut self, index: usize, line: &Line) -> bool {
        let node = &mut self.nodes[index];
        node.known.apply(line);
        if let What::Peer(event) = &line.what {
            match event {
                Event::Ready { .. } => node.state = State::Running,
                Event::RoundOpened { .. } => {
                    node.state = State::Running;
                    self.first_opened.get_or_insert_with(Instant::now);
                }
                Event::RoundClosed { .. } => self.last_closed = Some(Instant::now()),
                Event::Finished { .. } => {
                    node.state = State::Finished;
                    self.last_finished = Some(Instant::now());
                }
                _ => {}
            }
        }
        self.advance()
    }

    fn advance(&mut self) -> bool {
        let living = (0..self.nodes.len())
            .filter(|index| !self.lies[*index] && self.nodes[*index].state != State::Ended);
        let common = living
            .map(|index| self.nodes[index].known.completed)
            .min()
            .unwrap_or(self.common_round);
        let advanced = common > self.common_round;
        self.common_round = self.common_round.max(common);
        advanced
    }

    /// What honest peers left out of a peer's contributions.
    fn dropped(&self, peer: &PeerId) -> Dropped {
        let mut sum = Dropped::default();
        self.honest()
            .filter_map(|node| node.known.dropped.get(peer))
            .for_each(|dropped| sum += *dropped);
        sum
    }

    /// Share of a peer's contributions that honest peers dropped; `None` if it made none.
    pub(super) fn dropped_share(&self, index: usize) -> Option<f64> {
        self.dropped(&self.peers[index]).mean()
    }

    /// The same over all peers of a group.
    pub(super) fn dropped_share_of(&self, group: Group) -> Option<f64> {
        let mut sum = Dropped::default();
        for (peer, lies) in self.peers.iter().zip(&self.lies) {
            if *lies == (group == Group::Liars) {
                sum += self.dropped(peer);
            }
        }
        sum.mean()
    }

    /// Whether every honest peer went through all rounds.
    pub(super) fn finished(&self) -> bool {
        self.honest().all(|node| node.state == State::Finished)
    }

    /// Bytes of all peers together.
    pub(super) fn bytes(&self) -> Bytes {
        let mut sum = Bytes::default();
        self.nodes.iter().for_each(|node| sum += node.known.bytes);
        sum
    }

    /// The most that an honest peer has spent of its privacy budget, and the budget.
    pub(super) fn privacy(&self) -> Option<Budget> {
        let spent = self.honest().filter_map(|node| node.known.privacy);
        spent.reduce(|most, other| match other.epsilon > most.epsilon {
            true => other,
            false => most,
        })
    }

    /// Mean training loss of honest peers, newest.
    pub(super) fn training_loss(&self) -> Option<f64> {
        mean(self.honest().filter_map(|node| node.known.training_loss))
    }

    /// Mean accuracy of honest peers, newest.
    pub(super) fn accuracy(&self) -> Option<f64> {
        mean(self.honest().filter_map(|node| node.known.accuracy))
    }

    /// Refusals of honest peers, by reason.
    pub(super) fn refused(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for known in self.honest().map(|node| &node.known) {
            for (reason, count) in &known.refused {
                *sums.entry((*reason).to_owned()).or_default() += count;
            }
            if known.denied > 0 {
                *sums.entry("denied".to_owned()).or_default() += known.denied;
            }
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
        let closed: u64 = self
            .nodes
            .iter()
            .map(|node| node.known.closed.total())
            .sum();
        (seconds > 0.0).then(|| closed as f64 / seconds)
    }

    fn honest(&self) -> impl Iterator<Item = &NodeTally> {
        self.nodes
            .iter()
            .zip(&self.lies)
            .filter(|(_, lies)| !**lies)
            .map(|(node, _)| node)
    }
}

/// The mean; `None` if there are no values.
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
        let line = heard(&finished.to_string()).unwrap();
        assert!(matches!(
            line.what,
            What::Peer(Event::Finished { rounds: 3, .. })
        ));
        let waiting = serde_json::json!({"at_seconds": 1.0, "node": peer, "event": "waiting", "ready": 1, "needed": 2, "missing": [peer]});
        assert!(heard(&waiting.to_string()).is_none());
        assert!(heard("{\"event\":").is_none(), "half a line");
    }
}
