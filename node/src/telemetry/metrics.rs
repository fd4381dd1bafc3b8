//! The same numbers for Prometheus: one table of metrics, from which come what is served at
//! `/metrics`, `kith list metrics`, the page `docs/reference/metrics.md`, and the tests that tie
//! alerts and dashboard to it.
//!
//! A metric shows a number of the fold [`Known`], of the charter, or of the operating system. What
//! is not known yet has no sample: zero would be wrong. Counters start with the process.

use std::collections::BTreeMap;

use kith_consensus::PeerId;
use kith_gossip::envelope::PROTOCOL_VERSION;

use super::known::{Activity, Known};
use super::line::unix_seconds;
use super::process::Process;
use super::sample::{Sample, counted, each, histogram, numbered, text};

/// A metric.
pub struct Metric {
    /// As it is served; the samples of a histogram add `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// What its samples are.
    pub kind: Kind,
    /// One line for people.
    pub help: &'static str,
    /// Names of the labels of each sample.
    pub labels: &'static [&'static str],
    /// Where its numbers come from: events by name, or what else is asked.
    pub source: &'static str,
    pub(super) samples: fn(&Seen<'_>) -> Vec<Sample>,
}

/// What a metric's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A count that only grows, from zero at the start of the process.
    Counter,
    /// A number that is true now.
    Gauge,
    /// Counts of values by size, since the start of the process.
    Histogram,
    /// Text in labels; the number is always 1.
    Info,
}

impl Kind {
    /// Its name in Prometheus's words.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }
}

/// What the samples are taken from.
pub(super) struct Seen<'a> {
    pub(super) known: &'a Known,
    pub(super) facts: &'a Facts,
    pub(super) surroundings: &'a Surroundings,
}

/// What does not change while a node runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The peer's id, and its name for people.
    pub(super) peer: String,
    pub(super) name: String,
    /// The federation's id, and its name in the charter.
    pub(super) federation: String,
    pub(super) federation_name: String,
    /// Rounds of the charter.
    pub(super) rounds: u64,
    /// How long a round waits for updates, in seconds; unknown without a charter.
    pub(super) deadline_seconds: Option<f64>,
    /// Names of the charter's members.
    pub(super) names: BTreeMap<PeerId, String>,
}

/// What lines do not carry: it is asked when somebody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Surroundings {
    /// Connections ended before any message of theirs was read.
    pub(super) denied: u64,
    /// Bytes that crossed the sockets, in and out.
    pub(super) wire: (u64, u64),
    /// Free bytes of the disk that holds the state.
    pub(super) free_bytes: Option<u64>,
    /// The process.
    pub(super) process: Process,
}

