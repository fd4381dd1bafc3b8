//! Peers under virtual time: the same [`Peer`] that a node runs, driven by one queue of (time,
//! sequence) → what happens.
//!
//! [`Simulation`] owns the peers and carries out their effects. Time moves only to the next entry
//! of the queue, so a deadline of minutes costs nothing. Training runs on a pool of threads, but
//! its result enters when the device would have been done. So equal seeds give equal runs to the
//! bit for any number of threads; [`Simulation::trace`] is the hash over all inputs and effects
//! that shows it.
//!
//! This file holds the queue's loop and routes the peers' requests. `member` is a peer's process
//! and disk, `connections` which peers are connected, `transfers` messages on their way, `gossip`
//! those that concern everyone, `pulls` bodies, `mailbox` what waits for a busy peer, `carrier` which
//! of the real carrier's limits a world has, `adversary` members that say what they like, `work` what devices compute, `faults` what goes wrong.
//!
//! Not here: the world file (`world`), measurements (`metrics`) and invariants (`check`). The last
//! two watch as [`Observer`]s.
mod adversary;
mod carrier;
mod connections;
mod entry;
mod faults;
mod gossip;
mod mailbox;
mod member;
mod network;
mod observer;
mod participant;
mod pool;
mod pulls;
mod queue;
mod trace;
mod transfers;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kith_consensus::charter::Admission;
use kith_consensus::privacy::PrivacyError;
use kith_consensus::privacy::ledger::{Account, Statement};
use kith_consensus::{Digest, PeerId, Seed};
use kith_gossip::{Effect, Event, Input, Parameters, Peer, Roster, Timer};
use serde::{Deserialize, Serialize};

pub use adversary::{Acts, Adversary, Cue, Scene};
use carrier::Chance;
pub use carrier::{Carrier, Gossip, Weather};
pub use connections::{Meeting, Reach};
use entry::Entry;
pub use faults::Fault;
use member::{Member, Process};
use network::Network;
pub use network::{Cut, Jitter, Line, Links};
pub use observer::{Moment, Observer, Recorder};
pub use participant::{Device, Local, Participant};
use pool::Pool;
use queue::{Nanoseconds, Queue};
use trace::Trace;
use transfers::Kept;
use work::{Computed, Job};

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Every peer stopped by itself (a peer that crashed for good is not waited for).
    Stopped,
    /// Nothing was left to happen, though some peer had not stopped.
    Quiet,
    /// The limit of virtual time passed.
    #[default]
    Limit,
}

/// Peers, the queue between them, and the observer.
pub struct Simulation<O> {
    members: Vec<Member>,
    /// The members' ids, close together in memory.
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
    /// The carrier's draws.
    chance: Chance,
    /// Numbers of the next connection and of the next pull or request.
    next_link: u32,
    next_request: u64,
    /// Whether a connection has ended: until then none has to be looked for.
    links_end: bool,
    /// Connections over which nothing arrives any more, though their ends may not know.
    broken: BTreeSet<u32>,
    /// Messages that cuts keep, in order.
    kept: Vec<Kept>,
    gossip: gossip::Messages,
    judge: gossip::Judge,
    pool: Pool<Computed>,
    /// Liars' results that wait for others', and, in the next field, when the first of those came
    /// in each of the newest rounds.
    held_back: Vec<Job>,
    first_results: BTreeMap<u64, Nanoseconds>,
    trace: Trace,
    /// Members that have not stopped, those with an adversary left out: nothing ends these.
    running: usize,
    /// Members that wait for neighbours that have all gone through every round and stopped, as in
    /// reality nothing more comes from them, and those that wait when only liars are left.
    stranded: BTreeSet<usize>,
    handled: u64,
    effects: Vec<Effect>,
    /// Entries that follow at once: records on disks that take no time.
    at_once: VecDeque<Entry>,
    /// The observer that watches the run.
    pub observer: O,
}

