//! A peer that lies: an honest peer whose releases are replaced and whose messages are rewritten.
//!
//! Nothing here runs in a peer without a [`Conduct`] of its own. An honest peer has no way to
//! forge, to say different things to different neighbours or to hold an update back. The simulator
//! hands a conduct in, and so does a testnet under a charter that is marked as a testnet's.
//!
//! A testnet may also change the conduct of a peer that runs: [`Peer::behave`].
//!
//! Two places lead here: [`Peer::release`], where a liar's vector takes the place of the trained
//! one, and the end of [`Peer::handle`](super::Peer::handle), where the effects of an input are
//! rewritten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_consensus::{Digest, PeerId, Stream};

use super::Peer;
use super::release::Sealed;
use crate::Parameters;
use crate::conduct::{Conduct, Fraud, Publication, View};
use crate::effect::Effect;
use crate::envelope::{Envelope, Header, Kind, PROTOCOL_VERSION, Parts};
use crate::event::Event;
use crate::packet::Packet;
use crate::wire;

/// How a peer lies, and what it has told to whom.
pub(super) struct Misconduct {
    conduct: Box<dyn Conduct>,
    /// The round in which receivers are told different things, and what each is told.
    forks: Option<(u64, BTreeMap<PeerId, Packet>)>,
}

impl Misconduct {
    /// `None` for an honest conduct.
    pub(super) fn new(conduct: Box<dyn Conduct>) -> Option<Misconduct> {
        (!conduct.is_honest()).then_some(Misconduct {
            conduct,
            forks: None,
        })
    }
}

impl Peer {
    /// From its next update on the peer behaves in this way. Only drivers of testnets have a reason
    /// to call it.
    pub fn behave(&mut self, conduct: Box<dyn Conduct>) {
        self.misconduct = Misconduct::new(conduct);
        if self.misconduct.is_some() {
            self.exchange.keep_newest();
        }
    }

    fn conduct(&mut self) -> &mut dyn Conduct {
        self.misconduct
            .as_mut()
            .expect("only a liar comes here")
            .conduct
            .as_mut()
    }

    /// Releases what the conduct makes of the trained model.
    pub(super) fn misbehave(&mut self, model: &Parameters, reach: f64, out: &mut Vec<Effect>) {
        match self.publication(model) {
            Publication::Nothing => self.collect(out),
            Publication::Same(vector) => match self.lie(vector, reach) {
                Some(sealed) => self.tell(sealed, None, out),
                None => self.collect(out),
            },
            Publication::Each(vectors) => self.tell_each(vectors, reach, out),
        }
    }

