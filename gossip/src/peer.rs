//! A participant of the protocol as a state machine.
//!
//! [`Peer::handle`] takes one input and appends effects; it never waits, fails or asks the time. It
//! only routes: who is there is `overlay`'s, one round's bookkeeping `window`'s, vectors and bodies
//! `exchange`'s, contradictions `witness`'s, and combining is the charter's rule. Everything that
//! people see leaves as [`Event`].
//!
//! A synchronous round: train → encode → store the intent → send → collect until all awaited
//! neighbours are in or the deadline passes → combine → store → next. No absence ever aborts it.
//! Where the topology has rounds without training, or a peer takes another's model instead of
//! combining, `stage` says what happens instead. A peer that is behind is `listening`'s; how it
//! ends, `leaving`'s.

mod choosing;
mod exchange;
mod leaving;
mod listening;
mod method;
mod overlay;
mod pairwise;
mod stage;
mod window;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::aggregate::{Aggregate, Context, Contribution, spread};
use kith_consensus::charter::{Charter, Mode, Space, Weighting};
use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::optimization::server_momentum;
use kith_consensus::prefetch::prefetch;
use kith_consensus::topology::remainder;
use kith_consensus::{Digest, PeerId, Seed, Sorted, Stream};
use serde_bytes::Bytes;

use crate::codec::{Codec, Randomness};
use crate::conduct::{Conduct, Fraud, Publication, View};
use crate::effect::{
    Carried, Checkpoint, Command, Effect, Input, Intent, Parameters, Record, Stored, Timer,
};
use crate::envelope::{Authenticator, Envelope, Header, Kind, PROTOCOL_VERSION};
use crate::event::{Closed, DroppedShare, Event, History, Refusal};
use crate::message::{Announcement, Body, Hello, INLINE_BYTES_MAX, LOSS_MAX, Proof, Want};
use crate::packet::{Opened, Packet};
use crate::roster::Roster;
use crate::wire;
use choosing::Choosing;
use exchange::{AHEAD_MIN, Exchange, Outgoing, Progress, check_values};
use method::{Method, Practice, Training};
use overlay::{Overlay, Patience};
use pairwise::Pairs;
use window::{Arrived, Window};
use witness::{Testimony, Witness};

/// How often neighbours that are not connected are dialled again (guess: fast enough for a person
/// restarting a peer).
const REDIAL: Duration = Duration::from_secs(2);

/// A round asks for missing updates this many times before its deadline.
const NUDGES: u32 = 4;

/// Rounds by which a peer must be behind neighbours that went on without it before it goes forward
/// (guess: one is made up for by itself).
const BEHIND_MIN: u64 = 2;

/// Rounds that a peer which is behind goes forward at once; then it looks again (guess).
const JUMP_MAX: u64 = 1000;

/// A neighbour is suspected when the moving average of its dropped share exceeds this, after
/// [`SUSPECT_ROUNDS`] (guess).
const SUSPECT_SCORE: f64 = 0.6;
/// See [`SUSPECT_SCORE`].
const SUSPECT_ROUNDS: u32 = 5;
/// Weight of the newest round in that average (guess).
const SUSPECT_WEIGHT: f64 = 0.2;

/// What a peer is made of.
pub struct Setup {
    /// Signs and verifies.
    pub authenticator: Authenticator,
    /// What the federation agreed on.
    pub charter: Arc<Charter>,
    /// Participants; contains this peer. In open membership this peer alone: the roster forms from
    /// who comes first.
    pub roster: Roster,
    /// Codec of updates, from the charter's `[codec]`.
    pub codec: Box<dyn Codec>,
    /// Digest of the parameters' layout.
    pub layout: Digest,
    /// Parameters that everyone starts from.
    pub initial: Parameters,
    /// Own seed, for the codec's and the conduct's streams.
    pub seed: Seed,
    /// How it behaves.
    pub conduct: Box<dyn Conduct>,
    /// Evaluate after every so many rounds; 0 evaluates after the last one only.
    pub evaluate_every: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not started.
    Created,
    /// Waits for neighbours before its first round.
    Gathering,
    /// Waits for the trainer.
    Training,
    /// Waits until the intent is on disk.
    Promising,
    /// Waits for neighbours' updates.
    Collecting,
    /// Waits for the losses of what came in.
    Judging,
    /// Waits until the round's checkpoint is on disk.
    Storing,
    /// Every round is done; neighbours may still need something.
    Lingering,
    /// Nothing more will come.
    Stopped,
}

/// What the own conduct wants others to be told.
enum Told {
    Nobody,
    Everybody(Parameters),
    Each(BTreeMap<PeerId, Vec<f32>>),
}

/// An update that is ready to be promised.
struct Sealed {
    /// What receivers will reconstruct.
    public: Parameters,
    outgoing: Outgoing,
}

/// How many things a peer keeps, each bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Others' updates that wait for their round or their body.
    pub waiting: usize,
    /// Own updates kept to be sent again.
    pub outgoing: usize,
    /// Headers remembered to notice contradictions.
    pub headers: usize,
}

/// A participant of the protocol.
pub struct Peer {
    id: PeerId,
    charter: Arc<Charter>,
    authenticator: Authenticator,
    conduct: Box<dyn Conduct>,
    layout: Digest,
    seed: Seed,
    evaluate_every: u64,

    phase: Phase,
    round: u64,
    sequence: u64,
    /// Where the round starts; replaced by the aggregate when it ends.
    parameters: Parameters,
    /// The own row: where the own training led, what the rule sees of this peer, and what the
    /// method adds.
    own: Parameters,
    own_samples: u64,
    own_local_steps: u64,
    /// Mean training loss of the round, as the trainer told it.
    own_loss: f64,
    /// What the optimizer carries into the next round.
    memory: Option<Parameters>,
    /// What happens to models beside the rule.
    method: Box<dyn Method>,
    practice: Practice,
    /// The round's change that server momentum carries on.
    velocity: Option<Parameters>,
    /// Announcements for single receivers, where the conduct tells them different things.
    forks: BTreeMap<PeerId, Packet>,
    /// Promised before a crash, to be sent again as it was.
    promised: Option<Box<Intent>>,
    /// Highest round of which others hold a signed header of ours that our own store does not know.
    published_before: Option<u64>,

    overlay: Overlay,
    window: Window,
    choosing: Choosing,
    exchange: Exchange,
    witness: Witness,
    suspicion: Sorted<PeerId, (f64, u32)>,
    /// Rounds, from the own one on, in which nothing will come of a neighbour: it says so, or its
    /// announcement was refused.
    turned_away: BTreeSet<(u64, PeerId)>,
    /// Neighbours whose last update came too late for its round.
    late: BTreeSet<PeerId>,
    /// Rounds that a neighbour can be ahead while nobody fails.
    lead: u64,
    /// The same, at least [`AHEAD_MIN`].
    ahead: u64,
    /// Whether its model is still the initial one, with nothing of anybody else's.
    untaught: bool,
    /// Whether it has mixed nothing since it was started, or since it was alone.
    returned: bool,
    /// Rounds that this peer may still spend listening before it goes on with what it has.
    listening: u64,
    /// The last round in which it published nothing.
    skipped: Option<u64>,
    /// While it lingers: whether a neighbour has been heard since it looked last.
    asked_lately: bool,
    history: History,
    /// Who has asked whom, where rounds are pairwise.
    pairs: Pairs,
    /// The last handshake that was sent.
    greeting: Option<(Header, Packet)>,
    /// Completed rounds of the newest evaluation that was asked for and has not come back.
    evaluating: Option<u64>,
    /// When the input that is handled came.
    now: Duration,
}

impl Peer {
    /// A peer that has not started.
    ///
    /// # Panics
    /// When the roster lacks the peer.
    pub fn new(setup: Setup) -> Peer {
        let id = setup.authenticator.peer();
        // Everybody's row before anything is published: the common start, and nothing beside it.
        let length = setup
            .charter
            .aggregation
            .method
            .row_len(setup.initial.len());
        let row = match length == setup.initial.len() {
            true => Arc::clone(&setup.initial),
            false => Arc::new(
                setup
                    .initial
                    .iter()
                    .copied()
                    .chain(std::iter::repeat(0.0))
                    .take(length)
                    .collect(),
            ),
        };
        let lead = match setup.charter.round.mode {
            Mode::Synchronous => setup.charter.topology.lead(setup.charter.membership.peers),
            Mode::Asynchronous(_) | Mode::Pairwise => AHEAD_MIN,
        };
        let ahead = lead.max(AHEAD_MIN);
        let witness = Witness::new(setup.charter.id, ahead);
        Peer {
            id,
            overlay: Overlay::new(id, setup.roster, Arc::clone(&setup.charter)),
            exchange: Exchange::new(setup.codec, id, row, ahead, !setup.conduct.is_honest()),
            method: method::new(&setup.charter, setup.initial.len()),
            practice: Practice::of(&setup.charter),
            charter: setup.charter,
            authenticator: setup.authenticator,
            conduct: setup.conduct,
            layout: setup.layout,
            seed: setup.seed,
            evaluate_every: setup.evaluate_every,
            phase: Phase::Created,
            round: 0,
            sequence: 0,
            parameters: Arc::clone(&setup.initial),
            own: setup.initial,
            own_samples: 0,
            own_local_steps: 0,
            own_loss: 0.0,
            memory: None,
            velocity: None,
            forks: BTreeMap::new(),
            promised: None,
            published_before: None,
            window: Window::default(),
            choosing: Choosing::default(),
            witness,
            suspicion: Sorted::default(),
            turned_away: BTreeSet::new(),
            late: BTreeSet::new(),
            lead,
            ahead,
            untaught: true,
            returned: true,
            listening: 0,
            skipped: None,
            asked_lately: false,
            history: History::default(),
            pairs: Pairs::default(),
            greeting: None,
            evaluating: None,
            now: Duration::ZERO,
        }
    }

