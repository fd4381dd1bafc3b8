//! The state of a node, for people and programs that ask.

use std::collections::BTreeMap;

use kith_consensus::PeerId;
use serde::{Deserialize, Serialize};

use super::known::{Budget, Bytes, Known};
use super::reach::Unreached;

/// The state of a node, as `/status` and `kith status --json` show it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Name for people.
    pub name: String,
    /// The peer's id.
    pub peer: String,
    /// The federation's id.
    pub federation: String,
    /// The round it is in.
    pub round: u64,
    /// Rounds of the charter.
    pub rounds: u64,
    /// Number of completed rounds.
    pub completed: u64,
    /// Whether neighbours are connected and the first round may begin.
    pub ready: bool,
    /// Whether the last round is done.
    pub finished: bool,
    /// Ids of connected peers.
    pub connected: Vec<String>,
    /// Number of neighbours in the newest graph.
    pub neighbours: Option<usize>,
    /// The peers that an open round waits for.
    pub missing: Vec<String>,
    /// The peers that it cannot reach, and why.
    pub unreached: Vec<Unreached>,
    /// Neighbours that rounds no longer wait for.
    pub no_longer_awaited: Vec<String>,
    /// Time of day, in UTC, at which its last round closed; empty before.
    pub last_closed: String,
    /// Rounds with too few models to mix, since the start.
    pub mixing_skipped: u64,
    /// Peers that signed two different updates for one round, since the start.
    pub equivocations: u64,
    /// Addresses at which it listens.
    pub listening: Vec<String>,
    /// Loss on held-out rows, newest.
    pub loss: Option<f64>,
    /// Accuracy on held-out rows, newest.
    pub accuracy: Option<f64>,
    /// What is spent of the privacy budget, under a charter with a guarantee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Budget>,
    /// Number of updates accepted.
    pub updates_accepted: u64,
    /// Refusals by reason; `denied` among them are connections, see [`Status::denied`].
    pub refused: BTreeMap<String, u64>,
    /// Connections ended before any message of theirs was read.
    pub denied: u64,
    /// Names of the charter's members by their ids.
    pub names: BTreeMap<String, String>,
    /// Bytes of accepted updates.
    pub bytes: Bytes,
    /// Actors that were started again.
    pub restarts: u64,
    /// Lines that are missing from the event log.
    pub events_lost: u64,
    /// Free bytes of the disk that holds the state.
    pub state_free_bytes: Option<u64>,
    /// Seconds since the start.
    pub uptime_seconds: f64,
}

impl Status {
    /// Adds what the lines say to what is set already.
    pub(super) fn show(self, known: &Known) -> Status {
        let ids = |peers: &[PeerId]| peers.iter().map(PeerId::to_string).collect();
        let refused = known.refused.iter();
        let mut refused: BTreeMap<String, u64> = refused
            .map(|(reason, count)| ((*reason).to_owned(), *count))
            .collect();
        if self.denied > 0 {
            refused.insert("denied".to_owned(), self.denied);
        }
        Status {
            round: known.round.unwrap_or_default(),
            completed: known.completed,
            ready: known.ready,
            finished: known.finished,
            connected: ids(&known.connected),
            neighbours: known.neighbours,
            missing: ids(&known.missing),
            last_closed: known.last_closed.clone().unwrap_or_default(),
            mixing_skipped: known.mixing_skipped,
            equivocations: known.equivocations,
            events_lost: known.events_lost,
            no_longer_awaited: ids(&known.no_longer_awaited),
            listening: known.listening.clone(),
            loss: known.loss,
            accuracy: known.accuracy,
            privacy: known.privacy,
            updates_accepted: known.accepted,
            refused,
            bytes: Bytes {
                wire: self.bytes.wire,
                ..known.bytes
            },
            restarts: known.restarts.values().sum(),
            ..self
        }
    }
}
