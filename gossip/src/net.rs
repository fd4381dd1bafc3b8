//! libp2p as the carrier: TCP and QUIC, noise, yamux, streams to neighbours, gossipsub for what
//! concerns everyone.
//!
//! [`Network`] owns the swarm and decides nothing: it carries out the [`Peer`](crate::Peer)'s
//! effects on messages, bodies and connections, and yields [`NetworkEvent`]s, most of which are the
//! peer's inputs.
//! Connections of keys that are not allowed end before any message of theirs is read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use kith_consensus::{Genesis, PeerId};
use libp2p::core::ConnectedPoint;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{DialError, ListenError, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, SwarmBuilder};
use libp2p::{allow_block_list, connection_limits, gossipsub, identify, identity, mdns, ping};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::address::Scope;
use crate::effect::{Effect, Input};
use crate::envelope::{Authenticator, ENVELOPE_BYTES_MAX};
use crate::forwarding::may_be_passed_on;
use crate::limits::{
    BAN, CONNECTIONS_PER_PEER_MAX, DIALS_MAX, EVENT_QUEUE_MAX, FAREWELL, GOSSIP_QUEUE_MAX,
    HANDSHAKE_MAX, PING_INTERVAL, PING_TIMEOUT,
};
use crate::packet::Packet;

mod bodies;
mod door;
mod messages;
mod streams;
mod transport;
mod unreachable;

pub use unreachable::Obstacle;

/// What a network needs to know before it starts.
pub struct NetworkSettings {
    /// The ed25519 secret from which the transport identity follows.
    pub secret: [u8; 32],
    /// Names the gossip topic and the stream protocols, so that federations do not connect by
    /// accident.
    pub federation: Genesis,
    /// Where to listen, for example `/ip4/127.0.0.1/tcp/4001`.
    pub listen: Vec<Multiaddr>,
    /// Addresses to dial at the start.
    pub bootstrap: Vec<Multiaddr>,
    /// Keys that may hold a connection; `None` admits every key (open membership), and the peer's
    /// handshake decides.
    pub allowed: Option<BTreeSet<PeerId>>,
    /// Discover peers on the local network. Off by default.
    pub mdns: bool,
    /// Most bytes of one pulled body.
    pub body_bytes_max: usize,
    /// Most established connections at a time.
    pub connections_max: u32,
}

/// What the carrier reports.
#[derive(Debug)]
pub enum NetworkEvent {
    /// Something for the peer: connections, messages, bodies.
    Input(Input),
    /// Listening at an address (with this peer's id at its end).
    Listening {
        /// The address.
        address: Multiaddr,
    },
    /// The carrier cannot listen at an address, or no longer can.
    ListenFailed {
        /// What the operating system said.
        why: String,
    },
    /// A connection was refused: its key is not allowed, or there was no room.
    Denied {
        /// The peer, if the handshake got that far.
        peer: Option<PeerId>,
        /// The address that it came from.
        address: Option<Multiaddr>,
        /// The reason, in words for people.
        why: String,
    },
    /// A dial did not succeed; one event for each address.
    DialFailed {
        /// The peer, if the address named one.
        peer: Option<PeerId>,
        /// The address.
        address: Option<Multiaddr>,
        /// The likely obstacle.
        obstacle: Obstacle,
        /// The carrier's words.
        why: String,
    },
    /// A process that is not this one has this peer's key: it answered at this address, or called
    /// from it. Reported once for each address.
    OwnKeyElsewhere {
        /// The address.
        address: Multiaddr,
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
        /// The address that was to be listened on.
        address: Multiaddr,
        /// What the operating system said.
        why: String,
    },
}

/// Gossip that could not be published because nobody subscribed yet, to be tried again.
const UNPUBLISHED_MAX: usize = 16;

/// How long after a failed dial of a bootstrap address the next follows; doubles up to
/// [`BOOTSTRAP_PAUSE_MAX`] (guess).
const BOOTSTRAP_PAUSE: Duration = Duration::from_millis(200);
/// See [`BOOTSTRAP_PAUSE`].
const BOOTSTRAP_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Most remembered addresses at which this peer's key was met, so that each is reported once.
const ELSEWHERE_MAX: usize = 64;