    /// Who it is.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// The round it is in; equals the charter's rounds when it has finished.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// The parameters that the last completed round led to.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The round of which `bytes` are an own update's announcement that is still kept.
    pub fn announced_in(&self, bytes: &Packet) -> Option<u64> {
        self.exchange.announced_in(bytes)
    }

    /// Whether the codec's bodies build on the vectors before them, so that peers hold each
    /// other's.
    pub fn keeps_replicas(&self) -> bool {
        self.exchange.keeps_replicas()
    }

    /// Hash of what this peer holds as `sender`'s vector; `None` where the codec needs no replicas
    /// or nothing has come.
    pub fn replica_of(&self, sender: &PeerId) -> Option<Digest> {
        self.exchange.replica_of(sender)
    }

    /// Everyone this peer exchanges updates with in its round, or in the last one when it has
    /// finished.
    pub fn neighbours(&self) -> BTreeSet<PeerId> {
        self.overlay.neighbourhood(self.last_or_current_round())
    }

    /// How much this peer keeps of others.
    pub fn load(&self) -> Load {
        let (waiting, outgoing) = self.exchange.load();
        Load {
            waiting,
            outgoing,
            headers: self.witness.len(),
        }
    }

    /// Asks for the memory that the next input will touch: in step 0 what the peer points to, in 1
    /// what is behind that. A step should find the memory of the one before it there.
    pub fn prefetch(&self, step: usize) {
        if step > 0 {
            return self.exchange.prefetch_behind(self.phase == Phase::Training);
        }
        self.overlay.prefetch();
        self.exchange.prefetch();
        self.window.prefetch();
        self.witness.prefetch();
        prefetch(if self.phase == Phase::Training {
            &self.parameters[..]
        } else {
            &self.own[..]
        });
    }

    /// Takes one input at time `now` (since the driver's start) and appends what has to be done to
    /// `out`, in order.
    pub fn handle(&mut self, input: Input, now: Duration, out: &mut Vec<Effect>) {
        if self.phase == Phase::Stopped {
            return;
        }
        self.now = now;
        match input {
            Input::Start { checkpoint, intent } => self.start(checkpoint, intent, out),
            Input::Trained {
                round,
                parameters,
                samples,
                local_steps,
                loss,
                rate,
                memory,
            } => {
                if self.phase == Phase::Training && round == self.round {
                    self.memory = memory;
                    self.own_loss = loss;
                    out.push(Effect::Emit(Event::Trained {
                        round,
                        loss,
                        samples,
                        local_steps,
                    }));
                    self.trained(parameters, samples, local_steps, rate, out);
                }
            }
            Input::TrainingFailed { round, why } => {
                if self.phase == Phase::Training && round == self.round {
                    self.training_failed(why, out);
                }
            }
            Input::Evaluated {
                round,
                loss,
                accuracy,
                samples,
            } => {
                out.push(Effect::Emit(Event::Evaluated {
                    round,
                    loss,
                    accuracy,
                    samples,
                }));
                self.evaluated(round, out);
            }
            Input::NotEvaluated { round } => self.evaluated(round, out),
            Input::Judged { round, losses } => {
                if self.phase == Phase::Judging && round == self.round {
                    // Nothing comes in meanwhile, but a contradiction takes out what had come.
                    let of_these = losses
                        .as_ref()
                        .is_none_or(|losses| losses.len() == self.rows().len());
                    if of_these {
                        self.conclude(losses.as_deref(), out)
                    } else {
                        self.ask_for_losses(out)
                    }
                }
            }
            Input::Received { from, bytes } => self.received(from, &bytes, out),
            Input::Fetched { digest, bytes } => {
                for sender in self.exchange.fetched(digest, &bytes) {
                    self.advance(sender, out);
                }
            }
            Input::FetchFailed {
                digest,
                sources,
                why,
            } => {
                let (lost, again) = self.exchange.fetch_failed(digest, &sources);
                for (peer, round) in lost {
                    self.refuse(
                        peer,
                        Some(Kind::Update),
                        Some(round),
                        Refusal::Unavailable { why: why.clone() },
                        out,
                    );
                    self.give_up_on(&peer, out);
                }
                // A source that is not there is asked again when it comes back.
                for peer in again
                    .into_iter()
                    .filter(|peer| self.overlay.is_up(peer))
                    .collect::<Vec<_>>()
                {
                    self.advance(peer, out);
                }
                self.close_if_complete(out);
            }
            Input::BodyRequested {
                from,
                digest,
                request,
            } => {
                self.asked_lately = true;
                let body = if self.overlay.on_roster(&from) {
                    self.exchange.body(digest)
                } else {
                    None
                };
                out.push(Effect::Provide { request, body });
            }
            Input::PeerUp { peer, addresses } => self.peer_up(peer, addresses, out),
            Input::PeerDown { peer } => self.peer_down(peer, out),
            Input::Listening { address } => {
                self.overlay.learn_addresses(self.id, vec![address], true);
            }
            Input::TimerExpired(timer) => self.expired(timer, out),
            Input::Stored(stored) => self.stored(stored, out),
            Input::Command(Command::Leave) => self.stop("asked to leave", out),
        }
    }

    // --- beginning and end ---

    fn start(
        &mut self,
        checkpoint: Option<Box<Checkpoint>>,
        intent: Option<Box<Intent>>,
        out: &mut Vec<Effect>,
    ) {
        assert_eq!(self.phase, Phase::Created, "a peer starts once");
        let resumed = checkpoint.is_some() || intent.is_some();
        if let Some(checkpoint) = checkpoint {
            assert_eq!(
                checkpoint.parameters.len(),
                self.parameters.len(),
                "a checkpoint has the model's dimension"
            );
            self.round = checkpoint.round;
            self.sequence = checkpoint.sequence;
            if !planted(Mutant::ForgetParameters) {
                self.parameters = checkpoint.parameters;
            }
            self.overlay.restore(&checkpoint.roster);
            if !planted(Mutant::ForgetReplicas) {
                self.exchange.restore(checkpoint.replicas);
            }
            self.restore(checkpoint.carried);
            self.history = checkpoint.history;
            self.untaught = false;
        }
        if let Some(ahead) = intent
            .as_ref()
            .filter(|intent| intent.round > self.round && !planted(Mutant::ForgetIntentAhead))
        {
            // Promised after a jump, or on a checkpoint that is lost: it must not be contradicted.
            self.published_before = Some(ahead.round);
            self.sequence = self.sequence.max(ahead.sequence + 1);
        }
        self.promised =
            intent.filter(|intent| intent.round == self.round && !planted(Mutant::TrainAgain));
        out.push(Effect::Emit(Event::Started {
            round: self.round,
            resumed,
            federation: self.charter.id,
        }));
        out.push(Effect::SetTimer {
            timer: Timer::Redial,
            after: REDIAL,
        });
        if self.round >= self.charter.rounds {
            self.evaluating = Some(self.round);
            out.push(Effect::Evaluate {
                round: self.round,
                parameters: Arc::clone(&self.parameters),
            });
            self.finish(out);
        } else if resumed
            && self.overlay.is_formed()
            && (!self.is_asynchronous() || self.promised.is_some())
        {
            // The others have not stopped, and rounds in step show how far they are. Asynchronous
            // rounds do not show it: there the peer waits for their handshakes first, unless it has
            // a promise to keep.
            self.open_round(out);
        } else {
            self.phase = Phase::Gathering;
            out.push(Effect::SetTimer {
                timer: Timer::Start,
                after: self.charter.round.start_deadline,
            });
            self.gather(false, out);
        }
    }

    /// Opens the first round once every neighbour is there, or when waiting is over.
    fn gather(&mut self, waited_enough: bool, out: &mut Vec<Effect>) {
        if self.phase != Phase::Gathering {
            return;
        }
        if !self.overlay.is_formed() {
            let (ready, needed) = (self.overlay.roster().len() - 1, self.overlay.wanted() - 1);
            out.push(Effect::Emit(Event::Waiting {
                ready,
                needed,
                missing: Vec::new(),
            }));
            if waited_enough {
                // Without a roster there is no graph to begin with.
                out.push(Effect::SetTimer {
                    timer: Timer::Start,
                    after: self.charter.round.start_deadline,
                });
            }
            return;
        }
        let neighbours = self.overlay.neighbourhood(self.round);
        let missing: Vec<PeerId> = neighbours
            .iter()
            .filter(|peer| !self.overlay.is_ready(peer))
            .copied()
            .collect();
        let connected = neighbours.len() - missing.len();
        let alone = self.overlay.everyone_ready().len() < self.others_needed();
        let enough =
            self.is_asynchronous() && self.round > 0 && connected >= self.needs_to_hear().max(1);
        if missing.is_empty() || enough || (waited_enough && !alone) {
            out.push(Effect::Emit(Event::Ready {
                neighbours: neighbours.len(),
                connected,
            }));
            return self.open_round_or_jump(out);
        }
        out.push(Effect::Emit(Event::Waiting {
            ready: connected,
            needed: neighbours.len(),
            missing,
        }));
        if waited_enough && self.is_over() {
            self.end_alone(out);
        } else if waited_enough {
            out.push(Effect::SetTimer {
                timer: Timer::Start,
                after: self.charter.round.start_deadline,
            });
        }
    }

