//! Training, evaluating and judging models: computed by the pool, let in when the device would have
//! been done, or, for liars that know what others publish, when those have published.

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

/// A training result that waits for the others' of its round.
#[derive(Clone, Copy)]
pub(super) struct HeldBack {
    pub(super) member: u32,
    pub(super) life: u32,
    pub(super) round: u64,
    pub(super) job: u64,
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
        let job = self.pool.submit(move || {
            let [memory, correction] = beside
                .each_ref()
                .map(|vector| vector.as_ref().map(|vector| vector.as_slice()));
            Computed::Trained(local.train_again(
                &Request {
                    start: &start,
                    round,
                    memory,
                    correction,
                },
                life,
            ))
        });
        self.queue.push(
            self.now + takes,
            Entry::Trained {
                member: member as u32,
                life,
                round,
                job,
            },
        );
    }

    pub(super) fn evaluate(&mut self, member: usize, round: u64, parameters: Parameters) {
        let state = &self.members[member];
        let (local, life) = (Arc::clone(&state.local), state.life);
        let job = self
            .pool
            .submit(move || Computed::Evaluated(local.evaluate(&parameters)));
        let entry = Entry::Evaluated {
            member: member as u32,
            life,
            round,
            job,
        };
        self.queue.push(self.now, entry);
    }

    pub(super) fn judge(&mut self, member: usize, round: u64, models: Vec<Parameters>) {
        let state = &self.members[member];
        let (local, life) = (Arc::clone(&state.local), state.life);
        // A forward pass costs about a third of a step (guess).
        let takes = nanoseconds(state.device.step) * models.len() as u64 / 3;
        let losses = move || models.iter().map(|model| local.loss(model)).collect();
        let job = self.pool.submit(move || Computed::Judged(losses()));
        let entry = Entry::Judged {
            member: member as u32,
            life,
            round,
            job,
        };
        self.queue.push(self.now + takes, entry);
    }

    /// Whether a result has to wait for others', and keeps it then.
    fn holds_back(&mut self, result: HeldBack) -> bool {
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
        let HeldBack {
            member,
            life,
            round,
            ..
        } = result;
        self.queue.push(
            until,
            Entry::Patience {
                member,
                life,
                round,
            },
        );
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

    /// Lets results in that have nobody left to wait for.
    pub(super) fn let_in(&mut self) {
        for result in std::mem::take(&mut self.held_back) {
            if self.others_can_come(result.round) {
                self.held_back.push(result);
            } else {
                let HeldBack {
                    member,
                    life,
                    round,
                    job,
                } = result;
                self.at_once.push_back(Entry::Trained {
                    member,
                    life,
                    round,
                    job,
                });
            }
        }
    }

    /// Notes that a peer has a result, before others hear of it.
    fn note_result(&mut self, member: usize, round: u64) {
        /// Rounds whose first result is remembered: nobody is further behind and still heard.
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
    pub(super) fn result(&mut self, result: HeldBack) {
        if !self.holds_back(result) {
            self.trained(result);
        }
    }

    fn trained(&mut self, result: HeldBack) {
        let HeldBack { round, job, .. } = result;
        let member = result.member as usize;
        self.note_result(member, round);
        let Computed::Trained(result) = self.pool.collect(job) else {
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
        self.handle(member, input);
        self.let_in();
    }

    pub(super) fn evaluated(&mut self, member: usize, round: u64, job: u64) {
        let Computed::Evaluated(result) = self.pool.collect(job) else {
            unreachable!("the job was to evaluate")
        };
        let input = match result {
            Some((loss, accuracy, samples)) => Input::Evaluated {
                round,
                loss,
                accuracy,
                samples,
            },
            None => Input::NotEvaluated { round },
        };
        self.handle(member, input);
    }

    pub(super) fn judged(&mut self, member: usize, round: u64, job: u64) {
        let Computed::Judged(losses) = self.pool.collect(job) else {
            unreachable!("the job was to judge")
        };
        self.handle(member, Input::Judged { round, losses });
    }

    /// A result has waited for others' long enough.
    pub(super) fn patience_ends(&mut self, member: u32, life: u32, round: u64) {
        let held = |held: &HeldBack| (held.member, held.life, held.round) == (member, life, round);
        if let Some(place) = self.held_back.iter().position(held) {
            let result = self.held_back.remove(place);
            self.trained(result);
        }
    }

    /// A dead process has no results.
    pub(super) fn drop_results(&mut self, member: usize) {
        let (dead, others): (Vec<HeldBack>, Vec<HeldBack>) = std::mem::take(&mut self.held_back)
            .into_iter()
            .partition(|held| held.member as usize == member);
        self.held_back = others;
        dead.iter().for_each(|held| self.pool.forget(held.job));
        self.let_in();
    }
}
