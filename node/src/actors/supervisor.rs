//! The actor that all others are linked to: it reports how the node ended.

use std::convert::Infallible;
use std::ops::ControlFlow;

use kameo::Actor;
use kameo::actor::{ActorId, ActorRef, WeakActorRef};
use kameo::error::ActorStopReason;
use kameo::message::{Context, Message};
use tokio::sync::watch;

use super::trainer::TrainerError;
use crate::store::StoreError;

/// How a node ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The peer ended by itself.
    Ended(Ended),
    /// An actor failed and could not be started again.
    Broken {
        actor: &'static str,
        why: String,
        fault: Fault,
    },
}

/// Which part is to blame for an actor's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A bug in Kith.
    Ours,
    /// The disk: full, broken, or not writable.
    Disk,
    /// The machine: no memory, or no thread.
    Machine,
}

/// The peer is done.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) finished: bool,
    pub(crate) why: String,
}

/// Names an actor whose end ends the node.
pub(crate) struct Watch(pub(crate) ActorId, pub(crate) &'static str);

/// Parent of all actors.
pub(crate) struct Supervisor {
    watched: Vec<Watch>,
    end: watch::Sender<Option<End>>,
}

impl Actor for Supervisor {
    type Args = watch::Sender<Option<End>>;
    type Error = Infallible;

    fn name() -> &'static str {
        "supervisor"
    }

    async fn on_start(end: Self::Args, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Supervisor {
            watched: Vec::new(),
            end,
        })
    }

    async fn on_link_died(
        &mut self,
        _: WeakActorRef<Self>,
        id: ActorId,
        reason: ActorStopReason,
    ) -> Result<ControlFlow<ActorStopReason>, Infallible> {
        if !matches!(
            reason,
            ActorStopReason::Normal | ActorStopReason::SupervisorRestart
        ) {
            let actor = self
                .watched
                .iter()
                .find(|Watch(watched, _)| *watched == id)
                .map_or("trainer", |Watch(_, name)| name);
            let (fault, why) = cause(&reason);
            self.end(End::Broken { actor, why, fault });
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Why an actor failed. The reason itself only says in which of its functions.
fn cause(reason: &ActorStopReason) -> (Fault, String) {
    let ActorStopReason::Panicked(panic) = reason else {
        return (Fault::Ours, reason.to_string());
    };
    let disk = |error: &StoreError| {
        (
            if error.cause().is_some() {
                Fault::Disk
            } else {
                Fault::Ours
            },
            error.to_string(),
        )
    };
    let trainer = |error: &TrainerError| {
        (
            if matches!(error, TrainerError::Thread(_)) {
                Fault::Machine
            } else {
                Fault::Ours
            },
            error.to_string(),
        )
    };
    let known = panic
        .with_downcast_ref(disk)
        .or_else(|| panic.with_downcast_ref(trainer));
    known.unwrap_or_else(|| (Fault::Ours, reason.to_string()))
}

impl Supervisor {
    /// Ends the node; the first reason counts.
    fn end(&self, end: End) {
        self.end.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(end);
            }
            first
        });
    }
}

impl Message<Watch> for Supervisor {
    type Reply = ();

    async fn handle(&mut self, watch: Watch, _: &mut Context<Self, ()>) {
        self.watched.push(watch);
    }
}

impl Message<Ended> for Supervisor {
    type Reply = ();

    async fn handle(&mut self, ended: Ended, _: &mut Context<Self, ()>) {
        self.end(End::Ended(ended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kameo::error::{PanicError, PanicReason};
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_full_disk_and_a_small_machine_are_not_taken_for_faults_of_ours() {
        let full = || Error::new(ErrorKind::StorageFull, "No space left on device");
        let path = std::path::PathBuf::from("state/kith.redb");
        let reason = |error: PanicError| cause(&ActorStopReason::Panicked(error));
        let store = StoreError::Io {
            act: "write",
            path: path.clone(),
            source: full(),
        };
        let (fault, why) = reason(PanicError::new(Box::new(store), PanicReason::OnMessage));
        assert_eq!(fault, Fault::Disk);
        assert!(
            why.contains("state/kith.redb") && why.contains("No space left"),
            "{why}"
        );
        let trainer =
            TrainerError::Thread(Error::new(ErrorKind::OutOfMemory, "Cannot allocate memory"));
        let (fault, why) = reason(PanicError::new(Box::new(trainer), PanicReason::OnStart));
        assert_eq!(fault, Fault::Machine);
        assert!(
            why.contains("training thread") && why.contains("Cannot allocate"),
            "{why}"
        );
        let ours = StoreError::Database {
            path,
            why: "a table is of another type".to_owned(),
        };
        assert_eq!(
            reason(PanicError::new(Box::new(ours), PanicReason::OnMessage)).0,
            Fault::Ours
        );
    }
}
