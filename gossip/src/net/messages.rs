//! Messages to neighbours: one stream in each direction, each frame a length (u32, little endian)
//! and an envelope.
//!
//! A stream is opened with the first message and again when it breaks; each further connection to a
//! peer gets a new outbox, since the line of an older one may be dead. Lost messages are not this
//! module's concern: the peer sends again what may be missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{AsyncReadExt, AsyncWriteExt};
use kith_consensus::PeerId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::packet::Packet;

use super::streams::{Control, Inbound, Protocol, Tied};
use super::{ENVELOPE_BYTES_MAX, NetworkEvent, from_libp2p};
use crate::effect::Input;
use crate::limits::{SEND_BYTES_MAX, SEND_QUEUE_MAX, WRITE_TIMEOUT};

/// The queue of messages to one peer; its stream closes when this is dropped.
pub(super) struct Outbox {
    queue: mpsc::Sender<Packet>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
}

impl Outbox {
    pub(super) fn new(peer: libp2p::PeerId, control: Control) -> Outbox {
        let (queue, messages) = mpsc::channel(SEND_QUEUE_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        tokio::spawn(write_all(peer, control, messages, Arc::clone(&waiting)));
        Outbox { queue, waiting }
    }

    /// False when the queue is full.
    pub(super) fn push(&self, bytes: Packet) -> bool {
        let length = bytes.len();
        if self.waiting.fetch_add(length, Ordering::Relaxed) + length > SEND_BYTES_MAX {
            return false;
        }
        !matches!(
            self.queue.try_send(bytes),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }
}

async fn write_all(
    peer: libp2p::PeerId,
    control: Control,
    mut messages: mpsc::Receiver<Packet>,
    waiting: Arc<AtomicUsize>,
) {
    let mut stream: Option<Tied> = None;
    while let Some(message) = messages.recv().await {
        let _gone = Waiting(&waiting, message.len());
        for _attempt in 0..2 {
            let open = match stream.take() {
                Some(open) => open,
                None => match control.open(peer, Protocol::Message).await {
                    Ok(open) => open,
                    Err(error) => {
                        tracing::debug!(%peer, %error, "no stream for messages");
                        continue;
                    }
                },
            };
            match tokio::time::timeout(WRITE_TIMEOUT, write(open, &message)).await {
                Ok(Ok(open)) => {
                    stream = Some(open);
                    break;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "the stream for messages broke"),
                Err(_) => tracing::debug!(%peer, "the stream for messages stalls"),
            }
        }
    }
}

/// Bytes that no longer wait once this is dropped.
struct Waiting<'a>(&'a AtomicUsize, usize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

async fn write(mut stream: Tied, message: &[u8]) -> std::io::Result<Tied> {
    let length = u32::try_from(message.len()).map_err(std::io::Error::other)?;
    let mut frame = Vec::with_capacity(4 + message.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(message);
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(stream)
}

/// Reads every accepted stream, for as long as the task lives.
pub(super) fn accept(
    mut inbound: mpsc::Receiver<Inbound>,
    events: mpsc::Sender<NetworkEvent>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(Inbound { from, stream }) = inbound.recv().await {
            let Some(peer) = from_libp2p(&from) else {
                continue;
            };
            tokio::spawn(read_all(peer, stream, events.clone())); // ends with its connection
        }
    })
}

/// Reads frames until the stream ends. Before the next one it waits until the peer has taken the
/// last.
async fn read_all(peer: PeerId, mut stream: Tied, events: mpsc::Sender<NetworkEvent>) {
    let mut head = [0u8; 4];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_le_bytes(head) as usize;
        // One byte more than allowed is enough for the peer to refuse it by name.
        let mut bytes = vec![0u8; length.min(ENVELOPE_BYTES_MAX + 1)];
        if stream.read_exact(&mut bytes).await.is_err() {
            return;
        }
        let oversize = length > ENVELOPE_BYTES_MAX;
        if events
            .send(NetworkEvent::Input(Input::Received {
                from: peer,
                bytes: bytes.into(),
            }))
            .await
            .is_err()
            || oversize
        {
            return;
        }
    }
}
