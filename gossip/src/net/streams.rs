//! Streams of the project's own protocols, each tied to its connection.
//!
//! A behaviour that hands out raw streams, and three guarantees about them. A stream ends with its
//! connection, whichever side closes that and whatever the multiplexer makes of it: a reader never
//! waits for a line that is gone. A stream that the other side opens is never dropped because this
//! side is busy; only a stream above the number that one connection may have is dropped. A stream
//! that this side opens goes over the newest connection to a peer, since an older one may be dead
//! without anybody knowing.
//!
//! This module does not know what travels in a stream.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{AsyncRead, AsyncWrite, FutureExt, StreamExt};
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use crate::limits::{BODY_STREAMS_MAX, MESSAGE_STREAMS_MAX};

/// Requests for streams that wait for one connection (guess: a peer asks for a few at a time).
const REQUESTS_MAX: usize = 16;

/// A protocol of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Envelopes, one after the other.
    Message,
    /// A body, asked for by its hash.
    Body,
}

impl Protocol {
    const ALL: [Protocol; 2] = [Protocol::Message, Protocol::Body];

    /// Its name on the wire.
    fn name(self) -> StreamProtocol {
        match self {
            Protocol::Message => StreamProtocol::new("/kith/message/1"),
            Protocol::Body => StreamProtocol::new("/kith/body/1"),
        }
    }

    /// Streams that the other side may have open at a time over one connection.
    const fn inbound_max(self) -> usize {
        match self {
            Protocol::Message => MESSAGE_STREAMS_MAX,
            Protocol::Body => BODY_STREAMS_MAX,
        }
    }
}

/// A stream that the other side has opened.
pub(super) struct Inbound {
    pub(super) from: PeerId,
    pub(super) stream: Tied,
}

/// A stream that ends with its connection. Counts among the connection's streams until it is
/// dropped.
pub(super) struct Tied {
    stream: Stream,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Tied {
    fn new(stream: Stream, over: &CancellationToken, place: Option<OwnedSemaphorePermit>) -> Tied {
        Tied {
            stream,
            over: Box::pin(over.clone().cancelled_owned()),
            _place: place,
        }
    }

    /// What the stream says; if it says nothing, an error once the connection is over. Bytes that
    /// arrived before that are still read.
    fn or_over<T>(
        &mut self,
        context: &mut Context<'_>,
        said: Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        match said {
            Poll::Pending => self
                .over
                .poll_unpin(context)
                .map(|()| Err(std::io::ErrorKind::ConnectionAborted.into())),
            said => said,
        }
    }
}

impl AsyncRead for Tied {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.or_over(context, said)
    }
}

impl AsyncWrite for Tied {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.or_over(context, said)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_flush(context);
        self.or_over(context, said)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_close(context);
        self.or_over(context, said)
    }
}

/// A request for a stream over a connection.
pub(super) struct Request {
    protocol: Protocol,
    answer: oneshot::Sender<Result<Tied, String>>,
}

/// What is known of one connection outside its handler.
struct Connection {
    id: ConnectionId,
    requests: mpsc::Sender<Request>,
    /// A permit for each stream of messages that the other side may open; all are free once its
    /// readers have read everything that came.
    messages: Arc<Semaphore>,
}

/// The open connections, by peer, oldest first.
type Connections = Arc<Mutex<BTreeMap<PeerId, Vec<Connection>>>>;

fn lock(connections: &Connections) -> MutexGuard<'_, BTreeMap<PeerId, Vec<Connection>>> {
    // The map is whole even if a holder panicked: every change is one call.
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens streams; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Control {
    connections: Connections,
}

impl Control {
    /// Opens a stream over the newest connection to a peer.
    ///
    /// # Errors
    /// When there is no connection, it ends, or the other side does not speak the protocol.
    pub(super) async fn open(&self, peer: PeerId, protocol: Protocol) -> Result<Tied, String> {
        let newest = lock(&self.connections)
            .get(&peer)
            .and_then(|connections| Some(connections.last()?.requests.clone()));
        let (answer, opened) = oneshot::channel();
        let over = |_| "the connection ended".to_owned();
        let requests = newest.ok_or_else(|| "not connected".to_owned())?;
        requests
            .send(Request { protocol, answer })
            .await
            .map_err(|_| "the connection ended".to_owned())?;
        opened.await.map_err(over)?
    }

    /// Whether there is a connection to a peer.
    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        lock(&self.connections).contains_key(peer)
    }
}

/// The behaviour.
pub(super) struct Streams {
    control: Control,
    inbound: [mpsc::Sender<Inbound>; 2],
    /// Connections that another behaviour may still refuse.
    fresh: BTreeMap<ConnectionId, Connection>,
    /// Waits for the readers of connections that are over.
    ending: FuturesUnordered<BoxFuture<'static, PeerId>>,
}

/// The readers of a connection that is over have taken in everything that came over it.
#[derive(Debug)]
pub(super) struct Ended(pub(super) PeerId);

/// The streams that other sides have opened, by protocol.
pub(super) struct Accepted {
    pub(super) messages: mpsc::Receiver<Inbound>,
    pub(super) bodies: mpsc::Receiver<Inbound>,
}

