//! What a testnet answers over its socket, as the JSON that is sent and that `--json` prints.

use serde::{Deserialize, Serialize};

use super::tally::State;

/// The answer to a request. `ok` is `false` for a refused one alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Answer {
    /// Where the testnet stands.
    Status {
        ok: bool,
        #[serde(flatten)]
        status: Status,
    },
    /// An order was carried out: what happened, for people.
    Done { ok: bool, what: String },
    /// The reason why not, for people.
    Refused { ok: bool, why: String },
}

impl Answer {
    pub(super) fn status(status: Status) -> Answer {
        Answer::Status { ok: true, status }
    }

    pub(super) fn done(what: impl Into<String>) -> Answer {
        let what = what.into();
        Answer::Done { ok: true, what }
    }

    pub(super) fn refused(why: impl Into<String>) -> Answer {
        let why = why.into();
        Answer::Refused { ok: false, why }
    }

    /// One line of JSON, its keys in alphabetical order.
    pub(super) fn to_line(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

/// A running testnet.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct Status {
    /// Whether every peer has been connected.
    pub(super) ready: bool,
    /// Seconds from the start until then.
    pub(super) ready_seconds: Option<f64>,
    /// Seconds since the start.
    pub(super) seconds: f64,
    /// The round that all honest peers have reached.
    pub(super) round: u64,
    /// Rounds of the charter.
    pub(super) rounds: u64,
    pub(in crate::cli) nodes: Vec<NodeStatus>,
}

/// One peer of it.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct NodeStatus {
    pub(in crate::cli) name: String,
    pub(super) peer_id: String,
    /// `honest` or `adversary`.
    pub(in crate::cli) role: String,
    /// Its process, if that runs.
    pub(super) pid: Option<u32>,
    pub(in crate::cli) state: State,
    /// The round in which it is.
    pub(super) round: u64,
    /// Completed rounds.
    pub(super) rounds: u64,
    pub(super) accuracy: Option<f64>,
    pub(super) updates_accepted: u64,
    pub(super) updates_refused: u64,
    pub(super) restarts: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_as_they_are_written_and_keep_their_keys() {
        let node = NodeStatus {
            name: "ada".to_owned(),
            peer_id: "12D3".to_owned(),
            role: "honest".to_owned(),
            pid: Some(7),
            state: State::Running,
            round: 2,
            rounds: 3,
            accuracy: Some(1.0),
            updates_accepted: 4,
            updates_refused: 5,
            restarts: 6,
        };
        let status = Status {
            ready: true,
            ready_seconds: None,
            seconds: 1.5,
            round: 2,
            rounds: 9,
            nodes: vec![node],
        };
        let cases = [
            (Answer::done("stopped"), r#"{"ok":true,"what":"stopped"}"#),
            (
                Answer::refused("no such peer"),
                r#"{"ok":false,"why":"no such peer"}"#,
            ),
            (
                Answer::status(status),
                concat!(
                    r#"{"nodes":[{"accuracy":1.0,"name":"ada","peer_id":"12D3","pid":7,"restarts":6,"role":"honest","round":2,"#,
                    r#""rounds":3,"state":"running","updates_accepted":4,"updates_refused":5}],"ok":true,"ready":true,"#,
                    r#""ready_seconds":null,"round":2,"rounds":9,"seconds":1.5}"#
                ),
            ),
        ];
        for (answer, line) in cases {
            assert_eq!(answer.to_line(), line);
            let read: Answer = serde_json::from_str(line).unwrap();
            assert_eq!(read.to_line(), line);
        }
    }
}