    fn evaluated(&mut self, round: u64, out: &mut Vec<Effect>) {
        if self.evaluating == Some(round) && !planted(Mutant::NeverEvaluated) {
            self.evaluating = None;
            self.leave_when_done(out);
        }
    }

    /// Others that have to be there for a round, of all that there are.
    fn others_needed(&self) -> usize {
        self.charter
            .round
            .neighbours_min
            .min(self.overlay.wanted() - 1)
    }

    // --- the round ---

    fn open_round(&mut self, out: &mut Vec<Effect>) {
        self.witness.forget(self.round);
        if !self.is_asynchronous() {
            self.exchange
                .forget(self.round.saturating_sub(self.charter.round.staleness));
        }
        let neighbours = self.overlay.receives_from(self.round);
        let (awaited, selected) = self.choosing.open(
            &self.charter,
            &self.overlay,
            &self.id,
            self.round,
            &neighbours,
        );
        // Where nobody waits for anybody the window has been open all the time.
        if !self.is_asynchronous() {
            self.window = Window::new(
                awaited,
                self.overlay.alternatives(self.round),
                self.stands_in(),
            );
        }
        self.turned_away.retain(|(round, _)| *round >= self.round);
        for (_, sender) in self
            .turned_away
            .iter()
            .filter(|(round, _)| *round == self.round)
        {
            self.window.release(sender);
        }
        if let Some(place) = self.overlay.place() {
            self.method.open(&self.overlay.graph(self.round), place);
        }
        out.push(Effect::Emit(Event::RoundOpened {
            round: self.round,
            neighbours: neighbours.len(),
            selected,
        }));
        match self.promised.take() {
            Some(intent) => self.send_again(*intent, out),
            None if self.listens() => {
                self.phase = Phase::Training;
                self.listen_now(out);
            }
            None if !self.trains() => {
                self.phase = Phase::Training;
                self.exchange_only(out);
            }
            None => {
                self.phase = Phase::Training;
                let (parameters, memory) = (Arc::clone(&self.parameters), self.memory.clone());
                out.push(Effect::Train {
                    round: self.round,
                    parameters,
                    memory,
                    correction: self.method.correction(),
                });
            }
        }
        for sender in neighbours {
            self.advance(sender, out); // updates that came early
        }
        if self.charter.topology.changes() {
            self.reach(out);
        }
    }

    /// Where the graph changes, the neighbours of this round and the next are dialled before they
    /// are needed.
    fn reach(&mut self, out: &mut Vec<Effect>) {
        let next = (self.round + 1).min(self.charter.rounds.saturating_sub(1));
        for round in [self.round, next] {
            for (peer, addresses) in self.overlay.unreached(round) {
                out.push(Effect::Connect { peer, addresses });
            }
        }
    }

    /// An update was promised before a crash: the same bytes go out again.
    fn send_again(&mut self, intent: Intent, out: &mut Vec<Effect>) {
        let announced = intent
            .announcement
            .open(&self.authenticator, false)
            .and_then(|opened| opened.announcement());
        let inline = match announced {
            Ok(announcement) => announcement.body.inline(),
            // Written by another version, perhaps: nobody would take it.
            Err(reason) => {
                return self
                    .training_failed(format!("the stored update is refused: {reason}"), out);
            }
        };
        let body: &[u8] = inline.map_or(&intent.body, |inline| inline);
        let Some(public) = self.exchange.replay(body, intent.state) else {
            // The replica is not the one the promise was made on: say nothing this round rather
            // than something else.
            self.training_failed(
                "the stored update does not fit the stored replica".to_owned(),
                out,
            );
            return;
        };
        self.own = Arc::clone(&intent.own);
        self.restore(intent.carried);
        self.sequence = intent.sequence + 1;
        let pulled = inline
            .is_none()
            .then(|| (Digest::of(body), Arc::clone(&intent.body)));
        let outgoing = Outgoing::new(
            intent.sequence,
            intent.state,
            intent.announcement.clone(),
            body.len(),
            pulled,
        );
        self.exchange.publish(self.round, public, outgoing);
        self.send_update(out);
    }

    /// What goes from round to round beside the model.
    fn carried(&self) -> Carried {
        let named = [("memory", &self.memory), ("velocity", &self.velocity)];
        let own = named
            .into_iter()
            .filter_map(|(name, vector)| Some((name.to_owned(), Arc::clone(vector.as_ref()?))));
        own.chain(self.method.carried()).collect()
    }

    fn restore(&mut self, mut carried: Carried) {
        self.memory = carried.remove("memory");
        self.velocity = carried.remove("velocity");
        self.method.restore(&mut carried);
    }

    /// A row: `model`, and behind it what the method says of a training that led to `end` over such
    /// a way.
    fn row(&self, model: Parameters, end: &Parameters, way: f64) -> Parameters {
        let beside = self.method.beside(&Training {
            start: &self.parameters,
            end,
            way,
            rate: 0.0,
        });
        if beside.is_empty() {
            model
        } else {
            Arc::new(model.iter().copied().chain(beside).collect())
        }
    }

    fn trained(
        &mut self,
        parameters: Parameters,
        samples: u64,
        local_steps: u64,
        rate: f64,
        out: &mut Vec<Effect>,
    ) {
        let way = rate * self.practice.effective_steps(local_steps, rate);
        let model = self.method.model(&Training {
            start: &self.parameters,
            end: &parameters,
            way,
            rate,
        });
        let own = self.row(Arc::clone(&model), &parameters, way);
        if let Err(reason) = check_values(&own) {
            self.training_failed(format!("the trained model {reason}"), out);
            return;
        }
        if self.charter.round.selection.needs_losses() && self.own_loss.is_nan() {
            self.training_failed(
                "the training loss, by which others select, is not a number".to_owned(),
                out,
            );
            return;
        }
        self.own = own;
        (self.own_samples, self.own_local_steps) = (samples, local_steps);
        self.say(model, way, out);
    }

    /// Publishes the own row, or what the conduct makes of its model.
    fn say(&mut self, model: Parameters, way: f64, out: &mut Vec<Effect>) {
        if self.speaks_to_nobody() {
            return self.collect(out);
        }
        if self
            .published_before
            .is_some_and(|round| self.round <= round)
        {
            // Others hold a signed update of ours for this round which we no longer know: a second
            // one would be a lie.
            self.skip(out);
            self.collect(out);
            return;
        }
        match self.publication(model, way) {
            Told::Nobody => self.collect(out),
            Told::Everybody(vector) => match self.promise(&vector) {
                Some((sealed, intent)) => self.publish(sealed, intent, BTreeMap::new(), out),
                None => {
                    assert!(!self.conduct.is_honest(), "our own encoding decodes");
                    self.collect(out);
                }
            },
            Told::Each(vectors) => self.publish_each(vectors, out),
        }
    }

    /// What the peer's conduct makes of the trained model.
    fn publication(&mut self, trained: Parameters, way: f64) -> Told {
        if self.conduct.is_honest() {
            let (told, kept) = self.method.give(&self.own, self.round);
            self.own = kept;
            return Told::Everybody(told);
        }
        let neighbours: BTreeSet<PeerId> =
            self.overlay.receives_from(self.round).into_iter().collect();
        let (roster, graph) = (self.overlay.roster(), self.overlay.graph(self.round));
        let newest = self
            .exchange
            .newest()
            .filter(|(peer, _)| neighbours.contains(peer));
        let newest: Vec<(PeerId, &[f32])> = newest
            .map(|(peer, row)| (peer, &row[..trained.len()]))
            .collect();
        let view = View {
            own: self.id,
            round: self.round,
            start: &self.parameters,
            trained: &trained,
            neighbours: &newest,
            roster: &roster,
            graph: &graph,
        };
        let mut random = Stream::derive("kith.v1 conduct", &self.seed, self.round, 0, 0);
        match self.conduct.publish(&view, &mut random) {
            Publication::Nothing => Told::Nobody,
            Publication::Same(vector) => Told::Everybody(self.lie(vector, way)),
            Publication::Each(vectors) => {
                let row = |vector: Vec<f32>| self.lie(vector, way).to_vec();
                Told::Each(
                    vectors
                        .into_iter()
                        .map(|(receiver, vector)| (receiver, row(vector)))
                        .collect(),
                )
            }
        }
    }

    /// The row of one who says that training led to `vector`.
    fn lie(&self, vector: Vec<f32>, way: f64) -> Parameters {
        let end = Arc::new(vector);
        self.method
            .give(&self.row(Arc::clone(&end), &end, way), self.round)
            .0
    }

