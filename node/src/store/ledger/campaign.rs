//! Many seeds of a peer whose privacy ledger stands on a disk that fails: torn and lost writes, a
//! full disk, syncs that fail, and older copies of the ledger, of the state, or of both that are put
//! back. The peer and its three neighbours are real ones, and so is the code of the ledger's file.
//!
//! The invariant: whenever a neighbour receives a release, the ledger as it would be read after a crash
//! right then covers every release that any neighbour has ever received, and what it charges for
//! releases stays within the budget. `KITH_SEEDS=N` or `KITH_SEEDS=FROM..TO` plays other seeds than the
//! first 500. Not here: neighbours that lose what they know of the peer; that is not covered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kith_consensus::charter::Declared;
use kith_consensus::privacy::ledger::{Decision, Kind as Why, Slack, Spent};
use kith_consensus::{Charter, PeerId, Section, Seed, Stream};
use kith_gossip::effect::Intent;
use kith_gossip::envelope::Kind;
use kith_gossip::{
    Authenticator, Checkpoint, Effect, Federation, Input, Packet, Peer, Record, Setup, Timer,
};

use super::*;

/// The peer whose ledger is on the disk that fails.
const VICTIM: usize = 0;
/// A neighbour that does not give back what it holds of others' headers.
const LIAR: usize = 3;
const PEERS: usize = 4;
const ROUNDS: u64 = 14;

// --- a disk that fails ---

/// What a file holds, and what of it a crash leaves for sure.
#[derive(Clone, Debug, Default)]
struct Contents {
    durable: Vec<u8>,
    written: Vec<u8>,
}

/// How an operation on the disk goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The process dies in the middle of it.
    Crash,
    /// Half of a write fits.
    Full,
    /// The system cannot say whether what was written is durable.
    Sync,
}

#[derive(Debug)]
struct Platter {
    files: BTreeMap<PathBuf, Contents>,
    random: Stream,
    /// How many operations go well before one fails.
    fails: Option<(u64, Failure)>,
}

impl Platter {
    /// Whether this operation fails, and how.
    fn next(&mut self) -> Option<Failure> {
        let (left, failure) = self.fails?;
        self.fails = left.checked_sub(1).map(|left| (left, failure));
        (left == 0).then_some(failure)
    }

    /// The machine goes down: of what was not synced any beginning may be left.
    fn crash(&mut self) {
        let Platter { files, random, .. } = self;
        for file in files.values_mut() {
            let common = file.durable.iter().zip(&file.written);
            let kept = common.take_while(|(one, other)| one == other).count();
            let reached = random.bounded((file.written.len() - kept) as u64 + 1) as usize;
            let left = match random.bounded(3) {
                0 => file.durable.clone(),
                1 => file.written.clone(),
                _ => file.written[..kept + reached].to_vec(),
            };
            (file.durable, file.written) = (left.clone(), left);
        }
    }
}

/// A handle on the disk.
#[derive(Clone, Debug)]
struct Failing(Rc<RefCell<Platter>>);

impl Failing {
    /// Goes through with an operation, unless it fails.
    fn act<T>(&self, path: &Path, act: impl FnOnce(&mut Contents, bool) -> T) -> io::Result<T> {
        let mut platter = self.0.borrow_mut();
        let failure = platter.next();
        let file = platter.files.get_mut(path);
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        match failure {
            None => Ok(act(file, true)),
            Some(failure) => {
                act(file, false);
                Err(io::Error::other(format!("{failure:?}")))
            }
        }
    }
}

impl Disk for Failing {
    type File = PathBuf;

