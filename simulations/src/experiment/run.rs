//! A run: the cast with its workload in a simulation, and its watchers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_consensus::charter::Charter;
use kith_consensus::mode::Mode;
use kith_consensus::{Digest, PeerId, Seed};
use kith_gossip::codec::TensorShape;
use kith_gossip::{Authenticator, Conduct, Federation, Honest, Setup};

use super::cast::Cast;
use super::outcome::Outcome;
use super::results::Results;
use super::watchers::{Happened, Listener, Watchers};
use super::workload::{Reference, Workload};
use super::{Experiment, ExperimentError};
use crate::attack::{Attacker, LIVED, Means, Oracle, Speaker, attack_from_text, entry_of};
use crate::check::{Invariants, Scope};
use crate::metrics::{Metrics, Mixing, PEER_ROWS_MAX};
use crate::simulator::{Device, Ended, Meeting, Participant, Simulation};

/// An experiment that runs.
pub struct Run<'a> {
    experiment: &'a Experiment,
    simulation: Simulation<Watchers>,
    cast: Cast,
    reference: Reference,
    started: Instant,
    ready: Instant,
    ended: Ended,
}

impl Experiment {
    /// Runs it, training on `threads` threads besides this one. `progress` is called now and then
    /// with (virtual time, rounds completed by all peers together).
    ///
    /// # Errors
    /// When the rows cannot be had or dealt.
    pub fn run(
        &self,
        threads: usize,
        progress: &mut dyn FnMut(Duration, u64),
    ) -> Result<Outcome, ExperimentError> {
        let mut run = self.begin(threads)?;
        run.run_until(self.world.limit, progress);
        Ok(run.finish())
    }

    /// Sets everything up, at virtual time zero.
    ///
    /// # Errors
    /// When the rows cannot be had or dealt.
    pub fn begin(&self, threads: usize) -> Result<Run<'_>, ExperimentError> {
        let started = Instant::now();
        let seed = Seed::from_number(self.world.seed);
        let cast = Cast::of(self, &seed);
        let workload = Workload::of(self, &seed, &cast.lies, &cast.evaluating)?;
        let watchers = self.watchers(&cast, &workload.reference);
        let reference = workload.reference;
        let federation = self.federation(workload.dimension);
        let steps = (0..self.peers()).map(|peer| self.world.machine(peer).0.step);
        let slowest = steps.max().unwrap_or(Duration::ZERO);
        let participants = workload
            .locals
            .into_iter()
            .enumerate()
            .map(|(peer, local)| {
                let setup = self.setup(&federation, &cast, &seed, peer);
                let mut participant = Participant::sharing(setup, local);
                self.place(&cast, slowest, peer, &mut participant);
                self.let_speak(&cast, peer, &mut participant);
                participant
            });
        let meeting = Meeting::Neighbours(Arc::clone(&self.charter));
        let links = self.world.links.clone();
        let mut simulation =
            Simulation::new(participants.collect(), meeting, links, threads, watchers);
        for (at, fault) in self.world.timeline(self.peers()) {
            simulation.fault_at(at, fault);
        }
        Ok(Run {
            experiment: self,
            simulation,
            cast,
            reference,
            started,
            ready: Instant::now(),
            ended: Ended::Limit,
        })
    }

    fn watchers(&self, cast: &Cast, reference: &Reference) -> Watchers {
        let timeline = self.world.timeline(self.peers());
        let links = &self.world.links;
        let healed = timeline.iter().map(|(at, fault)| *at + fault.lasts());
        let scope = Scope {
            charter: Arc::clone(&self.charter),
            ids: cast.roster.clone(),
            lies: cast.lies.clone(),
            attack: cast.liars().next().and(entry_of(&self.world.attack)),
            clear: timeline.is_empty() && links.loss == 0.0 && links.duplication == 0.0,
            prompt: self.world.is_prompt(self.peers()),
            hull: reference.hull.filter(|_| self.stays_in_hull()),
            healed_at: healed.max().unwrap_or(Duration::ZERO),
            heals_within: self.world.heals_within,
            reached: vec![0; cast.lies.len()],
            last: Default::default(),
        };
        let consensus_every = if self.peers() > PEER_ROWS_MAX {
            self.world.evaluate_every.max(1)
        } else {
            1
        };
        Watchers {
            metrics: Metrics::new(
                cast.lies.clone(),
                reference.optimum.clone(),
                consensus_every,
            ),
            mixing: Mixing::default(),
            invariants: Invariants::new(scope),
            oracle: cast.oracle.clone(),
            listener: None,
        }
    }

    /// What the peers have in common.
    fn federation(&self, dimension: usize) -> Federation {
        let charter = Arc::clone(&self.charter);
        let Some(task) = &self.task else {
            return Federation::new(charter, Digest::of(b"formula"), vec![0.0; dimension], []);
        };
        let layout = task.layout();
        let matrices = layout.matrices().into_iter().map(TensorShape::from);
        Federation::new(
            charter,
            layout.digest(),
            task.initial_parameters(),
            matrices,
        )
    }

    /// How a peer is set up, at the start and after every restart.
    fn setup(
        &self,
        federation: &Federation,
        cast: &Cast,
        seed: &Seed,
        peer: usize,
    ) -> Box<dyn Fn() -> Setup> {
        let (federation, roster) = (federation.clone(), cast.roster.clone());
        let (charter, key) = (Arc::clone(&self.charter), cast.keys[peer].clone());
        let seed = seed.child(&format!("peer {peer}"));
        let attack = cast.lies[peer].then(|| (self.world.attack.clone(), cast.oracle.clone()));
        let evaluates = cast.evaluating[peer];
        let evaluate_every = if evaluates {
            self.world.evaluate_every
        } else {
            0
        };
        Box::new(move || Setup {
            roster: roster.clone(),
            seed,
            conduct: conduct(attack.as_ref(), &charter),
            evaluate_every,
            ..federation.peer(key.clone())
        })
    }

    /// In a world whose liars attack with messages: a liar speaks, and everybody has lived before,
    /// so that there are recordings.
    fn let_speak(&self, cast: &Cast, peer: usize, participant: &mut Participant) {
        let means = entry_of(&self.world.attack).map(|entry| entry.new.means);
        let (Some(collusion), Some(Means::Messages { speak, .. })) = (&cast.collusion, means)
        else {
            return;
        };
        participant.lived = LIVED;
        participant.adversary = cast.lies[peer].then(|| {
            speak(Speaker {
                key: cast.keys[peer].clone(),
                charter: Arc::clone(&self.charter),
                roster: cast.roster.clone(),
                collusion: Arc::clone(collusion),
            })
        });
    }

    /// Puts a participant on its device and line.
    fn place(&self, cast: &Cast, slowest: Duration, peer: usize, participant: &mut Participant) {
        (participant.device, participant.line, participant.starts) = self.world.machine(peer);
        if cast.oracle.is_none() || !cast.lies[peer] {
            return;
        }
        match self.charter.round.mode {
            // A liar that knows what everybody publishes publishes last, as long as receivers still
            // wait for it.
            Mode::Synchronous => participant.waits = Some(self.charter.round.deadline / 2),
            // If nobody waits for anybody there is no last: it is as slow as the slowest.
            _ => {
                participant.device = Device {
                    step: slowest + Duration::from_micros(1),
                    jitter: 0.0,
                }
            }
        }
    }
}