    /// The update of this round that says `vector`, and the promise to send exactly that; `None`
    /// for what the codec cannot say.
    fn promise(&mut self, vector: &Parameters) -> Option<(Sealed, Box<Intent>)> {
        let random = || Randomness {
            own: Stream::derive("kith.v1 codec", &self.seed, self.round, 0, 0),
            shared: Stream::derive(
                "kith.v1 shared codec",
                &Seed(self.charter.id.0),
                self.round,
                0,
                0,
            ),
        };
        let (base, body, public) = self.exchange.encode(vector, random)?;
        self.method.given(vector);
        let true_state = Digest::of_values(&public);
        let fraud = self.conduct.fraud(self.round);
        let state = if fraud == Some(Fraud::State) {
            Digest::of(&true_state.0)
        } else {
            true_state
        };
        let pulled = (body.len() > INLINE_BYTES_MAX).then(|| Digest::of(&body));
        let asked = self.charter.round.selection.needs_losses();
        let loss = asked.then(|| {
            self.conduct
                .claims(self.own_loss.clamp(-LOSS_MAX, LOSS_MAX))
        });
        let room = if pulled.is_some() { 0 } else { body.len() };
        let announcement = Announcement {
            base,
            dimension: self.exchange.dimension() as u64 + u64::from(fraud == Some(Fraud::Shape)),
            samples: self.own_samples,
            local_steps: self.own_local_steps,
            body: pulled.map_or_else(
                || Body::Inline(Bytes::new(&body)),
                |digest| Body::Pulled(digest, body.len() as u64),
            ),
            loss,
        };
        let announcement = self.seal(
            Kind::Update,
            state,
            wire::encode_sized(&announcement, 256 + room),
        );
        if state == true_state {
            announcement.state(&public);
        }
        let body_bytes = body.len();
        let pulled = pulled.map(|digest| (digest, Arc::new(body)));
        let intent = Box::new(Intent {
            round: self.round,
            sequence: self.sequence,
            state,
            announcement: announcement.clone(),
            body: pulled
                .as_ref()
                .map_or_else(Arc::default, |(_, body)| Arc::clone(body)),
            own: Arc::clone(&self.own),
            carried: self.carried(),
        });
        Some((
            Sealed {
                public,
                outgoing: Outgoing::new(self.sequence, state, announcement, body_bytes, pulled),
            },
            intent,
        ))
    }

    fn publish(
        &mut self,
        sealed: Sealed,
        intent: Box<Intent>,
        forks: BTreeMap<PeerId, Packet>,
        out: &mut Vec<Effect>,
    ) {
        self.sequence += 1;
        self.forks = forks;
        self.exchange
            .publish(self.round, sealed.public, sealed.outgoing);
        self.phase = Phase::Promising;
        out.push(Effect::Persist(Record::Intent(intent)));
        if planted(Mutant::SendUnpromised) {
            self.send_update(out);
        }
    }

    /// A liar tells its receivers different things under one round and sequence. Its own replica
    /// follows the first.
    fn publish_each(&mut self, vectors: BTreeMap<PeerId, Vec<f32>>, out: &mut Vec<Effect>) {
        let said: Vec<(PeerId, (Sealed, Box<Intent>))> = vectors
            .into_iter()
            .filter_map(|(receiver, vector)| Some((receiver, self.promise(&Arc::new(vector))?)))
            .collect();
        let mut said = said.into_iter();
        let Some((first, (mut sealed, intent))) = said.next() else {
            return self.collect(out);
        };
        let mut forks = BTreeMap::from([(first, sealed.outgoing.announcement.clone())]);
        for (receiver, (other, _)) in said {
            forks.insert(receiver, other.outgoing.announcement.clone());
            sealed.outgoing.absorb(other.outgoing);
        }
        self.publish(sealed, intent, forks, out);
    }

    /// What `receiver` is told in `round`; an honest peer tells everybody the same.
    fn announcement_for(&mut self, receiver: &PeerId, round: u64) -> Option<Packet> {
        let outgoing = self.exchange.outgoing(round)?;
        if self.conduct.is_honest() {
            return Some(outgoing.announcement.clone());
        }
        if self.conduct.withholds(round, receiver) {
            return None;
        }
        let forked = round == self.round && !self.forks.is_empty();
        if forked {
            self.forks.get(receiver).cloned()
        } else {
            Some(outgoing.announcement.clone())
        }
    }

    fn training_failed(&mut self, why: String, out: &mut Vec<Effect>) {
        out.push(Effect::Emit(Event::TrainingFailed {
            round: self.round,
            why,
        }));
        self.history.training_failed += 1;
        self.own = self.row(Arc::clone(&self.parameters), &self.parameters, 0.0);
        (self.own_samples, self.own_local_steps) = (0, 0);
        self.skip(out);
        self.collect(out);
    }

    fn send_update(&mut self, out: &mut Vec<Effect>) {
        let round = self.round;
        let audience = self.listeners(round);
        let mut receivers = 0;
        for peer in audience
            .into_iter()
            .filter(|peer| self.overlay.is_ready(peer))
            .collect::<Vec<_>>()
        {
            let Some(bytes) = self.announcement_for(&peer, round) else {
                continue;
            };
            out.push(Effect::Send { to: peer, bytes });
            receivers += 1;
            if self.conduct.fraud(round) == Some(Fraud::Signature) {
                out.extend(
                    self.forgery(&peer)
                        .map(|bytes| Effect::Send { to: peer, bytes }),
                );
            }
            if let Some(old) = self
                .conduct
                .replays(round)
                .and_then(|old| self.exchange.outgoing(old))
            {
                out.push(Effect::Send {
                    to: peer,
                    bytes: old.announcement.clone(),
                });
            }
        }
        let outgoing = self
            .exchange
            .outgoing(round)
            .expect("the update was just published");
        let (sequence, state, body_bytes) =
            (outgoing.sequence, outgoing.state, outgoing.body_bytes);
        out.push(Effect::Emit(Event::Published {
            round,
            sequence,
            state,
            body_bytes,
            receivers,
        }));
        self.collect(out);
    }

    /// A header for `receiver` in the name of a third, whom that would convict if it were signed.
    fn forgery(&self, receiver: &PeerId) -> Option<Packet> {
        let victim = self
            .overlay
            .receives_from(self.round)
            .into_iter()
            .find(|peer| peer != receiver)?;
        let state = self.exchange.outgoing(self.round)?.state;
        let header = Header(
            PROTOCOL_VERSION,
            self.charter.id,
            Kind::Update,
            victim,
            self.round,
            self.round,
            state,
            state,
        );
        let header_bytes = wire::encode(&header);
        let signature = self.authenticator.sign_bytes(&header_bytes);
        Some(
            Envelope {
                header,
                header_bytes,
                signature,
                payload: Vec::new(),
            }
            .to_bytes()
            .into(),
        )
    }

    fn is_asynchronous(&self) -> bool {
        self.charter.round.mode != Mode::Synchronous
    }

    fn collect(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Collecting;
        match self.listens() {
            true => {} // in any mode it waits for others
            false if self.is_pairwise() => return self.await_partner(out),
            false if self.is_asynchronous() => return self.close(Closed::Quorum, out),
            false => {}
        }
        let (round, deadline) = (self.round, self.charter.round.deadline);
        self.choosing.collects(round, self.now);
        if !planted(Mutant::NoDeadline) {
            let after = deadline.saturating_mul(self.deadlines());
            out.push(Effect::SetTimer {
                timer: Timer::Deadline { round },
                after,
            });
        }
        out.push(Effect::SetTimer {
            timer: Timer::Nudge { round },
            after: deadline / NUDGES,
        });
        self.close_if_complete(out);
        self.jump_if_behind(out);
    }

    fn close_if_complete(&mut self, out: &mut Vec<Effect>) {
        // Who is late too often is awaited only as long as the rule has too little without it:
        // perhaps the others have come and gone.
        let enough =
            self.window.counted().count() + 1 >= self.charter.aggregation.rule.minimum().max(2);
        if self.phase == Phase::Collecting
            && enough
            && !self.is_asynchronous()
            && self.charter.round.selection.is_everyone()
        {
            self.window
                .release_those(|peer| !self.overlay.is_awaited(peer));
        }
        if self.phase == Phase::Collecting && self.is_asynchronous() && self.listens() {
            if self.window.counted().count() >= self.needs_to_hear().max(1) {
                self.close(Closed::Quorum, out);
            }
            return;
        }
        let reachable = |peer: &PeerId| self.overlay.is_up(peer);
        if self.phase == Phase::Collecting
            && self
                .window
                .is_complete(self.charter.round.quorum, reachable)
        {
            match self.too_few() {
                None => self.close(Closed::Quorum, out),
                Some(_) if self.is_over() => self.end_alone(out),
                Some(_) => {} // somebody may come
            }
        }
    }

    /// The deadline has passed: the round closes with what it has, unless that is less than the
    /// charter asks for.
    fn deadline(&mut self, out: &mut Vec<Effect>) {
        let round = self.round;
        match self.too_few() {
            None => self.close(Closed::Deadline, out),
            Some(_) if self.is_over() => self.end_alone(out),
            Some((have, need)) => {
                let missing = self.window.missing(|peer| self.overlay.is_up(peer));
                out.push(Effect::Emit(Event::TooFew {
                    round,
                    have,
                    need,
                    missing,
                }));
                out.push(Effect::SetTimer {
                    timer: Timer::Deadline { round },
                    after: self.charter.round.deadline,
                });
            }
        }
    }

