//! Peers in one process over a network made of one queue: (time, sequence) → input.
//!
//! The [`Federation`] owns the [`Peer`]s and carries out their effects. Time is virtual and only moves to the next entry of
//! the queue, so a deadline of minutes costs nothing, and the same [`Weather`] and seed give the same run to the bit. With
//! [`Weather::clear`] it is the plain loop that a federation over real sockets must agree with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::{Digest, PeerId, Seed, Stream};
use kith_gossip::effect::Record;
use kith_gossip::{Checkpoint, Effect, Event, Input, Intent, Parameters, Peer, Setup, Stored};

/// What a peer trains and evaluates on: candle models or a formula.
pub trait Local: Send {
    /// Trains from `start`; (parameters, samples, local steps, mean loss).
    ///
    /// # Errors
    /// For people: why there is no result.
    fn train(&mut self, start: &[f32], round: u64) -> Result<(Vec<f32>, u64, u64, f64), String>;

    /// Virtual time that a round of training takes.
    fn duration(&self) -> Duration {
        Duration::from_millis(1)
    }

    /// Held-out (loss, accuracy, samples), where there is held-out data.
    fn evaluate(&mut self, parameters: &[f32]) -> Option<(f64, f64, u64)>;
}

/// One who takes part: how its peer is set up, at the start and after every restart, and what it trains.
pub struct Participant {
    setup: Box<dyn Fn() -> Setup>,
    local: Box<dyn Local>,
}

impl Participant {
    /// From a way to set the peer up and what it trains.
    pub fn new(setup: impl Fn() -> Setup + 'static, local: impl Local + 'static) -> Participant {
        Participant { setup: Box::new(setup), local: Box::new(local) }
    }
}

/// What the network does to messages. Bodies that are pulled suffer the same.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Share of messages that never arrive.
    pub loss: f64,
    /// Share of messages that arrive twice.
    pub duplication: f64,
    /// Each message takes a uniform time up to this; more than zero reorders.
    pub delay: Duration,
    /// Seed of these draws.
    pub seed: u64,
}

impl Weather {
    /// Everything arrives once, at once and in order.
    pub fn clear() -> Weather {
        Weather { loss: 0.0, duplication: 0.0, delay: Duration::ZERO, seed: 0 }
    }
}

/// Something for the driver itself.
enum Entry {
    Input(usize, Box<Input>),
    /// The peer's process dies here and starts again at once; with or without its disk.
    Restart(usize, bool),
}

struct Member {
    peer: Peer,
    setup: Box<dyn Fn() -> Setup>,
    local: Box<dyn Local>,
    checkpoint: Option<Box<Checkpoint>>,
    intent: Option<Box<Intent>>,
    /// Counts restarts: inputs of an earlier life are dropped.
    life: u64,
    stopped: bool,
}

/// Peers and the queue between them.
pub struct Federation {
    members: Vec<Member>,
    index: BTreeMap<PeerId, usize>,
    queue: BTreeMap<(Duration, u64), (u64, Entry)>,
    sequence: u64,
    now: Duration,
    weather: Weather,
    random: Stream,
    requests: BTreeMap<u64, (usize, Digest)>,
    next_request: u64,
    /// Everything that happened: when, to whom, what.
    pub events: Vec<(Duration, PeerId, Event)>,
}

impl Federation {
    /// A federation of the given peers, all connected with each other.
    pub fn new(members: Vec<Participant>, weather: Weather) -> Federation {
        let members: Vec<Member> = members
            .into_iter()
            .map(|Participant { setup, local }| {
                let peer = Peer::new(setup());
                Member { peer, setup, local, checkpoint: None, intent: None, life: 0, stopped: false }
            })
            .collect();
        let index = members.iter().enumerate().map(|(index, member)| (member.peer.id(), index)).collect();
        let random = Seed::from_number(weather.seed).stream("kith.v1 weather");
        let mut federation = Federation {
            members,
            index,
            queue: BTreeMap::new(),
            sequence: 0,
            now: Duration::ZERO,
            weather,
            random,
            requests: BTreeMap::new(),
            next_request: 0,
            events: Vec::new(),
        };
        for member in 0..federation.members.len() {
            federation.push(member, Input::Start { checkpoint: None, intent: None }, Duration::ZERO);
            federation.connect(member);
        }
        federation
    }

