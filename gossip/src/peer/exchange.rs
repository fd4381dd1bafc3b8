//! The exchange of updates: every sender's current vector, the updates on their way, and this
//! peer's sent updates.
//!
//! Per sender one queue by round. An update is applied when its round is not ahead of this peer's,
//! its body is here and, with a replica codec, its base is the replica that is held here. Otherwise
//! the replica is pulled whole, by the `state_hash` that the sender signed. So losses, repetitions
//! and reorderings end in the announced state or in a refusal, never in a third vector.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId, Sorted};

use super::privacy::Cleared;
use crate::Parameters;
use crate::codec::{Codec, Form, Randomness, identity};
use crate::message::{self, Announcement};
use crate::packet::{Opened, Packet};
use crate::refusal::Refusal;

/// An update may be at least this many rounds ahead of this peer's round and still wait here,
/// whatever the topology's lead (guess).
pub(super) const AHEAD_MIN: u64 = 2;

/// Times that a body is asked for before its update is given up (guess: the carrier itself tries
/// several times each time).
const FETCHES_MAX: u32 = 3;

/// Norm above which a vector is refused whatever the rule: no trained model comes near it (guess).
const NORM_CAP: f64 = 1e9;

/// An announced update on its way into a round.
#[derive(Clone, Debug)]
struct Pending {
    /// The message that announced it.
    packet: Packet,
    /// This peer's round when it heard of the update.
    heard: u64,
    state: Digest,
    base: Option<Digest>,
    /// Name and length of a body that is pulled.
    pulled: Option<(Digest, usize)>,
    samples: u64,
    loss: Option<f64>,
    body: Option<Body>,
    keyframe: Option<Arc<Vec<u8>>>,
    /// Failed requests for the body that it lacks.
    failures: u32,
}

/// The encoded vector.
#[derive(Clone, Debug)]
enum Body {
    /// Inside the message, at this range.
    Inline(Range<usize>),
    Pulled(Arc<Vec<u8>>),
}

impl Pending {
    fn body(&self) -> &[u8] {
        match &self.body {
            Some(Body::Inline(place)) => &self.packet[place.clone()],
            Some(Body::Pulled(bytes)) => bytes,
            None => &[],
        }
    }

    /// Whether it needs the body or the keyframe of this name.
    fn lacks(&self, digest: Digest) -> bool {
        self.is_pulled_by(digest) || self.state == digest
    }

    fn is_pulled_by(&self, digest: Digest) -> bool {
        self.pulled.is_some_and(|(name, _)| name == digest)
    }
}

#[derive(Clone, Debug)]
struct Incoming {
    values: Parameters,
    state: Digest,
    /// Waiting updates, by round; few at a time.
    queue: Sorted<u64, Pending>,
    fetching: Option<Digest>,
    /// Newest round applied in this life: an older update that comes again would only turn the
    /// vector back.
    newest: Option<u64>,
}

impl Incoming {
    /// Gives up a body that is being pulled, and every update as old, if the next update of its
    /// sender needs its place: a pull outlives its round only until then. A replica needs every
    /// body.
    fn gives_up(&mut self, digest: Digest, form: Form, own_round: u64) -> bool {
        let is_old =
            |(round, pending): (&u64, &Pending)| *round < own_round && pending.is_pulled_by(digest);
        let overtaken = form == Form::Stateless
            && own_round < u64::MAX
            && self.queue.contains(&own_round)
            && self.queue.iter().any(is_old)
            && !planted(Mutant::KeepPulls);
        if overtaken {
            self.fetching = None;
            self.queue.retain(|round, _| *round >= own_round);
        }
        overtaken
    }
}

impl Incoming {
    /// Whether the update leads to the replica that is held: it may have come another way, as a
    /// keyframe for instance.
    fn is_known(&self, form: Form, pending: &Pending) -> bool {
        form == Form::Replica && pending.state == self.state
    }

    /// Whether the update's body can be applied to what is held.
    fn fits(&self, form: Form, pending: &Pending) -> bool {
        form == Form::Stateless
            || self.is_known(form, pending)
            || pending.base == Some(self.state)
            || planted(Mutant::SkipBase)
    }

