//! The actor that trains and evaluates, on a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use kameo::Actor;
use kameo::actor::{ActorRef, Recipient};
use kameo::message::{Context, Message};
use kith_consensus::Seed;
use kith_gossip::{Input, Parameters};
use kith_models::{
    Dataset, PrivateError, PrivateTraining, Request, Task, Trained, Trainer, fresh_release_key,
};
use tokio::sync::oneshot;

use crate::error::NodeError;
use crate::telemetry::{Activity, NodeEvent, Telemetry};

/// candle's backward pass recurses through the graph; on a default stack a deep model overflows it.
pub(crate) const STACK_BYTES: usize = 64 << 20;

/// What the actor is made of, each time it starts.
#[derive(Clone)]
pub(crate) struct Arguments {
    pub(crate) task: Task,
    pub(crate) data: Dataset,
    pub(crate) held_out: Option<Dataset>,
    /// How it trains under a privacy guarantee, if there is one.
    pub(crate) private: Option<PrivateTraining>,
    pub(crate) seed: Seed,
    pub(crate) peer: Recipient<Input>,
    pub(crate) telemetry: Arc<Telemetry>,
}

/// Whether this machine allows the node's threads. Checked before anything starts: later a refusal
/// could only end the run.
///
/// # Errors
/// When the machine refuses a thread: what it refuses.
pub(crate) fn check_threads() -> Result<(), NodeError> {
    /// Besides the training thread, peer and store have one each.
    const OTHERS_BYTES: usize = 2 * (2 << 20);
    let probe = std::thread::Builder::new()
        .stack_size(STACK_BYTES + OTHERS_BYTES)
        .spawn(|| ());
    let probe = probe.map_err(|error| NodeError::Machine {
        why: TrainerError::Thread(error).to_string(),
    })?;
    // It does nothing that could panic.
    let _ = probe.join();
    Ok(())
}

/// Hands work to the training thread, one piece after the other, and its results to the peer.
pub(crate) struct TrainerActor {
    arguments: Arguments,
    thread: SyncSender<(Work, oneshot::Sender<Input>)>,
}

/// What the peer asks for.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A round of local training.
    Train {
        round: u64,
        parameters: Parameters,
        memory: Option<Parameters>,
        correction: Option<Parameters>,
    },
    /// Held-out rows.
    Evaluate { round: u64, parameters: Parameters },
    /// The losses of several models on this peer's rows.
    Judge { round: u64, models: Vec<Parameters> },
}

impl Work {
    fn round(&self) -> u64 {
        match self {
            Work::Train { round, .. }
            | Work::Evaluate { round, .. }
            | Work::Judge { round, .. } => *round,
        }
    }

    fn activity(&self) -> Activity {
        match self {
            Work::Train { .. } => Activity::Training,
            Work::Evaluate { .. } | Work::Judge { .. } => Activity::Evaluation,
        }
    }

    /// The input for the peer if there is no result.
    fn failed(&self, why: &str) -> Input {
        match self {
            Work::Train { round, .. } => Input::TrainingFailed {
                round: *round,
                why: why.to_owned(),
            },
            Work::Evaluate { round, .. } => Input::NotEvaluated { round: *round },
            Work::Judge { round, .. } => Input::Judged {
                round: *round,
                losses: None,
            },
        }
    }
}

/// The trainer cannot work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrainerError {
    #[error("the training thread, whose stack takes {stack} MiB, could not be started: {0}", stack = STACK_BYTES >> 20)]
    Thread(std::io::Error),
    #[error("the training thread panicked in round {round}")]
    Panicked { round: u64 },
    #[error("{0}")]
    Model(#[from] kith_models::ModelError),
}

impl Actor for TrainerActor {
    type Args = Arguments;
    type Error = TrainerError;

    fn name() -> &'static str {
        "trainer"
    }

    async fn on_start(arguments: Arguments, _: ActorRef<Self>) -> Result<Self, TrainerError> {
        let (thread, work) = sync_channel(1);
        let trainer = arguments
            .task
            .trainer(arguments.data.clone(), arguments.seed)?;
        let (task, held_out) = (arguments.task.clone(), arguments.held_out.clone());
        let private = arguments.private;
        std::thread::Builder::new()
            .name("training".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || run(task, trainer, held_out, private, work))
            .map_err(TrainerError::Thread)?;
        Ok(TrainerActor { arguments, thread })
    }
}

