//! What goes into a [`Peer`](crate::Peer) and what comes out: values, no callbacks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::privacy::ledger::{Decision, Spent, Total};
use kith_consensus::{Digest, PeerId};
use serde::{Deserialize, Serialize};

use crate::Parameters;
use crate::address::Scope;
use crate::event::{Event, History};
use crate::packet::Packet;
use crate::refusal::Refusal;
use crate::roster::Roster;

/// Something that happened to the peer.
#[derive(Clone, Debug)]
pub enum Input {
    /// Begin, or resume with what the store holds.
    Start {
        /// The last completed round, if there was one.
        checkpoint: Option<Box<Checkpoint>>,
        /// An update that was promised and perhaps sent before a crash.
        intent: Option<Box<Intent>>,
    },
    /// Local training of `round` is done.
    Trained {
        /// The round in which training was asked for.
        round: u64,
        /// Parameters after training.
        parameters: Parameters,
        /// Number of local examples used, for sample weights; ignored under a privacy guarantee.
        samples: u64,
        /// Number of optimizer steps taken.
        local_steps: u64,
        /// Mean training loss over the round; ignored under a privacy guarantee.
        loss: f64,
        /// Step size that turned gradients into the change.
        rate: f64,
        /// What the optimizer carries into the next round, if it carries anything.
        memory: Option<Parameters>,
    },
    /// Local training of `round` failed.
    TrainingFailed {
        /// The round in which training was asked for.
        round: u64,
        /// The reason, in words for people.
        why: String,
    },
    /// Held-out data was evaluated.
    Evaluated {
        /// Completed rounds behind these parameters.
        round: u64,
        /// Mean loss over the held-out rows.
        loss: f64,
        /// Share classified correctly, in [0, 1].
        accuracy: f64,
        /// Number of held-out rows evaluated.
        samples: u64,
    },
    /// There is no held-out data, or it could not be evaluated.
    NotEvaluated {
        /// Completed rounds behind the parameters that were to be evaluated.
        round: u64,
    },
    /// The losses that were asked for; `None` if they cannot be had.
    Judged {
        /// The round in which the losses were asked for.
        round: u64,
        /// Mean loss of each model on this peer's training rows, in the order asked.
        losses: Option<Vec<f64>>,
    },
    /// A message arrived over the connection to `from`, which the carrier has authenticated (or by
    /// gossip through it).
    Received {
        /// The peer at the other end.
        from: PeerId,
        /// At most 64 KiB.
        bytes: Packet,
    },
    /// A body that was asked for is here; the carrier has checked that it hashes to `digest`.
    Fetched {
        /// BLAKE3 of the bytes.
        digest: Digest,
        /// The body, encoded as it travelled.
        bytes: Arc<Vec<u8>>,
    },
    /// A body could not be had.
    FetchFailed {
        /// BLAKE3 of the body that was asked for.
        digest: Digest,
        /// The peers that were asked.
        sources: Vec<PeerId>,
        /// The reason, in words for people.
        why: String,
    },
    /// A peer asks for a body; answered by [`Effect::Provide`].
    BodyRequested {
        /// The peer that asks.
        from: PeerId,
        /// BLAKE3 of the body that it asks for.
        digest: Digest,
        /// Number of the request, to be repeated in the answer.
        request: u64,
    },
    /// A peer is connected. `addresses` are those at which it was reached, for others to dial (text
    /// of multiaddresses).
    PeerUp {
        /// Id of that peer.
        peer: PeerId,
        /// Addresses that can be dialled; empty if only it can dial us.
        addresses: Vec<String>,
        /// From how near it is connected, by the address at the connection's other end.
        scope: Scope,
    },
    /// A process with another key answered at an address of a peer.
    AnotherKeyAt {
        /// The peer that was to be dialled.
        peer: PeerId,
        /// The address, as the dial named it.
        address: String,
    },
    /// The last connection to a peer ended.
    PeerDown {
        /// Id of that peer.
        peer: PeerId,
    },
    /// The carrier listens here. The handshake tells others.
    Listening {
        /// Text of a multiaddress.
        address: String,
    },
    /// A timer ran out.
    TimerExpired(Timer),
    /// A record is on disk.
    Stored(Stored),
    /// A person or a program asks for something.
    Command(Command),
}

/// What a person or a program may ask a running peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Say goodbye and stop; the state allows a later resume.
    Leave,
}