    /// Drops what is not worth pulling where only the newest update counts: of updates that stand
    /// alone, every older one without a body; of those that build on each other, all older ones
    /// if the oldest needs a replica, which a sender that has gone on no longer has.
    fn keep_worth_pulling(&mut self, form: Form) {
        let newest = self.queue.keys().next_back().copied();
        let lacks_replica =
            |(_, first): (&u64, &Pending)| !self.fits(form, first) && first.keyframe.is_none();
        let from_newest = self.queue.first().is_some_and(lacks_replica);
        let stands_alone = form == Form::Stateless;
        self.queue.retain(|round, pending| {
            Some(*round) == newest || !from_newest && (!stands_alone || pending.body.is_some())
        });
    }
}

/// An update of this peer.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) sequence: u64,
    pub(super) state: Digest,
    pub(super) announcement: Packet,
    pub(super) body_bytes: usize,
    /// Bodies that others may pull: none if the body travels inside the announcement, several if a
    /// liar has several.
    bodies: Vec<(Digest, Arc<Vec<u8>>)>,
    /// This peer's replica after it, if the codec has one: a peer that is a round behind may still
    /// need it whole.
    replica: Option<Parameters>,
}

impl Outgoing {
    /// An update whose body is `pulled` by this name, or travels inside the announcement.
    pub(super) fn new(
        sequence: u64,
        state: Digest,
        announcement: Packet,
        body_bytes: usize,
        pulled: Option<(Digest, Arc<Vec<u8>>)>,
    ) -> Outgoing {
        Outgoing {
            sequence,
            state,
            announcement,
            body_bytes,
            bodies: pulled.into_iter().collect(),
            replica: None,
        }
    }

    /// Takes over the bodies of another update, to serve them too.
    pub(super) fn absorb(&mut self, other: Outgoing) {
        self.bodies.extend(other.bodies);
    }
}

/// A cleared vector, encoded.
pub(super) struct Encoded {
    /// State of this peer's replica that the body builds on; `None` if each body stands alone.
    pub(super) base: Option<Digest>,
    pub(super) body: Vec<u8>,
    /// What receivers will reconstruct.
    pub(super) public: Parameters,
    /// Hash of the public vector.
    pub(super) state: Digest,
}

/// An update that has been applied.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) round: u64,
    /// This peer's round when it first heard of the update.
    pub(super) heard: u64,
    pub(super) values: Parameters,
    pub(super) state: Digest,
    pub(super) samples: u64,
    pub(super) loss: Option<f64>,
    pub(super) payload_bytes: usize,
    pub(super) keyframe_bytes: usize,
    pub(super) envelope_bytes: usize,
}

/// What became of the oldest update of a sender that could be worked on.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing to do now.
    Idle,
    /// A body is needed; `keyframe` says that it is the replica itself.
    Fetch {
        round: u64,
        digest: Digest,
        length: usize,
        keyframe: bool,
    },
    /// A body that is being pulled is no longer worth it.
    Abandoned(Digest),
    /// The update was applied.
    Applied(Applied),
    /// The update was refused.
    Refused { round: u64, reason: Refusal },
}

pub(super) struct Exchange {
    codec: Box<dyn Codec>,
    dimension: usize,
    own: PeerId,
    own_replica: Parameters,
    own_state: Digest,
    /// What everybody has before the first update; empty if every update stands alone.
    initial: Parameters,
    initial_state: Digest,
    incoming: Sorted<PeerId, Incoming>,
    outgoing: Sorted<u64, Outgoing>,
    /// Rounds that an update may be ahead of this peer's round and still wait here. This peer keeps
    /// one more of its own updates than that, to be sent or pulled again.
    ahead: u64,
    /// Whether the newest vectors are kept although a stateless codec does not need them: a liar
    /// looks at them.
    keeps_newest: bool,
}

/// Largest body that is kept for late neighbours (guess: a few of them are small next to a
/// program's own memory).
const KEPT_BYTES_MAX: usize = 4 << 20;

