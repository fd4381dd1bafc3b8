//! What people see of a peer: one list of events, from which logs, metrics, the testnet's table,
//! the audit log and the simulator's checks are all made. Nothing is counted twice because nothing
//! is counted elsewhere.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use kith_consensus::{Digest, PeerId};
use serde::{Deserialize, Serialize};

use crate::Parameters;
use crate::envelope::Kind;
use crate::refusal::Refusal;

/// Something that happened at one peer. Past tense. It carries no time (the driver knows it) and
/// reveals neither data nor parameters.
///
/// Fields have the same meaning everywhere: `round` is the peer's own, `peer` the other one, shares
/// lie in [0, 1].
#[allow(
    missing_docs,
    reason = "the variant's line and docs/glossary.md say what each field is"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The peer runs. `round` is the round it will open first.
    Started {
        round: u64,
        resumed: bool,
        federation: Digest,
    },
    /// It waits for neighbours before its first round.
    Waiting {
        ready: usize,
        needed: usize,
        missing: Vec<PeerId>,
    },
    /// A peer completed the handshake.
    Connected { peer: PeerId },
    /// A connection ended.
    Disconnected { peer: PeerId },
    /// A peer said goodbye: it has `finished` every round, or stops and may come back.
    Departed { peer: PeerId, finished: bool },
    /// A neighbour says that it has no update of that round.
    Skipped { peer: PeerId, round: u64 },
    /// A neighbour has missed so many deadlines in a row that rounds no longer wait for it. Its
    /// updates are still mixed if they are in time. `late` says that its updates come too late;
    /// otherwise nothing comes.
    NoLongerAwaited {
        peer: PeerId,
        missed: u64,
        late: bool,
    },
    /// A neighbour that rounds no longer waited for was on time.
    AwaitedAgain { peer: PeerId },
    /// A peer was sent away, and why.
    Dismissed { peer: PeerId, reason: Refusal },
    /// The roster of an open federation is complete. Anyone may have joined under many names, so
    /// `byzantine` is an assumption.
    RosterFormed { peers: usize },
    /// Every neighbour of the first round is connected, or the start deadline passed.
    Ready { neighbours: usize, connected: usize },
    /// A round began: train. Of `neighbours` it waits for `selected`, as long as their updates can
    /// still come.
    RoundOpened {
        round: u64,
        neighbours: usize,
        selected: usize,
    },
    /// A round begins in which the peer does not train: it is behind the others, and takes their
    /// models before it resumes.
    CatchingUp { round: u64 },
    /// The peer was behind. It resumes from what the rule makes of `models` models of others.
    CaughtUp {
        round: u64,
        models: usize,
        state: State,
    },
    /// The deadline has passed and only `have` others are there, but the charter asks for `need`:
    /// the round waits longer.
    TooFew {
        round: u64,
        have: usize,
        need: usize,
        missing: Vec<PeerId>,
    },
    /// Every neighbour has finished, and nothing more can come from them: the federation is over
    /// for this peer.
    Over { round: u64 },
    /// The training of a round was charged to the ledger of this peer's rows: `epsilon` of `budget`
    /// is spent, both at the charter's delta.
    PrivacySpent {
        round: u64,
        epsilon: f64,
        budget: f64,
    },
    /// The training of a round would have exceeded the privacy budget. The peer releases nothing in
    /// this round, and mixes what it gets.
    BudgetExhausted {
        round: u64,
        epsilon: f64,
        budget: f64,
    },
    /// This peer's ledger was older than a header that the peer has signed: a copy was put back. The
    /// ledger had `entries` entries and `epsilon` spent; the update of `round` states `stated`. Now
    /// `charged` counts as spent, all at the charter's delta.
    LedgerBehind {
        round: u64,
        entries: u64,
        epsilon: f64,
        stated: f64,
        charged: f64,
        budget: f64,
    },
    /// Since its start a peer under a privacy guarantee has heard from `answered` neighbours, and one
    /// of `needed` is honest and would show it what it had spent. It releases nothing in this round.
    Unanswered {
        round: u64,
        answered: usize,
        needed: usize,
    },
    /// Local training ended.
    Trained {
        round: u64,
        /// Mean training loss; `None` under a privacy guarantee, which does not cover it.
        loss: Option<f64>,
        samples: u64,
        local_steps: u64,
    },
    /// Local training failed; the peer publishes nothing this round and mixes what it gets.
    TrainingFailed { round: u64, why: String },
    /// The peer's update went out to `receivers` neighbours.
    Published {
        round: u64,
        sequence: u64,
        state: Digest,
        body_bytes: usize,
        receivers: usize,
    },
    /// A neighbour's update came in. Whether it is mixed is the selection's decision;
    /// [`Event::Aggregated`] reports whose was.
    Accepted {
        /// The receiver's round in which it was accepted.
        round: u64,
        /// The peer whose update it is.
        peer: PeerId,
        /// The round that its sender made it in.
        of: u64,
        /// How old it is. If peers keep step: the receiver's round minus the update's. If nobody
        /// waits: the receiver's rounds since it heard of the update.
        staleness: u64,
        /// Bytes of the encoded body.
        payload_bytes: usize,
        /// Bytes of the keyframe that had to be pulled instead, if one was.
        keyframe_bytes: usize,
        /// Bytes of the envelope, without an inline body.
        envelope_bytes: usize,
        /// Bytes of the same vector uncompressed.
        dense_bytes: usize,
    },
    /// A message or an update was refused.
    Refused {
        peer: PeerId,
        kind: Option<Kind>,
        round: Option<u64>,
        reason: Refusal,
    },
    /// A keyframe (the whole replica) is pulled because an update does not fit the replica that is
    /// here.
    KeyframeWanted { round: u64, peer: PeerId },
    /// A round closed with `have` updates that it may mix. It waited for `awaited`, of which
    /// `missing` did not come.
    RoundClosed {
        round: u64,
        why: Closed,
        have: usize,
        awaited: usize,
        missing: Vec<PeerId>,
    },
    /// Contributions were combined.
    Aggregated {
        /// The round that was combined.
        round: u64,
        /// Hash of the resulting parameters.
        state: State,
        /// Models combined, this peer's included.
        models: usize,
        /// Share of each neighbour's contribution that the rule left out.
        dropped: Vec<DroppedShare>,
        /// Root mean square distance of the models combined to their mean: this peer's view of the
        /// consensus distance.
        spread: f64,
    },
    /// Too few contributions for the rule: the peer keeps its own step.
    MixingSkipped {
        round: u64,
        have: usize,
        need: usize,
    },
    /// A neighbour's model replaced this peer's, as the topology requires in this round.
    Adopted {
        round: u64,
        peer: PeerId,
        state: Digest,
    },
    /// The peer kept its own model without asking a rule. Nobody sends to it in this round, or, if
    /// a model was `expected`, the one that it would have adopted has not come.
    Kept { round: u64, expected: bool },
    /// A neighbour's contributions have been dropped round after round.
    Suspected { peer: PeerId, score: f64 },
    /// A peer signed two different updates for one round.
    Equivocated {
        peer: PeerId,
        round: u64,
        states: [Digest; 2],
    },
    /// The peer was behind and resumed at a later round.
    Jumped { from: u64, to: u64 },
    /// A round waits for the updates of `missing`.
    Stalled { round: u64, missing: Vec<PeerId> },
    /// Parameters were evaluated on held-out data.
    Evaluated {
        round: u64,
        loss: f64,
        accuracy: f64,
        samples: u64,
    },
    /// The last round is done.
    Finished { rounds: u64, state: Digest },
    /// The peer stops; `finished` says whether it went through every round.
    Left {
        /// Number of completed rounds.
        round: u64,
        /// Whether that is all rounds.
        finished: bool,
        /// The reason, in words for people.
        why: String,
        /// What the rounds were like.
        #[serde(default)]
        history: History,
    },
}

