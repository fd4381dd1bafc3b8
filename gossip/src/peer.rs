//! A participant of the protocol as a state machine.
//!
//! [`Peer::handle`] takes one input and appends effects. It never waits, never fails and never asks
//! the time. This file only routes: each part of a peer's behaviour is a file next to it.
//!
//! | question | file |
//! |---|---|
//! | how a peer comes to its next round, when it jumps ahead | `progress` |
//! | when a round opens, waits and closes | `round` |
//! | how peers keep step (synchronous, asynchronous, pairwise, staged) | `mode` |
//! | what leaves a peer, from training to bytes | `release`, and `privacy` for what may leave |
//! | what a round leads to | `mixing` |
//! | what is sent and mixed besides models (SCAFFOLD, push-sum, …) | `algorithm` |
//! | what becomes of a message | `receipt`, and `updates` for others' updates |
//! | vectors, replicas, bodies | `exchange` |
//! | connections and handshakes | `handshake`, and `overlay` for which peers are there |
//! | whose updates a round waits for and mixes | `choosing`, `window` |
//! | who lies | `witness` and `evidence` (contradictions), `suspicion` (what the rule drops) |
//! | a peer that is behind or has nothing to say | `listening` |
//! | how much a peer may say | `allowance` |
//! | the end | `leaving` |
//! | what others may ask of a peer | `inspection` |
//! | how a peer lies, in tests and testnets | `misconduct` |

mod algorithm;
mod allowance;
mod choosing;
mod evidence;
mod exchange;
mod handshake;
mod inspection;
mod leaving;
mod listening;
mod misconduct;
mod mixing;
mod mode;
mod overlay;
mod privacy;
mod progress;
mod receipt;
mod release;
mod round;
mod suspicion;
mod updates;
mod window;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::charter::Charter;
use kith_consensus::{Digest, PeerId, Seed};

use crate::Parameters;
use crate::effect::{Command, Effect, Input, Intent};
use crate::envelope::{Authenticator, Header, Kind, PROTOCOL_VERSION};
use crate::event::{Event, History};
use crate::packet::Packet;
use crate::setup::Setup;
use algorithm::Algorithm;
use choosing::Choosing;
pub(crate) use evidence::examine;
use exchange::{AHEAD_MIN, Exchange};
pub use inspection::Load;
use listening::Standing;
use misconduct::Misconduct;
use mode::{Pace, RoundMode};
use overlay::Overlay;
use privacy::{Claims, Spending};
use release::{Own, Trained};
use suspicion::Suspicion;
use window::Window;
use witness::Witness;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not started.
    Created,
    /// Waits for neighbours before its first round.
    Gathering,
    /// Waits until its training is charged to the privacy ledger.
    Charging,
    /// Waits for the trainer.
    Training,
    /// Waits until the intent is on disk.
    Promising,
    /// Waits for neighbours' updates.
    Collecting,
    /// Waits for the losses of the models that came in.
    Judging,
    /// Waits until the round's checkpoint is on disk.
    Storing,
    /// Every round is done; neighbours may still need something.
    Lingering,
    /// Nothing more will come.
    Stopped,
}

/// A participant of the protocol.
pub struct Peer {
    id: PeerId,
    charter: Arc<Charter>,
    authenticator: Authenticator,
    layout: Digest,
    seed: Seed,
    evaluate_every: u64,
    /// See [`Setup::incarnation`].
    incarnation: u64,

    phase: Phase,
    round: u64,
    sequence: u64,
    /// Parameters at the start of the round; the aggregate replaces them at its end.
    parameters: Parameters,
    own: Own,
    /// What the optimizer carries into the next round.
    memory: Option<Parameters>,
    /// The round's change that server momentum carries on.
    velocity: Option<Parameters>,
    algorithm: Box<dyn Algorithm>,
    mode: Box<dyn RoundMode>,
    misconduct: Option<Misconduct>,
    /// The update promised before a crash, to be sent again unchanged.
    promised: Option<Box<Intent>>,
    standing: Standing,
    spending: Spending,

    overlay: Overlay,
    window: Window,
    choosing: Choosing,
    exchange: Exchange,
    witness: Witness,
    suspicion: Suspicion,
    /// Proofs that peers have contradicted themselves, by peer; the roster bounds them.
    evidence: BTreeMap<PeerId, Vec<u8>>,
    /// Whether a neighbour has begun while this peer waits for its start.
    is_expected: bool,
    /// The round whose deadline has been put off.
    put_off: Option<u64>,
    /// Rounds, from this peer's on, in which nothing will come from a neighbour: it says so, or its
    /// announcement was refused.
    turned_away: BTreeSet<(u64, PeerId)>,
    /// When this peer began to wait for others in its round.
    collects_since: Duration,
    /// The newest rounds that have closed, each with the end of its deadline, unless that was put off.
    closed: VecDeque<(u64, Duration)>,
    /// Neighbours whose last update came too late for its round.
    late: BTreeSet<PeerId>,
    /// Neighbours that rounds wait for again since this one was opened, which does not.
    regained: BTreeSet<PeerId>,
    /// Rounds that a neighbour can be ahead while nobody fails.
    lead: u64,
    /// The same, at least [`AHEAD_MIN`].
    ahead: u64,
    /// While the peer lingers: whether it has heard a neighbour since it last looked.
    asked_lately: bool,
    /// Whether it gives nothing in this round and waits for what others give, in any mode.
    only_hears: bool,
    history: History,
    /// The last handshake that was sent.
    greeting: Option<(Header, Packet)>,
    /// Completed rounds of the newest evaluation that was asked for and has not come back.
    evaluating: Option<u64>,
    /// Time of the input that is being handled.
    now: Duration,
}

