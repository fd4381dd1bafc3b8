//! The actor that owns the libp2p swarm.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kameo::Actor;
use kameo::actor::{ActorRef, Recipient, WeakActorRef};
use kameo::error::ActorStopReason;
use kameo::mailbox::{MailboxReceiver, Signal};
use kameo::message::{Context, Message};
use kith_consensus::PeerId;
use kith_gossip::net::{Network, NetworkEvent};
use kith_gossip::{Effect, Input};

use super::Alive;
use crate::telemetry::{NodeEvent, Telemetry};

/// Commands that wait for the swarm: some rounds' worth in the largest neighbourhoods (guess).
pub(crate) const MAILBOX: usize = 1024;

/// How often the swarm's byte counters are read; reading them costs more than handling a message.
const COUNT_EVERY: Duration = Duration::from_millis(250);

/// What the actor is made of.
pub(crate) struct Arguments {
    pub(crate) network: Network,
    pub(crate) peer: Recipient<Input>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) _alive: Alive,
}

/// Owns the swarm.
pub(crate) struct NetworkActor {
    arguments: Arguments,
    /// An input that waits for room in the peer's mailbox. Until it is in, the swarm is not asked
    /// for more.
    delivery: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    counted: Instant,
}

impl Actor for NetworkActor {
    type Args = Arguments;
    type Error = Infallible;

    fn name() -> &'static str {
        "network"
    }

    async fn on_start(arguments: Arguments, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(NetworkActor {
            arguments,
            delivery: None,
            counted: Instant::now(),
        })
    }

    /// Updates the counters once more, so that readers at the end see everything.
    async fn on_stop(
        &mut self,
        _: WeakActorRef<Self>,
        _: ActorStopReason,
    ) -> Result<(), Infallible> {
        self.arguments
            .telemetry
            .set_wire(self.arguments.network.wire_bytes());
        Ok(())
    }

    /// Commands first, so that a flood from outside cannot keep the peer from answering.
    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            if let Some(delivery) = &mut self.delivery {
                tokio::select! {
                    biased;
                    signal = mailbox.recv() => return Ok(signal),
                    () = delivery => self.delivery = None,
                }
            } else {
                tokio::select! {
                    biased;
                    signal = mailbox.recv() => return Ok(signal),
                    event = self.arguments.network.next() => self.deliver(event),
                }
            }
        }
    }
}

impl NetworkActor {
    fn deliver(&mut self, event: NetworkEvent) {
        if matches!(event, NetworkEvent::Input(Input::PeerDown { .. }))
            || self.counted.elapsed() >= COUNT_EVERY
        {
            self.arguments
                .telemetry
                .set_wire(self.arguments.network.wire_bytes());
            self.counted = Instant::now();
        }
        let telemetry = &self.arguments.telemetry;
        let input = match event {
            NetworkEvent::Listening { address } => {
                let address = address.to_string();
                telemetry.node_event(NodeEvent::Listening {
                    address: address.clone(),
                });
                Input::Listening { address }
            }
            NetworkEvent::ListenFailed { why } => {
                telemetry.node_event(NodeEvent::Warning {
                    text: format!("no longer listening: {why}"),
                });
                return;
            }
            NetworkEvent::Denied { peer, address, why } => {
                telemetry.denied(peer, address.map(|address| address.to_string()), why);
                return;
            }
            NetworkEvent::DialFailed {
                peer,
                address,
                obstacle,
                why,
            } => {
                telemetry.dial_failed(
                    peer,
                    address.map(|address| address.to_string()),
                    obstacle,
                    why,
                );
                return;
            }
            NetworkEvent::OwnKeyElsewhere { address } => {
                telemetry.node_event(NodeEvent::OwnKeyElsewhere {
                    address: address.to_string(),
                });
                return;
            }
            NetworkEvent::Input(input) => {
                if let Input::PeerUp {
                    peer, addresses, ..
                } = &input
                {
                    telemetry.reached(peer, addresses);
                }
                input
            }
        };
        let peer = self.arguments.peer.clone();
        self.delivery = Some(Box::pin(async move {
            // A peer that has stopped needs no more inputs.
            let _ = peer.tell(input).send().await;
        }));
    }
}

/// Neither dial nor answer these peers: see [`Network::keep_apart`].
pub(crate) struct KeepApart(pub(crate) BTreeSet<PeerId>);

impl Message<KeepApart> for NetworkActor {
    type Reply = ();

    async fn handle(&mut self, KeepApart(peers): KeepApart, _: &mut Context<Self, ()>) {
        self.arguments.network.keep_apart(peers);
    }
}

impl Message<Effect> for NetworkActor {
    type Reply = ();

    async fn handle(&mut self, effect: Effect, _: &mut Context<Self, ()>) {
        self.arguments.network.execute(effect);
    }
}