#[derive(NetworkBehaviour)]
struct Behaviour {
    allowed: Toggle<allow_block_list::Behaviour<allow_block_list::AllowedPeers>>,
    blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    door: door::Door,
    limits: connection_limits::Behaviour,
    streams: streams::Streams,
    gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// An address that is dialled until it answers.
struct Bootstrap {
    address: Multiaddr,
    reached: Option<PeerId>,
    pause: Duration,
    next: tokio::time::Instant,
}

impl Bootstrap {
    /// The peer that the address names.
    fn named(&self) -> Option<PeerId> {
        from_libp2p(&named(&self.address)?)
    }
}

/// The swarm and its streams.
pub struct Network {
    own: PeerId,
    swarm: Swarm<Behaviour>,
    topic: gossipsub::IdentTopic,
    federation: Genesis,
    allowed: Option<BTreeSet<PeerId>>,
    verifier: Authenticator,
    registry: Registry,
    control: streams::Control,
    events: mpsc::Receiver<NetworkEvent>,
    led_to: transport::LedTo,
    ready: VecDeque<NetworkEvent>,
    connected: BTreeMap<PeerId, messages::Outbox>,
    /// Peers reported as up and not yet as down.
    up: BTreeSet<PeerId>,
    bootstrap: Vec<Bootstrap>,
    /// Dismissed peers, and when their connections end.
    dismissed: BTreeMap<PeerId, tokio::time::Instant>,
    /// Peers that may not connect, and until when.
    banned: BTreeMap<PeerId, tokio::time::Instant>,
    /// See [`Network::keep_apart`].
    apart: BTreeSet<PeerId>,
    unpublished: VecDeque<Packet>,
    /// Addresses at which another process uses this peer's key.
    elsewhere: BTreeSet<Multiaddr>,
    bodies: bodies::Bodies,
    tasks: tokio_util::task::AbortOnDropHandle<()>,
    body_tasks: tokio_util::task::AbortOnDropHandle<()>,
}

impl Network {
    /// Sets up transports and begins to listen and to dial. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the transports cannot be built or an address cannot be listened on.
    pub fn new(settings: NetworkSettings) -> Result<Network, NetworkError> {
        let setup = |error: &dyn std::fmt::Display| NetworkError::Setup(error.to_string());
        let mut secret = settings.secret;
        let keypair =
            identity::Keypair::ed25519_from_bytes(&mut secret).map_err(|error| setup(&error))?;
        let own = from_libp2p(&keypair.public().to_peer_id())
            .expect("an ed25519 key has an ed25519 peer id");
        let mut registry = Registry::default();
        let (streams, accepted) = streams::Streams::new(settings.connections_max as usize);
        let control = streams.control();
        let (to_events, events) = mpsc::channel(EVENT_QUEUE_MAX);
        let led_to = transport::LedTo::default();
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_other_transport(|keypair| {
                transport::transport(keypair, to_events.clone(), led_to.clone())
            })
            .map_err(|error| setup(&error))?
            .with_dns()
            .map_err(|error| setup(&error))?
            .with_bandwidth_metrics(&mut registry)
            .with_behaviour(|keypair| behaviour(keypair, &settings, streams))
            .map_err(|error| setup(&error))?
            // Rounds may be hours apart; pings show whether a peer still lives.
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(Duration::from_secs(u64::from(u32::MAX)))
            })
            .with_connection_timeout(HANDSHAKE_MAX)
            .build();
        let topic = gossipsub::IdentTopic::new(format!("kith/1/{}", settings.federation));
        swarm
            .behaviour_mut()
            .gossip
            .subscribe(&topic)
            .map_err(|error| setup(&error))?;
        for address in &settings.listen {
            check_free(address)?;
            let why = |error: &dyn std::fmt::Display| NetworkError::Listen {
                address: address.clone(),
                why: error.to_string(),
            };
            swarm
                .listen_on(address.clone())
                .map_err(|error| match &error {
                    libp2p::TransportError::Other(other) => why(other),
                    other => why(other),
                })?;
        }
        let tasks = messages::accept(accepted.messages, to_events.clone());
        let bodies = bodies::Bodies::new(control.clone(), to_events, settings.body_bytes_max);
        let body_tasks = bodies.accept(accepted.bodies);
        let now = tokio::time::Instant::now();
        let bootstrap = settings.bootstrap.into_iter();
        let bootstrap = bootstrap
            .map(|address| Bootstrap {
                address,
                reached: None,
                pause: BOOTSTRAP_PAUSE,
                next: now,
            })
            .collect();
        Ok(Network {
            own,
            swarm,
            topic,
            federation: settings.federation,
            allowed: settings.allowed,
            verifier: Authenticator::from_secret(&settings.secret),
            registry,
            control,
            events,
            led_to,
            ready: VecDeque::new(),
            connected: BTreeMap::new(),
            up: BTreeSet::new(),
            bootstrap,
            dismissed: BTreeMap::new(),
            banned: BTreeMap::new(),
            apart: BTreeSet::new(),
            unpublished: VecDeque::new(),
            elsewhere: BTreeSet::new(),
            bodies,
            tasks: tokio_util::task::AbortOnDropHandle::new(tasks),
            body_tasks: tokio_util::task::AbortOnDropHandle::new(body_tasks),
        })
    }

    /// Carries out an effect that is the carrier's: messages, bodies and connections. Never blocks.
    /// A message to a peer that is not connected is silently lost. A disconnected peer may not
    /// reconnect for ten seconds.
    ///
    /// # Panics
    /// When the effect is not the carrier's.
    pub fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, bytes } => {
                let full = self
                    .connected
                    .get(&to)
                    .is_some_and(|outbox| !outbox.push(bytes));
                if full {
                    tracing::warn!(peer = %to, "reads too slowly: its connection is cut");
                    self.disconnect(&to);
                }
            }
            Effect::Announce { bytes } => self.announce(bytes),
            Effect::Fetch {
                digest,
                length,
                sources,
            } => self.bodies.fetch(digest, length, sources),
            Effect::Abandon { digest, source } => self.bodies.abandon(digest, source),
            Effect::Provide { request, body } => self.bodies.provide(request, body),
            Effect::Connect { peer, addresses } => self.connect(peer, &addresses),
            Effect::Disconnect { peer, .. } => {
                self.dismissed
                    .entry(peer)
                    .or_insert_with(|| tokio::time::Instant::now() + FAREWELL);
            }
            other => unreachable!("{other:?} is not for the carrier"),
        }
    }

    /// From now on these peers, and no others, are neither dialled nor answered, as if the network
    /// between them and this peer had failed. Their connections end at once, and nothing is told of
    /// their attempts. An empty set ends it. Testnets rehearse partitions in this way.
    pub fn keep_apart(&mut self, peers: BTreeSet<PeerId>) {
        let before = std::mem::replace(&mut self.apart, peers);
        let begun: Vec<PeerId> = self.apart.difference(&before).copied().collect();
        for peer in begun {
            if let Some(id) = to_libp2p(&peer) {
                self.swarm.behaviour_mut().blocked.block_peer(id);
            }
            self.disconnect(&peer);
        }
        let ended: Vec<PeerId> = before.difference(&self.apart).copied().collect();
        for peer in ended {
            self.unblock(&peer);
            let bootstraps = self.bootstrap.iter_mut();
            for bootstrap in bootstraps.filter(|bootstrap| bootstrap.named() == Some(peer)) {
                (bootstrap.pause, bootstrap.next) = (BOOTSTRAP_PAUSE, tokio::time::Instant::now());
            }
        }
    }

    /// Lets a peer connect again, unless something else still forbids it.
    fn unblock(&mut self, peer: &PeerId) {
        if let Some(id) = to_libp2p(peer)
            && !self.apart.contains(peer)
            && !self.banned.contains_key(peer)
        {
            self.swarm.behaviour_mut().blocked.unblock_peer(id);
        }
    }

    /// The next event. Cancel-safe: nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> NetworkEvent {
        loop {
            match self.ready.pop_front() {
                Some(NetworkEvent::Input(Input::Received { from, .. }))
                    if self.dismissed.contains_key(&from) =>
                {
                    continue;
                }
                Some(event) => return event,
                None => {}
            }
            let next = self.dial_bootstrap().min(self.close_dismissed());
            if !self.ready.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => match event {
                    NetworkEvent::Input(Input::Received { from, .. }) if self.dismissed.contains_key(&from) => {}
                    NetworkEvent::OwnKeyElsewhere { address } if !self.is_news(&address) => {}
                    event => return event,
                },
                event = self.swarm.select_next_some() => self.swarm_event(event),
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Bytes of all streams so far, gossip and handshakes included, encryption and TCP or QUIC
    /// framing not: (in, out).
    pub fn wire_bytes(&self) -> (u64, u64) {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            return (0, 0);
        }
        let sum = |direction: &str| {
            let lines = text
                .lines()
                .filter(|line| !line.starts_with('#') && line.contains(direction));
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum()
        };
        (sum("direction=\"Inbound\""), sum("direction=\"Outbound\""))
    }

    /// Whether the tasks that accept streams still run; a network that lost one is of no use.
    pub fn is_alive(&self) -> bool {
        !self.tasks.is_finished() && !self.body_tasks.is_finished()
    }

    fn announce(&mut self, bytes: Packet) {
        match self
            .swarm
            .behaviour_mut()
            .gossip
            .publish(self.topic.clone(), bytes.to_vec())
        {
            Ok(_) | Err(gossipsub::PublishError::Duplicate) => {}
            Err(error) => {
                tracing::debug!(%error, "gossip waits for subscribers");
                if self.unpublished.len() == UNPUBLISHED_MAX {
                    self.unpublished.pop_front();
                }
                self.unpublished.push_back(bytes);
            }
        }
    }

    fn connect(&mut self, peer: PeerId, addresses: &[String]) {
        if self.apart.contains(&peer) {
            return;
        }
        let Some(id) = to_libp2p(&peer) else { return };
        // An address with the id at its end and the same one without are one address.
        let addresses: BTreeSet<Multiaddr> = addresses
            .iter()
            .filter_map(|address| Some(without_p2p(&address.parse().ok()?)))
            .collect();
        if peer == self.own {
            // Somebody has seen this peer's key at an address that is not its own. The process that
            // answers there shows its key.
            for address in addresses {
                drop(self.swarm.dial(unknown_at(address)));
            }
            return;
        }
        // An error means already dialled or connected, which is as good.
        let addresses = addresses.into_iter().collect();
        let options = DialOpts::peer_id(id)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .allocate_new_port()
            .build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::trace!(peer = %peer, %error, "not dialled");
        }
    }

    fn disconnect(&mut self, peer: &PeerId) {
        if let Some(id) = to_libp2p(peer) {
            let _ = self.swarm.disconnect_peer_id(id); // an error says that there was no connection
        }
    }

    /// Dials the bootstrap addresses that are due; returns when to look again.
    fn dial_bootstrap(&mut self) -> tokio::time::Instant {
        let now = tokio::time::Instant::now();
        let mut next = now + BOOTSTRAP_PAUSE_MAX;
        for bootstrap in self
            .bootstrap
            .iter_mut()
            .filter(|bootstrap| bootstrap.reached.is_none())
            .filter(|bootstrap| {
                let named = bootstrap.named();
                named.is_none_or(|peer| !self.apart.contains(&peer))
            })
        {
            if bootstrap.next <= now {
                let options = match named(&bootstrap.address) {
                    Some(peer) => DialOpts::peer_id(peer)
                        .condition(PeerCondition::DisconnectedAndNotDialing)
                        .addresses(vec![bootstrap.address.clone()])
                        .allocate_new_port()
                        .build(),
                    None => unknown_at(bootstrap.address.clone()),
                };
                if let Err(error) = self.swarm.dial(options) {
                    tracing::trace!(address = %bootstrap.address, %error, "bootstrap address not dialled");
                }
                bootstrap.next = now + bootstrap.pause;
                bootstrap.pause = (bootstrap.pause * 2).min(BOOTSTRAP_PAUSE_MAX);
            }
            next = next.min(bootstrap.next);
        }
        next
    }

    /// Ends the connections of dismissed peers whose time is up, and old bans; returns when to look
    /// again.
    fn close_dismissed(&mut self) -> tokio::time::Instant {
        let now = tokio::time::Instant::now();
        for peer in due(&mut self.dismissed, now) {
            // Blocked rather than only closed: the other side would dial again at once.
            if let Some(id) = to_libp2p(&peer) {
                self.swarm.behaviour_mut().blocked.block_peer(id);
            }
            self.disconnect(&peer);
            self.banned.insert(peer, now + BAN);
        }
        for peer in due(&mut self.banned, now) {
            self.unblock(&peer);
        }
        let next = self.dismissed.values().chain(self.banned.values()).min();
        next.copied().unwrap_or(now + BOOTSTRAP_PAUSE_MAX)
    }

    fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                let id = to_libp2p(&self.own).expect("our own key is an ed25519 key");
                let address = address.clone().with_p2p(id).unwrap_or(address);
                self.ready.push_back(NetworkEvent::Listening { address });
            }
            SwarmEvent::ListenerClosed {
                reason: Err(error), ..
            }
            | SwarmEvent::ListenerError { error, .. } => {
                self.ready.push_back(NetworkEvent::ListenFailed {
                    why: error.to_string(),
                });
            }
            SwarmEvent::ConnectionEstablished {
                peer_id, endpoint, ..
            } => {
                let Some(peer) = from_libp2p(&peer_id) else {
                    // Not an ed25519 key, so no Kith peer.
                    let _ = self.swarm.disconnect_peer_id(peer_id);
                    return;
                };
                self.established(peer, peer_id, &endpoint);
            }
            SwarmEvent::IncomingConnectionError {
                peer_id,
                error: ListenError::Denied { cause },
                send_back_addr,
                ..
            } => {
                let peer = peer_id.as_ref().and_then(from_libp2p);
                self.denied(peer, Some(send_back_addr), &cause);
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id,
                error: DialError::Denied { cause },
                ..
            } => {
                let peer = peer_id.as_ref().and_then(from_libp2p);
                self.denied(peer, None, &cause);
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                let peer = peer_id.as_ref().and_then(from_libp2p);
                for (address, obstacle, why) in unreachable::explain(&error) {
                    if let (Some(peer), Some(address)) = (peer, &address)
                        && matches!(obstacle, Obstacle::OtherKey(_))
                    {
                        let address = without_p2p(address).to_string();
                        let input = Input::AnotherKeyAt { peer, address };
                        self.ready.push_back(NetworkEvent::Input(input));
                    }
                    self.ready.push_back(NetworkEvent::DialFailed {
                        peer,
                        address,
                        obstacle,
                        why,
                    });
                }
            }
            SwarmEvent::Behaviour(event) => self.behaviour_event(event),
            _ => {}
        }
    }

    fn denied(
        &mut self,
        peer: Option<PeerId>,
        address: Option<Multiaddr>,
        cause: &libp2p::swarm::ConnectionDenied,
    ) {
        if peer.is_some_and(|peer| self.apart.contains(&peer)) {
            return;
        }
        let why = reason(cause);
        self.ready
            .push_back(NetworkEvent::Denied { peer, address, why });
    }

    /// Whether it is new that this peer's key is in use at an address.
    fn is_news(&mut self, address: &Multiaddr) -> bool {
        self.elsewhere.len() < ELSEWHERE_MAX && self.elsewhere.insert(address.clone())
    }

    fn established(&mut self, peer: PeerId, id: libp2p::PeerId, endpoint: &ConnectedPoint) {
        let named = libp2p::multiaddr::Protocol::P2p(id);
        for bootstrap in self
            .bootstrap
            .iter_mut()
            .filter(|bootstrap| bootstrap.address.iter().any(|part| part == named))
        {
            bootstrap.reached = Some(peer);
        }
        let dialled = endpoint
            .is_dialer()
            .then(|| endpoint.get_remote_address().clone());
        if let Some(address) = &dialled {
            let bare = |address: &Multiaddr| without_p2p(address);
            for bootstrap in self
                .bootstrap
                .iter_mut()
                .filter(|bootstrap| bare(&bootstrap.address) == bare(address))
            {
                bootstrap.reached = Some(peer);
            }
        }
        // Reported again for each further connection: the other end may have lost the older ones,
        // and would wait for a handshake. From now on messages go over this one.
        self.connected
            .insert(peer, messages::Outbox::new(id, self.control.clone()));
        self.up.insert(peer);
        let addresses = dialled
            .iter()
            .map(|address| without_p2p(address).to_string())
            .collect();
        // A name says nothing about how near the peer is.
        let led_to = dialled.and_then(|_| self.led_to.take(&id));
        let from = led_to.as_ref().unwrap_or(endpoint.get_remote_address());
        let scope = Scope::of(&from.to_string());
        self.ready.push_back(NetworkEvent::Input(Input::PeerUp {
            peer,
            addresses,
            scope,
        }));
    }

    /// The messages of a connection that is over are all in the queue of events.
    fn ended(&mut self, id: &libp2p::PeerId) {
        let Some(peer) = from_libp2p(id) else { return };
        while let Ok(event) = self.events.try_recv() {
            match event {
                NetworkEvent::OwnKeyElsewhere { address } if !self.is_news(&address) => {}
                event => self.ready.push_back(event),
            }
        }
        if self.control.is_connected(id) {
            // One of several ended, and messages on it may be lost, so the handshake is repeated on
            // the others.
            if self.up.contains(&peer) {
                self.ready.push_back(NetworkEvent::Input(Input::PeerUp {
                    peer,
                    addresses: Vec::new(),
                    scope: Scope::default(),
                }));
            }
            return;
        }
        self.connected.remove(&peer);
        for bootstrap in self
            .bootstrap
            .iter_mut()
            .filter(|bootstrap| bootstrap.reached == Some(peer))
        {
            (bootstrap.reached, bootstrap.pause) = (None, BOOTSTRAP_PAUSE);
        }
        if self.up.remove(&peer) {
            self.ready
                .push_back(NetworkEvent::Input(Input::PeerDown { peer }));
        }
    }

    fn behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Streams(streams::Ended(peer)) => self.ended(&peer),
            BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                let allowed = |sender: &PeerId| {
                    let list = self.allowed.as_ref();
                    list.is_none_or(|allowed| allowed.contains(sender))
                };
                let (verifier, federation) = (&self.verifier, self.federation);
                let acceptance =
                    match may_be_passed_on(&message.data, verifier, federation, allowed) {
                        true => gossipsub::MessageAcceptance::Accept,
                        false => gossipsub::MessageAcceptance::Reject,
                    };
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                gossip.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
                if let Some(from) = from_libp2p(&propagation_source) {
                    self.ready.push_back(NetworkEvent::Input(Input::Received {
                        from,
                        bytes: message.data.into(),
                    }));
                }
            }
            BehaviourEvent::Gossip(gossipsub::Event::Subscribed { .. }) => {
                for bytes in std::mem::take(&mut self.unpublished) {
                    self.announce(bytes);
                }
            }
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Err(error),
            }) => {
                tracing::debug!(%peer, %error, "does not answer pings");
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (id, address) in found {
                    if let Some(peer) = from_libp2p(&id) {
                        self.connect(peer, &[address.to_string()]);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Why a connection was denied, in the words of the part that denied it.
fn reason(cause: &libp2p::swarm::ConnectionDenied) -> String {
    std::error::Error::source(cause).map_or_else(|| cause.to_string(), ToString::to_string)
}

/// Whether a port is free. The carrier's own sockets share theirs, so that a second program would
/// take half of the first one's connections.
fn check_free(address: &Multiaddr) -> Result<(), NetworkError> {
    use libp2p::multiaddr::Protocol;
    let mut parts = address.iter();
    let ip: std::net::IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    let bound = match parts.next() {
        Some(Protocol::Tcp(port)) if port > 0 => std::net::TcpListener::bind((ip, port)).map(drop),
        Some(Protocol::Udp(port)) if port > 0 => std::net::UdpSocket::bind((ip, port)).map(drop),
        _ => Ok(()),
    };
    bound.map_err(|error| NetworkError::Listen {
        address: address.clone(),
        why: error.to_string(),
    })
}

/// Takes out the peers whose time has come.
fn due(
    times: &mut BTreeMap<PeerId, tokio::time::Instant>,
    now: tokio::time::Instant,
) -> Vec<PeerId> {
    let due: Vec<PeerId> = times
        .iter()
        .filter(|(_, at)| **at <= now)
        .map(|(peer, _)| *peer)
        .collect();
    times.retain(|_, at| *at > now);
    due
}

fn behaviour(
    keypair: &identity::Keypair,
    settings: &NetworkSettings,
    streams: streams::Streams,
) -> Result<Behaviour, Box<dyn std::error::Error + Send + Sync>> {
    let allowed = settings.allowed.as_ref().map(|peers| {
        let mut list = allow_block_list::Behaviour::<allow_block_list::AllowedPeers>::default();
        peers.iter().filter_map(to_libp2p).for_each(|peer| {
            list.allow_peer(peer);
        });
        list
    });
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_outgoing(Some(DIALS_MAX))
        .with_max_established(Some(settings.connections_max))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX));
    let gossip = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(ENVELOPE_BYTES_MAX + 1024)
        .heartbeat_initial_delay(Duration::from_millis(500))
        .duplicate_cache_time(Duration::from_secs(600))
        .connection_handler_queue_len(GOSSIP_QUEUE_MAX)
        .message_id_fn(|message| {
            let mut hasher = blake3::Hasher::new_derive_key("kith.v1 gossip message");
            hasher
                .update(message.topic.as_str().as_bytes())
                .update(&message.data);
            gossipsub::MessageId::from(&hasher.finalize().as_bytes()[..20])
        })
        .build()?;
    let mut gossip = gossipsub::Behaviour::new(
        gossipsub::MessageAuthenticity::Signed(keypair.clone()),
        gossip,
    )?;
    // Peers of one organisation share an address, and so do all of a testnet. Here that is no sign
    // of a Sybil attack.
    let score = gossipsub::PeerScoreParams {
        ip_colocation_factor_weight: 0.0,
        ..Default::default()
    };
    gossip.with_peer_score(score, gossipsub::PeerScoreThresholds::default())?;
    let own = keypair.public().to_peer_id();
    let mdns = if settings.mdns {
        Some(mdns::tokio::Behaviour::new(mdns::Config::default(), own)?)
    } else {
        None
    };
    // Where a peer listens is told in signed records, and only to those that it concerns.
    let identify =
        identify::Config::new("/kith/1".to_owned(), keypair.public()).with_hide_listen_addrs(true);
    Ok(Behaviour {
        allowed: allowed.into(),
        blocked: allow_block_list::Behaviour::default(),
        door: door::Door::default(),
        limits: connection_limits::Behaviour::new(limits),
        streams,
        gossip,
        identify: identify::Behaviour::new(
            identify.with_agent_version(concat!("kith/", env!("CARGO_PKG_VERSION")).to_owned()),
        ),
        ping: ping::Behaviour::new(
            ping::Config::new()
                .with_interval(PING_INTERVAL)
                .with_timeout(PING_TIMEOUT),
        ),
        mdns: mdns.into(),
    })
}

/// A dial of the peer that is at an address, whichever it is.
///
/// No dial comes from the port that this peer listens on: if both ends did that at a time, their
/// connections would be one, which both take for their own. Where a firewall lets nobody in at one
/// end, each attempt of that end would meet one of the other's.
fn unknown_at(address: Multiaddr) -> DialOpts {
    let options = DialOpts::unknown_peer_id().address(address);
    options.allocate_new_port().build()
}

/// The id that libp2p derives from the same key.
fn to_libp2p(peer: &PeerId) -> Option<libp2p::PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(&peer.0).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// The key inside a libp2p id; `None` for keys of another kind.
fn from_libp2p(peer: &libp2p::PeerId) -> Option<PeerId> {
    peer.to_string().parse().ok()
}

/// The id that an address ends with.
fn named(address: &Multiaddr) -> Option<libp2p::PeerId> {
    address.iter().find_map(|part| match part {
        libp2p::multiaddr::Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

fn without_p2p(address: &Multiaddr) -> Multiaddr {
    address
        .iter()
        .filter(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_same_name_here_and_in_libp2p() {
        let authenticator = Authenticator::from_secret(&[3; 32]);
        let peer = authenticator.peer();
        let id = to_libp2p(&peer).unwrap();
        assert_eq!(id.to_string(), peer.to_string());
        assert_eq!(from_libp2p(&id), Some(peer));
    }
}
