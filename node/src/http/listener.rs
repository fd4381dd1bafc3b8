//! A listening socket with limits such that no client can lock out another.
//!
//! A connection lives only so long, whatever it does or leaves undone, and at most
//! [`CONNECTIONS_MAX`] are open at once: when one more arrives, the oldest ends. So half-open requests
//! take neither the descriptors that the store and the neighbours need, nor the turn of a person
//! who asks afterwards.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Connections at once. Status is asked by a person, a scraper and a health check; the limit is a
/// multiple of that (guess).
pub(crate) const CONNECTIONS_MAX: usize = 32;
/// Longest life of a connection for status: the request's head, its answer, and the end.
pub(crate) const LIFETIME: Duration = Duration::from_secs(15);
/// Pause after a connection could not be accepted, for example because there are no free
/// descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// A listening socket with room for [`CONNECTIONS_MAX`] connections.
pub(crate) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// Oldest first.
    connections: VecDeque<Weak<CancellationToken>>,
    /// Longest life of a connection.
    lifetime: Duration,
}

/// A connection that ends at its deadline, or when its place is needed.
pub(crate) struct Connection {
    stream: TcpStream,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    _token: Arc<CancellationToken>,
    _place: OwnedSemaphorePermit,
}

impl BoundedListener {
    /// Each connection ends after `lifetime`.
    pub(crate) fn new(listener: TcpListener, lifetime: Duration) -> BoundedListener {
        BoundedListener {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            connections: VecDeque::new(),
            lifetime,
        }
    }

    /// A place for one more connection; if there is none, the oldest connection gives up its place.
    async fn place(&mut self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return place;
            }
            match self.connections.pop_front().map(|oldest| oldest.upgrade()) {
                Some(Some(oldest)) => {
                    oldest.cancel();
                    drop(oldest);
                    if let Ok(place) = self.places.clone().acquire_owned().await {
                        return place;
                    }
                }
                // That one has ended on its own.
                Some(None) => {}
                None => tokio::task::yield_now().await,
            }
        }
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let place = self.place().await;
                    let token = Arc::new(CancellationToken::new());
                    self.connections
                        .retain(|connection| connection.strong_count() > 0);
                    self.connections.push_back(Arc::downgrade(&token));
                    let cancelled = CancellationToken::clone(&token).cancelled_owned();
                    let lifetime = self.lifetime;
                    let end = Box::pin(async move {
                        let _ = tokio::time::timeout(lifetime, cancelled).await;
                    });
                    return (
                        Connection {
                            stream,
                            end,
                            _token: token,
                            _place: place,
                        },
                        from,
                    );
                }
                Err(error) => {
                    tracing::debug!("a request was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    /// The stream, while the connection lasts.
    fn stream(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream(context)?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn more_clients_than_places_end_the_oldest_and_never_hold_more_descriptors() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = BoundedListener::new(listener, LIFETIME);
        let places = bounded.places.clone();
        let (mut clients, mut connections) = (Vec::new(), Vec::new());
        for _ in 0..3 * CONNECTIONS_MAX {
            clients.push(TcpStream::connect(address).await.unwrap());
            let accepted = tokio::time::timeout(Duration::from_secs(20), bounded.accept());
            // What hyper does with each: it reads, and gives up when that fails.
            let (mut connection, _) = accepted.await.expect("nobody waits for a place");
            connections.push(tokio::spawn(async move {
                connection.read_u8().await.map_err(|error| error.kind())
            }));
        }
        assert_eq!(places.available_permits(), 0);
        let first = connections.remove(0).await.unwrap();
        assert_eq!(first, Err(io::ErrorKind::TimedOut));
        assert!(
            !connections.last().unwrap().is_finished(),
            "the newest stays"
        );
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_gone_after_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let mut bounded = BoundedListener::new(listener, Duration::from_millis(20));
        let (mut connection, _) = bounded.accept().await;
        assert_eq!(
            connection.read_u8().await.map_err(|error| error.kind()),
            Err(io::ErrorKind::TimedOut)
        );
    }
}
