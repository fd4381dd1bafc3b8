//! The lines themselves: what happened at a node, as its event log and `--json` have it.

use std::time::SystemTime;

use kith_consensus::PeerId;
use kith_gossip::{Event, History};
use serde::{Deserialize, Serialize};
use time::{Date, Month, OffsetDateTime};

use super::denials::Denial;

/// Something that happened at a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Time of day, in UTC (RFC 3339, milliseconds); empty in a log that an older program wrote.
    #[serde(default)]
    pub time: String,
    /// Seconds since the node's start.
    pub at_seconds: f64,
    /// The peer that the node hosts; events have fields named `peer` for others.
    pub node: PeerId,
    /// The event itself.
    #[serde(flatten)]
    pub what: What,
}

impl Line {
    /// Whether the event log keeps a line because it is the node's: the peer's actor keeps the
    /// peer's own lines.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(&self.what, What::Node(_))
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum What {
    /// It happened in the peer.
    Peer(Event),
    /// It happened in the node around the peer.
    Node(NodeEvent),
    /// Something that this version does not know.
    Other(serde_json::Value),
}

/// What happens around a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum NodeEvent {
    /// A run of the program begins; its lines follow, up to [`NodeEvent::Report`] unless it was
    /// killed.
    RunStarted {
        /// Version of the program.
        version: String,
        /// Id of its process.
        process: u32,
    },
    /// The node accepts connections here.
    Listening {
        /// A multiaddress with this peer's id at its end: others can paste it as a bootstrap
        /// address.
        address: String,
    },
    /// Status and metrics are served here.
    Serving {
        /// Host and port.
        address: String,
    },
    /// Connections of a key that is not allowed, or for which there was no room, were ended before
    /// any message of theirs was read.
    Denied {
        /// The peer, if the handshake got that far; of several, the last.
        peer: Option<PeerId>,
        /// In words for people.
        why: String,
        /// Where it came from, if known; of several, the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// How many such connections this line stands for.
        #[serde(default = "one")]
        count: u64,
    },
    /// A peer cannot be reached, and not just for a moment; reported once for each address and
    /// cause.
    DialFailed {
        /// The peer, if the address names one.
        #[serde(default)]
        peer: Option<PeerId>,
        /// Address that was dialled.
        #[serde(default)]
        address: Option<String>,
        /// In words for people.
        why: String,
        /// The carrier's words.
        #[serde(default)]
        detail: String,
    },
    /// A process that is not this one runs with this peer's key.
    OwnKeyElsewhere {
        /// Address at which it answered, or from which it called.
        address: String,
    },
    /// Something is degraded.
    Warning {
        /// In words for people.
        text: String,
    },
    /// An actor panicked and was started again.
    Restarted {
        /// Name of the actor.
        actor: String,
    },
    /// The last line of a node.
    Report {
        /// Whether it went through every round.
        finished: bool,
        /// Number of completed rounds.
        rounds: u64,
        /// Why it stopped, in words for people.
        why: String,
        /// Bytes read from sockets, below encryption.
        wire_in_bytes: u64,
        /// Bytes written to sockets, below encryption.
        wire_out_bytes: u64,
        /// Actors that were started again.
        restarts: u64,
        /// Time spent on local training.
        training_seconds: f64,
        /// Time spent on evaluation.
        evaluation_seconds: f64,
        /// What the rounds were like, from the peer's first one on.
        #[serde(default)]
        history: History,
    },
}

fn one() -> u64 {
    1
}

impl From<Denial> for NodeEvent {
    fn from(
        Denial {
            peer,
            address,
            why,
            count,
        }: Denial,
    ) -> NodeEvent {
        NodeEvent::Denied {
            peer,
            why,
            address,
            count,
        }
    }
}

impl What {
    /// The event's name as its JSON has it.
    pub(crate) fn name(&self) -> String {
        let value = match self {
            What::Peer(event) => serde_json::to_value(event),
            What::Node(event) => serde_json::to_value(event),
            What::Other(value) => Ok(value.clone()),
        };
        value
            .ok()
            .and_then(|value| Some(value.get("event")?.as_str()?.to_owned()))
            .unwrap_or_else(|| "other".to_owned())
    }
}

/// Seconds since 1970 of a time of day as [`time_of_day`] writes it; `None` for any other text.
pub(crate) fn unix_seconds(text: &str) -> Option<f64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u16>().ok();
    let small = |from, to| u8::try_from(number(from, to)?).ok();
    let month = Month::try_from(small(5, 7)?).ok()?;
    let date = Date::from_calendar_date(number(0, 4)?.into(), month, small(8, 10)?).ok()?;
    let time = date
        .with_hms_milli(
            small(11, 13)?,
            small(14, 16)?,
            small(17, 19)?,
            number(20, 23)?,
        )
        .ok()?;
    Some(time.assume_utc().unix_timestamp_nanos() as f64 * 1e-9)
}

/// Now, in UTC, to the millisecond (RFC 3339).
pub(crate) fn time_of_day() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second, millisecond) = now.to_hms_milli();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_read_as_it_is_written() {
        // `date -u -d 2026-01-02T03:04:05.006Z +%s.%3N`
        let read = unix_seconds("2026-01-02T03:04:05.006Z").unwrap();
        assert!((read - 1_767_323_045.006).abs() < 1e-6, "{read}");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let read = unix_seconds(&time_of_day()).unwrap();
        assert!((read - now.unwrap().as_secs_f64()).abs() < 60.0);
        for text in ["", "noon", "2026-13-02T03:04:05.006Z", "2026-01-02"] {
            assert_eq!(unix_seconds(text), None, "{text}");
        }
    }
}
