//! The actor that trains and evaluates, on a thread of its own.

mod pace;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use kameo::Actor;
use kameo::actor::{ActorRef, Recipient};
use kameo::message::{Context, Message};
use kith_consensus::Seed;
use kith_gossip::{Input, Parameters};
use kith_models::{
    Dataset, PrivateError, PrivateTraining, Request, Task, Trained, Trainer, fresh_release_key,
};
use tokio::sync::oneshot;

use self::pace::Pace;
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
    let mut private = private.map(|training| Private {
        training,
        pace: None,
    });
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
                    private.as_mut(),
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

/// How a thread trains under a guarantee.
struct Private {
    training: PrivateTraining,
    /// Measured before the first release.
    pace: Option<Pace>,
}

fn train(trainer: &Trainer, private: Option<&mut Private>, request: &Request<'_>) -> Input {
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
    private: &mut Private,
    request: &Request<'_>,
) -> Result<Trained, PrivateError> {
    let training = private.training;
    let pace = match private.pace {
        Some(pace) => pace,
        None => *private.pace.insert(Pace::measure(trainer, &training)?),
    };
    let started = Instant::now();
    let units = trainer.units()?;
    let trained = trainer.train_privately(request, &training, &units, fresh_release_key()?)?;
    std::thread::sleep(pace.holds(started.elapsed()));
    Ok(trained.trained(&training))
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
        let started = Instant::now();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kith_consensus::privacy::noise::NoiseScale;
    use kith_consensus::privacy::sampling::PoissonSampling;
    use kith_consensus::section::Document;
    use kith_models::{ModelSection, Opening, Schema, TrainingSection, open_as};

    use super::*;

    /// A trainer with so many rows, and lots of 200 of them.
    fn trainer(rows: usize) -> (Trainer, Private) {
        let text = "[data]\nshape = [60]\nclasses = 2\n[model]\nkind = \"mlp\"\nhidden = [64]\n[training]\nlocal_steps = 40\n\
                    local_epochs = 0\nlearning_rate = 0.1\nmomentum = 0.0\nbatch_size = 200\n";
        let mut document = Document::parse(text).unwrap();
        let task = Task::new(
            document.section("data", Schema::read),
            document.section("model", ModelSection::read),
            document.section("training", TrainingSection::read),
        );
        let task = task.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        let columns: Vec<String> = (0..60).map(|column| format!("c{column}")).collect();
        let row = "1,".repeat(60) + "0\n";
        let text = format!("{},label\n{}", columns.join(","), row.repeat(rows));
        std::fs::write(&path, text).unwrap();
        let opening = Opening {
            labels: None,
            columns: &[],
        };
        let (data, _) = open_as(&path, task.schema(), opening).unwrap();
        let scale = NoiseScale::new(1.0, 1.0).unwrap();
        let sampling = PoissonSampling::new(1.0).unwrap();
        let training = PrivateTraining::new(scale, sampling, 200, 40).unwrap();
        let private = Private {
            training,
            pace: None,
        };
        (task.trainer(data, Seed::from_number(1)).unwrap(), private)
    }

    /// Two neighbours' worth of rows or lots of two hundred: neither leaves before a time that is the
    /// same for both, so that the time does not tell which it was.
    #[test]
    fn an_update_leaves_after_a_time_that_lots_do_not_change() {
        let pace = Pace::of(Duration::from_millis(700));
        for rows in [2, 200] {
            let (trainer, mut private) = trainer(rows);
            private.pace = Some(pace);
            let start = vec![0.0; 60 * 64 + 64 + 64 * 2 + 2];
            let started = Instant::now();
            train_privately(&trainer, &mut private, &Request::new(&start, 0)).unwrap();
            let took = started.elapsed().as_secs_f64() / 0.7;
            assert!(took >= 1.0, "{rows} rows leave after {took} paces");
        }
    }

    /// The pace is measured with the largest lots, whatever rows there are.
    #[test]
    fn a_pace_is_that_of_the_largest_lots() {
        let (few, private) = trainer(2);
        let pace = Pace::measure(&few, &private.training).unwrap();
        let started = Instant::now();
        let start = vec![0.0; 60 * 64 + 64 + 64 * 2 + 2];
        let (request, units) = (Request::new(&start, 0), few.units().unwrap());
        few.train_privately(
            &request,
            &private.training,
            &units,
            fresh_release_key().unwrap(),
        )
        .unwrap();
        assert!(
            pace.holds(Duration::ZERO) > 2 * started.elapsed(),
            "{pace:?}"
        );
    }
}