    fn open(&self, path: &Path, beginning: Beginning) -> io::Result<PathBuf> {
        let mut platter = self.0.borrow_mut();
        if beginning == Beginning::Allowed {
            platter.files.entry(path.to_owned()).or_default();
        }
        match platter.files.contains_key(path) {
            true => Ok(path.to_owned()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn contents(&self, file: &mut PathBuf) -> io::Result<Vec<u8>> {
        self.read(file)
    }

    fn cut(&self, file: &mut PathBuf, length: u64) -> io::Result<()> {
        self.act(file, |contents, is_whole| {
            if is_whole {
                contents.written.truncate(length as usize);
            }
        })
    }

    fn write(&self, file: &mut PathBuf, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.act(file, |contents, is_whole| {
            let bytes = if is_whole {
                bytes
            } else {
                &bytes[..bytes.len() / 2]
            };
            contents.written.truncate(at as usize);
            contents.written.extend(bytes);
        })
    }

    fn sync(&self, file: &mut PathBuf) -> io::Result<()> {
        self.act(file, |contents, is_whole| {
            if is_whole {
                contents.durable = contents.written.clone();
            }
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let platter = self.0.borrow();
        let file = platter.files.get(path);
        Ok(file.ok_or(io::ErrorKind::NotFound)?.written.clone())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.0.borrow_mut();
        match platter.next() {
            Some(failure) => Err(io::Error::other(format!("{failure:?}"))),
            None => {
                let (durable, written) = (bytes.to_vec(), bytes.to_vec());
                let whole = Contents { durable, written };
                platter.files.insert(path.to_owned(), whole);
                Ok(())
            }
        }
    }

    fn sync_name(&self, path: &Path) -> io::Result<()> {
        self.act(path, |_, _| ())
    }
}

// --- the federation ---

/// The state folder of the peer, which is whole after a crash, as a transactional store is.
#[derive(Clone, Default)]
struct State {
    checkpoint: Option<Box<Checkpoint>>,
    intent: Option<Box<Intent>>,
    remembered: Option<Vec<u8>>,
}

/// A copy that somebody made of state and ledger.
#[derive(Clone)]
struct Copied {
    state: State,
    ledger: Vec<u8>,
}

struct World {
    federation: Federation,
    account: Account,
    file: LedgerFile<Failing>,
    disk: Failing,
    state: State,
    copies: Vec<Copied>,
    random: Stream,
    peers: Vec<Peer>,
    /// Lives so far.
    life: u64,
    is_up: bool,
    /// Members that have stopped.
    stopped: BTreeSet<usize>,
    inbox: VecDeque<(usize, Input)>,
    timers: BTreeMap<(Duration, u64), (usize, u64, Timer)>,
    now: Duration,
    set: u64,
    /// Releases of the victim that a neighbour has received, by what they name.
    received: BTreeSet<Digest>,
    /// Times that the victim's ledger turned out to be behind.
    behind: u64,
    broken: Vec<String>,
}

fn key(member: usize) -> Authenticator {
    let secret = Authenticator::from_secret(&[member as u8 + 1; 32]);
    Authenticator::KeyedHash {
        peer: secret.peer(),
        secret: [9; 32],
    }
}

fn charter() -> Charter {
    let members: String = (0..PEERS)
        .map(|member| {
            let id = key(member).peer();
            format!("[[membership.member]]\nname = \"p{member}\"\nkey = \"{id}\"\n")
        })
        .collect();
    let text = format!(
        "[federation]\nname = \"campaign\"\nrounds = {ROUNDS}\n[topology]\nkind = \"complete\"\n[aggregation]\nrule = \"median\"\n\
         byzantine = 1\n[privacy]\nmechanism = \"example-level\"\nclip_norm = 1.0\nnoise_multiplier = 3.0\nsampling_rate = 0.1\n\
         delta = 1e-5\nepsilon_budget = 1.35\n{members}"
    );
    let mut training = |section: &mut Section<'_>, declared: &mut Declared| {
        let _ = section;
        (declared.local_steps, declared.batch_size) = (Some(10), 8);
    };
    Charter::resolve(&text, &mut [("training", &mut training)])
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// ε of so many releases; infinite from the first one on that the budget does not bear.
fn cost_of(account: &Account, releases: usize) -> f64 {
    static COSTS: OnceLock<Vec<f64>> = OnceLock::new();
    let costs = COSTS.get_or_init(|| {
        let (mut ledger, mut costs) = (Ledger::new(Digest::default()), vec![0.0]);
        loop {
            let verdict = account.charge(&ledger, costs.len() as u64);
            if verdict.decision == Decision::Exhausted {
                return costs;
            }
            let append = |entry| ledger.append(entry);
            verdict.entries.into_iter().for_each(append);
            costs.push(verdict.spent.epsilon);
        }
    });
    costs.get(releases).copied().unwrap_or(f64::INFINITY)
}

impl World {
    fn new(seed: u64) -> World {
        let charter = Arc::new(charter());
        let seed = Seed::from_number(seed);
        let account = Account::new(&charter, Slack::default()).unwrap();
        let federation = Federation::new(
            Arc::clone(&charter),
            Digest::of(b"layout"),
            vec![0.0; 4],
            [],
        );
        let disk = Failing(Rc::new(RefCell::new(Platter {
            files: BTreeMap::new(),
            random: seed.stream("disk"),
            fails: None,
        })));
        let file = LedgerFile {
            ledger: "rows.ledger".into(),
            identity: "rows.identity".into(),
            disk: disk.clone(),
        };
        let peers = (0..PEERS).map(|member| Peer::new(federation.peer(key(member))));
        World {
            peers: peers.collect(),
            account,
            federation,
            file,
            disk,
            state: State::default(),
            copies: Vec::new(),
            random: seed.stream("world"),
            life: 1,
            is_up: false,
            stopped: BTreeSet::new(),
            inbox: VecDeque::new(),
            timers: BTreeMap::new(),
            now: Duration::ZERO,
            set: 0,
            received: BTreeSet::new(),
            behind: 0,
            broken: Vec::new(),
        }
    }

    fn number(&self, peer: &PeerId) -> usize {
        (0..PEERS)
            .find(|member| key(*member).peer() == *peer)
            .expect("a member")
    }

    /// The ledger as a start would find it if the machine went down now.
    fn durable(&self) -> Option<Ledger> {
        let platter = self.disk.0.borrow();
        let bytes = &platter.files.get(&self.file.ledger)?.durable;
        let identity = Ledger::identity(bytes).ok()?;
        Ledger::read(bytes, identity).ok()
    }

    /// A message of the victim's has arrived.
    fn receives(&mut self, bytes: &Packet) {
        let Some(header) = bytes.claimed_header() else {
            return;
        };
        let is_own = header.kind == Kind::Update && header.sender == key(VICTIM).peer();
        if !is_own || !self.received.insert(header.state) {
            return;
        }
        let durable = self.durable();
        let spent = durable.map_or(0.0, |ledger| self.account.spent(&ledger).epsilon);
        let (count, least) = (
            self.received.len(),
            cost_of(&self.account, self.received.len()),
        );
        if spent < least {
            self.broken.push(format!(
                "release {count}, of round {}, is received, and the ledger says {spent:.4} where {least:.4} was spent",
                header.round
            ));
        }
    }

    fn start(
        &mut self,
        member: usize,
        checkpoint: Option<Box<Checkpoint>>,
        intent: Option<Box<Intent>>,
    ) {
        self.handle(member, Input::Start { checkpoint, intent });
        for other in 0..PEERS {
            if other != member && self.is_there(other) {
                self.meet(member, other);
                self.meet(other, member);
            }
        }
    }

    fn meet(&mut self, member: usize, other: usize) {
        let (peer, addresses) = (key(other).peer(), Vec::new());
        self.inbox.push_back((
            member,
            Input::PeerUp {
                peer,
                addresses,
                scope: kith_gossip::Scope::World,
            },
        ));
    }

    fn is_there(&self, member: usize) -> bool {
        !self.stopped.contains(&member) && (member != VICTIM || self.is_up)
    }

    fn handle(&mut self, member: usize, input: Input) {
        let mut effects = Vec::new();
        self.peers[member].handle(input, self.now, &mut effects);
        let life = self.life;
        for effect in effects {
            if member == VICTIM && life != self.life {
                return; // it died of an earlier one
            }
            self.execute(member, effect);
        }
    }

    fn execute(&mut self, member: usize, effect: Effect) {
        match effect {
            Effect::Send { to, bytes } => self.send(member, to, bytes),
            Effect::Train {
                round, parameters, ..
            } => {
                let mut noised = || {
                    parameters
                        .iter()
                        .map(|value| value + self.random.normal() as f32)
                        .collect()
                };
                let trained = Input::Trained {
                    round,
                    parameters: Arc::new(noised()),
                    samples: 8,
                    local_steps: 10,
                    loss: 0.0,
                    rate: 0.1,
                    memory: None,
                };
                self.inbox.push_back((member, trained));
            }
            Effect::Persist(record) if member == VICTIM => self.persist(record),
            Effect::Persist(record) => {
                let stored = World::persist_surely(record);
                self.inbox.push_back((member, Input::Stored(stored)));
            }
            Effect::SetTimer { timer, after } => {
                let life = if member == VICTIM { self.life } else { 0 };
                self.timers
                    .insert((self.now + after, self.set), (member, life, timer));
                self.set += 1;
            }
            Effect::Evaluate { round, .. } => {
                self.inbox
                    .push_back((member, Input::NotEvaluated { round }));
            }
            Effect::Emit(kith_gossip::Event::LedgerBehind { .. }) if member == VICTIM => {
                self.behind += 1;
            }
            Effect::Stop => {
                self.stopped.insert(member);
            }
            _ => {}
        }
    }

    fn send(&mut self, member: usize, to: PeerId, bytes: Packet) {
        let to = self.number(&to);
        let header = bytes.claimed_header().expect("an honest message");
        let gives_back = member == LIAR && header.sender == key(VICTIM).peer();
        if !self.is_there(to) || gives_back {
            return;
        }
        let from = key(member).peer();
        self.inbox.push_back((to, Input::Received { from, bytes }));
    }

    /// A record of another member, on a disk that works; its budget is of no interest.
    fn persist_surely(record: Record) -> Stored {
        match record {
            Record::Charge { round } => {
                let spent = Spent {
                    epsilon: (round + 1) as f64 / ROUNDS as f64,
                    entries: round + 1,
                };
                let decision = Decision::Charged;
                Stored::Charge {
                    round,
                    decision,
                    spent,
                }
            }
            Record::Cover { round, .. } => Stored::Covered {
                round,
                behind: None,
            },
            Record::Intent(intent) => Stored::Intent {
                round: intent.round,
            },
            Record::Checkpoint(checkpoint) => Stored::Checkpoint {
                round: checkpoint.round,
            },
            Record::Evidence { peer, .. } => Stored::Evidence { peer },
        }
    }

    /// A record of the victim: what concerns the ledger goes through its file, and an error ends the
    /// process, as it ends a node.
    fn persist(&mut self, record: Record) {
        let account = self.account.clone();
        let entered = match record {
            Record::Charge { round } => self.enter(|ledger| charged(&account, ledger, round)),
            Record::Cover { round, stated } => {
                self.enter(|ledger| covered(&account, ledger, round, stated))
            }
            Record::Intent(intent) => {
                let round = intent.round;
                self.state.intent = Some(intent);
                Ok(Stored::Intent { round })
            }
            Record::Checkpoint(checkpoint) => {
                let round = checkpoint.round;
                self.state.checkpoint = Some(checkpoint);
                Ok(Stored::Checkpoint { round })
            }
            Record::Evidence { peer, .. } => Ok(Stored::Evidence { peer }),
        };
        match entered {
            Ok(stored) => self.inbox.push_back((VICTIM, Input::Stored(stored))),
            Err(_) => self.crash(),
        }
        if self.random.bounded(4) == 0 {
            let platter = self.disk.0.borrow();
            let ledger = platter.files[&self.file.ledger].durable.clone();
            let state = self.state.clone();
            drop(platter);
            self.copies.push(Copied { state, ledger });
        }
    }

    fn enter(
        &mut self,
        decide: impl FnOnce(&Ledger) -> (Stored, Vec<Entry>),
    ) -> Result<Stored, StoreError> {
        let remembered = self.state.remembered.clone();
        let fault = |ledger: &Ledger| Ok(remembered.and_then(|known| lacks(ledger, &known)));
        let (stored, ledger) = self.file.enter(fault, decide)?;
        self.state.remembered = Some(place(&ledger));
        if let Stored::Charge {
            decision: Decision::Charged,
            ..
        } = stored
        {
            // Folded from what is on the disk, whatever the answer says.
            let spent = self.account.spent(&ledger).epsilon;
            let budget = self.account.terms().budget().get();
            if spent > budget {
                self.broken.push(format!(
                    "a release is charged, and {spent:.4} of {budget} is spent"
                ));
            }
        }
        Ok(stored)
    }

    /// The victim's process ends, and its machine with it. What it has sent may have arrived before,
    /// for a liar rather than for anybody else.
    fn crash(&mut self) {
        self.is_up = false;
        self.disk.0.borrow_mut().crash();
        self.life += 1;
        let victim = key(VICTIM).peer();
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.retain(|(to, input)| match input {
            Input::Received { from, .. } if *from == victim => {
                *to == LIAR || self.random.bounded(2) == 0
            }
            _ => *to != VICTIM,
        });
        for (_, input) in &inbox {
            if let Input::Received { from, bytes } = input
                && *from == victim
            {
                self.receives(bytes); // before anybody can put an older copy back
            }
        }
        self.inbox = inbox;
        for other in 1..PEERS {
            self.inbox
                .push_back((other, Input::PeerDown { peer: victim }));
        }
    }

    /// Somebody puts older copies back, or loses the state; then the node starts.
    fn restart(&mut self) {
        let copies = self.copies.len() as u64;
        if copies > 0 {
            let copy = self.copies[self.random.bounded(copies) as usize].clone();
            let ledger = self.random.bounded(2) == 0;
            if ledger {
                let mut platter = self.disk.0.borrow_mut();
                let (durable, written) = (copy.ledger.clone(), copy.ledger);
                platter
                    .files
                    .insert(self.file.ledger.clone(), Contents { durable, written });
            }
            match self.random.bounded(4) {
                0 => self.state = copy.state,
                1 => self.state = State::default(),
                _ => {}
            }
        }
        let Ok(ledger) = self.file.begin() else {
            // The machine went down in the middle of the first write of all.
            return self.crash();
        };
        let remembered = self.state.remembered.as_ref();
        if remembered.is_some_and(|known| lacks(&ledger, known).is_some()) {
            self.state = State::default(); // the node refuses, and its operator begins a new state
        }
        self.state.remembered = Some(place(&ledger));
        self.is_up = true;
        self.peers[VICTIM] = Peer::new(Setup {
            incarnation: self.life,
            ..self.federation.peer(key(VICTIM))
        });
        let next = self
            .state
            .checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.round);
        let intent = self
            .state
            .intent
            .clone()
            .filter(|intent| intent.round >= next);
        self.start(VICTIM, self.state.checkpoint.clone(), intent);
    }

    /// Draws when the next fault is.
    fn draw_fault(&mut self, left: u64) {
        let failures = [Failure::Crash, Failure::Full, Failure::Sync];
        let failure = failures[self.random.bounded(3) as usize];
        let after = self.random.bounded(18);
        self.disk.0.borrow_mut().fails = (left > 0).then_some((after, failure));
    }

    fn run(&mut self) {
        const STEPS_MAX: u64 = 20_000;
        let mut faults = 1 + self.random.bounded(4);
        self.draw_fault(faults);
        for member in 1..PEERS {
            self.start(member, None, None);
        }
        self.restart();
        for _ in 0..STEPS_MAX {
            if !self.is_up {
                faults = faults.saturating_sub(1);
                self.draw_fault(faults);
                self.restart();
                continue;
            }
            // If the others have all ended, it waits for somebody to come, for ever.
            let is_over = self.stopped.contains(&VICTIM) || self.stopped.len() == PEERS - 1;
            if is_over || !self.broken.is_empty() {
                return;
            }
            // Once in a while the process ends between two inputs.
            if faults > 0 && self.random.bounded(900) == 0 {
                self.crash();
                continue;
            }
            let Some((member, input)) = self.inbox.pop_front() else {
                let Some((at, (member, life, timer))) = self.timers.pop_first() else {
                    return self.broken.push("nothing more happens".to_owned());
                };
                self.now = at.0;
                if self.is_there(member) && (member != VICTIM || life == self.life) {
                    self.handle(member, Input::TimerExpired(timer));
                }
                continue;
            };
            if let Input::Received { from, bytes } = &input
                && *from == key(VICTIM).peer()
            {
                let bytes = bytes.clone();
                self.receives(&bytes);
            }
            if self.is_there(member) {
                self.handle(member, input);
            }
        }
        self.broken.push("it never ends".to_owned());
    }
}

/// The first `count` seeds, or those that `KITH_SEEDS` asks for: so many, or `FROM..TO`.
fn seeds(count: u64) -> Range<u64> {
    let asked = std::env::var("KITH_SEEDS").ok();
    let range = asked.and_then(|asked| match asked.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => Some(0..asked.parse().ok()?),
    });
    range.unwrap_or(0..count)
}

/// Plays a seed: what broke, and how often the ledger was behind, torn and covered.
fn play(seed: u64) -> (Vec<String>, [u64; 4]) {
    let mut world = World::new(seed);
    world.run();
    let ledger = world.durable();
    let count = |why: Why| {
        let entries = ledger.iter().flat_map(|ledger| ledger.entries());
        entries.filter(|entry| entry.kind == why).count() as u64
    };
    let counts = [
        world.received.len() as u64,
        count(Why::Torn),
        count(Why::Recovered),
        world.life - 1,
    ];
    (world.broken, counts)
}

#[test]
fn no_fault_of_a_disk_and_no_older_copy_makes_a_ledger_count_too_little() {
    let (range, mut sums, mut broken) = (seeds(500), [0; 4], Vec::new());
    for seed in range.clone() {
        let (found, counts) = play(seed);
        broken.extend(
            found
                .into_iter()
                .map(|what| format!("KITH_SEEDS={seed}..{}: {what}", seed + 1)),
        );
        sums.iter_mut()
            .zip(counts)
            .for_each(|(sum, count)| *sum += count);
    }
    let [received, torn, recovered, restarts] = sums;
    println!(
        "{} seeds: {received} releases received, {restarts} restarts, {torn} torn entries, {recovered} recovered ones, {} under-counts",
        range.clone().count(),
        broken.len()
    );
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    if range.count() >= 500 {
        assert!(
            torn > 100 && recovered > 100 && restarts > 500,
            "the faults happen"
        );
    }
}

/// A ledger that is charged after an update is sent, one that is read as empty, and a peer that does
/// not look at its own headers are noticed.
#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_are_found() {
    use kith_consensus::mutant::{Mutant, plant};
    cost_of(&World::new(0).account, 0); // the reference comes from a program without bugs
    for mutant in [
        Mutant::ChargeAfterSend,
        Mutant::FreshLedger,
        Mutant::ForgetSpent,
        Mutant::ChargeUnanswered,
    ] {
        plant(Some(mutant));
        let found =
            (0..500).find_map(|seed| play(seed).0.into_iter().next().map(|what| (seed, what)));
        plant(None);
        println!("{mutant:?}: {found:?}");
        assert!(found.is_some(), "{mutant:?} is not noticed");
    }
}
