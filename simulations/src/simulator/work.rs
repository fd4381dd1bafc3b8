//! Training, evaluating and judging models: computed by the pool. A result enters when the device
//! would have been done, or, for liars that know what others publish, when those have published.

use std::sync::Arc;

use kith_consensus::Stream;
use kith_gossip::{Input, Parameters};
use kith_models::{Request, Trained};

use super::entry::Entry;
use super::member::{Member, Process};
use super::queue::Nanoseconds;
use super::{Observer, Simulation, nanoseconds};

/// What the pool computes.
pub(super) enum Computed {
    Trained(Result<Trained, String>),
    Evaluated(Option<(f64, f64, u64)>),
    Judged(Option<Vec<f64>>),
}

/// What the pool works on for a member in a round.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Job {
    pub(super) member: u32,
    pub(super) life: u32,
    round: u64,
    pub(super) number: u64,
}

impl<O: Observer> Simulation<O> {
    pub(super) fn train(
        &mut self,
        member: usize,
        round: u64,
        start: Parameters,
        beside: [Option<Parameters>; 2],
    ) {
        let state = &self.members[member];
        let local = Arc::clone(&state.local);
        let mut takes = nanoseconds(state.device.step) * local.steps();
        if state.device.jitter > 0.0 {
            let mut random =
                Stream::derive("kith.v1 device", &self.device_seed, round, member as u64, 0);
            takes = (takes as f64 * (state.device.jitter * random.normal()).exp()) as Nanoseconds;
        }
        let life = state.life;
        let job = self.submit(member, round, move || {
            let [memory, correction] = beside
                .each_ref()
                .map(|vector| vector.as_ref().map(|vector| vector.as_slice()));
            let request = Request {
                start: &start,
                round,
                memory,
                correction,
            };
            Computed::Trained(local.train_again(&request, life))
        });
        let at = self.trainer_has_done(member, takes);
        self.queue.push(at, Entry::Trained(job));
    }

    /// When a member's trainer, which does one piece of work after the other, has done one more.
    fn trainer_has_done(&mut self, member: usize, takes: Nanoseconds) -> Nanoseconds {
        let free = &mut self.members[member].trainer_free;
        *free = (*free).max(self.now) + takes;
        *free
    }

    pub(super) fn evaluate(&mut self, member: usize, round: u64, parameters: Parameters) {
        let state = &self.members[member];
        let local = Arc::clone(&state.local);
        let training = nanoseconds(state.device.step) * local.steps();
        let takes = (training as f64 * self.network.carrier.evaluation) as Nanoseconds;
        let work = move || Computed::Evaluated(local.evaluate(&parameters));
        let job = self.submit(member, round, work);
        let at = self.trainer_has_done(member, takes);
        self.queue.push(at, Entry::Evaluated(job));
    }

    pub(super) fn judge(&mut self, member: usize, round: u64, models: Vec<Parameters>) {
        let state = &self.members[member];
        let local = Arc::clone(&state.local);
        // A forward pass costs about a third of a step (guess).
        let takes = nanoseconds(state.device.step) * models.len() as u64 / 3;
        let losses = move || models.iter().map(|model| local.loss(model)).collect();
        let job = self.submit(member, round, move || Computed::Judged(losses()));
        let at = self.trainer_has_done(member, takes);
        self.queue.push(at, Entry::Judged(job));
    }

    fn submit(
        &mut self,
        member: usize,
        round: u64,
        work: impl FnOnce() -> Computed + Send + 'static,
    ) -> Job {
        Job {
            member: member as u32,
            life: self.members[member].life,
            round,
            number: self.pool.submit(work),
        }
    }

    /// Whether a result has to wait for others'; if so, keeps it.
    fn holds_back(&mut self, result: Job) -> bool {
        let Some(waits) = self.members[result.member as usize].waits else {
            return false;
        };
        let first = self
            .first_results
            .get(&result.round)
            .copied()
            .unwrap_or(self.now);
        let until = first + waits;
        if until <= self.now || !self.others_can_come(result.round) {
            return false;
        }
        self.held_back.push(result);
        self.queue.push(until, Entry::Patience(result));
        true
    }

    /// Whether a peer that waits for nobody may still train in `round`.
    fn others_can_come(&self, round: u64) -> bool {
        let comes = |member: &Member| {
            let runs = matches!(
                member.process,
                Process::Waiting | Process::Up | Process::Down
            );
            runs && member.waits.is_none()
                && member.trained.is_none_or(|newest| newest < round)
                && member.peer.round() <= round
        };
        self.members.iter().any(comes)
    }

    /// Enters results that have nobody left to wait for.
    pub(super) fn let_in(&mut self) {
        for result in std::mem::take(&mut self.held_back) {
            if self.others_can_come(result.round) {
                self.held_back.push(result);
            } else {
                self.at_once.push_back(Entry::Trained(result));
            }
        }
    }

    /// Notes that a peer has a result, before others hear of it.
    fn note_result(&mut self, member: usize, round: u64) {
        /// Rounds whose first result is remembered: a peer that is further behind is no longer
        /// heard.
        const ROUNDS_MAX: usize = 64;
        let state = &mut self.members[member];
        state.trained = state.trained.max(Some(round));
        if state.waits.is_none() {
            self.first_results.entry(round).or_insert(self.now);
            while self.first_results.len() > ROUNDS_MAX {
                self.first_results.pop_first();
            }
        }
    }

    /// A result has come; it may have to wait for others'.
    pub(super) fn result(&mut self, result: Job) {
        if !self.holds_back(result) {
            self.trained(result);
        }
    }

    fn trained(&mut self, result: Job) {
        let (member, round) = (result.member as usize, result.round);
        self.note_result(member, round);
        let Computed::Trained(result) = self.pool.collect(result.number) else {
            unreachable!("the job was to train")
        };
        let input = match result {
            Ok(Trained {
                parameters,
                samples,
                local_steps,
                loss,
                rate,
                memory,
            }) => Input::Trained {
                round,
                parameters: Arc::new(parameters),
                samples,
                local_steps,
                loss,
                rate,
                memory: memory.map(Arc::new),
            },
            Err(why) => Input::TrainingFailed { round, why },
        };
        self.take_in(member, input, None);
        self.let_in();
    }

    pub(super) fn evaluated(&mut self, job: Job) {
        let Computed::Evaluated(result) = self.pool.collect(job.number) else {
            unreachable!("the job was to evaluate")
        };
        let round = job.round;
        let input = match result {
            Some((loss, accuracy, samples)) => Input::Evaluated {
                round,
                loss,
                accuracy,
                samples,
            },
            None => Input::NotEvaluated { round },
        };
        self.take_in(job.member as usize, input, None);
    }

    pub(super) fn judged(&mut self, job: Job) {
        let Computed::Judged(losses) = self.pool.collect(job.number) else {
            unreachable!("the job was to judge")
        };
        let round = job.round;
        self.take_in(job.member as usize, Input::Judged { round, losses }, None);
    }

    /// A result has waited for others' long enough.
    pub(super) fn patience_ends(&mut self, result: Job) {
        if let Some(place) = self.held_back.iter().position(|held| *held == result) {
            let result = self.held_back.remove(place);
            self.trained(result);
        }
    }

    /// A dead process has no results.
    pub(super) fn drop_results(&mut self, member: usize) {
        let (dead, others): (Vec<Job>, Vec<Job>) = std::mem::take(&mut self.held_back)
            .into_iter()
            .partition(|held| held.member as usize == member);
        self.held_back = others;
        dead.iter().for_each(|held| self.pool.forget(held.number));
        self.let_in();
    }
}
