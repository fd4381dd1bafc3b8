//! What is seen of a running node: one stream of lines, from which logs, metrics, status and the
//! testnet's table are made.
//!
//! A line is an event of the [`Peer`](kith_gossip::Peer) or one of the node around it, with the
//! time of day, the time since the start and the peer it happened at. Lines hold no data, no
//! parameters and no keys; nothing that is kept grows with the rounds.

mod denials;
mod reach;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kith_consensus::{Digest, PeerId};
use kith_gossip::net::Obstacle;
use kith_gossip::{Event, History, Refusal};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::broadcast;

use self::denials::{Denial, Denials};
use self::reach::Reach;
pub use self::reach::Unreached;

/// Lines that a slow subscriber may lag behind before it misses some (and is told how many).
const LINES_MAX: usize = 8192;

/// What a person has to know of rounds that were not as they should be; `None` where all were.
pub fn told(history: &History) -> Option<String> {
    let mixed: u64 = history.mixed.values().sum();
    let parts = [
        (
            history.alone(),
            format!(
                "{} of {mixed} rounds were mixed with nobody: this peer was alone in them",
                history.alone()
            ),
        ),
        (
            history.training_failed,
            format!("its training failed in {} rounds", history.training_failed),
        ),
        (
            history.listened,
            format!(
                "{} rounds of listening, behind the others",
                history.listened
            ),
        ),
        (
            history.passed_over,
            format!("{} rounds passed over", history.passed_over),
        ),
    ];
    let told: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(_, text)| text)
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Something that happened at a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, in UTC (RFC 3339, milliseconds); empty in a log that an older program wrote.
    #[serde(default)]
    pub time: String,
    /// Since the node's start.
    pub at_seconds: f64,
    /// At the node that hosts this peer; events have fields named `peer` for others.
    pub node: PeerId,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