impl<O: Observer> Simulation<O> {
    /// A simulation of these participants, training on `threads` threads besides the calling one.
    ///
    /// # Panics
    /// When two participants have one key, or there is none.
    pub fn new(
        participants: Vec<Participant>,
        meeting: Meeting,
        links: Links,
        threads: usize,
        observer: O,
    ) -> Simulation<O> {
        let mut queue = Queue::default();
        for (member, participant) in participants.iter().enumerate() {
            queue.push(nanoseconds(participant.starts), Entry::Start(member));
        }
        let lines = participants
            .iter()
            .map(|participant| participant.line)
            .collect();
        let judge = judge(&participants);
        let members: Vec<Member> = participants.into_iter().map(Member::new).collect();
        let ids: Vec<PeerId> = members.iter().map(|member| member.peer.id()).collect();
        let roster: Roster = ids.iter().copied().collect();
        Simulation {
            running: members
                .iter()
                .filter(|member| member.adversary.is_none())
                .count(),
            stranded: BTreeSet::new(),
            member_at: places(&roster, &ids),
            ids,
            members,
            roster,
            queue,
            now: 0,
            device_seed: Seed::from_number(links.seed).child("devices"),
            chance: Chance::new(links.seed),
            network: Network::new(links, lines),
            meeting,
            faults: Vec::new(),
            rolls_back: false,
            next_link: 0,
            next_request: 0,
            links_end: false,
            broken: BTreeSet::new(),
            kept: Vec::new(),
            gossip: gossip::Messages::default(),
            judge,
            pool: Pool::new(threads),
            held_back: Vec::new(),
            first_results: BTreeMap::new(),
            trace: Trace::default(),
            handled: 0,
            effects: Vec::new(),
            at_once: VecDeque::new(),
            observer,
        }
    }

    /// Puts an input of the caller's into a peer's queue, for example bytes that no honest peer
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