impl Exchange {
    pub(super) fn new(
        codec: Box<dyn Codec>,
        own: PeerId,
        initial: Parameters,
        ahead: u64,
        keeps_newest: bool,
    ) -> Exchange {
        let (dimension, initial_state) = (initial.len(), Digest::of_values(&initial));
        let initial = if codec.form() == Form::Replica || keeps_newest {
            initial
        } else {
            Parameters::default()
        };
        Exchange {
            codec,
            dimension,
            own,
            own_replica: Arc::clone(&initial),
            own_state: initial_state,
            initial,
            initial_state,
            incoming: Sorted::default(),
            outgoing: Sorted::default(),
            ahead,
            keeps_newest,
        }
    }

    /// From now on the newest vectors are kept: see `keeps_newest`.
    pub(super) fn keep_newest(&mut self) {
        self.keeps_newest = true;
    }

    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    pub(super) fn body_bytes_max(&self) -> usize {
        self.codec.bytes_max(self.dimension)
    }

    // --- this peer's updates ---

    /// Encodes a vector for publication. Does not advance the replica yet. `None` for values that
    /// the codec cannot encode, such as a liar's NaN.
    pub(super) fn encode(
        &self,
        cleared: &Cleared,
        random: impl FnOnce() -> Randomness,
    ) -> Option<Encoded> {
        let values = cleared.vector();
        if self.codec.is_exact() {
            // A vector that arrives exactly as it was sent is held once.
            let (body, public) = (identity::to_bytes(values), Arc::clone(values));
            let state = Digest::of_values(&public);
            return Some(Encoded {
                base: None,
                body,
                public,
                state,
            });
        }
        let (is_replica, random) = (self.codec.form() == Form::Replica, &mut random());
        let body = match is_replica {
            false => self.codec.encode(values, random),
            true => {
                let both = values.iter().zip(self.own_replica.iter());
                let difference: Vec<f32> = both.map(|(value, replica)| value - replica).collect();
                self.codec.encode(&difference, random)
            }
        };
        let base = is_replica.then_some(self.own_state);
        let public = self.reconstruct(&self.own_replica, &body).ok()?;
        let public = if public == **values {
            Arc::clone(values)
        } else {
            Arc::new(public)
        };
        let state = Digest::of_values(&public);
        Some(Encoded {
            base,
            body,
            public,
            state,
        })
    }

    fn reconstruct(&self, replica: &[f32], body: &[u8]) -> Result<Vec<f32>, Refusal> {
        let mut values =
            self.codec
                .decode(body, self.dimension)
                .map_err(|error| Refusal::Body {
                    why: error.to_string(),
                })?;
        if self.codec.form() == Form::Replica {
            // Unfused and in order: the sender and every receiver get the same bits.
            values
                .iter_mut()
                .zip(replica)
                .for_each(|(value, replica)| *value += replica);
        }
        Ok(values)
    }

    /// The public vector that a body of this peer leads to, checked against the announced state.
    pub(super) fn replay(&self, body: &[u8], state: Digest) -> Option<Parameters> {
        let public = self.reconstruct(&self.own_replica, body).ok()?;
        (Digest::of_values(&public) == state).then(|| Arc::new(public))
    }

    /// The update is promised: from now on others hold this vector of this peer.
    pub(super) fn publish(&mut self, round: u64, public: Parameters, mut outgoing: Outgoing) {
        if !planted(Mutant::ForgetOwnReplica) {
            outgoing.replica = (self.codec.form() == Form::Replica).then(|| Arc::clone(&public));
            self.own_replica = public;
            self.own_state = outgoing.state;
        }
        self.outgoing.insert(round, outgoing);
        while self.outgoing.len() as u64 > self.ahead + 1 && !planted(Mutant::KeepOutgoing) {
            self.outgoing.pop_first();
        }
    }

    /// This peer's vector as others have it; `None` if every update stands alone and is exact.
    pub(super) fn own_public(&self) -> Option<Parameters> {
        (self.codec.form() == Form::Replica).then(|| Arc::clone(&self.own_replica))
    }

    /// This peer's state, if it is that of exactly these `values`.
    pub(super) fn own_state_if(&self, values: &Parameters) -> Option<Digest> {
        Arc::ptr_eq(values, &self.own_replica).then_some(self.own_state)
    }

