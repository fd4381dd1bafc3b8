//! Peers under virtual time: the same [`Peer`] that a node runs, driven by one queue of (time,
//! sequence) → what happens.
//!
//! [`Simulation`] owns the peers and carries out their effects. Time moves only to the next entry
//! of the queue, so a deadline of minutes costs nothing. Training runs on a pool of threads, but
//! its result enters when the device would have been done, so equal seeds give equal runs to the
//! bit for any number of threads; [`Simulation::trace`] is the hash over all inputs and effects
//! that says so.
//!
//! Not here: what a world file says (`world`), what is measured (`metrics`), what must hold
//! (`check`): those look on as [`Observer`]s.

mod network;
mod pool;
mod queue;
mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::charter::Charter;
use kith_consensus::prefetch::prefetch;
use kith_consensus::{Digest, PeerId, Seed, Sorted, Stream};
use kith_gossip::{
    Checkpoint, Effect, Event, Input, Intent, Packet, Parameters, Peer, Record, Roster, Setup,
    Stored, Timer,
};
use kith_models::{Request, Trained};
use serde::{Deserialize, Serialize};

use network::Network;
pub use network::{Cut, Jitter, Line, Links};
use pool::Pool;
use queue::{Nanoseconds, Queue};
use trace::Trace;

/// A broken connection is noticed after this (guess: QUIC's and yamux's own limits are of this
/// size).
const DETECTION: Duration = Duration::from_secs(10);

/// A pull that makes no progress fails after this, as the carrier's does.
const PULL_TIMEOUT: Duration = Duration::from_secs(10);

/// What a peer trains and evaluates on: candle models or a formula. A pure function of its
/// arguments.
pub trait Local: Send + Sync {
    /// One round of local training.
    ///
    /// # Errors
    /// For people: why there is no result.
    fn train(&self, request: &Request<'_>) -> Result<Trained, String>;

    /// The same by a process that has died `life` times: whose noise need not be what it was.
    ///
    /// # Errors
    /// See [`Local::train`].
    fn train_again(&self, request: &Request<'_>, _life: u32) -> Result<Trained, String> {
        self.train(request)
    }

    /// Local steps of a round: what a device's speed is multiplied with.
    fn steps(&self) -> u64 {
        1
    }

    /// Mean loss of a model on own training rows, where there are rows.
    fn loss(&self, parameters: &[f32]) -> Option<f64>;

    /// Held-out (loss, accuracy, samples), where there is held-out data.
    fn evaluate(&self, parameters: &[f32]) -> Option<(f64, f64, u64)>;
}

/// How fast a peer trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Device {
    /// Virtual time of one local step.
    pub step: Duration,
    /// The time of a round varies by the factor e^(jitter·N), N standard normal.
    pub jitter: f64,
}

impl Default for Device {
    fn default() -> Device {
        Device {
            step: Duration::from_millis(1),
            jitter: 0.0,
        }
    }
}

/// One who takes part: how its peer is set up, at the start and after every restart, what it
/// trains, on what.
pub struct Participant {
    setup: Box<dyn Fn() -> Setup>,
    local: Arc<dyn Local>,
    /// How fast it trains.
    pub device: Device,
    /// How it is connected.
    pub line: Line,
    /// When it first starts.
    pub starts: Duration,
    /// Its training results enter after everybody else's of the same round that can still come, who
    /// have none of this; at most so long after the first of them. For those who know what the
    /// others publish.
    pub waits: Option<Duration>,
}

impl Participant {
    /// From a way to set the peer up and what it trains; starts at once on an ordinary device and
    /// line.
    pub fn new(setup: impl Fn() -> Setup + 'static, local: impl Local + 'static) -> Participant {
        Participant::sharing(Box::new(setup), Arc::new(local))
    }

    /// The same from what stands on the heap already.
    pub(crate) fn sharing(setup: Box<dyn Fn() -> Setup>, local: Arc<dyn Local>) -> Participant {
        Participant {
            setup,
            local,
            device: Device::default(),
            line: Line::default(),
            starts: Duration::ZERO,
            waits: None,
        }
    }
}

/// Who is connected before anybody asks.
#[derive(Clone, Debug)]
pub enum Meeting {
    /// Everyone with everyone.
    Everyone,
    /// Each with its neighbours of the round it starts in; others connect when they ask.
    Neighbours(Arc<Charter>),
}

/// Something that goes wrong at a time.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variant's line says what its fields are")]
pub enum Fault {
    /// A process dies; it starts again after `back`, if it does, with its disk or without.
    Crash {
        peer: usize,
        back: Option<Duration>,
        keeps_disk: bool,
    },
    /// A process dies; it starts again after `back` with its newest intent and the checkpoint
    /// before its newest one.
    Rollback { peer: usize, back: Duration },
    /// A process stands still (SIGSTOP) for so long.
    Pause { peer: usize, lasts: Duration },
    /// Peers cannot reach each other for so long.
    Partition { cut: Cut, lasts: Duration },
    /// More messages are lost for so long.
    Loss { share: f64, lasts: Duration },
    /// A disk takes `write` for every record, for so long.
    SlowDisk {
        peer: usize,
        write: Duration,
        lasts: Duration,
    },
    /// A clock runs at this rate from now on (1 is right).
    Clock { peer: usize, rate: f64 },
    /// Whoever is down starts again, cuts heal, disks and clocks are right: from now on everything
    /// works.
    Heal,
}