    /// Handles the next entry; returns how the run ended, if it did.
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
        self.happen(entry);
        self.is_over().then_some(Ended::Stopped)
    }

    /// Whether all members have stopped by themselves, except for those that wait for them and those
    /// that have an adversary.
    fn is_over(&self) -> bool {
        self.running == self.stranded.len()
    }

    /// Whether a member waits for neighbours of which none will ever be there again.
    pub fn is_stranded(&self, member: usize) -> bool {
        self.stranded.contains(&member)
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

    /// What may be said of the releases of a member's rows; `None` without a privacy guarantee.
    ///
    /// # Errors
    /// When 64-bit arithmetic cannot resolve δ.
    pub fn privacy(&self, member: usize) -> Result<Option<Statement>, PrivacyError> {
        let state = &self.members[member];
        let account = state.local.account();
        let statement = |account: &Account| account.statement(&state.ledger);
        account.map(statement).transpose()
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
        let Some(entry) = self.taken(entry) else {
            return;
        };
        match entry {
            Entry::Start(member) => self.start(member),
            Entry::Deliver { to, messages, .. } => self.receive(to as usize, messages),
            Entry::Input { member, input, .. } => self.take_in(member as usize, *input, None),
            Entry::Timer { member, timer, .. } => {
                self.take_in(member as usize, Input::TimerExpired(timer), None)
            }
            Entry::Ready { member, .. } => self.ready(member as usize),
            Entry::Trained(job) => self.result(job),
            Entry::Patience(job) => self.patience_ends(job),
            Entry::Evaluated(job) => self.evaluated(job),
            Entry::Judged(job) => self.judged(job),
            Entry::Durable { member, record, .. } => self.durable(member as usize, *record),
            Entry::Tick { member, .. } => self.tick(member as usize),
            Entry::Act { member, effect, .. } => self.perform(member as usize, *effect),
            Entry::Fault(number) => self.fault(number),
            Entry::FaultEnds(number) => self.fault_ends(number),
            other => self.carry(other),
        }
    }

    /// What happens to connections and streams.
    fn carry(&mut self, entry: Entry) {
        match entry {
            Entry::Gossip {
                to,
                from,
                link,
                number,
                ..
            } => self.hear_gossip(to as usize, from as usize, link, number),
            Entry::DialEnds { member, other, .. } => {
                self.dial_ends(member as usize, other as usize)
            }
            Entry::LinkEnds {
                member,
                other,
                link,
                ..
            } => self.link_ends(member as usize, other as usize, link),
            Entry::Unanswered {
                member,
                other,
                link,
                ..
            } => self.unanswered(member as usize, other as usize, link),
            Entry::FarewellEnds { member, other, .. } => {
                self.farewell_ends(member as usize, other as usize)
            }
            Entry::PullGoesOn { member, pull, .. } => self.try_next(member as usize, pull),
            Entry::PullSilent(of) => self.pull_is_silent(*of),
            Entry::Asked(asked) => self.asked(asked.0, asked.2, asked.3),
            Entry::Answered(answered) => self.answered(answered.0, answered.1),
            Entry::Abandoned(abandoned) => self.abandoned(abandoned.0),
            Entry::SendPart {
                member, request, ..
            } => self.send_part(member as usize, request),
            _ => unreachable!("the entry is not the carrier's"),
        }
    }

    /// The entry, unless the process that it is for has died, or stands still and takes it later.
    fn taken(&mut self, entry: Entry) -> Option<Entry> {
        if let Some((member, life)) = entry.process() {
            let state = &mut self.members[member];
            state.delivery = state.delivery.filter(|(at, ..)| *at > self.now);
            if state.life != life || state.process != Process::Up {
                entry
                    .job()
                    .into_iter()
                    .for_each(|job| self.pool.forget(job));
                return None;
            }
            if state.paused_until > self.now {
                if let Entry::Deliver { messages, .. } = &entry {
                    messages
                        .iter()
                        .for_each(|message| state.not_read(message.from, message.bytes.len()));
                }
                state.held.push(entry);
                return None;
            }
        }
        Some(entry)
    }

    fn handle(&mut self, member: usize, input: Input) {
        self.handled += 1;
        self.trace.input(self.now, member, &input);
        let state = &mut self.members[member];
        let moment = state.moment(self.now, member);
        self.observer.input(&moment, &input);
        let (now, clock) = (moment.now, state.clock);
        let local = if clock == 1.0 {
            now
        } else {
            now.mul_f64(clock)
        };
        let mut effects = std::mem::take(&mut self.effects);
        let seen = state.adversary.is_some().then(|| input.clone());
        state.peer.handle(input, local, &mut effects);
        self.bend(member, seen.as_ref(), &mut effects);
        for effect in effects.drain(..) {
            self.perform(member, effect);
        }
        self.effects = effects;
    }

    fn perform(&mut self, member: usize, effect: Effect) {
        self.trace.effect(self.now, member, &effect);
        let moment = self.members[member].moment(self.now, member);
        self.observer.effect(&moment, &effect);
        match effect {
            Effect::Train {
                round,
                parameters,
                memory,
                correction,
            } => self.train(member, round, parameters, [memory, correction]),
            Effect::Evaluate { round, parameters } => self.evaluate(member, round, parameters),
            Effect::Judge { round, models } => self.judge(member, round, models),
            Effect::Send { to, bytes } => self.send(member, &to, bytes),
            Effect::Announce { bytes } => self.announce(member, &bytes),
            Effect::Fetch {
                digest,
                length,
                sources,
            } => self.pull(member, digest, length, sources),
            Effect::Abandon { digest, source } => self.give_up(member, digest, &source),
            Effect::Provide { request, body } => self.provide(member, request, body),
            Effect::Connect { peer, .. } => self.dial(member, &peer),
            Effect::Disconnect { peer, .. } => self.part_from(member, &peer),
            Effect::SetTimer { timer, after } => self.set_timer(member, timer, after),
            Effect::Persist(record) => self.persist(member, record),
            Effect::Emit(event) => {
                self.observer.event(&moment, &event);
                if matches!(event, Event::Waiting { .. } | Event::TooFew { .. }) {
                    self.waits_for_neighbours(member);
                }
            }
            Effect::Stop => self.stopped(member),
        }
    }

    fn set_timer(&mut self, member: usize, timer: Timer, after: Duration) {
        let state = &self.members[member];
        let after = (nanoseconds(after) as f64 / state.clock) as Nanoseconds;
        let entry = Entry::Timer {
            member: member as u32,
            life: state.life,
            timer,
        };
        self.queue.push(self.now + after, entry);
    }
}

/// By place in the roster, which member it is.
fn places(roster: &Roster, ids: &[PeerId]) -> Vec<u32> {
    assert_eq!(
        roster.len(),
        ids.len(),
        "every participant has a key of its own"
    );
    let mut member_at = vec![0; ids.len()];
    for (member, id) in ids.iter().enumerate() {
        let place = roster.index(id).expect("everybody is on the roster");
        member_at[place] = member as u32;
    }
    member_at
}

/// What the carriers of these participants know: they are of one federation.
fn judge(participants: &[Participant]) -> gossip::Judge {
    let setup = participants
        .first()
        .map(|participant| (participant.setup)());
    let setup = setup.expect("a simulation has a participant");
    let members = || Roster::new(setup.charter.roster());
    gossip::Judge {
        allowed: (setup.charter.membership.mode == Admission::Members).then(members),
        federation: setup.charter.genesis,
        verifier: setup.authenticator,
    }
}