    /// Whether vectors are too large to be held for longer than somebody needs them.
    pub(super) fn is_large(&self) -> bool {
        4 * self.dimension > KEPT_BYTES_MAX
    }

    /// Only late neighbours lack anything older than `oldest`: large bodies and replicas are not
    /// kept for them.
    pub(super) fn release(&mut self, oldest: u64) {
        self.outgoing
            .retain(|round, outgoing| *round >= oldest || outgoing.body_bytes <= KEPT_BYTES_MAX);
        if self.is_large() {
            let old = self
                .outgoing
                .iter_mut()
                .filter(|(round, _)| **round < oldest);
            old.for_each(|(_, outgoing)| outgoing.replica = None);
        }
    }

    /// Only these will ever send something. Once each has, nobody begins with the common start any
    /// more.
    pub(super) fn expect_only(&mut self, senders: &[PeerId]) {
        if !self.keeps_newest && senders.iter().all(|sender| self.incoming.contains(sender)) {
            self.initial = Parameters::default();
        }
    }

    /// The round is over: if every update stands alone, nobody needs this peer's vector any longer.
    pub(super) fn release_own(&mut self) {
        if self.codec.form() == Form::Stateless {
            self.own_replica = Parameters::default();
        }
    }

    pub(super) fn outgoing(&self, round: u64) -> Option<&Outgoing> {
        self.outgoing.get(&round)
    }

    pub(super) fn outgoing_rounds(&self) -> Vec<u64> {
        self.outgoing.keys().copied().collect()
    }

    /// A body by its name: of an update of this peer, or its replica as a keyframe. Never anything
    /// that was not published.
    pub(super) fn body(&self, digest: Digest) -> Option<Arc<Vec<u8>>> {
        let mut bodies = self.outgoing.values().flat_map(|outgoing| &outgoing.bodies);
        let body = bodies
            .find(|(name, _)| *name == digest)
            .map(|(_, body)| Arc::clone(body));
        body.or_else(|| {
            self.replica(digest)
                .map(|values| Arc::new(identity::to_bytes(values)))
        })
    }

    /// The rounds whose updates have this body, or lead to this replica.
    pub(super) fn rounds_of_body(&self, digest: Digest) -> Vec<u64> {
        let has = |outgoing: &Outgoing| {
            outgoing.state == digest || outgoing.bodies.iter().any(|(name, _)| *name == digest)
        };
        let own = self.outgoing.iter().filter(|(_, outgoing)| has(outgoing));
        own.map(|(round, _)| *round).collect()
    }

    /// A replica of this peer's that was published, by its state.
    fn replica(&self, digest: Digest) -> Option<&Parameters> {
        let outgoing = self.outgoing.values();
        let published =
            outgoing.filter_map(|outgoing| Some((outgoing.state, outgoing.replica.as_ref()?)));
        let mut replicas = published.chain([(self.own_state, &self.own_replica)]);
        let found = replicas.find(|(state, values)| *state == digest && !values.is_empty());
        found.map(|(_, values)| values)
    }

    /// The round whose announcement these bytes are.
    pub(super) fn announced_in(&self, bytes: &Packet) -> Option<u64> {
        let own = self
            .outgoing
            .iter()
            .find(|(_, outgoing)| outgoing.announcement.is(bytes));
        own.map(|(round, _)| *round)
    }

    pub(super) fn keeps_replicas(&self) -> bool {
        self.codec.form() == Form::Replica
    }

    pub(super) fn replica_of(&self, sender: &PeerId) -> Option<Digest> {
        self.incoming
            .get(sender)
            .filter(|_| self.keeps_replicas())
            .map(|incoming| incoming.state)
    }

    /// (Others' waiting updates, this peer's kept updates).
    pub(super) fn load(&self) -> (usize, usize) {
        (
            self.incoming
                .values()
                .map(|incoming| incoming.queue.len())
                .sum(),
            self.outgoing.len(),
        )
    }

    // --- others' updates ---

