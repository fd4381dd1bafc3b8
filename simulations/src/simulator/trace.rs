//! The trace of a run as one hash: every input and every effect, in order, as bytes.
//!
//! Two runs with equal trace hashes did the same. Messages and vectors enter by their own hashes.

use kith_consensus::{Digest, PeerId};
use kith_gossip::{Effect, Event, Input, Record, Timer};

/// Hashes what goes into peers and what comes out.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    block: Vec<u8>,
}

/// Bytes gathered before they are hashed together: short updates cost more in the hasher than in a
/// buffer.
const BLOCK_BYTES: usize = 16 * 1024;

impl Default for Trace {
    fn default() -> Trace {
        Trace {
            hasher: blake3::Hasher::new_derive_key("kith.v1 trace"),
            block: Vec::with_capacity(BLOCK_BYTES + 512),
        }
    }
}

impl Trace {
    /// The hash of all so far.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.block);
        Digest(*hasher.finalize().as_bytes())
    }

    /// An input of `member` at `now`.
    pub(crate) fn input(&mut self, now: u64, member: usize, input: &Input) {
        self.begin(now, member);
        match input {
            Input::Start { checkpoint, intent } => {
                self.tag(0);
                self.number(
                    checkpoint
                        .as_ref()
                        .map_or(u64::MAX, |checkpoint| checkpoint.round),
                );
                self.number(intent.as_ref().map_or(u64::MAX, |intent| intent.round));
            }
            Input::Trained {
                round,
                samples,
                local_steps,
                loss,
                ..
            } => {
                self.tag(1);
                // Its result shows in the intent's state.
                self.numbers(&[*round, *samples, *local_steps, loss.to_bits()]);
            }
            Input::TrainingFailed { round, why } => {
                self.tag(2);
                self.number(*round);
                self.bytes(why.as_bytes());
            }
            Input::Evaluated {
                round,
                loss,
                accuracy,
                samples,
            } => {
                self.tag(3);
                self.numbers(&[*round, loss.to_bits(), accuracy.to_bits(), *samples]);
            }
            Input::NotEvaluated { round } => {
                self.tag(4);
                self.number(*round);
            }
            Input::Judged { round, losses } => {
                self.tag(15);
                self.number(*round);
                losses
                    .iter()
                    .flatten()
                    .for_each(|loss| self.number(loss.to_bits()));
            }
            Input::Received { from, bytes } => {
                self.tag(5);
                self.peer(from);
                self.digest_of(&bytes.name());
            }
            Input::Fetched { digest, .. } => {
                self.tag(6);
                self.digest_of(digest);
            }
            Input::FetchFailed { digest, .. } => {
                self.tag(7);
                self.digest_of(digest);
            }
            Input::BodyRequested {
                from,
                digest,
                request,
            } => {
                self.tag(8);
                self.peer(from);
                self.digest_of(digest);
                self.number(*request);
            }
            Input::PeerUp { peer, .. } => {
                self.tag(9);
                self.peer(peer);
            }
            Input::PeerDown { peer } => {
                self.tag(10);
                self.peer(peer);
            }
            Input::AnotherKeyAt { peer, address } => {
                self.tag(15);
                self.peer(peer);
                self.bytes(address.as_bytes());
            }
            Input::Listening { address } => {
                self.tag(11);
                self.bytes(address.as_bytes());
            }
            Input::TimerExpired(timer) => {
                self.tag(12);
                self.timer(*timer);
            }
            Input::Stored(stored) => {
                self.tag(13);
                let (kind, round) = match stored {
                    kith_gossip::Stored::Intent { round } => (0, *round),
                    kith_gossip::Stored::Checkpoint { round } => (1, *round),
                    kith_gossip::Stored::Evidence { .. } => (2, 0),
                    kith_gossip::Stored::Charge { round, .. } => (3, *round),
                    kith_gossip::Stored::Covered { round, .. } => (4, *round),
                };
                self.numbers(&[kind, round]);
            }
            Input::Command(_) => self.tag(14),
        }
        self.end();
    }

    /// An effect of `member` at `now`.
    pub(crate) fn effect(&mut self, now: u64, member: usize, effect: &Effect) {
        self.begin(now, member);
        match effect {
            Effect::Train { round, .. } => {
                self.tag(64);
                self.number(*round);
            }
            Effect::Evaluate { round, .. } => {
                self.tag(65);
                self.number(*round);
            }
            Effect::Judge { round, models } => {
                self.tag(76);
                self.numbers(&[*round, models.len() as u64]);
            }
            Effect::Send { to, bytes } => {
                self.tag(66);
                self.peer(to);
                self.digest_of(&bytes.name());
            }
            Effect::Announce { bytes } => {
                self.tag(67);
                self.digest_of(&bytes.name());
            }
            Effect::Fetch { digest, length, .. } => {
                self.tag(68);
                self.digest_of(digest);
                self.number(*length as u64);
            }
            Effect::Abandon { digest, source } => {
                self.tag(76);
                self.digest_of(digest);
                self.peer(source);
            }
            Effect::Provide { request, body } => {
                self.tag(69);
                self.numbers(&[
                    *request,
                    body.as_ref().map_or(u64::MAX, |body| body.len() as u64),
                ]);
            }
            Effect::Connect { peer, .. } => {
                self.tag(70);
                self.peer(peer);
            }
            Effect::Disconnect { peer, .. } => {
                self.tag(71);
                self.peer(peer);
            }
            Effect::SetTimer { timer, after } => {
                self.tag(72);
                self.timer(*timer);
                self.number(after.as_nanos() as u64);
            }
            Effect::Persist(record) => {
                self.tag(73);
                match record {
                    Record::Intent(intent) => {
                        self.numbers(&[0, intent.round, intent.sequence]);
                        self.digest_of(&intent.state);
                    }
                    Record::Checkpoint(checkpoint) => {
                        self.numbers(&[1, checkpoint.round, checkpoint.sequence])
                    }
                    Record::Evidence { peer, .. } => {
                        self.numbers(&[2]);
                        self.peer(peer);
                    }
                    Record::Charge { round } => self.numbers(&[3, *round]),
                    Record::Cover { round, stated } => self.numbers(&[4, *round, stated.0]),
                }
            }
            Effect::Emit(event) => {
                self.tag(74);
                self.event(event);
            }
            Effect::Stop => self.tag(75),
        }
        self.end();
    }

    /// Of events only those parts that no other input or effect shows. The result of an aggregation
    /// shows in the next promise, and at the end.
    fn event(&mut self, event: &Event) {
        match event {
            Event::Aggregated {
                round,
                models,
                spread,
                ..
            } => {
                self.numbers(&[1, *round, *models as u64, spread.to_bits()]);
            }
            Event::MixingSkipped { round, have, need } => {
                self.numbers(&[2, *round, *have as u64, *need as u64])
            }
            Event::Refused { peer, reason, .. } => {
                self.number(3);
                self.peer(peer);
                self.bytes(reason.name().as_bytes());
            }
            Event::RoundClosed {
                round,
                have,
                awaited,
                ..
            } => self.numbers(&[4, *round, *have as u64, *awaited as u64]),
            Event::Finished { rounds, state } => {
                self.numbers(&[5, *rounds]);
                self.digest_of(state);
            }
            Event::Equivocated { peer, round, .. } => {
                self.numbers(&[6, *round]);
                self.peer(peer);
            }
            Event::Adopted { round, peer, state } => {
                self.numbers(&[7, *round]);
                self.peer(peer);
                self.digest_of(state);
            }
            Event::CaughtUp {
                round,
                models,
                state,
            } => {
                self.numbers(&[9, *round, *models as u64]);
                self.digest_of(&state.digest());
            }
            Event::PrivacySpent { round, epsilon, .. } => {
                self.numbers(&[11, *round, epsilon.to_bits()])
            }
            Event::BudgetExhausted { round, epsilon, .. } => {
                self.numbers(&[12, *round, epsilon.to_bits()])
            }
            Event::LedgerBehind { round, charged, .. } => {
                self.numbers(&[13, *round, charged.to_bits()])
            }
            Event::Unanswered {
                round, answered, ..
            } => self.numbers(&[14, *round, *answered as u64]),
            Event::Over { round } => self.numbers(&[10, *round]),
            Event::Kept { round, expected } => self.numbers(&[8, *round, u64::from(*expected)]),
            _ => {}
        }
    }

    fn timer(&mut self, timer: Timer) {
        let (kind, round) = match timer {
            Timer::Start => (0, 0),
            Timer::Nudge { round } => (1, round),
            Timer::Deadline { round } => (2, round),
            Timer::Linger => (3, 0),
            Timer::Redial => (4, 0),
            Timer::Answers { round } => (5, round),
        };
        self.numbers(&[kind, round]);
    }

    fn begin(&mut self, now: u64, member: usize) {
        self.numbers(&[now, member as u64]);
    }

    fn end(&mut self) {
        if self.block.len() >= BLOCK_BYTES {
            self.hasher.update(&self.block);
            self.block.clear();
        }
    }

    fn tag(&mut self, tag: u8) {
        self.block.push(tag);
    }

    fn number(&mut self, number: u64) {
        self.block.extend_from_slice(&number.to_le_bytes());
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.number(*number));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.block.extend_from_slice(bytes);
    }

    fn peer(&mut self, peer: &PeerId) {
        self.block.extend_from_slice(&peer.0);
    }

    fn digest_of(&mut self, digest: &Digest) {
        self.block.extend_from_slice(&digest.0);
    }
}
