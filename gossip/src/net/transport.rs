//! TCP with noise and yamux, or QUIC, and two things that libp2p does not do. Connections close in
//! time, and a process knows whether a connection to this peer's own key leads to itself or to
//! another process.
//!
//! libp2p counts a connection as closed when all that was written to it is on its way. On a dead
//! line that takes until the system gives up, many minutes; meanwhile nobody hears that the peer is
//! gone, nobody dials it again, and it uses up the peer's share of connections. Here a connection
//! that is being closed has [`CLOSE_MAX`] to end.
//!
//! A process that dials an address of its own and a process whose key runs a second time somewhere
//! look the same to libp2p, which ends both connections. Before that, two ends with one key tell
//! each other the random number that their processes drew at the start. Each end waits until the
//! other one has read, so that both know, whichever of them dialled.

use std::collections::VecDeque;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Either, poll_fn};
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerEvent, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::core::{ConnectedPoint, Transport};
use libp2p::{Multiaddr, PeerId, identity, noise, quic, tcp, yamux};
use tokio::sync::mpsc;

use super::{NetworkEvent, without_p2p};

/// Length of a process's number; two processes draw the same one with probability 2⁻¹²⁸.
const NUMBER_BYTES: usize = 16;

/// How long a connection may take to send what was written before it was closed (guess).
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Most places that are remembered until their connections are reported; a dial that comes to nothing
/// leaves its own (guess).
const LED_TO_MAX: usize = 64;

/// Where dials have led, until the swarm reports their connections: it knows the address that was
/// dialled, which may be a name, and not the one that the name stands for.
#[derive(Clone, Default)]
pub(super) struct LedTo(Arc<Mutex<VecDeque<(PeerId, Multiaddr)>>>);

impl LedTo {
    fn note(&self, peer: PeerId, address: &Multiaddr) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.push_back((peer, address.clone()));
        if places.len() > LED_TO_MAX {
            places.pop_front();
        }
    }

    /// Where the oldest dial of a peer has led that was not taken yet.
    pub(super) fn take(&self, peer: &PeerId) -> Option<Multiaddr> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.iter().position(|(other, _)| other == peer)?;
        places.remove(place).map(|(_, address)| address)
    }
}

/// The transport of a key. Reports to `events` where the key runs a second time, and notes where dials
/// lead.
pub(super) fn transport(
    keypair: &identity::Keypair,
    events: mpsc::Sender<NetworkEvent>,
    led_to: LedTo,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Box<dyn Error + Send + Sync>> {
    let own = keypair.public().to_peer_id();
    let mut number = [0; NUMBER_BYTES];
    getrandom::fill(&mut number)?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, Closing::soon(muxer)));
    let quic = quic::tokio::Transport::new(quic::Config::new(keypair))
        .map(|(peer, muxer), _| (peer, Closing::soon(muxer)));
    let either = tcp.or_transport(quic).map(|either, _| match either {
        Either::Left(output) | Either::Right(output) => output,
    });
    let watched = either.and_then(
        move |(peer, mut muxer): (PeerId, StreamMuxerBox), end: ConnectedPoint| async move {
            if end.is_dialer() {
                led_to.note(peer, address(&end));
            }
            if peer == own {
                tell_processes_apart(&mut muxer, &end, number, &events).await;
            }
            Ok::<_, io::Error>((peer, muxer))
        },
    );
    Ok(watched.boxed())
}