    fn close(&mut self, why: Closed, out: &mut Vec<Effect>) {
        if !self.is_asynchronous() && self.charter.round.quorum >= 1.0 {
            // In other modes, and with a smaller quorum, peers go ahead of neighbours that are not
            // late.
            self.exchange
                .release((self.round + 1).saturating_sub(self.lead));
        }
        let missing = self.window.missing(|peer| self.overlay.is_up(peer));
        for peer in self.overlay.receives_from(self.round) {
            let is_in = self.window.contains(&peer);
            let asked = match self.charter.round.mode {
                Mode::Synchronous => true,
                Mode::Pairwise => self.window.awaits(&peer),
                Mode::Asynchronous(_) => false, // nobody is waited for
            };
            if let Some(on_time) = self.choosing.on_time(&peer, is_in)
                && (is_in
                    || (asked
                        && !self.window.is_overtaken(&peer)
                        && !self.turned_away.contains(&(self.round, peer))))
            {
                self.patience(peer, on_time, out);
            }
        }
        let (have, awaited) = (self.window.counted().count(), self.window.awaited());
        out.push(Effect::Emit(Event::RoundClosed {
            round: self.round,
            why,
            have,
            awaited,
            missing,
        }));
        self.choosing
            .close(&self.charter, &self.overlay, self.round, &mut self.window);
        if self.charter.aggregation.rule.needs_losses() && self.asks_the_rule() && !self.listens() {
            self.phase = Phase::Judging;
            self.ask_for_losses(out);
        } else {
            self.conclude(None, out);
        }
    }

    /// Notes whether a neighbour was on time, and says when that changes whether rounds wait for
    /// it.
    fn patience(&mut self, peer: PeerId, on_time: bool, out: &mut Vec<Effect>) {
        match self.overlay.on_time(peer, on_time) {
            Some(Patience::Lost) if !self.overlay.has_finished(&peer) => {
                let (missed, late) = (self.overlay.missed(&peer), self.late.contains(&peer));
                out.push(Effect::Emit(Event::NoLongerAwaited { peer, missed, late }));
            }
            Some(Patience::Regained) => out.push(Effect::Emit(Event::AwaitedAgain { peer })),
            Some(Patience::Lost) | None => {}
        }
        if on_time {
            self.late.remove(&peer);
        }
    }

    fn ask_for_losses(&self, out: &mut Vec<Effect>) {
        let models = self
            .rows()
            .into_iter()
            .map(|(_, arrived)| arrived.values)
            .collect();
        out.push(Effect::Judge {
            round: self.round,
            models,
        });
    }

    /// Combines what the closed window holds and stores the result.
    fn conclude(&mut self, losses: Option<&[f64]>, out: &mut Vec<Effect>) {
        self.parameters = match (self.asks_the_rule(), self.listens()) {
            (true, false) => self.combine(losses, out),
            (true, true) if self.holds_shares() => self.take_shares(out),
            (true, true) => self.catch_up(out),
            (false, _) => self.settle(out),
        };
        if !(planted(Mutant::StayAfterSkip) && Arc::ptr_eq(&self.parameters, &self.own)) {
            self.round += 1;
        }
        self.phase = Phase::Storing;
        let checkpoint = Checkpoint {
            round: self.round,
            sequence: self.sequence,
            roster: self.overlay.roster(),
            parameters: Arc::clone(&self.parameters),
            replicas: self.exchange.replicas(),
            carried: self.carried(),
            history: self.history.clone(),
        };
        out.push(Effect::Persist(Record::Checkpoint(Box::new(checkpoint))));
        if self.exchange.is_large() {
            // What this round no longer needs goes before the next one needs as much.
            self.own = Arc::clone(&self.parameters);
            self.exchange.release_own();
            if !self.charter.topology.changes() {
                self.exchange
                    .expect_only(&self.overlay.receives_from(self.round));
            }
        }
    }

    /// The own exact model and what arrived, in the order of ids.
    fn rows(&self) -> Vec<(PeerId, Arrived)> {
        let arrived = self.window.counted();
        let mut rows: Vec<(PeerId, Arrived)> = arrived
            .map(|(peer, arrived)| (*peer, arrived.clone()))
            .collect();
        let state = self.exchange.own_state_if(&self.own);
        let (samples, local_steps) = (self.own_samples, self.own_local_steps);
        let own = Arrived {
            values: Arc::clone(&self.own),
            state,
            age: 0,
            samples,
            local_steps,
        };
        rows.push((self.id, own));
        if !planted(Mutant::UnsortedRows) {
            rows.sort_by_key(|(peer, _)| *peer);
        }
        rows
    }