/// Every metric.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "kith_build_info",
        kind: Kind::Info,
        help: "The program: its version, and the version of the protocol that it speaks",
        labels: &["version", "protocol"],
        source: "the program",
        samples: |_| {
            text([
                env!("CARGO_PKG_VERSION").to_owned(),
                PROTOCOL_VERSION.to_string(),
            ])
        },
    },
    Metric {
        name: "kith_federation_info",
        kind: Kind::Info,
        help: "The federation and this peer in it: ids, and names for people",
        labels: &["federation", "federation_name", "peer", "name"],
        source: "the charter",
        samples: |seen| {
            text(
                [
                    &seen.facts.federation,
                    &seen.facts.federation_name,
                    &seen.facts.peer,
                    &seen.facts.name,
                ]
                .map(String::clone),
            )
        },
    },
    Metric {
        name: "kith_rounds_planned",
        kind: Kind::Gauge,
        help: "Rounds of the charter",
        labels: &[],
        source: "the charter",
        samples: |seen| numbered(Some(seen.facts.rounds as f64)),
    },
    Metric {
        name: "kith_round_deadline_seconds",
        kind: Kind::Gauge,
        help: "How long a round waits for updates",
        labels: &[],
        source: "the charter",
        samples: |seen| numbered(seen.facts.deadline_seconds),
    },
    Metric {
        name: "kith_round",
        kind: Kind::Gauge,
        help: "The round that this peer is in",
        labels: &[],
        source: "started, round-opened",
        samples: |seen| numbered(seen.known.round.map(|round| round as f64)),
    },
    Metric {
        name: "kith_rounds_closed_total",
        kind: Kind::Counter,
        help: "Rounds closed, by what closed them: quorum or deadline",
        labels: &["reason"],
        source: "round-closed",
        samples: |seen| {
            each([
                ("quorum", seen.known.closed.quorum),
                ("deadline", seen.known.closed.deadline),
            ])
        },
    },
    Metric {
        name: "kith_last_round_closed_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the last round closed, in seconds since 1970",
        labels: &[],
        source: "round-closed",
        samples: |seen| numbered(seen.known.last_closed.as_deref().and_then(unix_seconds)),
    },
    Metric {
        name: "kith_round_duration_seconds",
        kind: Kind::Histogram,
        help: "From the opening of a round to its close",
        labels: &[],
        source: "round-opened, round-closed",
        samples: |seen| histogram(&seen.known.round_seconds),
    },
    Metric {
        name: "kith_training_duration_seconds",
        kind: Kind::Histogram,
        help: "Local training of a round",
        labels: &[],
        source: "measured in the training thread",
        samples: |seen| histogram(seen.known.took(Activity::Training)),
    },
    Metric {
        name: "kith_evaluation_duration_seconds",
        kind: Kind::Histogram,
        help: "Evaluation on held-out rows, or of others' models",
        labels: &[],
        source: "measured in the training thread",
        samples: |seen| histogram(seen.known.took(Activity::Evaluation)),
    },
    Metric {
        name: "kith_aggregation_duration_seconds",
        kind: Kind::Histogram,
        help: "Combining the models of a round",
        labels: &[],
        source: "measured in the peer's thread",
        samples: |seen| histogram(seen.known.took(Activity::Aggregation)),
    },
    Metric {
        name: "kith_storing_duration_seconds",
        kind: Kind::Histogram,
        help: "Making a record durable: a promise, a checkpoint, a charge",
        labels: &[],
        source: "measured in the store's thread",
        samples: |seen| histogram(seen.known.took(Activity::Storing)),
    },
    Metric {
        name: "kith_mixings_skipped_total",
        kind: Kind::Counter,
        help: "Rounds with too few models for the rule, in which the peer kept its own",
        labels: &[],
        source: "mixing-skipped",
        samples: |seen| counted(seen.known.mixing_skipped),
    },
    Metric {
        name: "kith_rounds_stalled_total",
        kind: Kind::Counter,
        help: "Rounds in which updates were still missing after a quarter of the deadline",
        labels: &[],
        source: "stalled",
        samples: |seen| counted(seen.known.rounds_stalled),
    },
    Metric {
        name: "kith_connected_peers",
        kind: Kind::Gauge,
        help: "Peers with a completed handshake",
        labels: &[],
        source: "connected, disconnected",
        samples: |seen| numbered(Some(seen.known.connected.len() as f64)),
    },
    Metric {
        name: "kith_neighbours_expected",
        kind: Kind::Gauge,
        help: "Neighbours in the graph of this round",
        labels: &[],
        source: "ready, round-opened",
        samples: |seen| numbered(seen.known.neighbours.map(|count| count as f64)),
    },
    Metric {
        name: "kith_neighbour_up",
        kind: Kind::Gauge,
        help: "1 if a neighbour is connected, 0 if it is not; of each whose update came or was missed",
        labels: &["peer", "name"],
        source: "accepted, round-closed, waiting, stalled, connected, disconnected",
        samples: |seen| neighbours(seen),
    },
    Metric {
        name: "kith_updates_accepted_total",
        kind: Kind::Counter,
        help: "Updates of neighbours that came in and were accepted",
        labels: &[],
        source: "accepted",
        samples: |seen| counted(seen.known.accepted),
    },
    Metric {
        name: "kith_update_staleness_rounds",
        kind: Kind::Histogram,
        help: "How many rounds old accepted updates were",
        labels: &[],
        source: "accepted",
        samples: |seen| histogram(&seen.known.staleness),
    },
    Metric {
        name: "kith_update_received_bytes_total",
        kind: Kind::Counter,
        help: "Bytes of accepted updates: payload, keyframes, envelope",
        labels: &["kind"],
        source: "accepted",
        samples: |seen| {
            each([
                ("payload", seen.known.bytes.payload),
                ("keyframes", seen.known.bytes.keyframes),
                ("envelope", seen.known.bytes.envelope),
            ])
        },
    },
    Metric {
        name: "kith_update_dense_equivalent_bytes_total",
        kind: Kind::Counter,
        help: "Bytes that the same updates would have had uncompressed",
        labels: &[],
        source: "accepted",
        samples: |seen| counted(seen.known.bytes.dense_equivalent),
    },
    Metric {
        name: "kith_network_bytes_total",
        kind: Kind::Counter,
        help: "Bytes over the sockets, below encryption: in or out",
        labels: &["direction"],
        source: "the carrier",
        samples: |seen| {
            each([
                ("in", seen.surroundings.wire.0),
                ("out", seen.surroundings.wire.1),
            ])
        },
    },
    Metric {
        name: "kith_refusals_total",
        kind: Kind::Counter,
        help: "Messages and updates refused, by reason",
        labels: &["reason"],
        source: "refused",
        samples: |seen| {
            each(
                seen.known
                    .refused
                    .iter()
                    .map(|(reason, count)| (*reason, *count)),
            )
        },
    },
    Metric {
        name: "kith_connections_denied_total",
        kind: Kind::Counter,
        help: "Connections ended before any message of theirs was read",
        labels: &[],
        source: "denied",
        samples: |seen| counted(seen.surroundings.denied),
    },
    Metric {
        name: "kith_dropped_share_ratio",
        kind: Kind::Gauge,
        help: "Mean share of a neighbour's contributions that the rule left out, since the start of the process",
        labels: &["peer", "name"],
        source: "aggregated",
        samples: |seen| dropped(seen),
    },
    Metric {
        name: "kith_suspicions_total",
        kind: Kind::Counter,
        help: "How often a neighbour came under suspicion: its contributions were left out round after round",
        labels: &["peer", "name"],
        source: "suspected",
        samples: |seen| suspicions(seen),
    },
    Metric {
        name: "kith_equivocations_total",
        kind: Kind::Counter,
        help: "Peers that signed two different updates for one round",
        labels: &[],
        source: "equivocated",
        samples: |seen| counted(seen.known.equivocations),
    },
    Metric {
        name: "kith_training_loss",
        kind: Kind::Gauge,
        help: "Mean training loss of the newest round; absent under a privacy guarantee",
        labels: &[],
        source: "trained",
        samples: |seen| numbered(seen.known.training_loss),
    },
    Metric {
        name: "kith_held_out_loss",
        kind: Kind::Gauge,
        help: "Mean loss on held-out rows, newest",
        labels: &[],
        source: "evaluated",
        samples: |seen| numbered(seen.known.loss),
    },
    Metric {
        name: "kith_held_out_accuracy_ratio",
        kind: Kind::Gauge,
        help: "Share of held-out rows classified rightly, newest",
        labels: &[],
        source: "evaluated",
        samples: |seen| numbered(seen.known.accuracy),
    },
    Metric {
        name: "kith_consensus_distance",
        kind: Kind::Gauge,
        help: "Root mean square distance of the models combined in the newest round to their mean",
        labels: &[],
        source: "aggregated",
        samples: |seen| numbered(seen.known.spread),
    },
    Metric {
        name: "kith_privacy_epsilon_spent",
        kind: Kind::Gauge,
        help: "Epsilon spent of this peer's rows, at the charter's delta",
        labels: &[],
        source: "privacy-spent, budget-exhausted, ledger-behind",
        samples: |seen| numbered(seen.known.privacy.map(|privacy| privacy.epsilon)),
    },
    Metric {
        name: "kith_privacy_epsilon_budget",
        kind: Kind::Gauge,
        help: "Epsilon that may be spent of this peer's rows",
        labels: &[],
        source: "privacy-spent, budget-exhausted, ledger-behind",
        samples: |seen| numbered(seen.known.privacy.map(|privacy| privacy.budget)),
    },
    Metric {
        name: "kith_events_total",
        kind: Kind::Counter,
        help: "Events by name, as `kith log` shows them",
        labels: &["event"],
        source: "every line",
        samples: |seen| {
            each(
                seen.known
                    .events
                    .iter()
                    .map(|(event, count)| (event.as_str(), *count)),
            )
        },
    },
    Metric {
        name: "kith_events_lost_total",
        kind: Kind::Counter,
        help: "Lines that are missing from the event log because the disk was behind",
        labels: &[],
        source: "the event log",
        samples: |seen| counted(seen.known.events_lost),
    },
    Metric {
        name: "kith_actor_restarts_total",
        kind: Kind::Counter,
        help: "Parts of the program that were started again after a panic",
        labels: &["actor"],
        source: "restarted",
        samples: |seen| restarts(seen),
    },
    Metric {
        name: "kith_state_free_bytes",
        kind: Kind::Gauge,
        help: "Free bytes of the disk that holds the state folder",
        labels: &[],
        source: "the operating system",
        samples: |seen| numbered(seen.surroundings.free_bytes.map(|bytes| bytes as f64)),
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        help: "Memory of the process that is in RAM",
        labels: &[],
        source: "the operating system",
        samples: |seen| {
            numbered(
                seen.surroundings
                    .process
                    .resident_bytes
                    .map(|bytes| bytes as f64),
            )
        },
    },
    Metric {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        help: "Processor time of all threads of the process",
        labels: &[],
        source: "the operating system",
        samples: |seen| numbered(seen.surroundings.process.cpu_seconds),
    },
    Metric {
        name: "process_open_fds",
        kind: Kind::Gauge,
        help: "Open file descriptors of the process",
        labels: &[],
        source: "the operating system",
        samples: |seen| numbered(seen.surroundings.process.open_files.map(|open| open as f64)),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        help: "Start of the process, in seconds since 1970",
        labels: &[],
        source: "the operating system",
        samples: |seen| numbered(seen.surroundings.process.started),
    },
];