    /// Lets a peer's process die at a time and start again at once, with its disk or without.
    pub fn restart_at(&mut self, member: usize, at: Duration, with_disk: bool) {
        self.enqueue(at, 0, Entry::Restart(member, with_disk));
    }

    /// Runs until nothing is left to happen or `limit` of virtual time has passed; whether every peer stopped by itself.
    pub fn run(&mut self, limit: Duration) -> bool {
        while let Some(((at, _), (life, entry))) = self.queue.pop_first() {
            if at > limit {
                break;
            }
            self.now = at;
            match entry {
                Entry::Restart(member, with_disk) => self.restart(member, with_disk),
                Entry::Input(member, input) => {
                    if self.members[member].life == life && !self.members[member].stopped {
                        self.step(member, *input);
                    }
                }
            }
            if self.members.iter().all(|member| member.stopped) {
                return true;
            }
        }
        self.members.iter().all(|member| member.stopped)
    }

    /// The parameters that a peer's last completed round led to.
    pub fn parameters(&self, member: usize) -> &Parameters {
        self.members[member].peer.parameters()
    }

    /// The identity of a member.
    pub fn id(&self, member: usize) -> PeerId {
        self.members[member].peer.id()
    }

    /// Virtual time now.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Events of one member.
    pub fn events_of(&self, member: usize) -> impl Iterator<Item = &Event> {
        let id = self.id(member);
        self.events.iter().filter(move |(_, peer, _)| *peer == id).map(|(_, _, event)| event)
    }

    /// Puts an input of the caller's into a peer's queue, for example bytes that nobody honest would send.
    pub fn inject(&mut self, member: usize, input: Input, after: Duration) {
        self.push(member, input, after);
    }

    fn connect(&mut self, member: usize) {
        let id = self.id(member);
        for other in 0..self.members.len() {
            if other != member {
                let peer = self.id(other);
                self.push(member, Input::PeerUp { peer, addresses: vec![format!("/memory/{other}")] }, Duration::ZERO);
                if self.members[member].life > 0 && !self.members[other].stopped {
                    self.push(other, Input::PeerUp { peer: id, addresses: vec![format!("/memory/{member}")] }, Duration::ZERO);
                }
            }
        }
    }

    fn restart(&mut self, member: usize, with_disk: bool) {
        if self.members[member].stopped {
            return;
        }
        let id = self.id(member);
        let life = self.members[member].life + 1;
        let revived = &mut self.members[member];
        revived.life = life;
        revived.peer = Peer::new((revived.setup)());
        if !with_disk {
            (revived.checkpoint, revived.intent) = (None, None);
        }
        let (checkpoint, intent) = (revived.checkpoint.clone(), revived.intent.clone());
        for other in 0..self.members.len() {
            if other != member && !self.members[other].stopped {
                self.push(other, Input::PeerDown { peer: id }, Duration::ZERO);
            }
        }
        self.push(member, Input::Start { checkpoint, intent }, Duration::ZERO);
        self.connect(member);
    }