fn nanoseconds(duration: Duration) -> Nanoseconds {
    Nanoseconds::try_from(duration.as_nanos()).unwrap_or(Nanoseconds::MAX / 4)
}

/// Peers on a bare carrier, for tests: nobody is started, so all that happens is what the test does.
#[cfg(test)]
mod bare {
    use super::*;
    use crate::experiment::Experiment;
    use kith_consensus::Digest;
    use kith_gossip::{Authenticator, Federation, Packet, Setup};
    use kith_models::{Request, Trained};

    struct Nothing;

    impl Local for Nothing {
        fn train(&self, _: &Request<'_>) -> Result<Trained, String> {
            Err("nothing to train on".to_owned())
        }
        fn loss(&self, _: &[f32]) -> Option<f64> {
            None
        }
        fn evaluate(&self, _: &[f32]) -> Option<(f64, f64, u64)> {
            None
        }
    }

    /// What goes into peers: when, into which, and what.
    #[derive(Default)]
    pub(super) struct Inputs(pub(super) Vec<(Duration, usize, Input)>);

    impl Observer for Inputs {
        fn event(&mut self, _: &Moment<'_>, _: &Event) {}
        fn input(&mut self, moment: &Moment<'_>, input: &Input) {
            self.0.push((moment.now, moment.member, input.clone()));
        }
    }

    const TEXT: &str = "[federation]\nname = \"bare\"\nrounds = 2\n[topology]\nkind = \"complete\"\n[world]\npeers = 40\n\
                        [world.trainer]\nkind = \"quadratic\"\ndimension = 4\n";

    /// So many peers that run, none of them connected.
    pub(super) fn peers(count: usize, links: Links, line: Line) -> Simulation<Inputs> {
        let charter = Experiment::parse(TEXT, &[])
            .expect("a good experiment")
            .charter;
        let secret = [7; 32];
        let key = |peer: usize| PeerId([peer as u8 + 1; 32]);
        let ids = Roster::new((0..40).map(key).collect());
        let federation = Federation::new(charter, Digest::of(b"bare"), vec![0.0; 4], []);
        let participant = |peer: usize| {
            let (federation, ids) = (federation.clone(), ids.clone());
            let setup = move || Setup {
                roster: ids.clone(),
                ..federation.peer(Authenticator::KeyedHash {
                    peer: key(peer),
                    secret,
                })
            };
            let mut participant = Participant::new(setup, Nothing);
            participant.starts = Duration::from_secs(1_000_000);
            participant.line = line;
            participant
        };
        let participants = (0..count).map(participant).collect();
        let inputs = Inputs::default();
        let mut simulation = Simulation::new(participants, Meeting::Everyone, links, 0, inputs);
        for member in &mut simulation.members {
            member.process = Process::Up;
        }
        simulation
    }

    impl Simulation<Inputs> {
        /// One more connection between two peers.
        pub(super) fn connect_two(&mut self, a: usize, b: usize) {
            self.begin_dial(a, b);
            self.pass(Duration::from_secs(1));
        }

        /// Lets time pass.
        pub(super) fn pass(&mut self, time: Duration) {
            let until = self.now + nanoseconds(time);
            self.queue.push(until, Entry::FaultEnds(usize::MAX));
            while self.now < until {
                self.step(until);
            }
        }

        /// Sends bytes that no peer would send by itself.
        pub(super) fn say(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
            let to = self.id(to);
            self.send(from, &to, Packet::from(bytes));
        }

        /// The lengths of the messages that a peer has taken in from another, those that begin with
        /// 0 alone: peers send none of these.
        pub(super) fn heard(&self, member: usize, sender: usize) -> Vec<usize> {
            let sender = self.id(sender);
            let inputs = self.observer.0.iter().filter(|(_, by, _)| *by == member);
            let lengths = inputs.filter_map(|(_, _, input)| match input {
                Input::Received { from, bytes } if *from == sender && bytes[0] == 0 => {
                    Some(bytes.len())
                }
                _ => None,
            });
            lengths.collect()
        }

        /// When a peer was told that a connection began (true) or that the last one ended.
        pub(super) fn news(&self, member: usize) -> Vec<(Duration, bool)> {
            let inputs = self.observer.0.iter().filter(|(_, by, _)| *by == member);
            let news = inputs.filter_map(|(at, _, input)| match input {
                Input::PeerUp { .. } => Some((*at, true)),
                Input::PeerDown { .. } => Some((*at, false)),
                _ => None,
            });
            news.collect()
        }
    }
}