/// A connection that closes within [`CLOSE_MAX`].
struct Closing<M> {
    muxer: Pin<Box<M>>,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<M> Closing<M>
where
    M: StreamMuxer + Send + 'static,
    M::Substream: Send + 'static,
    M::Error: Send + Sync + 'static,
{
    fn soon(muxer: M) -> StreamMuxerBox {
        StreamMuxerBox::new(Closing {
            muxer: Box::pin(muxer),
            deadline: None,
        })
    }
}

impl<M: StreamMuxer> StreamMuxer for Closing<M>
where
    M::Error: Send + Sync + 'static,
{
    type Substream = M::Substream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<M::Substream>> {
        self.muxer
            .as_mut()
            .poll_inbound(context)
            .map_err(io::Error::other)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<M::Substream>> {
        self.muxer
            .as_mut()
            .poll_outbound(context)
            .map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(closed) = self.muxer.as_mut().poll_close(context) {
            return Poll::Ready(closed.map_err(io::Error::other));
        }
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_MAX)));
        deadline
            .poll_unpin(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<StreamMuxerEvent>> {
        self.muxer.as_mut().poll(context).map_err(io::Error::other)
    }
}

fn address(end: &ConnectedPoint) -> &Multiaddr {
    match end {
        ConnectedPoint::Dialer { address, .. } => address,
        ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
    }
}

/// Reports if this key's other end is another process.
async fn tell_processes_apart(
    muxer: &mut StreamMuxerBox,
    end: &ConnectedPoint,
    number: [u8; NUMBER_BYTES],
    events: &mpsc::Sender<NetworkEvent>,
) {
    let heard = |other| {
        if other != number {
            // A full queue loses it; the next dial reports it again.
            let _ = events.try_send(NetworkEvent::OwnKeyElsewhere {
                address: without_p2p(address(end)),
            });
        }
    };
    // A connection that breaks here reveals nothing, and libp2p ends it in any case.
    let _ = exchange(muxer, end.is_dialer(), number, heard).await;
}

/// Tells the other end this process's number and tells `heard` the other one's; returns when the
/// other end has read, too.
async fn exchange(
    muxer: &mut StreamMuxerBox,
    dialler: bool,
    number: [u8; NUMBER_BYTES],
    heard: impl FnOnce([u8; NUMBER_BYTES]),
) -> io::Result<()> {
    let stream = poll_fn(|context| {
        if let Poll::Ready(error) = drive(muxer, context) {
            return Poll::Ready(Err(error));
        }
        match dialler {
            true => muxer.poll_outbound_unpin(context),
            false => muxer.poll_inbound_unpin(context),
        }
    })
    .await?;
    let mut talk = pin!(talk(stream, number, heard));
    poll_fn(|context| match talk.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => match drive(muxer, context) {
            // The other end has hung up; its earlier messages may still be in the stream.
            Poll::Ready(error) => match talk.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => Poll::Ready(Err(error)),
            },
            Poll::Pending => Poll::Pending,
        },
    })
    .await
}

/// Lets the connection carry what its streams have to send and receive; ready when it has broken.
fn drive(muxer: &mut StreamMuxerBox, context: &mut Context<'_>) -> Poll<io::Error> {
    loop {
        match muxer.poll_unpin(context) {
            Poll::Ready(Ok(_moved)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(error),
            Poll::Pending => return Poll::Pending,
        }
    }
}

async fn talk(
    mut stream: SubstreamBox,
    number: [u8; NUMBER_BYTES],
    heard: impl FnOnce([u8; NUMBER_BYTES]),
) -> io::Result<()> {
    let mut other = [0; NUMBER_BYTES];
    stream.write_all(&number).await?;
    stream.flush().await?;
    stream.read_exact(&mut other).await?;
    heard(other);
    stream.close().await?;
    stream.read(&mut [0]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_dials_lead_is_remembered_in_order_and_within_bounds() {
        let led_to = LedTo::default();
        let (peer, other) = (PeerId::random(), PeerId::random());
        let at = |port: usize| {
            format!("/ip4/10.0.0.1/tcp/{port}")
                .parse()
                .expect("an address")
        };
        led_to.note(other, &at(1));
        (2..4).for_each(|port| led_to.note(peer, &at(port)));
        assert_eq!(led_to.take(&peer), Some(at(2)));
        assert_eq!(led_to.take(&peer), Some(at(3)));
        assert_eq!(led_to.take(&peer), None);
        (0..LED_TO_MAX).for_each(|port| led_to.note(peer, &at(port)));
        assert_eq!(led_to.take(&other), None, "the oldest makes room");
    }
}
