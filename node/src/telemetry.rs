//! The output of a running node: one stream of lines, from which logs, metrics, status and the
//! testnet's table are made.
//!
//! A line is an event of the [`Peer`](kith_gossip::Peer) or one of the node around it, with the
//! time of day, the time since the start and the peer at which it happened. Lines hold no data, no
//! parameters and no keys; nothing that is kept grows with the rounds.
//!
//! | file | what it holds |
//! |---|---|
//! | `line` | the lines |
//! | `known`, `histogram` | what they add up to |
//! | `status`, `log` | the same for those that ask, and in words |
//! | `metrics`, `exposition` | the same for Prometheus: the table, and its text |
//! | `process` | what the operating system says about the process |
//! | `denials`, `reach` | which lines are not repeated |

pub mod anomaly;
mod denials;
mod exposition;
mod histogram;
mod known;
mod line;
mod log;
mod metrics;
mod process;
mod reach;
mod sample;
#[cfg(feature = "otel")]
pub(crate) mod spans;
mod status;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kith_consensus::{Charter, Genesis, PeerId};
use kith_gossip::Event;
use kith_gossip::net::Obstacle;
use tokio::sync::broadcast;

use self::denials::{Denial, Denials};
pub use self::histogram::{Histogram, Rounds, Scale, Seconds};
pub use self::known::{Activity, Budget, Bytes, ClosedRounds, Dropped, Known};
pub use self::line::{Line, NodeEvent, What};
pub(crate) use self::line::{time_of_day, unix_seconds};
pub use self::log::irregular;
use self::metrics::{Facts, Seen, Surroundings};
pub use self::metrics::{Kind, METRICS, Metric};
use self::process::{Process, free_bytes};
use self::reach::Reach;
pub use self::reach::Unreached;
pub use self::status::Status;

/// Lines that a slow subscriber may lag behind before it misses some (and is told how many).
const LINES_MAX: usize = 8192;

/// The one place that every line of a node goes through.
pub struct Telemetry {
    peer: PeerId,
    facts: Facts,
    /// The state folder, if there is one.
    state: Option<PathBuf>,
    denials: Mutex<Denials>,
    reach: Mutex<Reach>,
    /// Refused messages, which the log reports as it reports denials.
    refusals: Mutex<Denials>,
    started: Instant,
    lines: broadcast::Sender<Line>,
    known: Mutex<Known>,
    denied: AtomicU64,
    wire: [AtomicU64; 2],
}