    fn incoming(&mut self, sender: PeerId) -> &mut Incoming {
        let (values, state) = (Arc::clone(&self.initial), self.initial_state);
        self.incoming.entry(sender, || Incoming {
            values,
            state,
            queue: Sorted::default(),
            fetching: None,
            newest: None,
        })
    }

    /// Takes an announced update in, when this peer is in round `heard`. False when one of the
    /// update's round waits already, or one of that round or a later one is applied.
    pub(super) fn announce(
        &mut self,
        message: &Opened<'_>,
        announcement: &Announcement<'_>,
        heard: u64,
    ) -> bool {
        let (sender, round, state) = (
            message.header.sender,
            message.header.round,
            message.header.state,
        );
        let waiting_max = self.ahead as usize + 2;
        let incoming = self.incoming(sender);
        let applied = incoming.newest.is_some_and(|newest| round <= newest)
            && !planted(Mutant::CountRepetitions);
        if applied || incoming.queue.contains(&round) {
            return false;
        }
        let pending = Pending {
            packet: message.packet().clone(),
            heard,
            state,
            base: announcement.base,
            pulled: match announcement.body {
                message::Body::Inline(_) => None,
                message::Body::Pulled(digest, _) => Some((digest, announcement.body.len())),
            },
            samples: announcement.samples,
            loss: announcement.loss,
            body: announcement
                .body
                .inline()
                .map(|inline| Body::Inline(message.packet().place_of(inline))),
            keyframe: None,
            failures: 0,
        };
        incoming.queue.insert(round, pending);
        // At most one update for each round that can wait: `announce` refuses the others. What is
        // being fetched stays: else a sender that is faster than its bodies would never be heard.
        while incoming.queue.len() > waiting_max {
            let oldest = incoming.queue.iter().find(|(_, pending)| {
                !incoming
                    .fetching
                    .is_some_and(|digest| pending.lacks(digest))
                    || planted(Mutant::EvictFetched)
            });
            let oldest = oldest.map_or(round, |(round, _)| *round);
            incoming.queue.remove(&oldest);
        }
        true
    }

    /// Gives a pulled body to the updates that need it; returns the senders whose queue can
    /// continue.
    pub(super) fn fetched(&mut self, digest: Digest, bytes: &Arc<Vec<u8>>) -> Vec<PeerId> {
        let mut senders = Vec::new();
        for (sender, incoming) in self.incoming.iter_mut() {
            if incoming.fetching != Some(digest) {
                continue;
            }
            incoming.fetching = None;
            for pending in incoming.queue.values_mut() {
                if pending.body.is_none() && pending.is_pulled_by(digest) {
                    pending.body = Some(Body::Pulled(Arc::clone(bytes)));
                } else if pending.state == digest {
                    pending.keyframe = Some(Arc::clone(bytes));
                }
            }
            senders.push(*sender);
        }
        senders
    }

    /// `sources` cannot deliver a body now. Returns (sender, round) of the updates that are given
    /// up after several failures, and the senders that may be asked again.
    pub(super) fn fetch_failed(
        &mut self,
        digest: Digest,
        sources: &[PeerId],
    ) -> (Vec<(PeerId, u64)>, Vec<PeerId>) {
        let (mut lost, mut again) = (Vec::new(), Vec::new());
        for (sender, incoming) in self.incoming.iter_mut() {
            // Another sender may have announced the same bytes; this one's failure says nothing
            // about the other.
            if incoming.fetching != Some(digest) || !sources.contains(sender) {
                continue;
            }
            incoming.fetching = None;
            let lacks = |pending: &Pending| pending.lacks(digest);
            incoming
                .queue
                .values_mut()
                .filter(|pending| lacks(pending))
                .for_each(|pending| pending.failures += 1);
            let given_up = |pending: &Pending| lacks(pending) && pending.failures >= FETCHES_MAX;
            let rounds = incoming
                .queue
                .iter()
                .filter(|(_, pending)| given_up(pending))
                .map(|(round, _)| (*sender, *round));
            lost.extend(rounds);
            incoming.queue.retain(|_, pending| !given_up(pending));
            again.push(*sender);
        }
        (lost, again)
    }