/// Something the driver has to do. Effects of one input are to be carried out in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Train from these parameters; answered by [`Input::Trained`] or [`Input::TrainingFailed`].
    Train {
        /// The round to train in.
        round: u64,
        /// The parameters to start from.
        parameters: Parameters,
        /// What the optimizer carried out of the last round.
        memory: Option<Parameters>,
        /// Added to every local gradient, if the method corrects gradients.
        correction: Option<Parameters>,
    },
    /// Evaluate these parameters on held-out data; answered by [`Input::Evaluated`] or
    /// [`Input::NotEvaluated`].
    Evaluate {
        /// Completed rounds behind these parameters.
        round: u64,
        /// The parameters to evaluate.
        parameters: Parameters,
    },
    /// Compute the losses of these models on this peer's training rows; answered by
    /// [`Input::Judged`].
    Judge {
        /// The round in which the losses are needed.
        round: u64,
        /// The models of the neighbourhood, this peer's included, in the order of ids.
        models: Vec<Parameters>,
    },
    /// Send a message to a connected peer, in order, over its connection.
    Send {
        /// The peer at the other end.
        to: PeerId,
        /// At most 64 KiB.
        bytes: Packet,
    },
    /// Tell everyone (gossip).
    Announce {
        /// At most 64 KiB.
        bytes: Packet,
    },
    /// Pull a body of exactly `length` bytes from the first of `sources` that has it.
    Fetch {
        /// BLAKE3 of the body.
        digest: Digest,
        /// Its length in bytes, as announced.
        length: usize,
        /// The peers to ask, in this order.
        sources: Vec<PeerId>,
    },
    /// A body is no longer needed: its round is over, and a newer one waits behind it.
    Abandon {
        /// BLAKE3 of the body.
        digest: Digest,
        /// The peer that is being asked.
        source: PeerId,
    },
    /// Answer to [`Input::BodyRequested`]; `None` if this peer does not have it.
    Provide {
        /// Number of the request.
        request: u64,
        /// The body that was asked for.
        body: Option<Arc<Vec<u8>>>,
    },
    /// Try to connect to a peer.
    Connect {
        /// The peer to connect to.
        peer: PeerId,
        /// Addresses of the peer (text of multiaddresses, from other peers: parse with care).
        addresses: Vec<String>,
    },
    /// End the connections to a peer.
    Disconnect {
        /// The peer at the other end.
        peer: PeerId,
        /// Why they end; the peer is told.
        reason: Refusal,
    },
    /// Answer with [`Input::TimerExpired`] after this long. Timers are never cancelled.
    SetTimer {
        /// The timer to set.
        timer: Timer,
        /// Time from now until it runs out.
        after: Duration,
    },
    /// Make durable, then answer with [`Input::Stored`].
    Persist(Record),
    /// Show an event to people: logs, metrics, checks.
    Emit(Event),
    /// The peer is done: nothing more will come.
    Stop,
}

/// A timer's name. The peer ignores a stale timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// No more waiting for neighbours before the first round.
    Start,
    /// Ask again for a round's missing updates.
    Nudge {
        /// The round that misses updates.
        round: u64,
    },
    /// A round's deadline: it closes with what it has.
    Deadline {
        /// The round that closes.
        round: u64,
    },
    /// Under a privacy guarantee: no more waiting, in this round, for neighbours to answer after a
    /// start.
    Answers {
        /// The round that then goes on without a release.
        round: u64,
    },
    /// The peer finished long enough ago: neighbours that still need something have had their time.
    Linger,
    /// Try again to reach neighbours.
    Redial,
}

/// A record to be made durable.
#[derive(Clone, Debug)]
pub enum Record {
    /// Before a round's training under a privacy guarantee: what it will have told of the rows. The
    /// driver's ledger answers whether the budget bears it.
    Charge {
        /// The round to train in.
        round: u64,
    },
    /// Under a privacy guarantee: an update of this peer, which others hold or which it has promised,
    /// states what was spent by then. A ledger that says less is an older copy, and is charged what it
    /// lacks.
    Cover {
        /// The round of that update.
        round: u64,
        /// What its header states.
        stated: Total,
    },
    /// Before an update is sent.
    Intent(Box<Intent>),
    /// After a round is aggregated.
    Checkpoint(Box<Checkpoint>),
    /// A peer has contradicted itself: kept for good, and outside the log, which can be full.
    Evidence {
        /// The peer that is expelled.
        peer: PeerId,
        /// The proof, as it is told to others; at most a few hundred bytes.
        proof: Vec<u8>,
    },
}

/// Which record is durable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored {
    /// The ledger's answer to the charge of this round; if it is charged, durably.
    Charge {
        /// The round to train in.
        round: u64,
        /// Whether the release may be made.
        decision: Decision,
        /// What is spent of the rows, this release included if it may be made.
        spent: Spent,
    },
    /// The ledger covers what an update of this round states.
    Covered {
        /// The round of that update.
        round: u64,
        /// How far the ledger was behind; `None` if it had covered that before.
        behind: Option<Behind>,
    },
    /// The intent of this round.
    Intent {
        /// The round of the stored update.
        round: u64,
    },
    /// The checkpoint that leads into this round.
    Checkpoint {
        /// The round it leads into.
        round: u64,
    },
    /// The evidence against this peer.
    Evidence {
        /// The peer that is expelled.
        peer: PeerId,
    },
}

/// A ledger that was older than this peer's own signed headers, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behind {
    /// What a header states.
    pub stated: Total,
    /// What the ledger said.
    pub before: Spent,
    /// What it says now that it covers the header, and two releases more.
    pub after: Spent,
}

/// An update that is about to be sent. After a crash the same bytes are sent again: training again
/// could give other bytes, and two different updates of one round are a proof of lying.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// The round that the update belongs to.
    pub round: u64,
    /// Sequence of the update.
    pub sequence: u64,
    /// `state_hash` that its header announces.
    pub state: Digest,
    /// The signed announcement, as it will be sent.
    pub announcement: Packet,
    /// The encoded body if receivers pull it; empty if it is part of the announcement.
    pub body: Arc<Vec<u8>>,
    /// This peer's exact row after training (the parameters, then what the method sends with them):
    /// never sent, needed to aggregate.
    pub own: Parameters,
    /// What is carried into the next round besides the model.
    pub carried: Carried,
}

/// A completed round.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The round that comes next; equals the number of completed rounds.
    pub round: u64,
    /// Updates published so far.
    pub sequence: u64,
    /// The participants, sorted.
    pub roster: Roster,
    /// The parameters after that round.
    pub parameters: Parameters,
    /// Public reconstructions by sender, this peer's included. Empty for stateless codecs.
    pub replicas: BTreeMap<PeerId, Parameters>,
    /// What is carried into that round besides the model.
    pub carried: Carried,
    /// What the rounds up to here were like.
    pub history: History,
    /// Of each other peer under a privacy guarantee, the header that states the largest total of its
    /// ledger, for its return.
    pub headers: Vec<Packet>,
}

/// Vectors that a peer carries from round to round besides the model, by name; private to the peer.
pub type Carried = BTreeMap<String, Parameters>;
