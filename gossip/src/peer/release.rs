//! From trained parameters to bytes on their way. Everything that leaves this peer and follows from
//! its rows passes through these stages, in this order:
//!
//! | stage | what it does |
//! |---|---|
//! | [`Peer::trained`] | checks what the trainer returned, and has the algorithm make a row of it |
//! | [`Peer::release`] | lists the stages that follow |
//! | [`Peer::share`] | the part of the row that the algorithm tells others |
//! | [`Peer::clear`] | privacy: what may be released (see `privacy`) |
//! | [`Peer::encode`] | the codec's body, and what receivers will make of it |
//! | [`Peer::announce`] | the announcement, signed |
//! | [`Peer::promise`] | makes it durable before anybody sees it |
//! | [`Peer::send_update`] | sends it, once it is stored |
//!
//! A peer that lies replaces the stages between `trained` and `promise`: see `misconduct`.

use std::sync::Arc;

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId, Stream};
use serde_bytes::Bytes;

use super::algorithm::Training;
use super::exchange::{Encoded, Outgoing, check_values};
use super::privacy::{Claims, Cleared};
use super::{Peer, Phase};
use crate::Parameters;
use crate::codec::Randomness;
use crate::effect::{Carried, Effect, Intent, Record};
use crate::envelope::{Header, Kind};
use crate::event::Event;
use crate::message::{Announcement, Body, INLINE_BYTES_MAX, LOSS_MAX};
use crate::packet::Packet;
use crate::wire;

/// What the trainer returned.
pub(super) struct Trained {
    pub(super) parameters: Parameters,
    pub(super) samples: u64,
    pub(super) local_steps: u64,
    pub(super) loss: f64,
    /// The size of its steps.
    pub(super) rate: f64,
    /// What the optimizer carries into the next round.
    pub(super) memory: Option<Parameters>,
}

/// What this peer contributes to its round.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// The result of its training, and after it the values that the algorithm adds. The rule sees
    /// it exactly.
    pub(super) row: Parameters,
    pub(super) claims: Claims,
}

/// What an announcement states. An honest peer states the truth ([`Peer::statement`]).
pub(super) struct Statement {
    /// Hash of what receivers will reconstruct.
    pub(super) state: Digest,
    pub(super) dimension: u64,
    pub(super) claims: Claims,
}

/// An update that is ready to be promised.
pub(super) struct Sealed {
    public: Parameters,
    pub(super) outgoing: Outgoing,
    body: Arc<Vec<u8>>,
}

impl Peer {
    /// Training has ended. Its result becomes this peer's row of the round.
    pub(super) fn trained(&mut self, trained: Trained, out: &mut Vec<Effect>) {
        let Trained {
            parameters,
            samples,
            local_steps,
            loss,
            rate,
            memory,
        } = trained;
        self.memory = memory;
        let claims = self.claims(Claims {
            samples,
            local_steps,
            loss,
        });
        let Claims {
            samples,
            local_steps,
            ..
        } = claims;
        out.push(Effect::Emit(Event::Trained {
            round: self.round,
            loss: self.charter.privacy.is_none().then_some(loss),
            samples,
            local_steps,
        }));
        let reach = rate
            * self
                .charter
                .declared
                .optimizer
                .effective_steps(local_steps, rate);
        let training = Training {
            start: &self.parameters,
            end: &parameters,
            reach,
            rate,
        };
        let model = self.algorithm.model(&training);
        let row = self.row(Arc::clone(&model), &parameters, reach);
        if let Err(reason) = check_values(&row) {
            return self.training_failed(format!("the trained model {reason}"), out);
        }
        if self.charter.round.selection.needs_losses() && loss.is_nan() {
            let why = "the training loss, by which others select, is not a number";
            return self.training_failed(why.to_owned(), out);
        }
        self.own = Own { row, claims };
        self.release(model, reach, out);
    }

    /// A row: `model`, and after it what the algorithm adds for a training that led to `end` with
    /// this `reach`.
    pub(super) fn row(&self, model: Parameters, end: &Parameters, reach: f64) -> Parameters {
        let training = Training {
            start: &self.parameters,
            end,
            reach,
            rate: 0.0,
        };
        let added = self.algorithm.added(&training);
        match added.is_empty() {
            true => model,
            false => Arc::new(model.iter().copied().chain(added).collect()),
        }
    }