    /// Whether an update of that round was announced and waits here for its body or its turn.
    pub(super) fn is_on_its_way(&self, sender: &PeerId, round: u64) -> bool {
        self.incoming
            .get(sender)
            .is_some_and(|incoming| incoming.queue.contains(&round))
    }

    /// Forgets waiting updates of rounds before `oldest`, left over from a jump or another graph.
    pub(super) fn forget(&mut self, oldest: u64) {
        for incoming in self.incoming.values_mut() {
            incoming
                .queue
                .retain(|round, _| *round >= oldest || planted(Mutant::KeepLeftBehind));
        }
    }

    /// Works on the oldest waiting update of a sender whose round is not ahead of `own_round`.
    pub(super) fn advance(&mut self, sender: PeerId, own_round: u64) -> Progress {
        let form = self.codec.form();
        let dimension = self.dimension;
        let Some(incoming) = self.incoming.get_mut(&sender) else {
            return Progress::Idle;
        };
        if let Some(digest) = incoming.fetching {
            return match incoming.gives_up(digest, form, own_round) {
                true => Progress::Abandoned(digest),
                false => Progress::Idle,
            };
        }
        if own_round == u64::MAX && !planted(Mutant::EvictFetched) {
            incoming.keep_worth_pulling(form);
        }
        let Some((round, pending)) = incoming
            .queue
            .first()
            .map(|(round, pending)| (*round, pending))
        else {
            return Progress::Idle;
        };
        if round > own_round + u64::from(planted(Mutant::AcceptFuture)) {
            return Progress::Idle;
        }
        let known = incoming.is_known(form, pending);
        let fits = incoming.fits(form, pending);
        if !fits && pending.keyframe.is_none() {
            let digest = pending.state;
            incoming.fetching = Some(digest);
            return Progress::Fetch {
                round,
                digest,
                length: dimension * 4,
                keyframe: true,
            };
        }
        if let Some((digest, length)) = pending
            .pulled
            .filter(|_| fits && !known && pending.body.is_none())
        {
            incoming.fetching = Some(digest);
            return Progress::Fetch {
                round,
                digest,
                length,
                keyframe: false,
            };
        }
        let (_, pending) = incoming
            .queue
            .pop_first()
            .expect("the first entry was just looked at");
        let before = Arc::clone(&incoming.values);
        let applied = if known {
            Ok(before)
        } else {
            self.apply(&before, &pending, fits)
        };
        match applied {
            Err(reason) => Progress::Refused { round, reason },
            Ok(values) => {
                let keeps = form == Form::Replica || self.keeps_newest;
                let incoming = self.incoming(sender);
                if keeps {
                    incoming.values = Arc::clone(&values);
                }
                incoming.state = pending.state;
                incoming.newest = Some(round);
                let inline = matches!(pending.body, Some(Body::Inline(_)));
                Progress::Applied(Applied {
                    round,
                    heard: pending.heard,
                    values,
                    state: pending.state,
                    samples: pending.samples,
                    loss: pending.loss,
                    payload_bytes: pending.body().len(),
                    keyframe_bytes: pending
                        .keyframe
                        .as_ref()
                        .map_or(0, |keyframe| keyframe.len()),
                    envelope_bytes: pending.packet.len()
                        - if inline { pending.body().len() } else { 0 },
                })
            }
        }
    }

    fn apply(&self, replica: &[f32], pending: &Pending, fits: bool) -> Result<Parameters, Refusal> {
        // Every peer that went from the named base to the named state reached the same vector.
        if let Some(values) = pending.packet.led_to().filter(|_| fits) {
            return Ok(values);
        }
        let stated = pending.packet.stated();
        // The sender has left here the very values of an exact body.
        let exact = stated
            .as_ref()
            .filter(|values| fits && self.codec.is_exact() && values.len() == self.dimension);
        let values = match exact {
            Some(values) => Arc::clone(values),
            None => self.reconstruct_stated(replica, pending, fits, stated)?,
        };
        if !planted(Mutant::SkipFinite) {
            check_values(&values)?;
        }
        pending.packet.leads_to(&values);
        Ok(values)
    }

