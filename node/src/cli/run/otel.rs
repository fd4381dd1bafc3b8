//! Sends the spans of a peer's rounds to an OpenTelemetry collector, over HTTP.
//!
//! It is on if `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, as the
//! specification of OpenTelemetry names them. A collector that is slow or gone costs spans, never
//! the federation's time.

use std::borrow::Cow;
use std::time::Duration;

use kith_consensus::{Genesis, PeerId};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cli::output::Failure;
use crate::telemetry::Line;
use crate::telemetry::spans::{Span, Spans};

/// Where a collector is named.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
/// Spans that wait for the collector; further ones are lost. A hundred rounds (guess).
const WAITING_MAX: usize = 512;
/// Longest wait, at the end, for the collector to take the last spans.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// Makes spans of lines and hands them on.
pub(super) struct Traced {
    spans: Spans,
    sender: mpsc::Sender<Span>,
    lost: bool,
}

/// The task that sends.
pub(super) struct Sending(JoinHandle<()>);

/// Begins to send, if a collector is named.
///
/// # Errors
/// When what is named is no address.
pub(super) fn begin(
    federation: Genesis,
    peer: PeerId,
    name: &str,
) -> Result<Option<(Traced, Sending)>, Failure> {
    if ENDPOINTS
        .iter()
        .all(|name| std::env::var_os(name).is_none())
    {
        return Ok(None);
    }
    let exporter = SpanExporter::builder().with_http().build();
    let mut exporter = exporter.map_err(|error| {
        Failure::with_help(
            format!("spans cannot be sent: {error}"),
            format!(
                "expected in {} an address such as http://127.0.0.1:4318",
                ENDPOINTS[0]
            ),
        )
    })?;
    let resource = Resource::builder()
        .with_service_name("kith")
        .with_attribute(KeyValue::new("service.instance.id", peer.to_string()))
        .with_attribute(KeyValue::new("kith.name", name.to_owned()));
    exporter.set_resource(&resource.build());
    let (sender, spans) = mpsc::channel(WAITING_MAX);
    let traced = Traced {
        spans: Spans::new(federation, peer),
        sender,
        lost: false,
    };
    Ok(Some((traced, Sending(tokio::spawn(send(exporter, spans))))))
}

impl Traced {
    pub(super) fn add(&mut self, line: &Line) {
        for span in self.spans.add(line) {
            if self.sender.try_send(span).is_err() && !self.lost {
                self.lost = true;
                tracing::warn!("spans are lost: the collector is slow or gone");
            }
        }
    }
}

impl Sending {
    /// Waits until the last spans are sent, once nobody hands on any more.
    pub(super) async fn end(self) {
        // What is not sent by then is lost.
        let _ = tokio::time::timeout(END_DEADLINE, self.0).await;
    }
}

async fn send(exporter: SpanExporter, mut spans: mpsc::Receiver<Span>) {
    let mut waiting = Vec::new();
    let mut failed = false;
    while spans.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        let batch = waiting.drain(..).map(data).collect();
        if let Err(error) = exporter.export(batch).await
            && !failed
        {
            failed = true;
            tracing::warn!("spans are not taken, and later failures are not reported: {error}");
        }
    }
}

fn data(span: Span) -> SpanData {
    let context = SpanContext::new(
        TraceId::from_bytes(span.trace),
        SpanId::from_bytes(span.id),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    SpanData {
        span_context: context,
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: Cow::Borrowed(span.phase.name()),
        start_time: span.start,
        end_time: span.end,
        attributes: vec![KeyValue::new(
            "kith.round",
            i64::try_from(span.round).unwrap_or(i64::MAX),
        )],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("kith").build(),
    }
}
