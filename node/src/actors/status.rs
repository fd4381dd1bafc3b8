//! The actor that serves status and metrics over HTTP, on loopback unless the configuration says otherwise.
//!
//! `GET /status` (JSON), `/metrics` (Prometheus text), `/live`, `/ready`, `/log?count=N` (JSON lines), `POST /leave`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kameo::Actor;
use kameo::actor::{ActorRef, WeakActorRef};
use kameo::error::ActorStopReason;
use kith_gossip::{Command, Input};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::peer::PeerActor;
use super::store::{ReadEvents, StoreActor};
use crate::telemetry::Telemetry;

/// A header that a page in somebody's browser cannot send to another site without asking, so that none can make a peer leave.
pub(crate) const LEAVE_HEADER: &str = "x-kith";

/// This actor is never told anything but to stop.
pub(crate) const MAILBOX: usize = 8;

/// Most lines of the log in one answer.
const LOG_LINES_MAX: usize = 10_000;

/// What the actor is made of.
pub(crate) struct Arguments {
    pub(crate) listener: TcpListener,
    pub(crate) served: Served,
}

/// What requests are answered from.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) peer: ActorRef<PeerActor>,
    pub(crate) store: ActorRef<StoreActor>,
}

/// Owns the server's task.
pub(crate) struct StatusActor {
    server: JoinHandle<()>,
}

impl Actor for StatusActor {
    type Args = Arguments;
    type Error = Infallible;

    fn name() -> &'static str {
        "status server"
    }

    async fn on_start(arguments: Arguments, _: ActorRef<Self>) -> Result<Self, Infallible> {
        let routes = Router::new()
            .route("/status", get(async |State(served): State<Served>| Json(served.telemetry.status())))
            .route("/metrics", get(metrics))
            .route("/live", get(async || "live\n"))
            .route("/ready", get(ready))
            .route("/log", get(log))
            .route("/leave", post(leave))
            .with_state(arguments.served);
        let server = tokio::spawn(async move {
            let service = routes.into_make_service_with_connect_info::<SocketAddr>();
            if let Err(error) = axum::serve(arguments.listener, service).await {
                tracing::warn!("status is no longer served: {error}");
            }
        });
        Ok(StatusActor { server })
    }

    async fn on_stop(&mut self, _: WeakActorRef<Self>, _: ActorStopReason) -> Result<(), Infallible> {
        self.server.abort();
        Ok(())
    }
}

async fn metrics(State(served): State<Served>) -> Response {
    let content = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (content, served.telemetry.metrics()).into_response()
}

async fn ready(State(served): State<Served>) -> (StatusCode, &'static str) {
    if served.telemetry.status().ready {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for neighbours\n")
    }
}

async fn log(State(served): State<Served>, RawQuery(query): RawQuery) -> Response {
    let count = query.as_deref().and_then(|query| query.strip_prefix("count=")).and_then(|count| count.parse().ok());
    let count = count.unwrap_or(100).min(LOG_LINES_MAX);
    match served.store.ask(ReadEvents(count)).send().await {
        Ok(lines) => lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>().into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn leave(State(served): State<Served>, ConnectInfo(from): ConnectInfo<SocketAddr>, headers: HeaderMap) -> Response {
    if !from.ip().is_loopback() || !headers.contains_key(LEAVE_HEADER) {
        return (StatusCode::FORBIDDEN, "only this machine may ask that, with the header x-kith\n").into_response();
    }
    let _ = served.peer.tell(Input::Command(Command::Leave)).send().await;
    (StatusCode::ACCEPTED, "leaving\n").into_response()
}