    fn publication(&mut self, trained: &Parameters) -> Publication {
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
            trained,
            neighbours: &newest,
            roster: &roster,
            graph: &graph,
        };
        let mut random = Stream::derive("kith.v1 conduct", &self.seed, self.round, 0, 0);
        let misconduct = self.misconduct.as_mut().expect("only a liar comes here");
        misconduct.conduct.publish(&view, &mut random)
    }

    /// The update of a peer that claims that its training led to `vector`; `None` for what the
    /// codec cannot say.
    fn lie(&mut self, vector: Vec<f32>, reach: f64) -> Option<Sealed> {
        let end = Arc::new(vector);
        let row = self.row(Arc::clone(&end), &end, reach);
        let (told, _) = self.algorithm.share(&row, self.round);
        let cleared = self.clear(told);
        let encoded = self.encode(&cleared)?;
        let mut statement = self.statement(&encoded, &cleared);
        let (round, loss) = (self.round, statement.claims.loss);
        statement.claims.loss = self.conduct().claims(loss);
        match self.conduct().fraud(round) {
            Some(Fraud::State) => statement.state = Digest::of(&statement.state.0),
            Some(Fraud::Shape) => statement.dimension += 1,
            Some(Fraud::Signature) | None => {}
        }
        Some(self.announce(encoded, statement))
    }

    fn tell(
        &mut self,
        sealed: Sealed,
        forks: Option<(u64, BTreeMap<PeerId, Packet>)>,
        out: &mut Vec<Effect>,
    ) {
        self.misconduct
            .as_mut()
            .expect("only a liar comes here")
            .forks = forks;
        self.promise(sealed, out);
    }

    /// Tells receivers different things under one round and sequence. The liar's own replica
    /// follows the first.
    fn tell_each(
        &mut self,
        vectors: BTreeMap<PeerId, Vec<f32>>,
        reach: f64,
        out: &mut Vec<Effect>,
    ) {
        let said: Vec<(PeerId, Sealed)> = vectors
            .into_iter()
            .filter_map(|(receiver, vector)| Some((receiver, self.lie(vector, reach)?)))
            .collect();
        let mut said = said.into_iter();
        let Some((first, mut sealed)) = said.next() else {
            return self.collect(out);
        };
        let mut forks = BTreeMap::from([(first, sealed.outgoing.announcement.clone())]);
        for (receiver, other) in said {
            forks.insert(receiver, other.outgoing.announcement.clone());
            sealed.outgoing.absorb(other.outgoing);
        }
        self.tell(sealed, Some((self.round, forks)), out);
    }

    /// Rewrites what an honest peer would do about one input: the effects from `place` on.
    pub(super) fn rewrite(&mut self, place: usize, out: &mut Vec<Effect>) {
        let effects = out.split_off(place);
        let published = effects.iter().find_map(|effect| match effect {
            Effect::Emit(Event::Published { round, .. }) => Some(*round),
            _ => None,
        });
        // A liar that holds an update back does not say that there is none. It says so only when an
        // honest peer would have to: when its own part of a round fails.
        let mut is_own_part = false;
        let mut told = 0;
        for effect in effects {
            match effect {
                Effect::Send { to, bytes } => {
                    let round = self.exchange.announced_in(&bytes);
                    let Some(round) = round else {
                        if is_own_part || !is_skip(&bytes) {
                            out.push(Effect::Send { to, bytes });
                        }
                        continue;
                    };
                    let Some(bytes) = self.told_to(&to, round, bytes) else {
                        continue;
                    };
                    out.push(Effect::Send { to, bytes });
                    if published == Some(round) {
                        told += 1;
                        self.embellish(to, round, out);
                    }
                }
                Effect::Emit(Event::Published {
                    round,
                    sequence,
                    state,
                    body_bytes,
                    ..
                }) => {
                    let receivers = told;
                    let published = Event::Published {
                        round,
                        sequence,
                        state,
                        body_bytes,
                        receivers,
                    };
                    out.push(Effect::Emit(published));
                }
                other => {
                    is_own_part |= begins_own_part(&other);
                    out.push(other);
                }
            }
        }
    }

    /// What `receiver` is told in place of the honest announcement of a round; `None` for nothing.
    fn told_to(&mut self, receiver: &PeerId, round: u64, honest: Packet) -> Option<Packet> {
        if self.conduct().withholds(round, receiver) {
            return None;
        }
        match &self.misconduct.as_ref()?.forks {
            Some((forked, told)) if *forked == round => told.get(receiver).cloned(),
            _ => Some(honest),
        }
    }

    /// What goes to a receiver along with this round's update.
    fn embellish(&mut self, to: PeerId, round: u64, out: &mut Vec<Effect>) {
        if self.conduct().fraud(round) == Some(Fraud::Signature) {
            out.extend(
                self.forgery(&to, round)
                    .map(|bytes| Effect::Send { to, bytes }),
            );
        }
        let replayed = self.conduct().replays(round);
        let old = replayed.and_then(|old| self.announcement(old));
        out.extend(old.map(|bytes| Effect::Send { to, bytes }));
    }

    /// A header for `receiver` in the name of a third peer. If it were signed, it would convict
    /// that peer.
    fn forgery(&self, receiver: &PeerId, round: u64) -> Option<Packet> {
        let senders = self.overlay.receives_from(round);
        let victim = senders.into_iter().find(|peer| peer != receiver)?;
        let state = self.exchange.outgoing(round)?.state;
        let header = Header {
            version: PROTOCOL_VERSION,
            federation: self.charter.genesis,
            kind: Kind::Update,
            sender: victim,
            incarnation: self.incarnation,
            round,
            sequence: round,
            state,
            payload: state,
            spent: None,
        };
        let header_bytes = wire::encode(&header);
        let signature = self.authenticator.sign_bytes(&header_bytes);
        let envelope = Envelope {
            header,
            header_bytes,
            signature,
            payload: Vec::new(),
        };
        Some(envelope.to_bytes().into())
    }
}

fn is_skip(bytes: &Packet) -> bool {
    Parts::claimed(bytes).is_some_and(|(header, ..)| header.kind == Kind::Skip)
}

/// Whether what follows is about what this peer itself does in its round.
fn begins_own_part(effect: &Effect) -> bool {
    let Effect::Emit(event) = effect else {
        return false;
    };
    matches!(
        event,
        Event::RoundOpened { .. }
            | Event::BudgetExhausted { .. }
            | Event::Unanswered { .. }
            | Event::Trained { .. }
            | Event::TrainingFailed { .. }
    )
}