impl Streams {
    /// A behaviour for at most `connections_max` connections.
    pub(super) fn new(connections_max: usize) -> (Streams, Accepted) {
        let channel =
            |protocol: Protocol| mpsc::channel((connections_max * protocol.inbound_max()).max(1));
        let (to_messages, messages) = channel(Protocol::Message);
        let (to_bodies, bodies) = channel(Protocol::Body);
        let streams = Streams {
            control: Control::default(),
            inbound: [to_messages, to_bodies],
            fresh: BTreeMap::new(),
            ending: FuturesUnordered::new(),
        };
        (streams, Accepted { messages, bodies })
    }

    pub(super) fn control(&self) -> Control {
        self.control.clone()
    }

    fn handler(&mut self, id: ConnectionId, peer: PeerId) -> Handler {
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let places = Protocol::ALL.map(|protocol| Arc::new(Semaphore::new(protocol.inbound_max())));
        let messages = Arc::clone(&places[Protocol::Message as usize]);
        self.fresh.insert(
            id,
            Connection {
                id,
                requests,
                messages,
            },
        );
        let over = CancellationToken::new();
        let end = over.clone().drop_guard();
        Handler {
            peer,
            asked,
            inbound: self.inbound.clone(),
            places,
            over,
            _end: end,
        }
    }

    fn closed(&mut self, id: ConnectionId, peer: PeerId) {
        let mut connections = lock(&self.control.connections);
        let Some(of_peer) = connections.get_mut(&peer) else {
            return;
        };
        let Some(place) = of_peer.iter().position(|connection| connection.id == id) else {
            return;
        };
        let messages = of_peer.remove(place).messages;
        if of_peer.is_empty() {
            connections.remove(&peer);
        }
        let all = Protocol::Message.inbound_max() as u32;
        self.ending.push(Box::pin(async move {
            // Every reader gives its place back when it ends.
            drop(messages.acquire_many(all).await);
            peer
        }));
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Ended;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(id, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(id, peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                if let Some(connection) = self.fresh.remove(&established.connection_id) {
                    lock(&self.control.connections)
                        .entry(established.peer_id)
                        .or_default()
                        .push(connection);
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.closed(closed.connection_id, closed.peer_id)
            }
            FromSwarm::ListenFailure(failure) => drop(self.fresh.remove(&failure.connection_id)),
            FromSwarm::DialFailure(failure) => drop(self.fresh.remove(&failure.connection_id)),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.ending.poll_next_unpin(context) {
            Poll::Ready(Some(peer)) => Poll::Ready(ToSwarm::GenerateEvent(Ended(peer))),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// One connection's part of the behaviour.
pub(super) struct Handler {
    peer: PeerId,
    asked: mpsc::Receiver<Request>,
    inbound: [mpsc::Sender<Inbound>; 2],
    /// By protocol, a permit for each stream that the other side may open.
    places: [Arc<Semaphore>; 2],
    over: CancellationToken,
    /// The handler lives as long as the connection, and ends its streams with it.
    _end: DropGuard,
}

impl Handler {
    fn accept(&self, stream: Stream, protocol: Protocol) {
        let Ok(place) = Arc::clone(&self.places[protocol as usize]).try_acquire_owned() else {
            tracing::debug!(peer = %self.peer, ?protocol, "opens too many streams");
            return; // dropping the stream resets it
        };
        let stream = Tied::new(stream, &self.over, Some(place));
        // There is room for all that all connections may have; nobody listens while the network
        // shuts down.
        let _ = self.inbound[protocol as usize].try_send(Inbound {
            from: self.peer,
            stream,
        });
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Request;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(Protocol::ALL.to_vec()), ())
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Upgrade, Request, Infallible>> {
        match self.asked.poll_recv(context) {
            Poll::Ready(Some(request)) => {
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(Upgrade(vec![request.protocol]), request),
                })
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Upgrade, Upgrade, (), Request>) {
        // The asker of a stream may have given up.
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => {
                self.accept(stream, protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info,
            }) => {
                let _ = info.answer.send(Ok(Tied::new(stream, &self.over, None)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info }) => {
                let why = match error {
                    StreamUpgradeError::NegotiationFailed => {
                        format!("the other side does not speak {}", info.protocol.name())
                    }
                    other => other.to_string(),
                };
                let _ = info.answer.send(Err(why));
            }
            _ => {}
        }
    }
}

/// The names of protocols, for the negotiation of a stream.
pub(super) struct Upgrade(Vec<Protocol>);

/// A protocol with its name.
#[derive(Clone)]
pub(super) struct Named(Protocol, StreamProtocol);

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        self.1.as_ref()
    }
}

impl UpgradeInfo for Upgrade {
    type Info = Named;
    type InfoIter = std::vec::IntoIter<Named>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0
            .iter()
            .map(|protocol| Named(*protocol, protocol.name()))
            .collect::<Vec<_>>()
            .into_iter()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, Protocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, named: Named) -> Self::Future {
        ready(Ok((stream, named.0)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, Protocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, named: Named) -> Self::Future {
        ready(Ok((stream, named.0)))
    }
}
