//! The actor that serves status and metrics over HTTP, on loopback unless the configuration says
//! otherwise.
//!
//! `GET /status` (JSON), `/metrics` (Prometheus text), `/live`, `/ready`, `/log?count=N` (JSON
//! lines), `POST /leave` and `/snapshot`. [`listener`](crate::http::listener) bounds connections,
//! [`access`](crate::http::access) says who may ask.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
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
use super::store::{ReadEvents, Snapshot, StoreActor};
use crate::config::Config;
use crate::error::NodeError;
use crate::http::access::Guard;
use crate::http::listener::{BoundedListener, LIFETIME};
use crate::http::{From, look};
use crate::private;
use crate::telemetry::Telemetry;
use crate::token::Token;

/// File in the state folder that names where status is served.
pub const STATUS_ADDRESS_FILE: &str = "status.address";

/// This actor gets no message except the one to stop.
pub(crate) const MAILBOX: usize = 8;

/// Most lines of the log in one answer.
const LOG_LINES_MAX: usize = 10_000;

/// A bound socket, and the file in the state folder that names it while it is served.
pub(crate) struct Socket {
    listener: TcpListener,
    guard: Guard,
    address_file: AddressFile,
}

/// The file that names where status is served. Removed with the run, so that nobody asks the
/// program that gets the address next.
struct AddressFile(PathBuf, String);

impl Drop for AddressFile {
    fn drop(&mut self) {
        private::remove_own(&self.0, &self.1);
    }
}

impl Socket {
    /// Listens where the configuration says and notes the address in the state folder.
    ///
    /// # Errors
    /// When the address is not available, the token file cannot be used, or the state folder cannot
    /// be written.
    pub(crate) async fn bind(config: &Config) -> Result<Socket, NodeError> {
        let address = config.status.listen;
        let failed = |source| NodeError::Status { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let file = config.token_file();
        let token = match config.status.token.is_some() {
            true => Token::kept(file)?,
            false => Token::of_run(file)?,
        };
        let path = config.state.join(STATUS_ADDRESS_FILE);
        let text = format!("{address}\n");
        private::write(&path, text.as_bytes())
            .map_err(|error| NodeError::io("write", &path, error))?;
        Ok(Socket {
            listener,
            guard: Guard {
                served: address,
                names: config.status.names.clone(),
                token: Some(token),
            },
            address_file: AddressFile(path, text),
        })
    }

    /// The address at which it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.guard.served
    }
}

/// What the actor is made of.
pub(crate) struct Arguments {
    pub(crate) socket: Socket,
    pub(crate) served: Served,
}

/// The sources of answers to requests.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) peer: ActorRef<PeerActor>,
    pub(crate) store: ActorRef<StoreActor>,
    /// Whether metrics are among them.
    pub(crate) metrics: bool,
}

/// Owns the server's task.
pub(crate) struct StatusActor {
    server: JoinHandle<()>,
    _address_file: AddressFile,
}

impl Actor for StatusActor {
    type Args = Arguments;
    type Error = Infallible;

    fn name() -> &'static str {
        "status server"
    }

    async fn on_start(
        Arguments { socket, served }: Arguments,
        _: ActorRef<Self>,
    ) -> Result<Self, Infallible> {
        let Socket {
            listener,
            guard,
            address_file,
        } = socket;
        let mut routes = Router::new();
        if served.metrics {
            routes = routes.route("/metrics", get(metrics));
        }
        let routes = routes
            .route(
                "/status",
                get(async |State(served): State<Served>| Json(served.telemetry.status())),
            )
            .route("/live", get(async || "live\n"))
            .route("/ready", get(ready))
            .route("/log", get(log))
            .route("/leave", post(leave))
            .route("/snapshot", post(snapshot))
            .fallback(async || StatusCode::NOT_FOUND)
            .layer(from_fn_with_state(Arc::new(guard), look))
            .with_state(served);
        let server = tokio::spawn(async move {
            let service = routes.into_make_service_with_connect_info::<From>();
            if let Err(error) = axum::serve(BoundedListener::new(listener, LIFETIME), service).await
            {
                tracing::warn!("status is no longer served: {error}");
            }
        });
        Ok(StatusActor {
            server,
            _address_file: address_file,
        })
    }

    async fn on_stop(
        &mut self,
        _: WeakActorRef<Self>,
        _: ActorStopReason,
    ) -> Result<(), Infallible> {
        self.server.abort();
        Ok(())
    }
}

async fn metrics(State(served): State<Served>) -> Response {
    let content = [(
        header::CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    (content, served.telemetry.metrics()).into_response()
}

async fn ready(State(served): State<Served>) -> (StatusCode, &'static str) {
    if served.telemetry.known().is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for neighbours\n")
    }
}

async fn log(State(served): State<Served>, RawQuery(query): RawQuery) -> Response {
    let count = query
        .as_deref()
        .and_then(|query| query.strip_prefix("count="))
        .and_then(|count| count.parse().ok());
    let count = count.unwrap_or(100).min(LOG_LINES_MAX);
    match served.store.ask(ReadEvents(count)).send().await {
        Ok(lines) => lines
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect::<String>()
            .into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

/// Writes a copy of the state; answers with its folder.
async fn snapshot(State(served): State<Served>) -> Response {
    match served.store.ask(Snapshot).send().await {
        Ok(folder) => format!("{}\n", folder.display()).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn leave(State(served): State<Served>) -> (StatusCode, &'static str) {
    let leave = Input::Command(Command::Leave);
    let _ = served.peer.tell(leave).send().await;
    (StatusCode::ACCEPTED, "leaving\n")
}