/// Whether each neighbour is connected.
fn neighbours(seen: &Seen<'_>) -> Vec<Sample> {
    let known = seen.known;
    let up = |peer: &PeerId| f64::from(u8::from(known.connected.contains(peer)));
    let neighbours = known.neighbourhood.iter();
    neighbours
        .map(|peer| Sample::number(named(seen, peer), up(peer)))
        .collect()
}

/// What the rule left out of each neighbour's contributions.
fn dropped(seen: &Seen<'_>) -> Vec<Sample> {
    let dropped = seen.known.dropped.iter();
    dropped
        .filter_map(|(peer, dropped)| Some(Sample::number(named(seen, peer), dropped.mean()?)))
        .collect()
}

/// Of each neighbour, so that a count is there before it grows.
fn suspicions(seen: &Seen<'_>) -> Vec<Sample> {
    let known = seen.known;
    let of = |peer: &PeerId| known.suspicions.get(peer).copied().unwrap_or(0) as f64;
    let neighbours = known.neighbourhood.iter();
    neighbours
        .map(|peer| Sample::number(named(seen, peer), of(peer)))
        .collect()
}

/// Only the training thread is started again; without it the count would be absent until it is 1,
/// and an increase from nothing is none.
fn restarts(seen: &Seen<'_>) -> Vec<Sample> {
    let trainer = ("trainer", 0);
    let counted = seen.known.restarts.iter();
    let counted = counted.map(|(actor, count)| (actor.as_str(), *count));
    let all: BTreeMap<&str, u64> = std::iter::once(trainer).chain(counted).collect();
    each(all)
}

/// Values of the labels `peer` and `name`. Ids are unique where names are not known.
fn named(seen: &Seen<'_>, peer: &PeerId) -> Vec<String> {
    let name = seen.facts.names.get(peer).cloned();
    vec![peer.to_string(), name.unwrap_or_else(|| peer.short())]
}
