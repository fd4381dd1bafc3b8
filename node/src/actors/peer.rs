//! The actor that owns the [`Peer`], on a thread of its own: encoding and aggregating a large model
//! takes long.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kameo::Actor;
use kameo::actor::ActorRef;
use kameo::message::{Context, Message};
use kith_gossip::{Conduct, Effect, Event, Input, Parameters, Peer, Record};

use super::network::NetworkActor;
use super::store::{Append, StoreActor};
use super::supervisor::{Ended, Supervisor};
use super::trainer::{TrainerActor, Work};
use crate::telemetry::{Activity, Line, Telemetry};

/// Inputs that wait for the peer (guess: a round's messages of a large neighbourhood).
pub(crate) const MAILBOX: usize = 256;

/// The parameters of the newest completed round.
pub(crate) type Newest = Arc<Mutex<Option<Parameters>>>;

/// What the actor is made of.
pub(crate) struct Arguments {
    pub(crate) peer: Peer,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) newest: Newest,
    pub(crate) supervisor: ActorRef<Supervisor>,
    pub(crate) others: Others,
}

/// Owns the peer.
pub(crate) struct PeerActor {
    arguments: Arguments,
    effects: Vec<Effect>,
    lines: Vec<Line>,
    left: (bool, String),
}

/// The actors that carry out effects.
pub(crate) struct Others {
    pub(crate) network: ActorRef<NetworkActor>,
    pub(crate) trainer: ActorRef<TrainerActor>,
    pub(crate) store: ActorRef<StoreActor>,
}

impl Actor for PeerActor {
    type Args = Arguments;
    type Error = Infallible;

    fn name() -> &'static str {
        "peer"
    }

    async fn on_start(arguments: Arguments, _: ActorRef<Self>) -> Result<Self, Infallible> {
        let left = (false, "stopped".to_owned());
        Ok(PeerActor {
            arguments,
            effects: Vec::new(),
            lines: Vec::new(),
            left,
        })
    }
}

impl Message<Input> for PeerActor {
    type Reply = ();

    async fn handle(&mut self, input: Input, context: &mut Context<Self, ()>) {
        tracing::trace!(?input, "input");
        let mut effects = std::mem::take(&mut self.effects);
        let started = Instant::now();
        let telemetry = &self.arguments.telemetry;
        self.arguments
            .peer
            .handle(input, telemetry.now(), &mut effects);
        // The peer reads no clock. Where an input ends in an aggregation, nearly all of its time is
        // the rule's.
        let aggregated = |effect: &Effect| matches!(effect, Effect::Emit(Event::Aggregated { .. }));
        if effects.iter().any(aggregated) {
            telemetry.add_work(Activity::Aggregation, started.elapsed());
        }
        for effect in effects.drain(..) {
            self.execute(effect, context).await;
        }
        self.effects = effects;
        self.append_lines();
    }
}

/// Behave in this way from the next update on: see [`Peer::behave`].
pub(crate) struct Behave(pub(crate) Box<dyn Conduct>);

impl Message<Behave> for PeerActor {
    type Reply = ();

    async fn handle(&mut self, Behave(conduct): Behave, _: &mut Context<Self, ()>) {
        self.arguments.peer.behave(conduct);
    }
}

impl PeerActor {
    async fn execute(&mut self, effect: Effect, context: &mut Context<Self, ()>) {
        let others = &self.arguments.others;
        // If another actor has stopped, the supervisor is ending the node, and nobody waits for
        // this effect.
        match effect {
            Effect::Train {
                round,
                parameters,
                memory,
                correction,
            } => {
                drop(
                    others
                        .trainer
                        .tell(Work::Train {
                            round,
                            parameters,
                            memory,
                            correction,
                        })
                        .send()
                        .await,
                );
            }
            Effect::Evaluate { round, parameters } => {
                drop(
                    others
                        .trainer
                        .tell(Work::Evaluate { round, parameters })
                        .send()
                        .await,
                );
            }
            Effect::Judge { round, models } => drop(
                others
                    .trainer
                    .tell(Work::Judge { round, models })
                    .send()
                    .await,
            ),
            carried @ (Effect::Send { .. }
            | Effect::Announce { .. }
            | Effect::Fetch { .. }
            | Effect::Provide { .. }
            | Effect::Abandon { .. }
            | Effect::Connect { .. }
            | Effect::Disconnect { .. }) => {
                if let Effect::Disconnect { peer, reason } = &carried {
                    tracing::debug!("disconnecting {}: {reason}", peer.short());
                }
                drop(others.network.tell(carried).send().await);
            }
            Effect::SetTimer { timer, after } => {
                context
                    .actor_ref()
                    .tell(Input::TimerExpired(timer))
                    .send_after(after);
            }
            Effect::Persist(record) => {
                if let Record::Checkpoint(checkpoint) = &record {
                    let mut newest = self
                        .arguments
                        .newest
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    *newest = Some(checkpoint.parameters.clone());
                }
                drop(others.store.tell(record).send().await);
            }
            Effect::Emit(event) => self.emit(event),
            Effect::Stop => {
                let (finished, why) = self.left.clone();
                drop(
                    self.arguments
                        .supervisor
                        .tell(Ended { finished, why })
                        .send()
                        .await,
                );
            }
        }
    }

    fn emit(&mut self, event: Event) {
        if let Event::Left { finished, why, .. } = &event {
            self.left = (*finished, why.clone());
        }
        self.lines.push(self.arguments.telemetry.peer_event(event));
    }

    /// Lines go to the event log without waiting: a slow disk costs lines of the log, not the
    /// federation's time.
    fn append_lines(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let lines: Vec<String> = self
            .lines
            .drain(..)
            .filter_map(|line| serde_json::to_string(&line).ok())
            .collect();
        let count = lines.len();
        if self
            .arguments
            .others
            .store
            .tell(Append(lines))
            .try_send()
            .is_err()
        {
            tracing::warn!("the disk is behind: {count} events are missing from the log");
            self.arguments.telemetry.add_lost(count as u64);
        }
    }
}