/// Who looks on. Everything is shown in the order in which it happens.
pub trait Observer {
    /// Something was emitted.
    fn event(&mut self, moment: &Moment<'_>, event: &Event);

    /// Something goes into a peer, before it handles it.
    fn input(&mut self, _moment: &Moment<'_>, _input: &Input) {}

    /// Something came out of a peer, before it is carried out.
    fn effect(&mut self, _moment: &Moment<'_>, _effect: &Effect) {}

    /// A record is durable now.
    fn stored(&mut self, _moment: &Moment<'_>, _record: &Record) {}

    /// A peer's process died; what was not durable is gone.
    fn crashed(&mut self, _moment: &Moment<'_>) {}

    /// A message was put on the wire, of so many bytes.
    fn sent(&mut self, _from: usize, _to: usize, _bytes: usize) {}
}

/// When and where something happens.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Virtual time since the start.
    pub now: Duration,
    /// Which member.
    pub member: usize,
    /// How often its process has died.
    pub life: u32,
    /// Its peer, as it is now.
    pub peer: &'a Peer,
}

/// Keeps every event.
#[derive(Debug, Default)]
pub struct Recorder {
    /// When, to whom, what.
    pub events: Vec<(Duration, PeerId, Event)>,
}

impl Observer for Recorder {
    fn event(&mut self, moment: &Moment<'_>, event: &Event) {
        self.events
            .push((moment.now, moment.peer.id(), event.clone()));
    }
}

/// Nobody looks on.
impl Observer for () {
    fn event(&mut self, _: &Moment<'_>, _: &Event) {}
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Every peer stopped by itself (a peer that crashed for good is not waited for).
    Stopped,
    /// Nothing was left to happen, though somebody had not stopped.
    Quiet,
    /// The limit of virtual time passed.
    #[default]
    Limit,
}

/// Something that will happen.
enum Entry {
    Start(usize),
    /// Messages that arrive at one peer at one time come together, in the order in which they were
    /// sent.
    Deliver {
        to: u32,
        life: u32,
        messages: Vec<(u32, Packet)>,
    },
    Input {
        member: u32,
        life: u32,
        input: Box<Input>,
    },
    Timer {
        member: u32,
        life: u32,
        timer: Timer,
    },
    Trained {
        member: u32,
        life: u32,
        round: u64,
        job: u64,
    },
    /// Who waits for others' results has waited long enough.
    Patience {
        member: u32,
        life: u32,
        round: u64,
    },
    Evaluated {
        member: u32,
        life: u32,
        round: u64,
        job: u64,
    },
    Judged {
        member: u32,
        life: u32,
        round: u64,
        job: u64,
    },
    Durable {
        member: u32,
        life: u32,
        record: Box<Record>,
    },
    PullTimeout {
        request: u64,
    },
    Fault(usize),
    /// What a fault began ends.
    FaultEnds(usize),
    /// Connections across a cut are noticed to be broken.
    CutNoticed(usize),
}

impl Entry {
    /// The member whose process takes this in.
    fn process(&self) -> Option<(usize, u32)> {
        match self {
            Entry::Deliver {
                to: member, life, ..
            }
            | Entry::Input { member, life, .. }
            | Entry::Timer { member, life, .. }
            | Entry::Trained { member, life, .. }
            | Entry::Patience { member, life, .. }
            | Entry::Evaluated { member, life, .. }
            | Entry::Judged { member, life, .. }
            | Entry::Durable { member, life, .. } => Some((*member as usize, *life)),
            _ => None,
        }
    }

    fn job(&self) -> Option<u64> {
        match self {
            Entry::Trained { job, .. }
            | Entry::Evaluated { job, .. }
            | Entry::Judged { job, .. } => Some(*job),
            _ => None,
        }
    }
}

/// What the pool computes.
enum Computed {
    Trained(Result<Trained, String>),
    Evaluated(Option<(f64, f64, u64)>),
    Judged(Option<Vec<f64>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    /// Not started yet.
    Waiting,
    Up,
    /// Dead, and will start again.
    Down,
    /// Dead for good, unless everything heals.
    Gone,
    Stopped,
}

struct Member {
    peer: Peer,
    setup: Box<dyn Fn() -> Setup>,
    local: Arc<dyn Local>,
    device: Device,
    /// See [`Participant::waits`].
    waits: Option<Nanoseconds>,
    /// The newest round that it has trained in.
    trained: Option<u64>,
    checkpoint: Option<Box<Checkpoint>>,
    /// The one before; kept only where a rollback is to come.
    before: Option<Box<Checkpoint>>,
    /// The newest intent, also of a round that is complete; kept only where a rollback is to come.
    promised: Option<Box<Intent>>,
    intent: Option<Box<Intent>>,
    /// Counts deaths: what was meant for an earlier life is dropped.
    life: u32,
    process: Process,
    paused_until: Nanoseconds,
    /// What comes for it while it stands still, in order.
    held: Vec<Entry>,
    write: Nanoseconds,
    /// When the disk has done what it was given so far: writes are done in order.
    disk_free: Nanoseconds,
    clock: f64,
    /// Whom it is connected with.
    connections: Sorted<PeerId, Connection>,
    /// The newest entry of the queue that delivers to it: when, for which life, where it stands.
    delivery: Option<(Nanoseconds, u32, u32)>,
    /// When it last hears that a connection to somebody began or ended: it hears so in this order.
    news: BTreeMap<u32, Nanoseconds>,
}

struct Connection {
    /// The member at the other end.
    member: u32,
    /// When the last message to it arrives.
    last: Nanoseconds,
}

/// Peers, the queue between them, and who looks on.
pub struct Simulation<O> {
    members: Vec<Member>,
    /// The members' ids, close together.
    ids: Vec<PeerId>,
    /// Everybody in the order of ids: the graph's numbers are places in this list.
    roster: Roster,
    /// By place in the roster, which member it is.
    member_at: Vec<u32>,
    queue: Queue<Entry>,
    now: Nanoseconds,
    network: Network,
    meeting: Meeting,
    faults: Vec<Fault>,
    /// Whether a disk will be rolled back, so that the checkpoint before the newest is kept.
    rolls_back: bool,
    device_seed: Seed,
    requests: BTreeMap<u64, Pull>,
    next_request: u64,
    pool: Pool<Computed>,
    /// Results that wait for others', and when in each of the newest rounds the first of those
    /// came.
    held_back: Vec<HeldBack>,
    first_results: BTreeMap<u64, Nanoseconds>,
    trace: Trace,
    running: usize,
    /// Members that wait for neighbours who have all gone through every round and stopped: as in
    /// reality, nothing more comes of that.
    stranded: BTreeSet<usize>,
    handled: u64,
    effects: Vec<Effect>,
    /// What follows at once from what has just happened: records on disks that take no time.
    at_once: VecDeque<Entry>,
    /// Who looks on.
    pub observer: O,
}

/// A training result that waits for the others' of its round.
#[derive(Clone, Copy)]
struct HeldBack {
    member: u32,
    life: u32,
    round: u64,
    job: u64,
}

/// A body that somebody pulls.
struct Pull {
    asker: usize,
    life: u32,
    source: usize,
    digest: Digest,
}

impl<O: Observer> Simulation<O> {
    /// A simulation of these participants, training on `threads` threads beside the calling one.
    ///
    /// # Panics
    /// When two participants have one key.
    pub fn new(
        participants: Vec<Participant>,
        meeting: Meeting,
        links: Links,
        threads: usize,
        observer: O,
    ) -> Simulation<O> {
        let lines = participants
            .iter()
            .map(|participant| participant.line)
            .collect();
        let device_seed = Seed::from_number(links.seed).child("devices");
        let mut starts = Vec::with_capacity(participants.len());
        let member = |participant: Participant| {
            starts.push(nanoseconds(participant.starts));
            Member {
                peer: Peer::new((participant.setup)()),
                setup: participant.setup,
                local: participant.local,
                device: participant.device,
                waits: participant.waits.map(nanoseconds),
                trained: None,
                checkpoint: None,
                before: None,
                promised: None,
                intent: None,
                life: 0,
                process: Process::Waiting,
                paused_until: 0,
                held: Vec::new(),
                write: 0,
                disk_free: 0,
                clock: 1.0,
                connections: Sorted::default(),
                delivery: None,
                news: BTreeMap::new(),
            }
        };
        let members: Vec<Member> = participants.into_iter().map(member).collect();
        let roster: Roster = members.iter().map(|member| member.peer.id()).collect();
        assert_eq!(
            roster.len(),
            members.len(),
            "every participant has a key of its own"
        );
        let mut member_at = vec![0; members.len()];
        for (index, member) in members.iter().enumerate() {
            member_at[roster
                .index(&member.peer.id())
                .expect("everybody is on the roster")] = index as u32;
        }
        let mut simulation = Simulation {
            running: members.len(),
            stranded: BTreeSet::new(),
            ids: members.iter().map(|member| member.peer.id()).collect(),
            members,
            roster,
            member_at,
            queue: Queue::default(),
            now: 0,
            network: Network::new(links, lines),
            meeting,
            faults: Vec::new(),
            rolls_back: false,
            device_seed,
            requests: BTreeMap::new(),
            next_request: 0,
            pool: Pool::new(threads),
            held_back: Vec::new(),
            first_results: BTreeMap::new(),
            trace: Trace::default(),
            handled: 0,
            effects: Vec::new(),
            at_once: VecDeque::new(),
            observer,
        };
        for (member, at) in starts.into_iter().enumerate() {
            simulation.queue.push(at, Entry::Start(member));
        }
        simulation
    }

    /// Lets something go wrong at a time.
    pub fn fault_at(&mut self, at: Duration, fault: Fault) {
        self.queue
            .push(nanoseconds(at), Entry::Fault(self.faults.len()));
        self.rolls_back |= matches!(fault, Fault::Rollback { .. });
        self.faults.push(fault);
    }

    /// Lets a peer's process die at a time and start again at once, with its disk or without.
    pub fn restart_at(&mut self, peer: usize, at: Duration, keeps_disk: bool) {
        self.fault_at(
            at,
            Fault::Crash {
                peer,
                back: Some(Duration::ZERO),
                keeps_disk,
            },
        );
    }

    /// Puts an input of the caller's into a peer's queue, for example bytes that nobody honest
    /// would send.
    pub fn inject(&mut self, member: usize, input: Input, after: Duration) {
        self.push_input(member, input, nanoseconds(after));
    }

    /// Runs until every peer has stopped, nothing is left to happen, or `limit` of virtual time has
    /// passed.
    pub fn run(&mut self, limit: Duration) -> Ended {
        let limit = nanoseconds(limit);
        loop {
            if let Some(ended) = self.step(limit) {
                return ended;
            }
        }
    }

    /// As [`Simulation::run`], but comes back with `None` after `inputs` more inputs, to be called
    /// again.
    pub fn run_some(&mut self, limit: Duration, inputs: u64) -> Option<Ended> {
        let (limit, until) = (nanoseconds(limit), self.handled + inputs);
        while self.handled < until {
            if let Some(ended) = self.step(limit) {
                return Some(ended);
            }
        }
        None
    }

    /// What happens next; how the run ended, if it did.
    fn step(&mut self, limit: Nanoseconds) -> Option<Ended> {
        if let Some(entry) = self.at_once.pop_front() {
            self.happen(entry);
            return self.is_over().then_some(Ended::Stopped);
        }
        match self.queue.next_time() {
            None => {
                return Some(if self.is_over() {
                    Ended::Stopped
                } else {
                    Ended::Quiet
                });
            }
            Some(at) if at > limit => return Some(Ended::Limit),
            Some(_) => {}
        }
        let (at, entry) = self.queue.pop().expect("the next entry has a time");
        self.now = at;
        self.prefetch();
        self.happen(entry);
        self.is_over().then_some(Ended::Stopped)
    }

    /// Whether everybody has stopped by itself, but for those that wait for them.
    fn is_over(&self) -> bool {
        self.running == self.stranded.len()
    }

    /// Whether a member waits for neighbours of whom none will ever be there again.
    pub fn is_stranded(&self, member: usize) -> bool {
        self.stranded.contains(&member)
    }

    /// A member has said that it waits for neighbours.
    fn waits(&mut self, member: usize) {
        let mut neighbours = self.members[member].peer.neighbours();
        if neighbours.is_empty() {
            // In this round it exchanges with nobody; it waits for anybody.
            neighbours.extend(self.ids.iter().filter(|id| **id != self.ids[member]));
        }
        let gone = |peer: &PeerId| {
            let neighbour = self
                .member_of(peer)
                .map(|number| self.members[number].process);
            matches!(neighbour, Some(Process::Stopped | Process::Gone))
        };
        if !neighbours.is_empty() && neighbours.iter().all(gone) {
            self.stranded.insert(member);
        }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member's peer.
    pub fn peer(&self, member: usize) -> &Peer {
        &self.members[member].peer
    }

    /// The parameters that a peer's last completed round led to.
    pub fn parameters(&self, member: usize) -> &Parameters {
        self.members[member].peer.parameters()
    }

    /// The identity of a member.
    pub fn id(&self, member: usize) -> PeerId {
        self.ids[member]
    }

    /// Whether a member's process runs, or stopped by itself after its last round.
    pub fn is_alive(&self, member: usize) -> bool {
        matches!(self.members[member].process, Process::Up | Process::Stopped)
    }

    /// Whether a member's process runs.
    pub fn is_running(&self, member: usize) -> bool {
        self.members[member].process == Process::Up
    }

    /// Virtual time now.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// Inputs handled so far.
    pub fn handled(&self) -> u64 {
        self.handled
    }

    /// Hash over all inputs and effects so far.
    pub fn trace(&self) -> Digest {
        self.trace.digest()
    }

    fn place_of(&self, peer: &PeerId) -> Option<usize> {
        self.roster.index(peer)
    }

    fn member_of(&self, peer: &PeerId) -> Option<usize> {
        self.place_of(peer)
            .map(|place| self.member_at[place] as usize)
    }

    // --- the queue ---

    /// Asks for the memory that the next entries of the queue will touch: of each one pointer
    /// further than of the one after it. The queue itself has asked for the last of those it knows.
    fn prefetch(&self) {
        for distance in 0..queue::AHEAD - 1 {
            let Some(entry) = self.queue.upcoming(distance) else {
                return;
            };
            let Some((number, _)) = entry.process() else {
                continue;
            };
            let member = &self.members[number];
            let receivers = || {
                member
                    .connections
                    .values()
                    .map(|connection| connection.member as usize)
            };
            match (entry, distance) {
                (_, 4) => prefetch(member),
                (Entry::Deliver { messages, .. }, 3) => {
                    prefetch(&messages[..]);
                    member.peer.prefetch(0);
                }
                (Entry::Deliver { messages, .. }, 0..3) => {
                    messages
                        .iter()
                        .for_each(|(_, packet)| packet.prefetch(2 - distance));
                    if distance == 2 {
                        messages
                            .iter()
                            .for_each(|(from, _)| prefetch(&self.ids[*from as usize]));
                        member.peer.prefetch(1);
                    }
                }
                (Entry::Trained { .. }, 3) => {
                    member.peer.prefetch(0);
                    member.connections.prefetch();
                    prefetch(&*member.local);
                }
                // Those to whom the update goes, and what is on its way to them.
                (Entry::Trained { .. }, 2) => {
                    member.peer.prefetch(1);
                    for to in receivers() {
                        prefetch(&self.members[to].life);
                        prefetch(&self.members[to].delivery);
                        self.network.prefetch(to);
                    }
                }
                (Entry::Trained { .. }, 1) => {
                    receivers()
                        .filter_map(|to| self.members[to].delivery)
                        .for_each(|(.., slot)| prefetch(self.queue.slot(slot)));
                }
                _ => {}
            }
        }
    }

    fn push_input(&mut self, member: usize, input: Input, after: Nanoseconds) {
        let life = self.members[member].life;
        self.queue.push(
            self.now + after,
            Entry::Input {
                member: member as u32,
                life,
                input: Box::new(input),
            },
        );
    }

    fn happen(&mut self, entry: Entry) {
        if let Some((member, life)) = entry.process() {
            let state = &mut self.members[member];
            state.delivery = state.delivery.filter(|(at, ..)| *at > self.now);
            if state.life != life || state.process != Process::Up {
                entry
                    .job()
                    .into_iter()
                    .for_each(|job| self.pool.forget(job));
                return;
            }
            if state.paused_until > self.now {
                return self.members[member].held.push(entry);
            }
        }
        match entry {
            Entry::Start(member) => self.start(member),
            Entry::Deliver { to, messages, .. } => {
                for (from, bytes) in messages {
                    // A message may be the last that it takes.
                    if self.members[to as usize].process == Process::Up {
                        let from = self.id(from as usize);
                        self.handle(to as usize, Input::Received { from, bytes });
                    }
                }
            }
            Entry::Input { member, input, .. } => self.handle(member as usize, *input),
            Entry::Timer { member, timer, .. } => {
                self.handle(member as usize, Input::TimerExpired(timer))
            }
            Entry::Trained {
                member,
                life,
                round,
                job,
            } => {
                let result = HeldBack {
                    member,
                    life,
                    round,
                    job,
                };
                if !self.holds_back(result) {
                    self.trained(result);
                }
            }
            Entry::Patience {
                member,
                life,
                round,
            } => {
                let held =
                    |held: &HeldBack| (held.member, held.life, held.round) == (member, life, round);
                if let Some(place) = self.held_back.iter().position(held) {
                    let result = self.held_back.remove(place);
                    self.trained(result);
                }
            }
            Entry::Evaluated {
                member, round, job, ..
            } => self.evaluated(member as usize, round, job),
            Entry::Judged {
                member, round, job, ..
            } => {
                let Computed::Judged(losses) = self.pool.collect(job) else {
                    unreachable!("the job was to judge")
                };
                self.handle(member as usize, Input::Judged { round, losses });
            }
            Entry::Durable { member, record, .. } => self.durable(member as usize, *record),
            Entry::PullTimeout { request } => {
                if let Some(pull) = self.requests.remove(&request) {
                    self.pull_failed(
                        pull.asker,
                        pull.life,
                        pull.digest,
                        pull.source,
                        "it stopped answering",
                    );
                }
            }
            Entry::Fault(number) => self.fault(number),
            Entry::FaultEnds(number) => self.fault_ends(number),
            Entry::CutNoticed(number) => self.cut_noticed(number),
        }
    }

    fn handle(&mut self, member: usize, input: Input) {
        self.handled += 1;
        self.trace.input(self.now, member, &input);
        let now = Duration::from_nanos(self.now);
        let state = &self.members[member];
        self.observer.input(
            &Moment {
                now,
                member,
                life: state.life,
                peer: &state.peer,
            },
            &input,
        );
        let mut effects = std::mem::take(&mut self.effects);
        let clock = self.members[member].clock;
        let local = if clock == 1.0 {
            now
        } else {
            now.mul_f64(clock)
        };
        self.members[member].peer.handle(input, local, &mut effects);
        for effect in effects.drain(..) {
            self.perform(member, effect);
        }
        self.effects = effects;
    }

    // --- effects ---

    fn perform(&mut self, member: usize, effect: Effect) {
        self.trace.effect(self.now, member, &effect);
        let now = Duration::from_nanos(self.now);
        let state = &self.members[member];
        let moment = Moment {
            now,
            member,
            life: state.life,
            peer: &state.peer,
        };
        self.observer.effect(&moment, &effect);
        match effect {
            Effect::Train {
                round,
                parameters,
                memory,
                correction,
            } => {
                self.train(member, round, parameters, [memory, correction]);
            }
            Effect::Evaluate { round, parameters } => {
                let local = Arc::clone(&self.members[member].local);
                let job = self
                    .pool
                    .submit(move || Computed::Evaluated(local.evaluate(&parameters)));
                let life = self.members[member].life;
                self.queue.push(
                    self.now,
                    Entry::Evaluated {
                        member: member as u32,
                        life,
                        round,
                        job,
                    },
                );
            }
            Effect::Judge { round, models } => {
                let local = Arc::clone(&self.members[member].local);
                // A forward pass costs about a third of a step (guess).
                let takes = nanoseconds(self.members[member].device.step) * models.len() as u64 / 3;
                let losses = move || models.iter().map(|model| local.loss(model)).collect();
                let job = self.pool.submit(move || Computed::Judged(losses()));
                let life = self.members[member].life;
                self.queue.push(
                    self.now + takes,
                    Entry::Judged {
                        member: member as u32,
                        life,
                        round,
                        job,
                    },
                );
            }
            Effect::Send { to, bytes } => {
                self.send(member, &to, bytes);
            }
            Effect::Announce { bytes } => self.announce(member, &bytes),
            Effect::Fetch {
                digest, sources, ..
            } => self.pull(member, digest, &sources),
            Effect::Provide { request, body } => self.provide(member, request, body),
            Effect::Connect { peer, .. } => {
                if let Some(other) = self.member_of(&peer) {
                    self.connect(member, other);
                }
            }
            Effect::Disconnect { peer, .. } => {
                if let Some(other) = self.member_of(&peer) {
                    self.disconnect(member, other);
                }
            }
            Effect::SetTimer { timer, after } => {
                let after = (nanoseconds(after) as f64 / self.members[member].clock) as Nanoseconds;
                let life = self.members[member].life;
                self.queue.push(
                    self.now + after,
                    Entry::Timer {
                        member: member as u32,
                        life,
                        timer,
                    },
                );
            }
            Effect::Persist(record) => {
                let state = &mut self.members[member];
                state.disk_free = state.disk_free.max(self.now) + state.write;
                let entry = Entry::Durable {
                    member: member as u32,
                    life: state.life,
                    record: Box::new(record),
                };
                if state.disk_free == self.now {
                    self.at_once.push_back(entry);
                } else {
                    self.queue.push(state.disk_free, entry);
                }
            }
            Effect::Emit(event) => {
                self.observer.event(&moment, &event);
                if matches!(event, Event::Waiting { .. } | Event::TooFew { .. }) {
                    self.waits(member);
                }
            }
            Effect::Stop => {
                self.members[member].process = Process::Stopped;
                self.stranded.remove(&member);
                self.running -= 1;
                self.hang_up(member);
                self.let_in();
            }
        }
    }

    fn train(
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

    /// Whether somebody who waits for nobody may still train in `round`.
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

    /// Lets results in that have nobody to wait for any more.
    fn let_in(&mut self) {
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

    /// Notes that somebody has a result, before others hear of it.
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

    fn trained(
        &mut self,
        HeldBack {
            member, round, job, ..
        }: HeldBack,
    ) {
        let member = member as usize;
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

    fn evaluated(&mut self, member: usize, round: u64, job: u64) {
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

    fn durable(&mut self, member: usize, record: Record) {
        let rolls_back = self.rolls_back;
        let now = Duration::from_nanos(self.now);
        let state = &self.members[member];
        self.observer.stored(
            &Moment {
                now,
                member,
                life: state.life,
                peer: &state.peer,
            },
            &record,
        );
        let state = &mut self.members[member];
        let stored = match record {
            Record::Intent(intent) => {
                let stored = Stored::Intent {
                    round: intent.round,
                };
                if rolls_back {
                    state.promised = Some(intent.clone());
                }
                state.intent = Some(intent);
                stored
            }
            Record::Checkpoint(checkpoint) => {
                let stored = Stored::Checkpoint {
                    round: checkpoint.round,
                };
                // A promise for a round that is complete is never needed again.
                state.intent = state
                    .intent
                    .take()
                    .filter(|intent| intent.round >= checkpoint.round);
                let newest = state.checkpoint.replace(checkpoint);
                if rolls_back {
                    state.before = newest;
                }
                stored
            }
        };
        self.handle(member, Input::Stored(stored));
    }

    // --- messages ---

    fn send(&mut self, from: usize, receiver: &PeerId, bytes: Packet) {
        let Some(connection) = self.members[from].connections.get(receiver) else {
            return; // the carrier drops what is for somebody who is not connected
        };
        let to = connection.member as usize;
        self.observer.sent(from, to, bytes.len());
        if self.network.is_cut(from, to) {
            return;
        }
        for _ in 0..self.network.copies() {
            let mut at = self.network.arrival(self.now, from, to, bytes.len());
            if self.network.keeps_order() {
                let connection = self.members[from]
                    .connections
                    .get_mut(receiver)
                    .expect("it was just looked up");
                at = at.max(connection.last);
                connection.last = at;
            }
            self.deliver(from, to, at, bytes.clone());
        }
    }

    /// Gossip reaches everybody who runs; what it costs is counted once for each.
    fn announce(&mut self, from: usize, bytes: &Packet) {
        for to in (0..self.members.len()).filter(|to| *to != from) {
            if self.members[to].process != Process::Up {
                continue;
            }
            self.observer.sent(from, to, bytes.len());
            if self.network.is_cut(from, to) {
                continue;
            }
            for _ in 0..self.network.copies() {
                let at = self.network.arrival(self.now, from, to, bytes.len());
                self.deliver(from, to, at, bytes.clone());
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, at: Nanoseconds, bytes: Packet) {
        let state = &mut self.members[to];
        let message = (from as u32, bytes);
        if let Some((when, life, slot)) = state.delivery
            && (when, life) == (at, state.life)
            && let Some(Entry::Deliver { messages, .. }) = self.queue.waiting(slot)
        {
            return messages.push(message);
        }
        let entry = Entry::Deliver {
            to: to as u32,
            life: state.life,
            messages: vec![message],
        };
        state.delivery = Some((at, state.life, self.queue.push(at, entry)));
    }

    /// A pull is a reliable stream that can fail as a whole, after a while.
    fn pull(&mut self, asker: usize, digest: Digest, sources: &[PeerId]) {
        let life = self.members[asker].life;
        let Some(source) = sources.first().and_then(|source| self.member_of(source)) else {
            let failed = Input::FetchFailed {
                digest,
                sources: sources.to_vec(),
                why: "nobody to ask".into(),
            };
            return self.push_input(asker, failed, 0);
        };
        let connected = self.is_connected(asker, source);
        if !connected || self.network.is_lost() {
            return self.pull_failed(asker, life, digest, source, "the stream broke");
        }
        let request = self.next_request;
        self.next_request += 1;
        self.requests.insert(
            request,
            Pull {
                asker,
                life,
                source,
                digest,
            },
        );
        self.queue.push(
            self.now + nanoseconds(PULL_TIMEOUT),
            Entry::PullTimeout { request },
        );
        if !self.network.is_cut(asker, source) {
            const REQUEST_BYTES: usize = 64;
            let at = self.network.arrival(self.now, asker, source, REQUEST_BYTES);
            let from = self.id(asker);
            self.push_input(
                source,
                Input::BodyRequested {
                    from,
                    digest,
                    request,
                },
                at - self.now,
            );
        }
    }

    fn pull_failed(&mut self, asker: usize, life: u32, digest: Digest, source: usize, why: &str) {
        const PAUSE: Duration = Duration::from_millis(10);
        if self.members[asker].life == life {
            let sources = vec![self.id(source)];
            self.push_input(
                asker,
                Input::FetchFailed {
                    digest,
                    sources,
                    why: why.to_owned(),
                },
                nanoseconds(PAUSE),
            );
        }
    }

    fn provide(&mut self, source: usize, request: u64, body: Option<Arc<Vec<u8>>>) {
        let Some(Pull {
            asker,
            life,
            digest,
            ..
        }) = self.requests.remove(&request)
        else {
            return;
        };
        let Some(body) = body else {
            return self.pull_failed(asker, life, digest, source, "it does not have it");
        };
        self.observer.sent(source, asker, body.len());
        if self.network.is_cut(source, asker) {
            return self.pull_failed(asker, life, digest, source, "the stream broke");
        }
        let at = self.network.arrival(self.now, source, asker, body.len());
        if self.members[asker].life == life {
            self.push_input(
                asker,
                Input::Fetched {
                    digest,
                    bytes: body,
                },
                at - self.now,
            );
        }
    }

    // --- connections ---

    fn is_connected(&self, a: usize, b: usize) -> bool {
        self.members[a].connections.contains(&self.ids[b])
    }

    fn connected_with(&self, member: usize) -> Vec<usize> {
        self.members[member]
            .connections
            .values()
            .map(|connection| connection.member as usize)
            .collect()
    }

    fn connect(&mut self, a: usize, b: usize) {
        let up = |member: usize| self.members[member].process == Process::Up;
        let cut = self.network.is_cut(a, b) || self.network.is_cut(b, a);
        if a == b || !up(a) || !up(b) || cut || self.is_connected(a, b) {
            return;
        }
        let after = self.network.latency(a, b);
        for (own, other) in [(a, b), (b, a)] {
            let peer = self.id(other);
            let connection = Connection {
                member: other as u32,
                last: self.now + after,
            };
            self.members[own].connections.insert(peer, connection);
            // Where everybody can reach everybody there is nothing to tell of addresses.
            let addresses = match self.meeting {
                Meeting::Everyone => vec![format!("/memory/{other}")],
                Meeting::Neighbours(_) => Vec::new(),
            };
            self.hear(own, other, Input::PeerUp { peer, addresses }, after);
        }
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        let (id_a, id_b) = (self.id(a), self.id(b));
        if self.members[a].connections.remove(&id_b).is_none() {
            return;
        }
        self.members[b].connections.remove(&id_a);
        for (own, other) in [(a, b), (b, a)] {
            let peer = self.id(other);
            let after = self.network.latency(a, b);
            self.hear(own, other, Input::PeerDown { peer }, after);
        }
    }

    /// Tells a member that a connection began or ended, never before what it is told of an earlier
    /// one.
    fn hear(&mut self, own: usize, other: usize, input: Input, after: Nanoseconds) {
        let last = self.members[own].news.entry(other as u32).or_default();
        *last = (*last).max(self.now + after);
        let after = *last - self.now;
        self.push_input(own, input, after);
    }

    /// Ends all connections of a member.
    fn hang_up(&mut self, member: usize) {
        self.connected_with(member)
            .into_iter()
            .for_each(|other| self.disconnect(member, other));
        let broken = |pull: &Pull| pull.source == member || pull.asker == member;
        let pulls: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, pull)| broken(pull))
            .map(|(request, _)| *request)
            .collect();
        let pulls: Vec<Pull> = pulls
            .iter()
            .filter_map(|request| self.requests.remove(request))
            .collect();
        for pull in pulls {
            self.pull_failed(
                pull.asker,
                pull.life,
                pull.digest,
                pull.source,
                "the connection ended",
            );
        }
    }

    /// Connects a member that has just started.
    fn meet(&mut self, member: usize) {
        let others: Vec<usize> = match &self.meeting {
            Meeting::Everyone => (0..self.members.len())
                .filter(|other| *other != member)
                .collect(),
            Meeting::Neighbours(charter) => {
                let round = self.members[member]
                    .checkpoint
                    .as_ref()
                    .map_or(0, |checkpoint| checkpoint.round);
                let round = round.min(charter.rounds.saturating_sub(1));
                let graph = charter.topology.graph(self.members.len(), round);
                let graph = graph.expect(
                    "the charter was refused unless its topology can be drawn for its peers",
                );
                let place = self
                    .place_of(&self.id(member))
                    .expect("every member has its place");
                let both = graph
                    .receives_from(place)
                    .iter()
                    .chain(graph.sends_to(place));
                both.map(|place| self.member_at[*place] as usize).collect()
            }
        };
        others
            .into_iter()
            .for_each(|other| self.connect(member, other));
    }

    fn start(&mut self, member: usize) {
        self.stranded.clear(); // somebody is back
        let state = &mut self.members[member];
        state.process = Process::Up;
        let (checkpoint, intent) = (state.checkpoint.clone(), state.intent.clone());
        self.push_input(member, Input::Start { checkpoint, intent }, 0);
        self.meet(member);
    }

    // --- faults ---

    fn fault(&mut self, number: usize) {
        let ends = |simulation: &mut Simulation<O>, lasts: Duration| {
            simulation.queue.push(
                simulation.now + nanoseconds(lasts),
                Entry::FaultEnds(number),
            );
        };
        match self.faults[number].clone() {
            Fault::Crash {
                peer,
                back,
                keeps_disk,
            } => {
                if self.members[peer].process == Process::Up {
                    self.crash(peer, keeps_disk);
                    match back {
                        Some(back) => ends(self, back),
                        None => {
                            self.members[peer].process = Process::Gone;
                            self.running -= 1;
                            self.let_in();
                        }
                    }
                }
            }
            Fault::Rollback { peer, back } => {
                if self.members[peer].process == Process::Up {
                    self.crash(peer, true);
                    let state = &mut self.members[peer];
                    state.checkpoint = state.before.take();
                    state.intent = state.promised.clone();
                    ends(self, back);
                }
            }
            Fault::Pause { peer, lasts } => {
                let until = &mut self.members[peer].paused_until;
                *until = (*until).max(self.now + nanoseconds(lasts));
                ends(self, lasts);
            }
            Fault::Partition { cut, lasts } => {
                self.network.cut(number, &cut);
                self.queue
                    .push(self.now + nanoseconds(DETECTION), Entry::CutNoticed(number));
                ends(self, lasts);
            }
            Fault::Loss { share, lasts } => {
                self.network.extra_loss = share;
                ends(self, lasts);
            }
            Fault::SlowDisk { peer, write, lasts } => {
                self.members[peer].write = nanoseconds(write);
                ends(self, lasts);
            }
            Fault::Clock { peer, rate } => self.members[peer].clock = rate,
            Fault::Heal => self.heal(),
        }
    }

    fn fault_ends(&mut self, number: usize) {
        match self.faults[number].clone() {
            Fault::Crash { peer, .. } | Fault::Rollback { peer, .. }
                if self.members[peer].process == Process::Down =>
            {
                self.revive(peer);
            }
            Fault::Partition { .. } => self.network.heal(number),
            Fault::Pause { peer, .. } => self.wake(peer),
            Fault::Loss { .. } => self.network.extra_loss = 0.0,
            Fault::SlowDisk { peer, .. } => self.members[peer].write = 0,
            _ => {}
        }
    }

    fn crash(&mut self, member: usize, keeps_disk: bool) {
        let now = Duration::from_nanos(self.now);
        let state = &self.members[member];
        self.observer.crashed(&Moment {
            now,
            member,
            life: state.life,
            peer: &state.peer,
        });
        self.hang_up(member);
        let state = &mut self.members[member];
        state.life += 1;
        state.process = Process::Down;
        state.disk_free = 0;
        state.paused_until = 0;
        if !keeps_disk {
            (state.checkpoint, state.before) = (None, None);
            (state.intent, state.promised) = (None, None);
        }
        self.wake(member); // of what was held nothing is meant for another life
        let (dead, others) = std::mem::take(&mut self.held_back)
            .into_iter()
            .partition(|held| held.member as usize == member);
        self.held_back = others;
        let dead: Vec<HeldBack> = dead;
        dead.iter().for_each(|held| self.pool.forget(held.job));
        self.let_in();
    }

    /// Who stands still no longer takes what came meanwhile, before anything that comes from now
    /// on.
    fn wake(&mut self, member: usize) {
        let state = &mut self.members[member];
        if state.paused_until <= self.now {
            for entry in state.held.drain(..) {
                self.queue.push(self.now, entry);
            }
        }
    }

    fn revive(&mut self, member: usize) {
        let state = &mut self.members[member];
        state.peer = Peer::new((state.setup)());
        self.start(member);
    }

    fn heal(&mut self) {
        self.network.heal_all();
        for member in 0..self.members.len() {
            let state = &mut self.members[member];
            (state.write, state.clock) = (0, 1.0);
            state.paused_until = state.paused_until.min(self.now);
            self.wake(member);
            let state = &mut self.members[member];
            if state.process == Process::Gone {
                self.running += 1;
            }
            if matches!(state.process, Process::Down | Process::Gone) {
                self.revive(member);
            }
        }
    }

    fn cut_noticed(&mut self, number: usize) {
        let Fault::Partition { cut, .. } = self.faults[number].clone() else {
            return;
        };
        let inside: Vec<usize> = cut.group.clone();
        for member in inside {
            for other in self.connected_with(member) {
                if self.network.is_cut(member, other) || self.network.is_cut(other, member) {
                    self.disconnect(member, other);
                }
            }
        }
    }
}

fn nanoseconds(duration: Duration) -> Nanoseconds {
    Nanoseconds::try_from(duration.as_nanos()).unwrap_or(Nanoseconds::MAX / 4)
}