    fn enqueue(&mut self, at: Duration, life: u64, entry: Entry) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (life, entry));
    }

    fn push(&mut self, member: usize, input: Input, after: Duration) {
        let life = self.members[member].life;
        self.enqueue(self.now + after, life, Entry::Input(member, Box::new(input)));
    }

    /// Hands something over the network: lost, delayed or repeated as the weather has it.
    fn carry(&mut self, member: usize, input: &Input) {
        if self.random.unit() < self.weather.loss {
            return;
        }
        let copies = if self.random.unit() < self.weather.duplication { 2 } else { 1 };
        for _ in 0..copies {
            let after = self.weather.delay.mul_f64(self.random.unit());
            self.push(member, input.clone(), after);
        }
    }

    fn step(&mut self, member: usize, input: Input) {
        let mut effects = Vec::new();
        let now = self.now;
        self.members[member].peer.handle(input, now, &mut effects);
        for effect in effects {
            self.perform(member, effect);
        }
    }

    fn perform(&mut self, member: usize, effect: Effect) {
        let id = self.id(member);
        match effect {
            Effect::Train { round, parameters } => {
                let input = match self.members[member].local.train(&parameters, round) {
                    Ok((parameters, samples, local_steps, loss)) => {
                        Input::Trained { round, parameters: Arc::new(parameters), samples, local_steps, loss }
                    }
                    Err(why) => Input::TrainingFailed { round, why },
                };
                let after = self.members[member].local.duration();
                self.push(member, input, after);
            }
            Effect::Evaluate { round, parameters } => {
                let input = match self.members[member].local.evaluate(&parameters) {
                    Some((loss, accuracy, samples)) => Input::Evaluated { round, loss, accuracy, samples },
                    None => Input::NotEvaluated { round },
                };
                self.push(member, input, Duration::ZERO);
            }
            Effect::Send { to, bytes } => {
                if let Some(other) = self.index.get(&to).copied() {
                    self.carry(other, &Input::Received { from: id, bytes: (*bytes).clone() });
                }
            }
            Effect::Announce { bytes } => {
                for other in (0..self.members.len()).filter(|other| *other != member) {
                    self.carry(other, &Input::Received { from: id, bytes: (*bytes).clone() });
                }
            }
            Effect::Fetch { digest, length, sources } => self.fetch(member, digest, length, &sources),
            Effect::Provide { request, body } => {
                if let Some((asker, digest)) = self.requests.remove(&request) {
                    let answer = match body {
                        Some(body) => Input::Fetched { digest, bytes: (*body).clone() },
                        None => Input::FetchFailed { digest, sources: vec![id], why: "it does not have it".into() },
                    };
                    self.push(asker, answer, Duration::ZERO);
                }
            }
            Effect::SetTimer { timer, after } => self.push(member, Input::TimerExpired(timer), after),
            Effect::Persist(record) => {
                let stored = match record {
                    Record::Intent(intent) => {
                        let stored = Stored::Intent { round: intent.round };
                        self.members[member].intent = Some(intent);
                        stored
                    }
                    Record::Checkpoint(checkpoint) => {
                        let stored = Stored::Checkpoint { round: checkpoint.round };
                        self.members[member].checkpoint = Some(checkpoint);
                        stored
                    }
                };
                self.push(member, Input::Stored(stored), Duration::ZERO);
            }
            Effect::Emit(event) => self.events.push((self.now, id, event)),
            Effect::Stop => self.members[member].stopped = true,
            Effect::Connect { .. } | Effect::Disconnect { .. } => {} // everyone is connected with everyone
        }
    }

    /// A pull is a reliable stream that can fail as a whole, after a while.
    fn fetch(&mut self, member: usize, digest: Digest, _length: usize, sources: &[PeerId]) {
        let source = sources.first().and_then(|source| self.index.get(source)).copied();
        let lost = self.random.unit() < self.weather.loss;
        match source.filter(|source| !lost && !self.members[*source].stopped) {
            Some(source) => {
                self.next_request += 1;
                let request = self.next_request;
                self.requests.insert(request, (member, digest));
                let from = self.id(member);
                let after = self.weather.delay.mul_f64(self.random.unit());
                self.push(source, Input::BodyRequested { from, digest, request }, after);
            }
            None => {
                let failed = Input::FetchFailed { digest, sources: sources.to_vec(), why: "the stream broke".into() };
                self.push(member, failed, Duration::from_millis(10));
            }
        }
    }
}