impl Peer {
    /// A peer that has not started.
    ///
    /// # Panics
    /// When the roster lacks the peer.
    pub fn new(setup: Setup) -> Peer {
        let Setup {
            authenticator,
            charter,
            codec,
            initial,
            ..
        } = setup;
        let id = authenticator.peer();
        // Everybody's row before anything is published: the common start, and nothing else.
        let length = charter.aggregation.method.row_len(initial.len());
        let row = match length == initial.len() {
            true => Arc::clone(&initial),
            false => {
                let zeros = std::iter::repeat(0.0);
                Arc::new(initial.iter().copied().chain(zeros).take(length).collect())
            }
        };
        let mode = mode::new(&charter);
        let lead = mode.lead(&charter);
        let ahead = lead.max(AHEAD_MIN);
        let misconduct = Misconduct::new(setup.conduct);
        let in_step = mode.pace() == Pace::InStep;
        let mut peer = Peer {
            id,
            overlay: Overlay::new(id, setup.roster, Arc::clone(&charter)),
            exchange: Exchange::new(codec, id, row, ahead, misconduct.is_some()),
            algorithm: algorithm::new(&charter, initial.len()),
            witness: Witness::new(charter.genesis, ahead, in_step),
            charter,
            authenticator,
            layout: setup.layout,
            seed: setup.seed,
            evaluate_every: setup.evaluate_every,
            incarnation: setup.incarnation,
            evidence: BTreeMap::new(),
            phase: Phase::Created,
            round: 0,
            sequence: 0,
            parameters: Arc::clone(&initial),
            own: Own {
                row: initial,
                claims: Claims::default(),
            },
            memory: None,
            velocity: None,
            mode,
            misconduct,
            promised: None,
            standing: Standing::new(),
            spending: Spending::default(),
            window: Window::default(),
            choosing: Choosing::default(),
            suspicion: Suspicion::default(),
            is_expected: false,
            put_off: None,
            turned_away: BTreeSet::new(),
            collects_since: Duration::ZERO,
            closed: VecDeque::new(),
            late: BTreeSet::new(),
            regained: BTreeSet::new(),
            lead,
            ahead,
            asked_lately: false,
            only_hears: false,
            history: History::default(),
            greeting: None,
            evaluating: None,
            now: Duration::ZERO,
        };
        peer.take_evidence(setup.evidence);
        peer
    }

    /// Takes one input at time `now` (since the driver's start) and appends what has to be done to
    /// `out`, in order.
    pub fn handle(&mut self, input: Input, now: Duration, out: &mut Vec<Effect>) {
        if self.phase == Phase::Stopped {
            return;
        }
        self.now = now;
        let place = out.len();
        self.route(input, out);
        if self.misconduct.is_some() {
            self.rewrite(place, out);
        }
    }

    fn route(&mut self, input: Input, out: &mut Vec<Effect>) {
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
                if self.is_in(Phase::Training, round) {
                    let trained = Trained {
                        parameters,
                        samples,
                        local_steps,
                        loss,
                        rate,
                        memory,
                    };
                    self.trained(trained, out);
                }
            }
            Input::TrainingFailed { round, why } => {
                if self.is_in(Phase::Training, round) {
                    self.training_failed(why, out);
                }
            }
            Input::Judged { round, losses } => {
                if self.is_in(Phase::Judging, round) {
                    self.judged(losses.as_deref(), out);
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
            Input::Received { from, bytes } => self.received(from, &bytes, out),
            Input::Fetched { digest, bytes } => self.fetched(digest, &bytes, out),
            Input::FetchFailed {
                digest,
                sources,
                why,
            } => {
                self.fetch_failed(digest, &sources, &why, out);
            }
            Input::BodyRequested {
                from,
                digest,
                request,
            } => {
                self.provide(from, digest, request, out);
            }
            Input::PeerUp {
                peer,
                addresses,
                scope,
            } => self.peer_up(peer, addresses, scope, out),
            Input::AnotherKeyAt { peer, address } => self.is_not_at(peer, address),
            Input::PeerDown { peer } => self.peer_down(peer, out),
            Input::Listening { address } => {
                self.listens_at(address);
            }
            Input::TimerExpired(timer) => self.expired(timer, out),
            Input::Stored(stored) => self.stored(stored, out),
            Input::Command(Command::Leave) => self.stop("asked to leave", out),
        }
    }

    fn is_in(&self, phase: Phase, round: u64) -> bool {
        self.phase == phase && self.round == round
    }

    /// A message of this peer, signed.
    fn seal(&self, kind: Kind, state: Digest, payload: Vec<u8>) -> Packet {
        let header = self.header(kind, state, &payload);
        Packet::seal(&self.authenticator, header, payload)
    }

    fn header(&self, kind: Kind, state: Digest, payload: &[u8]) -> Header {
        Header {
            version: PROTOCOL_VERSION,
            federation: self.charter.genesis,
            kind,
            sender: self.id,
            incarnation: self.incarnation,
            round: self.round,
            sequence: self.sequence,
            state,
            payload: Digest::of(payload),
            spent: self.spending.total().filter(|_| kind == Kind::Update),
        }
    }
}