    /// The row of a round in which this peer has not trained: the model that it has.
    pub(super) fn untrained(&self) -> Own {
        let row = self.row(Arc::clone(&self.parameters), &self.parameters, 0.0);
        Own {
            row,
            claims: Claims {
                loss: self.own.claims.loss,
                ..Claims::default()
            },
        }
    }

    /// Publishes this peer's row. Lists every stage between the row and its bytes.
    pub(super) fn release(&mut self, model: Parameters, reach: f64, out: &mut Vec<Effect>) {
        if self.speaks_to_nobody() {
            return self.collect(out);
        }
        if self.standing.has_signed(self.round) {
            // Others hold a signed update of this round which this peer no longer knows. A second
            // one would contradict it.
            self.skip(out);
            return self.collect(out);
        }
        if self.misconduct.is_some() {
            return self.misbehave(&model, reach, out);
        }
        let shared = self.share();
        let cleared = self.clear(shared);
        let encoded = self
            .encode(&cleared)
            .expect("a finite vector encodes, and decodes again");
        let statement = self.statement(&encoded, &cleared);
        let sealed = self.announce(encoded, statement);
        self.promise(sealed, out);
    }

    /// The algorithm: what receivers are told of the row. The rest stays with this peer.
    fn share(&mut self) -> Parameters {
        let (told, kept) = self.algorithm.share(&self.own.row, self.round);
        self.own.row = kept;
        told
    }

    /// The codec. `None` if it cannot encode the values, such as a liar's NaN.
    pub(super) fn encode(&mut self, cleared: &Cleared) -> Option<Encoded> {
        let shared = self.charter.genesis.seed();
        let random = || Randomness {
            own: Stream::derive("kith.v1 codec", &self.seed, self.round, 0, 0),
            shared: Stream::derive("kith.v1 shared codec", &shared, self.round, 0, 0),
        };
        let encoded = self.exchange.encode(cleared, random)?;
        self.algorithm.shared(cleared.vector());
        Some(encoded)
    }

    /// The true statement about an encoded vector.
    pub(super) fn statement(&self, encoded: &Encoded, cleared: &Cleared) -> Statement {
        let loss = cleared.claims().loss.clamp(-LOSS_MAX, LOSS_MAX);
        Statement {
            state: encoded.state,
            dimension: self.exchange.dimension() as u64,
            claims: Claims {
                loss,
                ..cleared.claims()
            },
        }
    }

    /// The announcement of an encoded vector, signed.
    pub(super) fn announce(&self, encoded: Encoded, statement: Statement) -> Sealed {
        let Encoded {
            base,
            body,
            public,
            state: truth,
        } = encoded;
        let Statement {
            state,
            dimension,
            claims,
        } = statement;
        let pulled = (body.len() > INLINE_BYTES_MAX).then(|| Digest::of(&body));
        let told = self.charter.round.selection.needs_losses();
        let announcement = Announcement {
            base,
            dimension,
            samples: claims.samples,
            local_steps: claims.local_steps,
            body: match pulled {
                None => Body::Inline(Bytes::new(&body)),
                Some(digest) => Body::Pulled(digest, body.len() as u64),
            },
            loss: told.then_some(claims.loss),
        };
        let room = if pulled.is_some() { 0 } else { body.len() };
        let payload = wire::encode_sized(&announcement, 256 + room);
        let announcement = self.seal(Kind::Update, state, payload);
        if state == truth {
            announcement.state(&public);
        }
        let (length, body) = (body.len(), Arc::new(body));
        let pulled = pulled.map(|digest| (digest, Arc::clone(&body)));
        let body = if pulled.is_some() {
            body
        } else {
            Arc::default()
        };
        let outgoing = Outgoing::new(self.sequence, state, announcement, length, pulled);
        Sealed {
            public,
            outgoing,
            body,
        }
    }

    /// The update is made durable: from now on it is the only one of its round.
    pub(super) fn promise(&mut self, sealed: Sealed, out: &mut Vec<Effect>) {
        let Sealed {
            public,
            outgoing,
            body,
        } = sealed;
        let intent = Intent {
            round: self.round,
            sequence: self.sequence,
            state: outgoing.state,
            announcement: outgoing.announcement.clone(),
            body,
            own: Arc::clone(&self.own.row),
            carried: self.carried(),
        };
        self.sequence += 1;
        self.exchange.publish(self.round, public, outgoing);
        self.phase = Phase::Promising;
        out.push(Effect::Persist(Record::Intent(Box::new(intent))));
        if planted(Mutant::SendUnpromised) {
            self.send_update(out);
        }
    }