fn conduct(
    attack: Option<&(String, Option<Arc<Oracle>>)>,
    charter: &Arc<Charter>,
) -> Box<dyn Conduct> {
    match attack {
        None => Box::new(Honest),
        Some((text, oracle)) => {
            let attack =
                attack_from_text(text).expect("the world was refused unless its attack is known");
            Box::new(Attacker::new(attack, oracle.clone()).under(charter))
        }
    }
}

impl Run<'_> {
    /// Runs until everybody has stopped or virtual time has passed `limit`, in slices, so that a
    /// waiting person sees progress.
    pub fn run_until(&mut self, limit: Duration, progress: &mut dyn FnMut(Duration, u64)) {
        const SLICE: u64 = 50_000;
        self.ended = loop {
            match self.simulation.run_some(limit, SLICE) {
                Some(ended) => break ended,
                None => progress(
                    self.simulation.now(),
                    self.simulation.observer.metrics.peer_rounds,
                ),
            }
        };
    }

    /// The peers by number: each one's name, its id, and whether it lies.
    pub fn peers(&self) -> impl Iterator<Item = (String, PeerId, bool)> + '_ {
        let names = self.cast.names.iter().cloned();
        let ids = self.cast.keys.iter().map(Authenticator::peer);
        let lies = self.cast.lies.iter().copied();
        names
            .zip(ids)
            .zip(lies)
            .map(|((name, id), lies)| (name, id, lies))
    }

    /// Lets a listener hear everything from here on.
    pub fn listen(&mut self, listener: Listener) {
        self.simulation.observer.listener = Some(listener);
    }

    /// Ends the run and returns its outcome.
    pub fn finish(mut self) -> Outcome {
        let unfinished = self.unfinished();
        let now = self.simulation.now();
        self.simulation.observer.tell(now, 0, Happened::Ended);
        self.simulation.observer.invariants.ended(now, &unfinished);
        let gaps = std::mem::take(&mut self.simulation.observer.mixing).gaps();
        let results = Results {
            experiment: self.experiment,
            simulation: &self.simulation,
            cast: &self.cast,
            reference: &self.reference,
            ended: self.ended,
            wall: self.started.elapsed(),
            running: self.ready.elapsed(),
        };
        let mut outcome = results.outcome();
        for row in &mut outcome.round_rows {
            let gap = row.round.checked_sub(1).and_then(|round| gaps.get(&round));
            row.spectral_gap = gap.copied().filter(|gap| gap.is_finite());
        }
        outcome
    }

    /// The honest peers that run and have not gone through every round. A peer that comes back when
    /// all its neighbours have finished ends before its last round, or waits for them, and says so.
    fn unfinished(&self) -> Vec<usize> {
        let (simulation, rounds) = (&self.simulation, self.experiment.charter.rounds);
        self.cast
            .honest()
            .filter(|peer| simulation.is_running(*peer) && !simulation.is_stranded(*peer))
            .filter(|peer| simulation.peer(*peer).round() < rounds)
            .collect()
    }
}