    /// The rule over the own exact model and what arrived; the own model where that is too little.
    fn combine(&mut self, losses: Option<&[f64]>, out: &mut Vec<Effect>) -> Parameters {
        let round = self.round;
        let rows = self.rows();
        self.window = Window::default();
        self.history.mixed(rows.len());
        self.untaught &= rows.len() == 1;
        self.returned &= rows.len() == 1;
        let own_index = rows
            .iter()
            .position(|(peer, _)| *peer == self.id)
            .expect("the own row was just added");

        let factor = self.choosing.factor();
        let mut weights: Vec<f64> = rows
            .iter()
            .map(|(peer, arrived)| factor * self.weight(peer, arrived, rows.len()))
            .collect();
        if self.takes_shares() {
            stage::share_out(&mut weights, own_index);
        } else if !planted(Mutant::LoseWeight) {
            let others = weights
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != own_index);
            // An absent peer leaves its weight to this one's model.
            weights[own_index] = remainder(others.map(|(_, weight)| *weight));
        }
        // Seen from the origin that the charter says: zero for models, the start of the round for
        // updates.
        let start = Arc::clone(&self.parameters);
        let updates = self.charter.aggregation.on == Space::Updates;
        let seen = |values: &[f32]| -> Vec<f32> {
            values
                .iter()
                .zip(start.iter())
                .map(|(value, start)| value - start)
                .collect()
        };
        let lost = self.published_before.is_some();
        let mut moved = self.method.models(&rows, own_index, lost, &mut weights);
        if updates {
            moved = rows
                .iter()
                .map(|(_, arrived)| seen(&arrived.values))
                .collect();
        }
        let public = self.exchange.own_public();
        let public = public.map(|public| {
            if updates {
                Arc::new(seen(&public))
            } else {
                public
            }
        });
        let contributions: Vec<Contribution<'_>> = rows
            .iter()
            .zip(&weights)
            .enumerate()
            .map(|(index, ((peer, arrived), weight))| Contribution {
                staleness: arrived.age,
                mixing_weight: *weight,
                samples: arrived.samples,
                local_steps: arrived.local_steps,
                is_finite: moved.is_empty(), // checked on arrival
                // What is moved to another origin, or is a part, has another name.
                state: arrived
                    .state
                    .filter(|_| !updates && arrived.values.len() == start.len()),
                ..Contribution::of(
                    *peer,
                    moved
                        .get(index)
                        .map_or(&arrived.values[..start.len()], Vec::as_slice),
                )
            })
            .collect();
        let context = Context {
            own: Some(own_index),
            own_public: public.as_deref().map(|public| &public[..start.len()]),
            round_start: (!updates).then_some(start.as_slice()),
            last_aggregate: (!updates).then_some(start.as_slice()),
            round,
            rounds: self.charter.rounds,
            losses,
            seed: Seed(self.charter.id.0),
        };
        let charter = Arc::clone(&self.charter);
        let beside: Vec<&[f32]> = rows
            .iter()
            .map(|(_, arrived)| &arrived.values[start.len()..])
            .collect();
        match self.method.combine(
            charter.aggregation.rule.as_ref(),
            &context,
            &contributions,
            &beside,
        ) {
            Ok(mut aggregate) => {
                let dropped = self.judge(&rows, &aggregate, out);
                let spread = spread(&contributions);
                // A rule that trusts nobody's update says so by a zero: the own step is kept.
                if updates && aggregate.parameters.iter().all(|value| *value == 0.0) {
                    aggregate.parameters = seen(&self.own);
                }
                if updates {
                    aggregate
                        .parameters
                        .iter_mut()
                        .zip(start.iter())
                        .for_each(|(value, start)| *value += start);
                }
                if self.trains() {
                    self.carry_on(&start, &mut aggregate.parameters);
                }
                let parameters = Arc::new(aggregate.parameters);
                let state = Arc::clone(&parameters).into();
                out.push(Effect::Emit(Event::Aggregated {
                    round,
                    state,
                    models: rows.len(),
                    dropped,
                    spread,
                }));
                parameters
            }
            Err(_) => {
                let need = self.charter.aggregation.rule.minimum();
                out.push(Effect::Emit(Event::MixingSkipped {
                    round,
                    have: rows.len(),
                    need,
                }));
                if self.own.len() == start.len() {
                    Arc::clone(&self.own)
                } else {
                    Arc::new(self.own[..start.len()].to_vec())
                }
            }
        }
    }

    /// Server momentum at every peer: v ← β v + (aggregate − start), x ← start + v.
    fn carry_on(&mut self, start: &Parameters, aggregate: &mut [f32]) {
        let momentum = self.charter.aggregation.momentum;
        if momentum == 0.0 {
            return;
        }
        let change: Vec<f32> = aggregate
            .iter()
            .zip(start.iter())
            .map(|(value, start)| value - start)
            .collect();
        let mut velocity = self
            .velocity
            .as_ref()
            .map_or_else(|| vec![0.0; change.len()], |velocity| velocity.to_vec());
        aggregate.copy_from_slice(start);
        server_momentum::step(aggregate, &mut velocity, &change, momentum, 1.0);
        self.velocity = Some(Arc::new(velocity));
    }

    fn weight(&mut self, peer: &PeerId, arrived: &Arrived, models: usize) -> f64 {
        let mut mixing = match self.charter.round.mode {
            Mode::Pairwise => 1.0 / models as f64,
            _ => self.overlay.mixing_weight(peer, self.round),
        };
        if let Mode::Asynchronous(weight) = self.charter.round.mode {
            mixing *= weight.factor(arrived.age);
        }
        match self.charter.aggregation.weighting {
            Weighting::Mixing => mixing,
            // In a round without training a model is nobody's own: it counts as the graph says.
            Weighting::Samples { .. } if !self.trains() => mixing,
            Weighting::Samples { cap } => mixing * (arrived.samples as f64 / cap as f64).min(1.0),
        }
    }

    /// What the rule left out of each neighbour's contribution, and whom that makes suspect.
    fn judge(
        &mut self,
        rows: &[(PeerId, Arrived)],
        aggregate: &Aggregate,
        out: &mut Vec<Effect>,
    ) -> Vec<DroppedShare> {
        let mut dropped = Vec::with_capacity(rows.len() - 1);
        for (index, (peer, _)) in rows
            .iter()
            .enumerate()
            .filter(|(_, (peer, _))| *peer != self.id)
        {
            let share = aggregate.dropped_share(index);
            dropped.push(DroppedShare {
                peer: *peer,
                share,
                influence: aggregate.influence[index],
            });
            let (score, rounds) = self.suspicion.entry(*peer, || (0.0, 0));
            let was = *score > SUSPECT_SCORE && *rounds >= SUSPECT_ROUNDS;
            *score = if *rounds == 0 {
                share
            } else {
                *score + SUSPECT_WEIGHT * (share - *score)
            };
            *rounds += 1;
            if *score > SUSPECT_SCORE && *rounds >= SUSPECT_ROUNDS && !was {
                out.push(Effect::Emit(Event::Suspected {
                    peer: *peer,
                    score: *score,
                }));
            }
        }
        dropped
    }

    fn stored(&mut self, stored: Stored, out: &mut Vec<Effect>) {
        match stored {
            Stored::Intent { round } if self.phase == Phase::Promising && round == self.round => {
                self.send_update(out);
            }
            Stored::Checkpoint { round } if self.phase == Phase::Storing && round == self.round => {
                let last = round >= self.charter.rounds;
                if last || (self.evaluate_every > 0 && round.is_multiple_of(self.evaluate_every)) {
                    self.evaluating = Some(round);
                    out.push(Effect::Evaluate {
                        round,
                        parameters: Arc::clone(&self.parameters),
                    });
                }
                if last {
                    self.finish(out)
                } else {
                    self.open_round_or_jump(out)
                }
            }
            _ => {} // of a round that a jump has left behind
        }
    }

    fn expired(&mut self, timer: Timer, out: &mut Vec<Effect>) {
        match timer {
            Timer::Start => self.gather(true, out),
            Timer::Deadline { round }
                if self.phase == Phase::Collecting
                    && (round == self.round || planted(Mutant::StaleDeadline)) =>
            {
                self.deadline(out);
            }
            Timer::Nudge { round } if self.phase == Phase::Collecting && round == self.round => {
                self.nudge(out)
            }
            Timer::Linger if self.phase == Phase::Lingering => self.linger_on(out),
            Timer::Redial => {
                for (peer, addresses) in self.overlay.unreached(self.last_or_current_round()) {
                    out.push(Effect::Connect { peer, addresses });
                }
                for peer in self.overlay.speechless() {
                    self.greet(peer, out);
                }
                if !planted(Mutant::NoRedial) {
                    out.push(Effect::SetTimer {
                        timer: Timer::Redial,
                        after: REDIAL,
                    });
                }
            }
            Timer::Deadline { .. } | Timer::Nudge { .. } | Timer::Linger => {} // stale
        }
    }

    /// Says whom the round waits for, and asks them. What is announced and on its way is not
    /// missing.
    fn nudge(&mut self, out: &mut Vec<Effect>) {
        let mut missing = self.window.unheard();
        missing.retain(|peer| !self.exchange.is_on_its_way(peer, self.round));
        out.push(Effect::SetTimer {
            timer: Timer::Nudge { round: self.round },
            after: self.charter.round.deadline / NUDGES,
        });
        if missing.is_empty() {
            return;
        }
        let bytes = self.seal(
            Kind::Want,
            Digest::default(),
            wire::encode(&Want { round: self.round }),
        );
        for peer in missing.iter().filter(|peer| self.overlay.is_ready(peer)) {
            out.push(Effect::Send {
                to: *peer,
                bytes: bytes.clone(),
            });
        }
        self.ask_again(out);
        out.push(Effect::Emit(Event::Stalled {
            round: self.round,
            missing,
        }));
    }

    /// Goes on at a later round when enough neighbours are far ahead.
    fn jump_if_behind(&mut self, out: &mut Vec<Effect>) {
        // Where nobody keeps step a listening peer hears everybody's newest model, whatever round
        // it is in.
        if self.jump_target().is_none() || (self.is_asynchronous() && self.listens()) {
            return;
        }
        match self.phase {
            Phase::Gathering => self.open_round_or_jump(out),
            // What was trained is mixed with what has come; then the checkpoint leads into the
            // later round. Training is never broken off: a slow peer would not finish a single
            // round.
            Phase::Collecting => self.close(Closed::Deadline, out),
            _ => {}
        }
    }

    fn jump_target(&mut self) -> Option<u64> {
        let credible = self.overlay.credible_round(
            self.round,
            self.charter.aggregation.byzantine,
            self.ahead,
        )?;
        // Where nobody keeps step being behind is no fault, unless others know rounds of this peer
        // that it has lost.
        if self.is_asynchronous() && (!self.has_been_away() || self.published_before.is_none()) {
            return None;
        }
        let target = credible
            .min(self.charter.rounds - 1)
            .min(self.round.saturating_add(JUMP_MAX));
        (credible >= self.round.saturating_add(BEHIND_MIN) && target > self.round).then_some(target)
    }

    fn open_round_or_jump(&mut self, out: &mut Vec<Effect>) {
        if self.is_asynchronous()
            && self.phase == Phase::Storing
            && self.overlay.everyone_ready().len() < self.others_needed()
        {
            // Nobody waits for anybody there, so that a peer that is alone would run through all
            // rounds.
            self.phase = Phase::Gathering;
            self.returned = true;
            out.push(Effect::SetTimer {
                timer: Timer::Start,
                after: self.charter.round.start_deadline,
            });
            return self.gather(false, out);
        }
        if let Some(target) = self.jump_target() {
            out.push(Effect::Emit(Event::Jumped {
                from: self.round,
                to: target,
            }));
            self.pass_over(target - self.round);
            self.round = target;
            self.promised = None;
        } else if self.is_asynchronous()
            && self.promised.is_none()
            && !self.listens()
            && self.has_been_away()
        {
            self.listen();
        }
        self.open_round(out);
    }

    // --- connections ---

    fn peer_up(&mut self, peer: PeerId, addresses: Vec<String>, out: &mut Vec<Effect>) {
        self.overlay.connected(peer);
        self.overlay.learn_addresses(peer, addresses, true);
        // First, so that it is there before the handshake that lets it begin; once more after the
        // handshake, in case it is lost.
        self.give_back(peer, out);
        self.greet(peer, out);
        if self.overlay.is_ready(&peer) {
            // A further connection, or what remains of several: what went over another one may be
            // lost.
            self.send_all_again(peer, 0, out);
        }
        self.advance(peer, out); // a body that could not be had may be there now
    }

    /// Sends a peer the updates since `oldest` that are kept for it, and that this peer has
    /// finished, if it has.
    fn send_all_again(&mut self, peer: PeerId, oldest: u64, out: &mut Vec<Effect>) {
        for round in self
            .exchange
            .outgoing_rounds()
            .into_iter()
            .filter(|round| *round >= oldest)
        {
            self.send_outgoing(peer, round, out);
        }
        if self.has_none_of(self.round) {
            self.send_outgoing(peer, self.round, out);
        }
        if self.phase == Phase::Lingering || self.round >= self.charter.rounds {
            let goodbye = self.farewell(true);
            out.push(Effect::Send {
                to: peer,
                bytes: goodbye,
            });
        }
    }

    /// Gives a peer its own newest header, in case it comes back without its state and would
    /// contradict itself.
    fn give_back(&self, peer: PeerId, out: &mut Vec<Effect>) {
        if let Some(bytes) = self
            .witness
            .newest(&peer)
            .filter(|_| !planted(Mutant::KeepHeaders))
        {
            out.push(Effect::Send { to: peer, bytes });
        }
    }

    /// Sends the handshake with all that is known of addresses.
    fn greet(&mut self, peer: PeerId, out: &mut Vec<Effect>) {
        let bytes = self.handshake(self.overlay.address_book(), self.overlay.is_ready(&peer));
        out.push(Effect::Send { to: peer, bytes });
    }

    fn handshake(&mut self, addresses: BTreeMap<PeerId, Vec<String>>, answered: bool) -> Packet {
        let hello = Hello {
            height: 0,
            head: self.charter.id,
            sections: self.charter.sections.clone(),
            layout: self.layout,
            answered,
            roster: self.overlay.roster_digest(),
            addresses,
        };
        // Many are told the same at the same time.
        let payload = wire::encode(&hello);
        let header = self.header(Kind::Hello, Digest::default(), &payload);
        if let Some((_, packet)) = self.greeting.as_ref().filter(|(said, _)| *said == header) {
            return packet.clone();
        }
        let packet = Packet::seal(&self.authenticator, header.clone(), payload);
        self.greeting = Some((header, packet.clone()));
        packet
    }

    /// Tells a member's addresses to those of its neighbours that are connected here: two peers
    /// that know only this one must find each other, whichever came first.
    fn introduce(&mut self, peer: PeerId, told_by: PeerId, out: &mut Vec<Effect>) {
        let bytes = self.handshake([(peer, self.overlay.addresses_of(&peer))].into(), true);
        for neighbour in self
            .overlay
            .neighbourhood_of(&peer, self.last_or_current_round())
        {
            if neighbour != told_by && neighbour != self.id && self.overlay.is_ready(&neighbour) {
                out.push(Effect::Send {
                    to: neighbour,
                    bytes: bytes.clone(),
                });
            }
        }
    }

    fn last_round(&self) -> u64 {
        self.charter.rounds.saturating_sub(1)
    }

    /// The own round, or the last one when all are done.
    fn last_or_current_round(&self) -> u64 {
        self.round.min(self.last_round())
    }

    fn peer_down(&mut self, peer: PeerId, out: &mut Vec<Effect>) {
        if self.overlay.disconnected(&peer) {
            out.push(Effect::Emit(Event::Disconnected { peer }));
        }
        self.close_if_complete(out); // one in its place may be here
        self.give_up_on(&peer, out);
        self.leave_when_done(out);
    }

    fn dismiss(&mut self, peer: PeerId, reason: Refusal, out: &mut Vec<Effect>) {
        self.overlay.dismiss(peer);
        out.push(Effect::Emit(Event::Dismissed {
            peer,
            reason: reason.clone(),
        }));
        out.push(Effect::Disconnect { peer, reason });
    }

    /// Counts a malformed message against the one that handed it over.
    fn strike(&mut self, from: PeerId, out: &mut Vec<Effect>) {
        if self.overlay.strike(&from) {
            let limit = Overlay::strikes_max();
            self.dismiss(
                from,
                Refusal::TooMany {
                    what: "malformed messages".into(),
                    limit,
                },
                out,
            );
        }
    }

    fn refuse(
        &mut self,
        peer: PeerId,
        kind: Option<Kind>,
        round: Option<u64>,
        reason: Refusal,
        out: &mut Vec<Effect>,
    ) {
        out.push(Effect::Emit(Event::Refused {
            peer,
            kind,
            round,
            reason,
        }));
    }

    // --- the door ---

    fn received(&mut self, from: PeerId, packet: &Packet, out: &mut Vec<Effect>) {
        // The neighbours of a sender show its header to each other: it is verified once, not once
        // for each.
        let verified = !packet.is_open() && self.witness.recognises(packet);
        let envelope = match packet.open(&self.authenticator, verified) {
            Ok(envelope) if self.witness.knows(&envelope) => return,
            Ok(envelope) => envelope,
            Err(reason) => {
                self.refuse(from, None, None, reason, out);
                self.strike(from, out);
                return;
            }
        };
        let header = envelope.header;
        let (kind, round, sender) = (header.kind(), header.round(), header.sender());
        if let Err(reason) = self.admit_message(from, &envelope, out) {
            // Who passes on what a convicted peer signed has done nothing wrong.
            let blamed = if matches!(reason, Refusal::Equivocator) {
                sender
            } else {
                from
            };
            self.refuse(blamed, Some(kind), Some(round), reason, out);
            return;
        }
        let outcome = match kind {
            Kind::Hello => self.hello(sender, &envelope, out),
            Kind::Update => self.update(from, &envelope, out),
            Kind::Want => self.want(sender, &envelope, out),
            Kind::Proof => self.proof(&envelope, out),
            Kind::Goodbye => self.goodbye(from, &envelope, out),
            Kind::Skip => self.skipped(&envelope, out),
        };
        self.asked_lately |= sender != self.id && kind != Kind::Goodbye;
        if let Err(reason) = outcome {
            let malformed = matches!(reason, Refusal::Junk { .. } | Refusal::TooMany { .. });
            self.refuse(sender, Some(kind), Some(round), reason, out);
            if malformed {
                self.strike(from, out);
            }
            if kind == Kind::Update && sender == from {
                self.give_up_on(&sender, out);
            }
        }
        if sender != self.id && self.overlay.is_ready(&sender) {
            self.overlay.claim(sender, round);
            if round >= self.round.saturating_add(BEHIND_MIN) {
                self.jump_if_behind(out);
            }
        }
    }

    /// Whether a verified message may come in at all: federation, roster, and who may hand over
    /// whose messages.
    fn admit_message(
        &mut self,
        from: PeerId,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let header = envelope.header;
        let relayed = header.sender() != from;
        if header.federation() != self.charter.id {
            let theirs = if header.kind() == Kind::Hello {
                Hello::decode(envelope.payload())?.sections
            } else {
                BTreeMap::new()
            };
            let reason = Refusal::WrongFederation {
                sections: self.charter.differing_sections(&theirs),
            };
            self.dismiss(from, reason.clone(), out);
            return Err(reason);
        }
        let joins = header.kind() == Kind::Hello && !relayed && !self.overlay.is_formed();
        if !self.overlay.on_roster(&header.sender()) && !joins {
            // While the roster forms, a member's update may overtake its handshake.
            if !relayed && self.overlay.is_formed() {
                self.dismiss(from, Refusal::UnknownSender, out);
            }
            return Err(Refusal::UnknownSender);
        }
        if self.overlay.is_expelled(&header.sender()) && header.kind() == Kind::Update {
            return Err(Refusal::Equivocator);
        }
        // Headers, proofs and goodbyes travel through others; a handshake, a body or a wish does
        // not.
        let may_travel =
            envelope.is_header_only() || matches!(header.kind(), Kind::Proof | Kind::Goodbye);
        if relayed && !may_travel {
            Err(Refusal::NotTheSigner)
        } else {
            Ok(())
        }
    }

    fn hello(
        &mut self,
        sender: PeerId,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let hello = Hello::decode(envelope.payload())?;
        if hello.layout != self.layout {
            let reason = Refusal::Layout {
                theirs: hello.layout,
                ours: self.layout,
            };
            self.dismiss(sender, reason.clone(), out);
            return Err(reason);
        }
        if hello.roster != Digest::default()
            && self.overlay.is_formed()
            && hello.roster != self.overlay.roster_digest()
        {
            self.dismiss(sender, Refusal::Roster, out);
            return Err(Refusal::Roster);
        }
        let completed = self.overlay.enlist(sender);
        for (peer, addresses) in hello.addresses {
            if peer == self.id {
                self.look_for_double(addresses, out);
            } else if self
                .overlay
                .learn_addresses(peer, addresses, peer == sender)
            {
                self.introduce(peer, sender, out);
            }
        }
        let fresh = self.overlay.admit(sender);
        if fresh {
            out.push(Effect::Emit(Event::Connected { peer: sender }));
        }
        self.overlay.claim(sender, envelope.header.round());
        if completed {
            self.roster_formed(out);
        }
        for (peer, addresses) in self.overlay.unreached(self.last_or_current_round()) {
            out.push(Effect::Connect { peer, addresses });
        }
        if !fresh && hello.answered {
            return Ok(()); // it only told addresses
        }
        if !fresh {
            // It has not heard this peer's handshake: that was lost, or it has been started again
            // behind a connection that still stands.
            self.greet(sender, out);
        }
        self.give_back(sender, out);
        self.send_all_again(sender, envelope.header.round(), out);
        self.gather(false, out);
        Ok(())
    }

    /// Others have seen this peer's key at these addresses. At one that is not its own another
    /// process may have the same key: dialling it shows that.
    fn look_for_double(&mut self, addresses: Vec<String>, out: &mut Vec<Effect>) {
        // Its own end with its id, where others name the place alone.
        let place = |address: &String| address.split("/p2p/").next().unwrap_or_default().to_owned();
        let known: BTreeSet<String> = self
            .overlay
            .addresses_of(&self.id)
            .iter()
            .map(place)
            .collect();
        let addresses: Vec<String> = addresses
            .into_iter()
            .filter(|address| !known.contains(&place(address)))
            .collect();
        if !addresses.is_empty()
            && self
                .overlay
                .learn_addresses(self.id, addresses.clone(), false)
        {
            out.push(Effect::Connect {
                peer: self.id,
                addresses,
            });
        }
    }

    /// Tells everyone which roster this peer came to: two different ones must not go unnoticed.
    fn roster_formed(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::Emit(Event::RosterFormed {
            peers: self.overlay.roster().len(),
        }));
        let bytes = self.handshake(BTreeMap::new(), true);
        for peer in self.overlay.everyone_ready() {
            out.push(Effect::Send {
                to: peer,
                bytes: bytes.clone(),
            });
        }
        self.gather(false, out);
    }

    /// Sends an own update again to one who may have it, unless it is not yet promised.
    fn send_outgoing(&mut self, to: PeerId, round: u64, out: &mut Vec<Effect>) {
        let unpromised = self.phase == Phase::Promising && round == self.round;
        let heard = self.is_for(&to, round) || planted(Mutant::SendToStrangers);
        if unpromised || !heard {
            return;
        }
        // A liar that says nothing does not say so either.
        if self.has_none_of(round) && self.conduct.is_honest() {
            let bytes = self.skip_of(round);
            out.push(Effect::Send { to, bytes });
            return;
        }
        if let Some(bytes) = self.announcement_for(&to, round) {
            out.push(Effect::Send { to, bytes });
        }
    }

    fn want(
        &mut self,
        sender: PeerId,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let want: Want = wire::decode(envelope.payload())?;
        if self.is_pairwise() {
            self.answer_again(sender, want.round, out);
            return Ok(());
        }
        self.send_outgoing(sender, want.round, out);
        Ok(())
    }

    fn update(
        &mut self,
        from: PeerId,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let header = envelope.header;
        let (sender, round) = (header.sender(), header.round());
        if sender == self.id {
            // A neighbour tells what we signed before. Unknown to our own store, it must not be
            // contradicted.
            if self.exchange.outgoing(round).is_none()
                && round >= self.round
                && !planted(Mutant::ForgetSigned)
            {
                self.published_before = self.published_before.max(Some(round));
            }
            return Ok(());
        }
        if self.witness.keeps(self.round, round) {
            match self.witness.hear(envelope) {
                Testimony::Contradiction(proof, states) => {
                    self.convict(sender, round, states, Some(*proof), out);
                    return Err(Refusal::Equivocator);
                }
                Testimony::Second => {
                    if round == self.round {
                        self.window.remove(&sender);
                        self.close_if_complete(out);
                    }
                    return Err(Refusal::Announcement {
                        why: "it is the second update of its round".into(),
                    });
                }
                Testimony::New if !envelope.is_header_only() => self.pass_on(envelope, out),
                Testimony::New | Testimony::Known => {}
            }
        }
        self.has_published(sender);
        if envelope.is_header_only() {
            self.overlay.claim(sender, round);
            return Ok(());
        }
        if self.is_pairwise() {
            self.admit_partner(sender, round, out)?;
        }
        debug_assert_eq!(sender, from, "the door lets no relayed body in");
        let ahead_max = if self.is_asynchronous() {
            self.charter.rounds
        } else {
            self.ahead
        };
        if round > self.round.saturating_add(ahead_max) {
            return Err(Refusal::FutureRound {
                theirs: round,
                ours: self.round,
            });
        }
        // Where nobody keeps step a peer that is behind is slow, and its newest update is as new as
        // any.
        let old = !self.is_asynchronous()
            && round.saturating_add(self.charter.round.staleness) < self.round;
        let stale = old && !planted(Mutant::AcceptStale);
        if stale || self.phase == Phase::Lingering {
            return Err(Refusal::StaleRound {
                theirs: round,
                ours: self.round,
            });
        }
        if !self.overlay.is_neighbour(&sender, round) {
            return Err(Refusal::NotANeighbour { round });
        }
        if !self.is_asynchronous() && round == self.round && self.window.contains(&sender) {
            return Err(Refusal::Duplicate);
        }
        let asked = self.charter.round.selection.needs_losses();
        let (dimension, bytes_max) = (self.exchange.dimension(), self.exchange.body_bytes_max());
        let announced = envelope.announcement().and_then(|announcement| {
            announcement.check(dimension, bytes_max, asked)?;
            Ok(announcement)
        });
        if announced.is_err() && round >= self.round {
            self.silent_in(sender, round, out); // it has spoken; there is nothing to wait for
        }
        let announcement = announced?;
        if !self.exchange.announce(envelope, &announcement, self.round) {
            if self.is_pairwise() {
                self.give_up_on(&sender, out); // it has nothing newer, and says so
                return Ok(());
            }
            return Err(Refusal::Duplicate);
        }
        self.answered(&sender, round);
        self.advance(sender, out);
        Ok(())
    }

    /// Works through what waits of one sender.
    fn advance(&mut self, sender: PeerId, out: &mut Vec<Effect>) {
        // While gathering or storing no window is open: what came early waits.
        let open = matches!(
            self.phase,
            Phase::Training | Phase::Promising | Phase::Collecting
        );
        if !open || self.overlay.is_expelled(&sender) {
            return;
        }
        loop {
            let up_to = if self.is_asynchronous() {
                u64::MAX
            } else {
                self.round
            };
            match self.exchange.advance(sender, up_to) {
                Progress::Idle => break,
                Progress::Fetch {
                    round,
                    digest,
                    length,
                    keyframe,
                } => {
                    if keyframe {
                        out.push(Effect::Emit(Event::KeyframeWanted {
                            round,
                            peer: sender,
                        }));
                    }
                    out.push(Effect::Fetch {
                        digest,
                        length,
                        sources: vec![sender],
                    });
                    break;
                }
                Progress::Refused { round, reason } => {
                    self.refuse(sender, Some(Kind::Update), Some(round), reason, out);
                    if round == self.round || self.is_pairwise() {
                        self.window.release(&sender); // it has spoken; there is nothing to wait for
                    }
                }
                Progress::Applied(applied) => {
                    let since = if self.is_asynchronous() {
                        applied.heard
                    } else {
                        applied.round
                    };
                    let age = self.round.saturating_sub(since);
                    out.push(Effect::Emit(Event::Accepted {
                        round: self.round,
                        peer: sender,
                        of: applied.round,
                        staleness: age,
                        payload_bytes: applied.payload_bytes,
                        keyframe_bytes: applied.keyframe_bytes,
                        envelope_bytes: applied.envelope_bytes,
                        dense_bytes: self.exchange.dimension() * 4,
                    }));
                    let disputed = self.witness.is_disputed(applied.round, &sender);
                    if applied.round < self.round && !self.is_asynchronous() {
                        self.late.insert(sender);
                    }
                    self.choosing.heard(
                        sender,
                        &applied,
                        self.round,
                        self.now,
                        self.charter.round.deadline,
                    );
                    let counts = applied.round == self.round && self.choosing.takes(&sender);
                    let (samples, local_steps) = (applied.samples, applied.local_steps);
                    let state = Some(applied.state);
                    let arrived = Arrived {
                        values: applied.values,
                        state,
                        age,
                        samples,
                        local_steps,
                    };
                    if self.is_asynchronous() && !disputed {
                        self.window.replace(sender, arrived);
                    } else if (counts && !disputed) || planted(Mutant::MixOldUpdates) {
                        self.window.insert(sender, arrived);
                    }
                }
            }
        }
        self.close_if_complete(out);
    }

    // --- contradictions ---

    /// Shows a header to others who should have it from its sender, so that two different ones meet
    /// somewhere.
    fn pass_on(&mut self, envelope: &Opened<'_>, out: &mut Vec<Effect>) {
        if planted(Mutant::PassNothingOn) {
            return;
        }
        let header = envelope.header;
        for to in self.overlay.shown(&header.sender(), header.round()) {
            out.push(Effect::Send {
                to,
                bytes: envelope.header_alone(),
            });
        }
    }

    fn convict(
        &mut self,
        peer: PeerId,
        round: u64,
        states: [Digest; 2],
        proof: Option<Proof>,
        out: &mut Vec<Effect>,
    ) {
        if self.overlay.is_expelled(&peer) {
            return;
        }
        self.overlay.expel(peer);
        if !planted(Mutant::CountExpelled) {
            self.window.remove(&peer);
        }
        out.push(Effect::Emit(Event::Equivocated {
            peer,
            round,
            states,
        }));
        if let Some(proof) = proof {
            let envelope = self.seal(Kind::Proof, Digest::default(), wire::encode(&proof));
            out.push(Effect::Announce { bytes: envelope });
        }
        self.close_if_complete(out);
    }

    fn proof(&mut self, envelope: &Opened<'_>, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        let Proof(first, second) = wire::decode(envelope.payload())?;
        let first = Envelope::open(&self.authenticator, &first)?.header;
        let second = Envelope::open(&self.authenticator, &second)?.header;
        let ours = first.federation() == self.charter.id && self.overlay.on_roster(&first.sender());
        if !ours || !witness::contradict(&first, &second) {
            return Err(Refusal::Announcement {
                why: "its two headers do not contradict each other".into(),
            });
        }
        if planted(Mutant::IgnoreProof) {
            return Ok(());
        }
        let states = [first.state(), second.state()];
        self.convict(first.sender(), first.round(), states, None, out);
        Ok(())
    }

    fn seal(&self, kind: Kind, state: Digest, payload: Vec<u8>) -> Packet {
        Packet::seal(
            &self.authenticator,
            self.header(kind, state, &payload),
            payload,
        )
    }

    fn header(&self, kind: Kind, state: Digest, payload: &[u8]) -> Header {
        let digest = Digest::of(payload);
        Header(
            PROTOCOL_VERSION,
            self.charter.id,
            kind,
            self.id,
            self.round,
            self.sequence,
            state,
            digest,
        )
    }
}
