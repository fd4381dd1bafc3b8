//! The socket for status, with limits such that no visitor can lock out another.
//!
//! A connection lives at most [`VISIT`], whatever it does or leaves undone, and at most
//! [`VISITS_MAX`] are open at once: when one more arrives, the oldest ends. So half-open requests
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
pub(crate) const VISITS_MAX: usize = 32;
/// Longest life of a connection: the request's head, its answer, and the end.
pub(crate) const VISIT: Duration = Duration::from_secs(15);
/// Pause after a connection could not be accepted, for example because there are no free
/// descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// A listening socket with room for [`VISITS_MAX`] visits.
pub(crate) struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// Oldest first.
    visits: VecDeque<Weak<CancellationToken>>,
    /// Longest life of a connection.
    visit: Duration,
}

/// A connection that ends at its deadline, or when its place is needed.
pub(crate) struct Visit {
    stream: TcpStream,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    _token: Arc<CancellationToken>,
    _place: OwnedSemaphorePermit,
}

impl Door {
    pub(crate) fn new(listener: TcpListener) -> Door {
        Door {
            listener,
            places: Arc::new(Semaphore::new(VISITS_MAX)),
            visits: VecDeque::new(),
            visit: VISIT,
        }
    }

    /// A place for one more visit; if there is none, the oldest visit gives up its place.
    async fn place(&mut self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return place;
            }
            match self.visits.pop_front().map(|oldest| oldest.upgrade()) {
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

impl Listener for Door {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let place = self.place().await;
                    let token = Arc::new(CancellationToken::new());
                    self.visits.retain(|visit| visit.strong_count() > 0);
                    self.visits.push_back(Arc::downgrade(&token));
                    let cancelled = CancellationToken::clone(&token).cancelled_owned();
                    let visit = self.visit;
                    let end = Box::pin(async move {
                        let _ = tokio::time::timeout(visit, cancelled).await;
                    });
                    return (
                        Visit {
                            stream,
                            end,
                            _token: token,
                            _place: place,
                        },
                        from,
                    );
                }
                Err(error) => {
                    tracing::debug!("a request for status was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Visit {
    /// The stream, while the visit lasts.
    fn stream(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_read(context, into)
    }
}

impl AsyncWrite for Visit {
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
    async fn more_visitors_than_places_end_the_oldest_and_never_hold_more_descriptors() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut door = Door::new(listener);
        let places = door.places.clone();
        let (mut visitors, mut visits) = (Vec::new(), Vec::new());
        for _ in 0..3 * VISITS_MAX {
            visitors.push(TcpStream::connect(address).await.unwrap());
            let accepted = tokio::time::timeout(Duration::from_secs(20), door.accept());
            // What hyper does with each: it reads, and gives up when that fails.
            let (mut visit, _) = accepted.await.expect("nobody waits for a place");
            visits.push(tokio::spawn(async move {
                visit.read_u8().await.map_err(|error| error.kind())
            }));
        }
        assert_eq!(places.available_permits(), 0);
        let first = visits.remove(0).await.unwrap();
        assert_eq!(first, Err(io::ErrorKind::TimedOut));
        assert!(!visits.last().unwrap().is_finished(), "the newest stays");
    }

    #[tokio::test]
    async fn a_visitor_that_says_nothing_is_gone_after_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _visitor = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let mut door = Door::new(listener);
        door.visit = Duration::from_millis(20);
        let (mut visit, _) = door.accept().await;
        assert_eq!(
            visit.read_u8().await.map_err(|error| error.kind()),
            Err(io::ErrorKind::TimedOut)
        );
    }
}