impl Telemetry {
    /// A stream that begins now.
    pub fn new(name: &str, peer: PeerId, federation: Genesis, rounds: u64) -> Telemetry {
        Telemetry {
            peer,
            facts: Facts {
                peer: peer.to_string(),
                name: name.to_owned(),
                federation: federation.to_string(),
                rounds,
                ..Facts::default()
            },
            state: None,
            denials: Mutex::default(),
            reach: Mutex::default(),
            refusals: Mutex::default(),
            started: Instant::now(),
            lines: broadcast::channel(LINES_MAX).0,
            known: Mutex::default(),
            denied: AtomicU64::new(0),
            wire: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    /// The same with what a charter says: its name and deadline, and the members' names.
    #[must_use]
    pub fn with_charter(mut self, charter: &Charter) -> Telemetry {
        let members = charter.membership.members.iter();
        self.facts.names = members
            .map(|member| (member.key, member.name.clone()))
            .collect();
        self.facts.federation_name = charter.name.clone();
        self.facts.deadline_seconds = Some(charter.round.deadline.as_secs_f64());
        self
    }

    /// The same with the folder whose disk is watched.
    #[must_use]
    pub fn with_state(mut self, folder: &Path) -> Telemetry {
        self.state = Some(folder.to_owned());
        self
    }

    /// What people call a peer: its name in the charter, or the end of its id.
    pub fn name_of(&self, peer: &PeerId) -> String {
        self.facts
            .names
            .get(peer)
            .cloned()
            .unwrap_or_else(|| peer.short())
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// All lines from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Line> {
        self.lines.subscribe()
    }

    /// Shows an event of the peer.
    pub fn peer_event(&self, mut event: Event) -> Line {
        // JSON knows no infinity: a number that is not finite is shown as the largest number.
        if let Event::Aggregated { spread: number, .. }
        | Event::Trained {
            loss: Some(number), ..
        }
        | Event::BudgetExhausted {
            epsilon: number, ..
        }
        | Event::LedgerBehind {
            charged: number, ..
        }
        | Event::Evaluated { loss: number, .. } = &mut event
            && !number.is_finite()
        {
            *number = f64::MAX;
        }
        // The name of a model is shown, so it is computed here; a line that is kept must not keep
        // the model.
        if let Event::Aggregated { state, .. } = &mut event {
            *state = state.digest().into();
        }
        self.record(What::Peer(event))
    }

    /// Counts a connection that was refused, and shows it unless many of its kind were shown just
    /// now.
    pub fn denied(&self, peer: Option<PeerId>, address: Option<String>, why: String) {
        let denial = Denial {
            peer,
            address,
            why,
            count: 1,
        };
        self.denied.fetch_add(1, Ordering::Relaxed);
        let reported = self.lock_denials().note(self.now(), denial);
        reported
            .into_iter()
            .for_each(|denial| drop(self.node_event(denial.into())));
    }

    /// Shows the refused connections that were counted and not shown yet; for the end of a run.
    pub fn show_denials(&self) -> Vec<Line> {
        let rest = self.lock_denials().rest();
        rest.into_iter()
            .map(|denial| self.node_event(denial.into()))
            .collect()
    }

    /// Notes a dial that failed, and shows it once it has lasted.
    pub fn dial_failed(
        &self,
        peer: Option<PeerId>,
        address: Option<String>,
        obstacle: Obstacle,
        detail: String,
    ) {
        if peer == Some(self.peer) {
            return; // this peer looked for another process with its key, and found nobody
        }
        let why = obstacle.to_string();
        if self
            .lock_reach()
            .failed((peer, address.clone()), obstacle, self.now(), time_of_day)
        {
            drop(self.node_event(NodeEvent::DialFailed {
                peer,
                address,
                why,
                detail,
            }));
        }
    }

    /// Notes that a peer is connected, and at which addresses, if it was dialled.
    pub fn reached(&self, peer: &PeerId, addresses: &[String]) {
        self.lock_reach().reached(peer, addresses);
    }

    fn lock_reach(&self) -> MutexGuard<'_, Reach> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_denials(&self) -> MutexGuard<'_, Denials> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows an event of the node.
    pub fn node_event(&self, event: NodeEvent) -> Line {
        self.record(What::Node(event))
    }

    fn record(&self, what: What) -> Line {
        let line = Line {
            time: time_of_day(),
            at_seconds: self.now().as_secs_f64(),
            node: self.peer,
            what,
        };
        self.lock().apply(&line);
        self.log(&line.what);
        // Without subscribers the line is dropped.
        let _ = self.lines.send(line.clone());
        line
    }

    /// Notes how many bytes crossed the sockets so far.
    pub fn set_wire(&self, (incoming, outgoing): (u64, u64)) {
        self.wire[0].store(incoming, Ordering::Relaxed);
        self.wire[1].store(outgoing, Ordering::Relaxed);
    }

    /// Bytes that crossed the sockets so far: (in, out).
    pub fn wire(&self) -> (u64, u64) {
        (
            self.wire[0].load(Ordering::Relaxed),
            self.wire[1].load(Ordering::Relaxed),
        )
    }

    /// Notes the time that a piece of work took.
    pub(crate) fn add_work(&self, activity: Activity, time: Duration) {
        self.lock().add_work(activity, time);
    }

    /// Notes lines that will be missing from the event log.
    pub(crate) fn add_lost(&self, lines: u64) {
        self.lock().events_lost += lines;
    }

    /// The sums of the lines so far.
    pub fn known(&self) -> Known {
        self.lock().clone()
    }

    /// The node's state, for `/status`.
    pub fn status(&self) -> Status {
        let (incoming, outgoing) = self.wire();
        let facts = &self.facts;
        let names = facts.names.iter();
        let status = Status {
            name: facts.name.clone(),
            peer: facts.peer.clone(),
            federation: facts.federation.clone(),
            rounds: facts.rounds,
            state_free_bytes: self.free_bytes(),
            unreached: self.lock_reach().unreached(|peer| self.name_of(peer)),
            denied: self.denied.load(Ordering::Relaxed),
            names: names
                .map(|(peer, name)| (peer.to_string(), name.clone()))
                .collect(),
            bytes: Bytes {
                wire: incoming + outgoing,
                ..Bytes::default()
            },
            uptime_seconds: self.now().as_secs_f64(),
            ..Status::default()
        };
        status.show(&self.lock())
    }

    /// The metrics as Prometheus text.
    pub fn metrics(&self) -> String {
        let surroundings = Surroundings {
            denied: self.denied.load(Ordering::Relaxed),
            wire: self.wire(),
            free_bytes: self.free_bytes(),
            process: Process::now(),
        };
        exposition::exposed(&Seen {
            known: &self.known(),
            facts: &self.facts,
            surroundings: &surroundings,
        })
    }

    fn free_bytes(&self) -> Option<u64> {
        self.state.as_deref().and_then(free_bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // It is only numbers and names: whole after any panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Telemetry({:?})", self.peer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kith_gossip::{History, Refusal};

    use super::*;
    use kith_consensus::Digest;

    #[test]
    fn lines_survive_json_and_unknown_ones_are_kept() {
        let peer = PeerId([7; 32]);
        let refused = Event::Refused {
            peer,
            kind: None,
            round: Some(3),
            reason: Refusal::Duplicate,
        };
        let history = History {
            mixed: BTreeMap::from([(1, 2), (5, 39)]),
            passed_over: 7,
            ..History::default()
        };
        for what in [
            What::Peer(Event::Connected { peer }),
            What::Peer(refused),
            What::Peer(Event::Left {
                round: 3,
                finished: true,
                why: String::new(),
                history: history.clone(),
            }),
            What::Node(NodeEvent::Listening {
                address: "/ip4/127.0.0.1/tcp/1".to_owned(),
            }),
        ] {
            let line = Line {
                time: "2026-01-02T03:04:05.006Z".to_owned(),
                at_seconds: 1.5,
                node: peer,
                what,
            };
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
        let text =
            serde_json::json!({"at_seconds": 1.0, "node": peer, "event": "moon-rose"}).to_string();
        let line: Line = serde_json::from_str(&text).unwrap();
        assert!(matches!(line.what, What::Other(_)));
    }

    #[test]
    fn a_peer_with_nobody_connected_is_not_ready() {
        let (peer, other) = (PeerId([7; 32]), PeerId([8; 32]));
        let telemetry = Telemetry::new("ada", peer, Genesis(Digest::of(b"federation")), 9);
        assert!(!telemetry.known().is_ready());
        telemetry.peer_event(Event::Connected { peer: other });
        telemetry.peer_event(Event::Ready {
            neighbours: 1,
            connected: 1,
        });
        assert!(telemetry.known().is_ready());
        telemetry.peer_event(Event::Disconnected { peer: other });
        assert!(!telemetry.known().is_ready());
        let alone = Telemetry::new("ada", peer, Genesis(Digest::of(b"federation")), 9);
        alone.peer_event(Event::Ready {
            neighbours: 0,
            connected: 0,
        });
        assert!(alone.known().is_ready(), "a federation of one");
        let resumed = Telemetry::new("ada", peer, Genesis(Digest::of(b"federation")), 9);
        resumed.peer_event(Event::RoundOpened {
            round: 3,
            neighbours: 1,
            selected: 1,
        });
        assert!(!resumed.known().is_ready());
        resumed.peer_event(Event::Connected { peer: other });
        assert!(resumed.known().is_ready());
    }

    #[test]
    fn status_and_metrics_follow_from_the_lines() {
        let peer = PeerId([7; 32]);
        let telemetry = Telemetry::new("ada", peer, Genesis(Digest::of(b"federation")), 9);
        let mut lines = telemetry.subscribe();
        for unknown in [
            "kith_held_out",
            "kith_training_loss",
            "kith_round ",
            "kith_neighbours_expected",
            "kith_last_round",
            "kith_round_duration",
            "kith_privacy",
            "kith_state_free_bytes",
        ] {
            assert!(
                !telemetry.metrics().contains(unknown),
                "{unknown} is not known yet: {}",
                telemetry.metrics()
            );
        }
        telemetry.peer_event(Event::Refused {
            peer,
            kind: None,
            round: None,
            reason: Refusal::Signature,
        });
        telemetry.peer_event(Event::Evaluated {
            round: 2,
            loss: 0.25,
            accuracy: 0.75,
            samples: 4,
        });
        telemetry.set_wire((10, 20));
        assert_eq!(lines.try_recv().unwrap().node, peer);
        let status = telemetry.status();
        assert_eq!(
            (
                status.refused["signature"],
                status.accuracy,
                status.bytes.wire
            ),
            (1, Some(0.75), 30)
        );
        let text = telemetry.metrics();
        assert!(
            text.contains("kith_refusals_total{reason=\"signature\"} 1"),
            "{text}"
        );
        for line in [
            "kith_held_out_accuracy_ratio 0.75",
            "kith_held_out_loss 0.25",
            "kith_network_bytes_total{direction=\"out\"} 20",
            "kith_events_total{event=\"refused\"} 1",
            "kith_rounds_planned 9.0",
            "kith_mixings_skipped_total 0",
        ] {
            assert!(text.contains(line), "{line} is missing: {text}");
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_infinite_in_metrics_and_large_in_lines() {
        let telemetry = Telemetry::new(
            "ada",
            PeerId([7; 32]),
            Genesis(Digest::of(b"federation")),
            9,
        );
        for loss in [f64::INFINITY, f64::NAN] {
            let line = telemetry.peer_event(Event::Trained {
                round: 1,
                loss: Some(loss),
                samples: 1,
                local_steps: 1,
            });
            let text = serde_json::to_string(&line).unwrap();
            assert!(text.contains("\"loss\":1.7976931348623157e+308"), "{text}");
            let metrics = telemetry.metrics();
            assert!(metrics.contains("kith_training_loss +Inf\n"), "{metrics}");
        }
    }

    /// Every metric of the table is served under its name and kind once something is known, with
    /// its labels, and nothing is served that the table does not have.
    #[test]
    fn what_is_served_is_the_table() {
        let telemetry = telling_everything();
        let text = telemetry.metrics();
        let mut served = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (sample, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let labels: Vec<&str> = labels
                .trim_end_matches('}')
                .split(',')
                .filter_map(|label| Some(label.split_once('=')?.0))
                .filter(|label| *label != "le")
                .collect();
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| {
                    let base = name.strip_suffix(suffix)?;
                    text.contains(&format!("# TYPE {base} histogram"))
                        .then_some(base)
                })
                .unwrap_or(name);
            served.insert(name.to_owned(), labels);
        }
        for metric in METRICS {
            let labels = served.remove(metric.name);
            assert_eq!(labels.as_deref(), Some(metric.labels), "{}", metric.name);
            let bare = metric.name.trim_end_matches("_total");
            let bare = bare.trim_end_matches("_info");
            let kind = format!("# TYPE {bare} {}\n", metric.kind.name());
            assert!(text.contains(&kind), "{kind}");
        }
        assert!(served.is_empty(), "not in the table: {served:?}");
        let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        let unique: std::collections::BTreeSet<&&str> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "each name once");
    }

    /// A stream with at least one line for each metric.
    fn telling_everything() -> Telemetry {
        let (peer, other) = (PeerId([7; 32]), PeerId([8; 32]));
        let mut telemetry = Telemetry::new("ada", peer, Genesis(Digest::of(b"federation")), 9)
            .with_state(&std::env::temp_dir());
        telemetry.facts.deadline_seconds = Some(30.0);
        for event in [
            r#"{"event": "round-opened", "round": 0, "neighbours": 1, "selected": 1}"#,
            r#"{"event": "trained", "round": 0, "loss": 0.5, "samples": 1, "local_steps": 1}"#,
            r#"{"event": "accepted", "round": 0, "peer": "OTHER", "of": 0, "staleness": 0,
                "payload_bytes": 1, "keyframe_bytes": 2, "envelope_bytes": 3, "dense_bytes": 4}"#,
            r#"{"event": "refused", "peer": "OTHER", "reason": {"refused": "duplicate"}}"#,
            r#"{"event": "round-closed", "round": 0, "why": "quorum", "have": 1, "awaited": 1, "missing": []}"#,
            r#"{"event": "evaluated", "round": 1, "loss": 0.5, "accuracy": 0.5, "samples": 1}"#,
            r#"{"event": "privacy-spent", "round": 0, "epsilon": 0.5, "budget": 8.0}"#,
        ] {
            let event = event.replace("OTHER", &other.to_string());
            telemetry.peer_event(serde_json::from_str(&event).expect(&event));
        }
        let share = kith_gossip::event::DroppedShare {
            peer: other,
            share: 0.5,
            influence: 0.5,
        };
        telemetry.peer_event(Event::Aggregated {
            round: 0,
            state: Digest::of(b"model").into(),
            models: 2,
            dropped: vec![share],
            spread: 0.1,
        });
        for activity in [
            Activity::Training,
            Activity::Evaluation,
            Activity::Aggregation,
            Activity::Storing,
        ] {
            telemetry.add_work(activity, Duration::from_millis(3));
        }
        telemetry
    }

    #[test]
    fn lines_that_nobody_has_read_hold_no_model() {
        let peer = PeerId([7; 32]);
        let telemetry = Telemetry::new("ada", peer, Genesis(Digest::of(b"federation")), 9);
        let _unread = telemetry.subscribe();
        let mut models = Vec::new();
        for round in 0..5 {
            let model = std::sync::Arc::new(vec![round as f32; 8]);
            models.push(std::sync::Arc::downgrade(&model));
            let line = telemetry.peer_event(Event::Aggregated {
                round,
                state: std::sync::Arc::clone(&model).into(),
                models: 2,
                dropped: Vec::new(),
                spread: 0.0,
            });
            let What::Peer(Event::Aggregated { state, .. }) = line.what else {
                panic!("another event")
            };
            assert_eq!(
                state.digest(),
                Digest::of_values(&model),
                "its name is kept"
            );
        }
        assert_eq!(
            models
                .iter()
                .filter(|model| model.strong_count() > 0)
                .count(),
            0
        );
    }

    #[test]
    fn denials_are_counted_apart_and_lines_carry_the_time_of_day() {
        let peer = PeerId([7; 32]);
        let telemetry = Telemetry::new("ada", peer, Genesis(Digest::of(b"federation")), 9);
        let mut lines = telemetry.subscribe();
        for port in 0..100 {
            telemetry.denied(
                Some(peer),
                Some(format!("/ip4/192.0.2.7/tcp/{port}")),
                "not a member".to_owned(),
            );
        }
        assert_eq!(
            (
                telemetry.status().denied,
                telemetry.status().refused["denied"]
            ),
            (100, 100)
        );
        assert!(
            telemetry
                .metrics()
                .contains("kith_connections_denied_total 100"),
            "{}",
            telemetry.metrics()
        );
        let first = lines.try_recv().unwrap();
        assert!(lines.try_recv().is_err(), "one line of a hundred");
        assert!(
            first.time.ends_with('Z') && first.time[..4].parse::<u32>().unwrap() >= 2024,
            "{}",
            first.time
        );
        let rest = telemetry.show_denials();
        assert!(
            matches!(
                &rest[0].what,
                What::Node(NodeEvent::Denied { count: 99, .. })
            ),
            "{rest:?}"
        );
        let old =
            serde_json::json!({"at_seconds": 1.0, "node": peer, "event": "denied", "peer": null, "why": "full"}).to_string();
        let old: Line = serde_json::from_str(&old).unwrap();
        assert!(
            matches!(old.what, What::Node(NodeEvent::Denied { count: 1, .. })),
            "a log of before is read: {old:?}"
        );
    }
}