fn run(
    task: Task,
    trainer: Trainer,
    held_out: Option<Dataset>,
    private: Option<PrivateTraining>,
    work: Receiver<(Work, oneshot::Sender<Input>)>,
) {
    for (work, answer) in work {
        let input = match work {
            Work::Train {
                round,
                parameters,
                memory,
                correction,
            } => {
                let memory = memory.as_deref().map(Vec::as_slice);
                let correction = correction.as_deref().map(Vec::as_slice);
                train(
                    &trainer,
                    private.as_ref(),
                    &Request {
                        start: &parameters,
                        round,
                        memory,
                        correction,
                    },
                )
            }
            Work::Evaluate { round, parameters } => {
                evaluate(&task, held_out.as_ref(), round, &parameters)
            }
            Work::Judge { round, models } => {
                let loss =
                    |model: &Parameters| Some(task.evaluate(model, trainer.data()).ok()?.loss);
                Input::Judged {
                    round,
                    losses: models.iter().map(loss).collect(),
                }
            }
        };
        // The actor may have stopped meanwhile.
        let _ = answer.send(input);
    }
}

fn train(trainer: &Trainer, private: Option<&PrivateTraining>, request: &Request<'_>) -> Input {
    let round = request.round;
    let trained = match private {
        None => trainer.train(request).map_err(|error| error.to_string()),
        Some(private) => {
            train_privately(trainer, private, request).map_err(|error| error.to_string())
        }
    };
    match trained {
        Ok(trained) => Input::Trained {
            round,
            parameters: Arc::new(trained.parameters),
            samples: trained.samples,
            local_steps: trained.local_steps,
            loss: trained.loss,
            rate: trained.rate,
            memory: trained.memory.map(Arc::new),
        },
        Err(why) => Input::TrainingFailed { round, why },
    }
}

/// Every release has a key of its own, which is stored nowhere: a key that came back with an older
/// copy of the state would release two sums under one noise, and their difference is exact.
fn train_privately(
    trainer: &Trainer,
    private: &PrivateTraining,
    request: &Request<'_>,
) -> Result<Trained, PrivateError> {
    let units = trainer.units()?;
    let trained = trainer.train_privately(request, private, &units, fresh_release_key()?)?;
    Ok(trained.trained(private))
}

fn evaluate(task: &Task, held_out: Option<&Dataset>, round: u64, parameters: &[f32]) -> Input {
    let Some(rows) = held_out else {
        return Input::NotEvaluated { round };
    };
    match task.evaluate(parameters, rows) {
        Ok(found) => Input::Evaluated {
            round,
            loss: found.loss,
            accuracy: found.accuracy,
            samples: found.samples,
        },
        Err(error) => {
            tracing::warn!(
                "after {round} rounds: the held-out rows could not be evaluated: {error}"
            );
            Input::NotEvaluated { round }
        }
    }
}

impl Message<Work> for TrainerActor {
    type Reply = Result<(), TrainerError>;

    /// An error here is a panic of the thread: the supervisor starts the actor again.
    async fn handle(&mut self, work: Work, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        let (answer, result) = oneshot::channel();
        let (round, activity) = (work.round(), work.activity());
        let failed = work.failed("the training thread panicked");
        let started = std::time::Instant::now();
        // The thread works on one piece at a time and this actor waits for it, so there is always
        // room.
        let sent = self.thread.try_send((work, answer)).is_ok();
        let result = if sent { result.await.ok() } else { None };
        self.arguments
            .telemetry
            .add_work(activity, started.elapsed());
        let peer = &self.arguments.peer;
        match result {
            Some(input) => {
                let _ = peer.tell(input).send().await;
                Ok(())
            }
            None => {
                let _ = peer.tell(failed).send().await;
                self.arguments.telemetry.node_event(NodeEvent::Restarted {
                    actor: <Self as Actor>::name().to_owned(),
                });
                Err(TrainerError::Panicked { round })
            }
        }
    }
}
