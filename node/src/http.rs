//! What every HTTP server of the program has in common: who may ask, and how many at once.
//!
//! [`access`] says who may ask, [`listener`] bounds connections. The answers themselves are in
//! `actors/status` (a running peer) and `page` (a testnet's page).

pub(crate) mod access;
pub(crate) mod listener;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;

use self::access::Guard;
use self::listener::BoundedListener;

/// Looks at every request before any route does. Each connection serves one request: places at the
/// [`BoundedListener`] are few.
pub(crate) async fn look(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(From(from)): ConnectInfo<From>,
    request: Request,
    next: Next,
) -> Response {
    let asked = (request.method(), request.uri());
    let mut response = match guard.admit(from, asked, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The address from which a request comes.
#[derive(Clone, Copy)]
pub(crate) struct From(SocketAddr);

impl Connected<IncomingStream<'_, BoundedListener>> for From {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> From {
        From(*stream.remote_addr())
    }
}
