//! The actor that owns the store, on a thread of its own: it waits for disks.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use kameo::Actor;
use kameo::actor::{ActorRef, Recipient, WeakActorRef};
use kameo::error::ActorStopReason;
use kameo::message::{Context, Message};
use kith_gossip::{Input, Record};

use super::Alive;
use crate::store::{Store, StoreError};
use crate::telemetry::{Activity, Telemetry};

/// Records and lines that wait for the disk.
pub(crate) const MAILBOX: usize = 256;

/// Owns the store.
pub(crate) struct StoreActor {
    store: Store,
    peer: Recipient<Input>,
    telemetry: Arc<Telemetry>,
    _alive: Alive,
}

/// Lines for the event log.
pub(crate) struct Append(pub(crate) Vec<String>);

/// Asks for the last lines of the event log.
pub(crate) struct ReadEvents(pub(crate) usize);

/// Asks for a copy of the state as it is between two records. The answer is its folder, which the
/// asker removes.
pub(crate) struct Snapshot;

impl Actor for StoreActor {
    type Args = (Store, Recipient<Input>, Arc<Telemetry>, Alive);
    type Error = Infallible;

    fn name() -> &'static str {
        "store"
    }

    async fn on_start(
        (store, peer, telemetry, alive): Self::Args,
        _: ActorRef<Self>,
    ) -> Result<Self, Infallible> {
        Ok(StoreActor {
            store,
            peer,
            telemetry,
            _alive: alive,
        })
    }

    async fn on_stop(
        &mut self,
        _: WeakActorRef<Self>,
        _: ActorStopReason,
    ) -> Result<(), Infallible> {
        if let Err(error) = self.store.flush() {
            tracing::error!("the last events are not on disk: {error}");
        }
        Ok(())
    }
}

impl Message<Record> for StoreActor {
    type Reply = Result<(), StoreError>;

    /// An error ends the node: a peer that continues without its record could forget its promise.
    async fn handle(&mut self, record: Record, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        let started = Instant::now();
        let stored = self.store.persist(&record)?;
        self.telemetry
            .add_work(Activity::Storing, started.elapsed());
        let peer = self.peer.clone();
        // Not awaited here: the peer may be waiting for room in this mailbox.
        tokio::spawn(async move { peer.tell(Input::Stored(stored)).send().await });
        Ok(())
    }
}

impl Message<Append> for StoreActor {
    type Reply = Result<(), StoreError>;

    /// A disk that fails ends the node here already: the database takes nothing more afterwards,
    /// and at this point the cause is known.
    async fn handle(
        &mut self,
        Append(lines): Append,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        match self.store.append_events(&lines) {
            Err(error) if error.cause().is_none() => {
                tracing::warn!("{} events are missing from the log: {error}", lines.len());
                self.telemetry.add_lost(lines.len() as u64);
                Ok(())
            }
            other => other,
        }
    }
}

impl Message<Snapshot> for StoreActor {
    type Reply = Result<PathBuf, StoreError>;

    async fn handle(&mut self, _: Snapshot, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.store.snapshot()
    }
}

impl Message<ReadEvents> for StoreActor {
    type Reply = Result<Vec<String>, StoreError>;

    async fn handle(
        &mut self,
        ReadEvents(count): ReadEvents,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        self.store.events(count)
    }
}