/// What a peer's rounds were like, from its first one on, across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Rounds in which models are combined, by the number of models, the peer's own included. Entry
    /// 1 counts the rounds in which it was alone.
    #[serde(with = "counts")]
    pub mixed: BTreeMap<usize, u64>,
    /// Rounds in which its training failed.
    pub training_failed: u64,
    /// Rounds in which it listened instead of training.
    pub listened: u64,
    /// Rounds that it left out because it was behind.
    pub passed_over: u64,
}

/// Numbers as the names of a map's entries, read as text: when serde tries a value as several
/// types, it keeps names as text.
mod counts {
    use std::collections::BTreeMap;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        counts: &BTreeMap<usize, u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        counts
            .iter()
            .map(|(number, count)| (number.to_string(), *count))
            .collect::<BTreeMap<_, _>>()
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<usize, u64>, D::Error> {
        let counts = BTreeMap::<String, u64>::deserialize(deserializer)?;
        let number =
            |(name, count): (String, u64)| Ok((name.parse().map_err(D::Error::custom)?, count));
        counts.into_iter().map(number).collect()
    }
}

impl History {
    /// Rounds in which no other peer's model was mixed though one could have been.
    pub fn alone(&self) -> u64 {
        self.mixed.get(&1).copied().unwrap_or(0)
    }

    /// Notes a round in which `models` models were combined.
    pub(crate) fn mixed(&mut self, models: usize) {
        *self.mixed.entry(models).or_default() += 1;
    }
}

/// The name of a vector: its hash, computed when somebody asks for it. In a world of thousands of
/// peers hardly anybody does, and hashing would take longer than combining.
#[derive(Clone)]
pub struct State {
    vector: Option<Parameters>,
    digest: OnceLock<Digest>,
}

impl State {
    /// BLAKE3 of the vector, computed at the first call.
    pub fn digest(&self) -> Digest {
        let hash = || {
            self.vector
                .as_ref()
                .map_or_else(Digest::default, |vector| Digest::of_values(vector))
        };
        *self.digest.get_or_init(hash)
    }
}

impl From<Parameters> for State {
    fn from(vector: Parameters) -> State {
        State {
            vector: Some(vector),
            digest: OnceLock::new(),
        }
    }
}

impl From<Digest> for State {
    fn from(digest: Digest) -> State {
        State {
            vector: None,
            digest: digest.into(),
        }
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.digest() == other.digest()
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.digest().fmt(formatter)
    }
}

impl Serialize for State {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.digest().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<State, D::Error> {
        Digest::deserialize(deserializer).map(State::from)
    }
}

/// How much of one neighbour's contribution the rule left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DroppedShare {
    /// The neighbour that it came from.
    pub peer: PeerId,
    /// From 0 (all of it counted) to 1 (none did).
    pub share: f64,
    /// Share of the result that comes from it; the shares of all models combined sum to 1.
    #[serde(default)]
    pub influence: f64,
}

/// What closed a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closed {
    /// Enough of the awaited neighbours were in.
    Quorum,
    /// The deadline passed.
    Deadline,
}
