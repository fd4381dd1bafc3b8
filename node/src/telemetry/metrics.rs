//! The same numbers for Prometheus.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::known::Known;
use super::line::What;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: String,
}

pub(super) struct Metrics {
    registry: Registry,
    events: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    restarts: Family<Labels, Counter>,
    rounds: Counter,
    round: Optional<Gauge>,
    connected: Gauge,
    accuracy: Optional<Gauge<f64, AtomicU64>>,
    loss: Optional<Gauge<f64, AtomicU64>>,
    epsilon: Optional<Gauge<f64, AtomicU64>>,
    budget: Optional<Gauge<f64, AtomicU64>>,
    wire: Family<Labels, Gauge>,
    denied: Counter,
}

/// A metric without labels that is served once it has been set: before that nothing is known, and
/// zero would be wrong.
type Optional<M> = Family<[(String, String); 0], M>;

/// What lines do not carry.
pub(super) struct Counted {
    /// Connections ended before any message of theirs was read.
    pub(super) denied: u64,
    /// Bytes that crossed the sockets, in and out.
    pub(super) wire: (u64, u64),
}

impl Metrics {
    pub(super) fn new() -> Metrics {
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
            epsilon: Family::default(),
            budget: Family::default(),
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
            "privacy_epsilon_spent",
            "Epsilon spent of this peer's rows, at the charter's delta",
            self.epsilon.clone(),
        );
        registry.register(
            "privacy_epsilon_budget",
            "Epsilon that may be spent of this peer's rows",
            self.budget.clone(),
        );
        registry.register(
            "wire_bytes",
            "Bytes over the sockets, below encryption",
            self.wire.clone(),
        );
        self
    }

    /// Counts a line by its name.
    pub(super) fn count(&self, what: &What) {
        self.events.get_or_create(&labels(&what.name())).inc();
    }

    /// The text that is served.
    pub(super) fn text(&self, known: &Known, counted: &Counted) -> String {
        self.set(known);
        self.denied.inner().store(counted.denied, Ordering::Relaxed);
        if counted.denied > 0 {
            set(&self.refused, "denied", counted.denied);
        }
        let (incoming, outgoing) = counted.wire;
        for (direction, bytes) in [("in", incoming), ("out", outgoing)] {
            self.wire
                .get_or_create(&labels(direction))
                .set(bytes as i64);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing into a string does not fail");
        // A metric without labels is written without their braces, as scripts look for it.
        text.replace("{} ", " ")
    }

    fn set(&self, known: &Known) {
        for (reason, count) in &known.refused {
            set(&self.refused, reason, *count);
        }
        if known.accepted > 0 {
            let bytes = &known.bytes;
            set(&self.bytes, "payload", bytes.payload);
            set(&self.bytes, "keyframes", bytes.keyframes);
            set(&self.bytes, "envelope", bytes.envelope);
            set(&self.bytes, "dense", bytes.dense_equivalent);
        }
        for (actor, count) in &known.restarts {
            set(&self.restarts, actor, *count);
        }
        self.rounds.inner().store(known.closed, Ordering::Relaxed);
        self.connected.set(known.connected.len() as i64);
        if let Some(round) = known.round {
            let round = i64::try_from(round).unwrap_or(i64::MAX);
            self.round.get_or_create(&[]).set(round);
        }
        let privacy = known.privacy;
        for (gauge, value) in [
            (&self.accuracy, known.accuracy),
            (&self.loss, known.loss),
            (&self.epsilon, privacy.map(|privacy| privacy.epsilon)),
            (&self.budget, privacy.map(|privacy| privacy.budget)),
        ] {
            if let Some(value) = value {
                gauge.get_or_create(&[]).set(value);
            }
        }
    }
}

fn set(family: &Family<Labels, Counter>, kind: &str, count: u64) {
    let counter = family.get_or_create(&labels(kind));
    counter.inner().store(count, Ordering::Relaxed);
}

fn labels(kind: &str) -> Labels {
    Labels {
        kind: kind.to_owned(),
    }
}