impl Line {
    /// Whether the event log keeps a line because it is the node's: the peer's own lines are kept
    /// by the peer.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(&self.what, What::Node(_))
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum What {
    /// In the peer.
    Peer(Event),
    /// In the node around it.
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
        /// Its process.
        process: u32,
    },
    /// The node accepts connections here.
    Listening {
        /// A multiaddress with this peer's id at its end: what others paste as bootstrap address.
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
        /// Who, if the handshake got that far; of several, the last.
        peer: Option<PeerId>,
        /// For people.
        why: String,
        /// Where it came from, if known; of several, the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// How many such connections this line stands for.
        #[serde(default = "one")]
        count: u64,
    },
    /// A peer cannot be reached, and not just for a moment; told once for each address and cause.
    DialFailed {
        /// Whom, if the address names somebody.
        #[serde(default)]
        peer: Option<PeerId>,
        /// Where.
        #[serde(default)]
        address: Option<String>,
        /// For people.
        why: String,
        /// The carrier's words.
        #[serde(default)]
        detail: String,
    },
    /// A process that is not this one runs with this peer's key.
    OwnKeyElsewhere {
        /// Where it answered, or from where it called.
        address: String,
    },
    /// Something is degraded.
    Warning {
        /// For people.
        text: String,
    },
    /// An actor panicked and was started again.
    Restarted {
        /// Which.
        actor: String,
    },
    /// The last line of a node.
    Report {
        /// Whether it went through every round.
        finished: bool,
        /// Completed rounds.
        rounds: u64,
        /// Why it stopped.
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

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Encoded updates.
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

/// Where a node stands; a fold over its lines.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Name for people.
    pub name: String,
    /// Who.
    pub peer: String,
    /// The federation's id.
    pub federation: String,
    /// The round it is in.
    pub round: u64,
    /// Rounds of the charter.
    pub rounds: u64,
    /// Completed rounds.
    pub completed: u64,
    /// Whether neighbours are connected and the first round may begin.
    pub ready: bool,
    /// Whether the last round is done.
    pub finished: bool,
    /// Connected peers.
    pub connected: Vec<String>,
    /// Whom an open round waits for.
    pub missing: Vec<String>,
    /// Whom it cannot reach, and why.
    pub unreached: Vec<Unreached>,
    /// Neighbours that rounds no longer wait for.
    pub no_longer_awaited: Vec<String>,
    /// Whether there are neighbours at all.
    #[serde(skip)]
    pub needs_others: bool,
    /// What the rounds were like; known when the peer stops.
    #[serde(skip)]
    pub history: History,
    /// Where it listens.
    pub listening: Vec<String>,
    /// Loss on held-out rows, newest.
    pub loss: Option<f64>,
    /// Accuracy on held-out rows, newest.
    pub accuracy: Option<f64>,
    /// Updates accepted.
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
    /// Since the start.
    pub uptime_seconds: f64,
}

/// The one place that every line of a node goes through.
pub struct Telemetry {
    peer: PeerId,
    names: BTreeMap<PeerId, String>,
    denials: Mutex<Denials>,
    reach: Mutex<Reach>,
    /// Refused messages, which are told in the log as denials are.
    refusals: Mutex<Denials>,
    started: Instant,
    lines: broadcast::Sender<Line>,
    status: Mutex<Status>,
    metrics: Metrics,
    wire: [AtomicU64; 2],
    /// Nanoseconds of training and of evaluation.
    work: [AtomicU64; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: String,
}

struct Metrics {
    registry: Registry,
    events: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    restarts: Family<Labels, Counter>,
    rounds: Counter,
    round: Known<Gauge>,
    connected: Gauge,
    accuracy: Known<Gauge<f64, AtomicU64>>,
    loss: Known<Gauge<f64, AtomicU64>>,
    wire: Family<Labels, Gauge>,
    denied: Counter,
}

/// A metric without labels that is served once it has been set: before that nothing is known, and
/// zero would be a lie.
type Known<M> = Family<[(String, String); 0], M>;

impl Telemetry {
    /// A stream that begins now.
    pub fn new(name: &str, peer: PeerId, federation: Digest, rounds: u64) -> Telemetry {
        let status = Status {
            name: name.to_owned(),
            peer: peer.to_string(),
            federation: federation.to_string(),
            rounds,
            ..Status::default()
        };
        Telemetry {
            peer,
            names: BTreeMap::new(),
            denials: Mutex::default(),
            reach: Mutex::default(),
            refusals: Mutex::default(),
            started: Instant::now(),
            lines: broadcast::channel(LINES_MAX).0,
            status: Mutex::new(status),
            metrics: Metrics::new(),
            wire: [AtomicU64::new(0), AtomicU64::new(0)],
            work: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    /// The same with the members' names, which people know them by.
    #[must_use]
    pub fn with_names(mut self, names: BTreeMap<PeerId, String>) -> Telemetry {
        self.lock().names = names
            .iter()
            .map(|(peer, name)| (peer.to_string(), name.clone()))
            .collect();
        self.names = names;
        self
    }

    /// What people call a peer: its name in the charter, or the end of its id.
    pub fn name_of(&self, peer: &PeerId) -> String {
        self.names
            .get(peer)
            .cloned()
            .unwrap_or_else(|| peer.short())
    }

    /// Since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// All lines from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Line> {
        self.lines.subscribe()
    }

    /// Shows an event of the peer.
    pub fn peer_event(&self, mut event: Event) -> Line {
        // JSON knows no infinity: what is not finite is shown as the largest number.
        if let Event::Aggregated { spread: number, .. }
        | Event::Trained { loss: number, .. }
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
        self.lock().count_denial();
        self.metrics.count_denial();
        let told = self.lock_denials().note(self.now(), denial);
        told.into_iter()
            .for_each(|denial| drop(self.node_event(denial.into())));
    }

    /// Shows what was counted of refused connections and not shown yet; for the end of a run.
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

    /// Notes that a peer is connected, where it was dialled if it was.
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
        self.metrics.record(&line.what);
        self.lock().apply(&line.what);
        self.log(&line.what);
        // Without subscribers there is nobody to tell.
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

    /// Notes time spent on training, or on evaluation.
    pub(crate) fn add_work(&self, training: bool, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.work[usize::from(!training)].fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Seconds spent so far: (training, evaluation).
    pub fn work_seconds(&self) -> (f64, f64) {
        let seconds = |index: usize| self.work[index].load(Ordering::Relaxed) as f64 * 1e-9;
        (seconds(0), seconds(1))
    }

    /// Where the node stands.
    pub fn status(&self) -> Status {
        let mut status = self.lock().clone();
        let (incoming, outgoing) = self.wire();
        status.bytes.wire = incoming + outgoing;
        status.uptime_seconds = self.now().as_secs_f64();
        status.unreached = self.lock_reach().unreached(|peer| self.name_of(peer));
        status
    }

    /// Prometheus text.
    pub fn metrics(&self) -> String {
        let (incoming, outgoing) = self.wire();
        self.metrics
            .wire
            .get_or_create(&labels("in"))
            .set(incoming as i64);
        self.metrics
            .wire
            .get_or_create(&labels("out"))
            .set(outgoing as i64);
        self.metrics
            .connected
            .set(self.lock().connected.len() as i64);
        let mut text = String::new();
        encode(&mut text, &self.metrics.registry).expect("writing into a string does not fail");
        // A metric without labels is written without their braces, as scripts look for it.
        text.replace("{} ", " ")
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        // The status is only numbers and names: whole after any panic.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Telemetry({:?})", self.peer)
    }
}

impl Status {
    fn apply(&mut self, what: &What) {
        match what {
            What::Peer(event) => self.apply_peer(event),
            What::Node(NodeEvent::Listening { address }) => self.listening.push(address.clone()),
            What::Node(NodeEvent::Restarted { .. }) => self.restarts += 1,
            _ => {}
        }
    }

    /// Whether the peer can do its work now: it has begun, and somebody is connected where it has
    /// neighbours.
    pub fn is_ready(&self) -> bool {
        self.ready && (!self.needs_others || !self.connected.is_empty())
    }

    fn count_denial(&mut self) {
        self.denied += 1;
        *self.refused.entry("denied".to_owned()).or_default() += 1;
    }

    fn apply_peer(&mut self, event: &Event) {
        let texts = |peers: &[PeerId]| peers.iter().map(PeerId::to_string).collect();
        match event {
            Event::Started { round, .. } => (self.round, self.completed) = (*round, *round),
            Event::Waiting { missing, .. } => self.missing = texts(missing),
            Event::Connected { peer } => {
                let peer = peer.to_string();
                if !self.connected.contains(&peer) {
                    self.connected.push(peer);
                }
            }
            Event::Disconnected { peer } => {
                let peer = peer.to_string();
                self.connected.retain(|known| *known != peer);
            }
            Event::Ready { neighbours, .. } => {
                (self.ready, self.needs_others) = (true, *neighbours > 0)
            }
            Event::TooFew { missing, .. } => self.missing = texts(missing),
            Event::NoLongerAwaited { peer, .. } => self.no_longer_awaited.push(peer.to_string()),
            Event::AwaitedAgain { peer } => {
                let peer = peer.to_string();
                self.no_longer_awaited.retain(|known| *known != peer);
            }
            Event::Left { history, .. } => self.history = history.clone(),
            // A peer that resumes opens its round at once.
            Event::RoundOpened {
                round, neighbours, ..
            } => {
                (self.ready, self.needs_others) = (true, self.needs_others || *neighbours > 0);
                self.round = *round;
                self.missing.clear();
            }
            Event::Stalled { missing, .. } => self.missing = texts(missing),
            Event::Accepted {
                payload_bytes,
                keyframe_bytes,
                envelope_bytes,
                dense_bytes,
                ..
            } => {
                self.updates_accepted += 1;
                self.bytes.payload += *payload_bytes as u64;
                self.bytes.keyframes += *keyframe_bytes as u64;
                self.bytes.envelope += *envelope_bytes as u64;
                self.bytes.dense_equivalent += *dense_bytes as u64;
            }
            Event::Refused { reason, .. } => {
                *self.refused.entry(reason.name().to_owned()).or_default() += 1
            }
            Event::Aggregated { round, .. }
            | Event::MixingSkipped { round, .. }
            | Event::Adopted { round, .. }
            | Event::CaughtUp { round, .. }
            | Event::Kept { round, .. } => self.completed = round + 1,
            Event::Evaluated { loss, accuracy, .. } => {
                (self.loss, self.accuracy) = (Some(*loss), Some(*accuracy))
            }
            Event::Finished { rounds, .. } => (self.completed, self.finished) = (*rounds, true),
            _ => {}
        }
    }
}

impl Metrics {
    fn new() -> Metrics {
        let metrics = Metrics {
            registry: Registry::with_prefix("kith"),
            events: Family::default(),
            refused: Family::default(),
            bytes: Family::default(),
            restarts: Family::default(),
            rounds: Counter::default(),
            round: Family::default(),
            connected: Gauge::default(),
            accuracy: Family::default(),
            loss: Family::default(),
            wire: Family::default(),
            denied: Counter::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Metrics {
        let registry = &mut self.registry;
        registry.register("events", "Events by name", self.events.clone());
        registry.register(
            "refused",
            "Messages and updates refused, by reason",
            self.refused.clone(),
        );
        registry.register(
            "denied",
            "Connections refused before any message",
            self.denied.clone(),
        );
        registry.register(
            "update_bytes",
            "Bytes of accepted updates, by purpose",
            self.bytes.clone(),
        );
        registry.register(
            "restarts",
            "Actors started again after a panic",
            self.restarts.clone(),
        );
        registry.register("rounds_closed", "Rounds closed", self.rounds.clone());
        registry.register("round", "The round this peer is in", self.round.clone());
        registry.register(
            "connected_peers",
            "Peers with a completed handshake",
            self.connected.clone(),
        );
        registry.register(
            "accuracy",
            "Share of held-out rows classified rightly, newest",
            self.accuracy.clone(),
        );
        registry.register(
            "loss",
            "Mean loss on held-out rows, newest",
            self.loss.clone(),
        );
        registry.register(
            "wire_bytes",
            "Bytes over the sockets, below encryption",
            self.wire.clone(),
        );
        self
    }

    fn record(&self, what: &What) {
        self.events.get_or_create(&labels(&name(what))).inc();
        match what {
            What::Peer(Event::Refused { reason, .. }) => {
                self.refused.get_or_create(&labels(reason.name())).inc();
            }
            What::Peer(Event::Accepted {
                payload_bytes,
                keyframe_bytes,
                envelope_bytes,
                dense_bytes,
                ..
            }) => {
                let counts = [
                    ("payload", payload_bytes),
                    ("keyframes", keyframe_bytes),
                    ("envelope", envelope_bytes),
                    ("dense", dense_bytes),
                ];
                for (kind, bytes) in counts {
                    self.bytes
                        .get_or_create(&labels(kind))
                        .inc_by(*bytes as u64);
                }
            }
            What::Peer(Event::Started { round, .. } | Event::RoundOpened { round, .. }) => {
                self.round
                    .get_or_create(&[])
                    .set(i64::try_from(*round).unwrap_or(i64::MAX));
            }
            What::Peer(Event::RoundClosed { .. }) => {
                self.rounds.inc();
            }
            What::Peer(Event::Evaluated { loss, accuracy, .. }) => {
                self.loss.get_or_create(&[]).set(*loss);
                self.accuracy.get_or_create(&[]).set(*accuracy);
            }
            What::Node(NodeEvent::Restarted { actor }) => {
                self.restarts.get_or_create(&labels(actor)).inc();
            }
            _ => {}
        }
    }
}

impl Metrics {
    fn count_denial(&self) {
        self.denied.inc();
        self.refused.get_or_create(&labels("denied")).inc();
    }
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

/// Now, in UTC, to the millisecond (RFC 3339).
fn time_of_day() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second, millisecond) = now.to_hms_milli();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

fn labels(kind: &str) -> Labels {
    Labels {
        kind: kind.to_owned(),
    }
}

/// The event's name as its JSON has it.
fn name(what: &What) -> String {
    let value = match what {
        What::Peer(event) => serde_json::to_value(event),
        What::Node(event) => serde_json::to_value(event),
        What::Other(value) => Ok(value.clone()),
    };
    value
        .ok()
        .and_then(|value| Some(value.get("event")?.as_str()?.to_owned()))
        .unwrap_or_else(|| "other".to_owned())
}

impl Telemetry {
    /// Tells a person. Degraded is a warning, a round's facts are info, a message is debug.
    fn log(&self, what: &What) {
        match what {
            What::Peer(event) => self.log_peer(event),
            What::Node(NodeEvent::RunStarted { version, process }) => {
                tracing::debug!("kith {version}, process {process}")
            }
            What::Node(NodeEvent::Listening { address }) => {
                tracing::info!("listening at {address}")
            }
            What::Node(NodeEvent::Serving { address }) => {
                tracing::info!("status and metrics at http://{address}")
            }
            What::Node(NodeEvent::Denied {
                peer,
                why,
                address,
                count,
            }) => {
                // A stranger's id is told in full: whoever admits members needs it.
                let who = peer.map_or("a stranger".to_owned(), |peer| {
                    self.names.get(&peer).cloned().unwrap_or(peer.to_string())
                });
                let from = address
                    .as_ref()
                    .map_or(String::new(), |address| format!(" from {address}"));
                match count {
                    0 | 1 => tracing::warn!("denied a connection of {who}{from}: {why}"),
                    more => tracing::warn!(
                        "denied {more} more connections, the last of {who}{from}: {why}"
                    ),
                }
            }
            What::Node(NodeEvent::DialFailed {
                peer,
                address,
                why,
                detail,
            }) => {
                let who = peer.map_or("a bootstrap address".to_owned(), |peer| self.name_of(&peer));
                let at = address
                    .as_ref()
                    .map_or(String::new(), |address| format!(" at {address}"));
                tracing::warn!(
                    "cannot reach {who}{at}: {why} ({detail}); it is tried again every few seconds"
                );
            }
            What::Node(NodeEvent::OwnKeyElsewhere { address }) => {
                tracing::error!(
                    "another process runs with this peer's key at {address}: stop one of the two; two updates of one round would be \
                     taken for a lie"
                );
            }
            What::Node(NodeEvent::Warning { text }) => tracing::warn!("{text}"),
            What::Node(NodeEvent::Restarted { actor }) => {
                tracing::error!("the {actor} panicked and was started again")
            }
            What::Node(NodeEvent::Report {
                why,
                wire_in_bytes,
                wire_out_bytes,
                history,
                ..
            }) => {
                tracing::info!("stopped: {why} ({wire_in_bytes} bytes in, {wire_out_bytes} out)");
                if let Some(told) = told(history) {
                    tracing::warn!("{told}");
                }
            }
            What::Other(_) => {}
        }
    }

    /// The first of a peer and a reason at once, then how many a minute: a late peer, or a bad one,
    /// does not fill the log.
    fn log_refusal(&self, peer: &PeerId, reason: &Refusal) {
        let who = self.name_of(peer);
        if *reason == Refusal::Duplicate {
            // Updates are sent again over each further connection, since the line of an older one
            // may be dead.
            return tracing::debug!("heard an update of {who} once more");
        }
        let refusal = Denial {
            peer: Some(*peer),
            address: Some(who.clone()),
            why: reason.name().to_owned(),
            count: 1,
        };
        let told = self
            .refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(self.now(), refusal);
        match told.map(|told| told.count) {
            None => tracing::debug!("refused a message of {who}: {reason}"),
            Some(0 | 1) => tracing::warn!("refused a message of {who}: {reason}"),
            Some(more) => {
                tracing::warn!("refused {more} more messages, the last of {who}: {reason}")
            }
        }
    }

    fn log_peer(&self, event: &Event) {
        let names = |peers: &[PeerId]| {
            peers
                .iter()
                .map(|peer| self.name_of(peer))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match event {
            Event::Started {
                round,
                resumed: true,
                ..
            } => tracing::info!("resuming at round {round}"),
            Event::Started { federation, .. } => {
                tracing::info!("started in federation {}", federation.short())
            }
            Event::Waiting {
                ready,
                needed,
                missing,
            } => {
                tracing::info!(
                    "waiting for neighbours: {ready} of {needed} are here, missing {}",
                    names(missing)
                );
            }
            Event::RosterFormed { peers } => {
                tracing::warn!(
                    "the roster is complete with {peers} peers; membership is open, so byzantine is an assumption"
                );
            }
            Event::Connected { peer } => tracing::info!("connected to {}", self.name_of(peer)),
            Event::Disconnected { peer } => {
                tracing::info!("connection to {} ended", self.name_of(peer))
            }
            Event::Departed {
                peer,
                finished: true,
            } => tracing::info!("{} has finished", self.name_of(peer)),
            Event::Departed {
                peer,
                finished: false,
            } => tracing::info!("{} has stopped; it may come back", self.name_of(peer)),
            Event::Skipped { peer, round } => {
                tracing::warn!("{} publishes nothing in round {round}", self.name_of(peer))
            }
            Event::NoLongerAwaited { peer, missed, late } => {
                let why = if *late {
                    "its updates come too late"
                } else {
                    "nothing comes of it"
                };
                tracing::warn!(
                    "no longer waits for {}: it missed {missed} deadlines in a row, {why}",
                    self.name_of(peer)
                );
            }
            Event::AwaitedAgain { peer } => {
                tracing::info!("waits for {} again: it was on time", self.name_of(peer))
            }
            Event::CatchingUp { round } => {
                tracing::warn!(
                    "round {round}: behind the others; it does not train, and takes what they have"
                );
            }
            Event::CaughtUp { round, models, .. } => {
                tracing::info!("round {round}: caught up with the models of {models} neighbours");
            }
            Event::TooFew {
                round,
                have,
                need,
                missing,
            } => {
                let missing = names(missing);
                tracing::warn!(
                    "round {round} waits: {have} others are there, the charter wants {need} (round.neighbours_min); missing {missing}"
                );
            }
            Event::Over { round } => tracing::warn!(
                "round {round}: every neighbour has finished; the federation is over"
            ),
            Event::Dismissed { peer, reason } => {
                tracing::warn!("sent {} away: {reason}", self.name_of(peer))
            }
            Event::Ready {
                neighbours,
                connected,
            } => tracing::info!("ready: {connected} of {neighbours} neighbours connected"),
            Event::RoundOpened { round, .. } => tracing::debug!("round {round} opened"),
            Event::Trained {
                round,
                loss,
                samples,
                local_steps,
            } => {
                tracing::info!(
                    "round {round}: trained {local_steps} steps on {samples} rows, loss {loss:.4}"
                );
            }
            Event::TrainingFailed { round, why } => {
                tracing::error!("round {round}: training failed: {why}")
            }
            Event::Published {
                round,
                body_bytes,
                receivers,
                ..
            } => {
                tracing::debug!(
                    "round {round}: published {body_bytes} bytes to {receivers} neighbours"
                );
            }
            Event::Accepted {
                round,
                peer,
                payload_bytes,
                ..
            } => {
                tracing::debug!(
                    "round {round}: update of {} accepted, {payload_bytes} bytes",
                    self.name_of(peer)
                );
            }
            Event::Refused { peer, reason, .. } => self.log_refusal(peer, reason),
            Event::KeyframeWanted { round, peer } => {
                tracing::debug!(
                    "round {round}: asking {} for a keyframe",
                    self.name_of(peer)
                )
            }
            Event::RoundClosed {
                round,
                have,
                awaited,
                missing,
                ..
            } if !missing.is_empty() => {
                tracing::warn!(
                    "round {round} closed with {have} of {awaited} updates, missing {}",
                    names(missing)
                );
            }
            Event::RoundClosed {
                round,
                have,
                awaited,
                ..
            } => {
                tracing::info!("round {round} closed with {have} of {awaited} updates")
            }
            Event::Aggregated {
                round,
                models,
                spread,
                dropped,
                ..
            } => {
                let filtered = dropped.iter().filter(|dropped| dropped.share > 0.5).count();
                tracing::info!(
                    "round {round}: {models} models combined, {filtered} filtered, spread {spread:.4}"
                );
            }
            Event::MixingSkipped { round, have, need } => {
                tracing::warn!(
                    "round {round}: {have} models, the rule needs {need}; keeping the own step"
                );
            }
            Event::Adopted { round, peer, .. } => {
                tracing::info!("round {round}: took the model of {}", self.name_of(peer))
            }
            Event::Kept {
                round,
                expected: true,
            } => {
                tracing::warn!(
                    "round {round}: the model to take over has not come; keeping the own one"
                );
            }
            Event::Kept {
                round,
                expected: false,
            } => tracing::debug!("round {round}: nobody sends to this peer"),
            Event::Suspected { peer, score } => {
                tracing::warn!("{} is suspected (score {score:.2})", self.name_of(peer))
            }
            Event::Equivocated { peer, round, .. } => {
                tracing::error!(
                    "{} signed two different updates for round {round}",
                    self.name_of(peer)
                )
            }
            Event::Jumped { from, to } => {
                tracing::warn!("behind: went on from round {from} at round {to}")
            }
            Event::Stalled { round, missing } => {
                tracing::warn!("round {round} waits for {}", names(missing))
            }
            Event::Evaluated {
                round,
                loss,
                accuracy,
                samples,
            } => {
                tracing::info!(
                    "after {round} rounds: accuracy {accuracy:.4}, loss {loss:.4} on {samples} held-out rows"
                );
            }
            Event::Finished { rounds, state } => {
                tracing::info!("finished {rounds} rounds, model {}", state.short())
            }
            Event::Left { why, .. } => tracing::info!("left: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let telemetry = Telemetry::new("ada", peer, Digest::of(b"federation"), 9);
        assert!(!telemetry.status().is_ready());
        telemetry.peer_event(Event::Connected { peer: other });
        telemetry.peer_event(Event::Ready {
            neighbours: 1,
            connected: 1,
        });
        assert!(telemetry.status().is_ready());
        telemetry.peer_event(Event::Disconnected { peer: other });
        assert!(!telemetry.status().is_ready());
        let alone = Telemetry::new("ada", peer, Digest::of(b"federation"), 9);
        alone.peer_event(Event::Ready {
            neighbours: 0,
            connected: 0,
        });
        assert!(alone.status().is_ready(), "a federation of one");
        let resumed = Telemetry::new("ada", peer, Digest::of(b"federation"), 9);
        resumed.peer_event(Event::RoundOpened {
            round: 3,
            neighbours: 1,
            selected: 1,
        });
        assert!(!resumed.status().is_ready());
        resumed.peer_event(Event::Connected { peer: other });
        assert!(resumed.status().is_ready());
    }

    #[test]
    fn status_and_metrics_follow_from_the_lines() {
        let peer = PeerId([7; 32]);
        let telemetry = Telemetry::new("ada", peer, Digest::of(b"federation"), 9);
        let mut lines = telemetry.subscribe();
        for unknown in ["kith_accuracy ", "kith_loss ", "kith_round "] {
            assert!(
                !telemetry.metrics().contains(unknown),
                "{unknown}is not known yet: {}",
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
            text.contains("kith_refused_total{kind=\"signature\"} 1"),
            "{text}"
        );
        assert!(text.contains("kith_accuracy 0.75"), "{text}");
    }
    #[test]
    fn lines_that_nobody_has_read_hold_no_model() {
        let peer = PeerId([7; 32]);
        let telemetry = Telemetry::new("ada", peer, Digest::of(b"federation"), 9);
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
        let telemetry = Telemetry::new("ada", peer, Digest::of(b"federation"), 9);
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
            telemetry.metrics().contains("kith_denied_total 100"),
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