    /// The update is stored: it goes to each connected peer that it is for.
    pub(super) fn send_update(&mut self, out: &mut Vec<Effect>) {
        let mut receivers = self.audience();
        receivers.retain(|to| self.overlay.is_ready(to));
        let outgoing = self.exchange.outgoing(self.round);
        let outgoing = outgoing.expect("the update was just published");
        let published = Event::Published {
            round: self.round,
            sequence: outgoing.sequence,
            state: outgoing.state,
            body_bytes: outgoing.body_bytes,
            receivers: receivers.len(),
        };
        out.extend(receivers.into_iter().map(|to| Effect::Send {
            to,
            bytes: outgoing.announcement.clone(),
        }));
        out.push(Effect::Emit(published));
        if planted(Mutant::ChargeAfterSend) && self.charter.privacy.is_some() {
            self.charge(out);
        }
        self.collect(out);
    }

    /// An update was promised before a crash: the same announcement goes out again, signed in this
    /// life.
    pub(super) fn send_again(&mut self, intent: Intent, out: &mut Vec<Effect>) {
        let opened = intent.announcement.open(&self.authenticator, false);
        let read = opened.and_then(|opened| Ok((opened, opened.announcement()?)));
        let (opened, inline) = match read {
            Ok((opened, announcement)) => (opened, announcement.body.inline()),
            // Written by another version, perhaps: nobody would take it.
            Err(reason) => {
                return self
                    .training_failed(format!("the stored update is refused: {reason}"), out);
            }
        };
        let body: &[u8] = inline.map_or(&intent.body, |inline| inline);
        let Some(public) = self.exchange.replay(body, intent.state) else {
            // The promise was made on another replica. The peer says nothing this round rather than
            // contradict itself.
            let why = "the stored update does not fit the stored replica";
            return self.training_failed(why.to_owned(), out);
        };
        self.own.row = Arc::clone(&intent.own);
        self.restore(intent.carried);
        self.sequence = intent.sequence + 1;
        let pulled = inline
            .is_none()
            .then(|| (Digest::of(body), Arc::clone(&intent.body)));
        let header = Header {
            incarnation: self.incarnation,
            ..opened.header.clone()
        };
        let announcement = Packet::seal(&self.authenticator, header, opened.payload().to_vec());
        let outgoing = Outgoing::new(
            intent.sequence,
            intent.state,
            announcement,
            body.len(),
            pulled,
        );
        self.exchange.publish(self.round, public, outgoing);
        self.send_update(out);
    }

    /// The announcement of this peer's update of a round, while it is kept.
    pub(super) fn announcement(&self, round: u64) -> Option<Packet> {
        Some(self.exchange.outgoing(round)?.announcement.clone())
    }

    /// Sends an update of this peer again to one that may have it, unless it is not yet promised.
    pub(super) fn send_outgoing(&mut self, to: PeerId, round: u64, out: &mut Vec<Effect>) {
        let unpromised = self.phase == Phase::Promising && round == self.round;
        let is_for = self.mode.is_for(&self.scene(), &to, round);
        if unpromised || !(is_for || planted(Mutant::SendToStrangers)) {
            return;
        }
        let bytes = match self.has_none_of(round) {
            true => Some(self.skip_of(round)),
            false => self.announcement(round),
        };
        out.extend(bytes.map(|bytes| Effect::Send { to, bytes }));
    }

    pub(super) fn training_failed(&mut self, why: String, out: &mut Vec<Effect>) {
        out.push(Effect::Emit(Event::TrainingFailed {
            round: self.round,
            why,
        }));
        self.history.training_failed += 1;
        self.own = self.untrained();
        self.skip(out);
        self.collect(out);
    }

    /// What this peer carries from round to round besides the model.
    pub(super) fn carried(&self) -> Carried {
        let named = [("memory", &self.memory), ("velocity", &self.velocity)];
        let own = named
            .into_iter()
            .filter_map(|(name, vector)| Some((name.to_owned(), Arc::clone(vector.as_ref()?))));
        own.chain(self.algorithm.carried()).collect()
    }

    pub(super) fn restore(&mut self, mut carried: Carried) {
        self.memory = carried.remove("memory");
        self.velocity = carried.remove("velocity");
        self.algorithm.restore(&mut carried);
    }
}