    /// The vector that a body or a keyframe leads to, which has the hash that its sender signed:
    /// `stated`, if that is the same.
    fn reconstruct_stated(
        &self,
        replica: &[f32],
        pending: &Pending,
        fits: bool,
        stated: Option<Parameters>,
    ) -> Result<Parameters, Refusal> {
        let none = Vec::new();
        let values = if fits {
            let twice: Vec<f32>;
            let replica = match planted(Mutant::AddReplicaTwice) {
                true => {
                    twice = replica.iter().map(|value| 2.0 * value).collect();
                    &twice
                }
                false => replica,
            };
            self.reconstruct(replica, pending.body())?
        } else {
            let keyframe = pending.keyframe.as_deref().unwrap_or(&none);
            identity::from_bytes(keyframe, self.dimension).map_err(|error| Refusal::Body {
                why: error.to_string(),
            })?
        };
        let stated = stated.filter(|stated| are_same(stated, &values));
        if stated.is_none()
            && Digest::of_values(&values) != pending.state
            && !planted(Mutant::SkipState)
        {
            return Err(Refusal::StateMismatch);
        }
        Ok(stated.unwrap_or_else(|| Arc::new(values)))
    }

    /// The newest vectors received, by sender. Those of before [`Exchange::keep_newest`] may be
    /// missing.
    pub(super) fn newest(&self) -> impl Iterator<Item = (PeerId, &[f32])> {
        let kept = self.incoming.iter();
        kept.filter(|(_, incoming)| !incoming.values.is_empty())
            .map(|(peer, incoming)| (*peer, incoming.values.as_slice()))
    }

    // --- checkpoints ---

    /// Replicas to keep over a restart; none for a stateless codec, where every update stands
    /// alone.
    pub(super) fn replicas(&self) -> BTreeMap<PeerId, Parameters> {
        match self.codec.form() {
            Form::Stateless => BTreeMap::new(),
            Form::Replica => {
                let others = self
                    .incoming
                    .iter()
                    .map(|(peer, incoming)| (*peer, Arc::clone(&incoming.values)));
                others
                    .chain([(self.own, Arc::clone(&self.own_replica))])
                    .collect()
            }
        }
    }

    /// Takes replicas back from a checkpoint.
    pub(super) fn restore(&mut self, replicas: BTreeMap<PeerId, Parameters>) {
        for (peer, values) in replicas {
            assert_eq!(
                values.len(),
                self.dimension,
                "a checkpoint's replicas have the model's dimension"
            );
            let state = Digest::of_values(&values);
            if peer == self.own {
                (self.own_replica, self.own_state) = (values, state);
            } else {
                self.incoming.insert(
                    peer,
                    Incoming {
                        values,
                        state,
                        queue: Sorted::default(),
                        fetching: None,
                        newest: None,
                    },
                );
            }
        }
    }
}

/// Whether two vectors are the same bit for bit.
fn are_same(a: &[f32], b: &[f32]) -> bool {
    // Without a branch at every value, so that several are compared at once.
    a.len() == b.len()
        && a.iter().zip(b).fold(0, |different, (a, b)| {
            different | (a.to_bits() ^ b.to_bits())
        }) == 0
}

/// Finite and not absurdly large.
pub(super) fn check_values(values: &[f32]) -> Result<(), Refusal> {
    let norm = norm(values);
    if norm <= NORM_CAP {
        return Ok(()); // finite, as each of its terms is
    }
    let wrong = values.iter().position(|value| !value.is_finite());
    Err(match wrong {
        Some(index) => Refusal::NotFinite { index },
        None => Refusal::Norm {
            norm,
            cap: NORM_CAP,
        },
    })
}

/// ‖values‖
fn norm(values: &[f32]) -> f64 {
    // Several sums at once, since a single one would wait for itself at every value.
    let mut squares = [0.0; 8];
    let (blocks, rest) = values.as_chunks::<8>();
    for values in blocks.iter().map(<[f32; 8]>::as_slice).chain([rest]) {
        let pairs = squares.iter_mut().zip(values);
        pairs.for_each(|(sum, value)| *sum += f64::from(*value) * f64::from(*value));
    }
    squares.iter().sum::<f64>().sqrt()
}
