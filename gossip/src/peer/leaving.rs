//! The end: the last round, what a peer still owes when it is done, goodbyes, and a federation that
//! is over.
//!
//! A peer that has finished stays as long as a connected neighbour may still need one of its last
//! updates: it said goodbye, so that nobody waits for another one, and serves what it has sent. A
//! neighbour needs nothing more once it has finished itself or is gone. If it hears nothing from
//! the others for a whole deadline, it leaves. A peer that stops before its last round may come
//! back: the others treat it as absent.

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId};

use super::{Peer, Phase};
use crate::effect::{Effect, Timer};
use crate::envelope::Kind;
use crate::event::Event;
use crate::message::Goodbye;
use crate::packet::Opened;
use crate::refusal::Refusal;
use crate::wire;

impl Peer {
    /// Every round is done.
    pub(super) fn finish(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Lingering;
        let state = Digest::of_values(&self.parameters);
        out.push(Effect::Emit(Event::Finished {
            rounds: self.round,
            state,
        }));
        self.say_goodbye(true, out);
        self.linger(out);
        self.leave_when_done(out);
    }

    /// The evaluation that was asked for has come back, or there is none.
    pub(super) fn evaluated(&mut self, round: u64, out: &mut Vec<Effect>) {
        if self.evaluating == Some(round) && !planted(Mutant::NeverEvaluated) {
            self.evaluating = None;
            self.leave_when_done(out);
        }
    }

    fn linger(&mut self, out: &mut Vec<Effect>) {
        self.asked_lately = false;
        out.push(Effect::SetTimer {
            timer: Timer::Linger,
            after: self.charter.round.deadline,
        });
    }

    /// A whole deadline has passed since the peer finished, or since it looked last. It stays if a
    /// neighbour has shown meanwhile that it is still running.
    pub(super) fn linger_on(&mut self, out: &mut Vec<Effect>) {
        // Its last evaluation is waited for as long as it takes.
        if self.asked_lately || self.evaluating.is_some() {
            self.linger(out)
        } else {
            self.stop("every round is done", out)
        }
    }

    /// After the last round: stops once its model is evaluated and no connected neighbour can still
    /// need an update of this peer.
    pub(super) fn leave_when_done(&mut self, out: &mut Vec<Effect>) {
        if self.phase != Phase::Lingering || self.evaluating.is_some() {
            return;
        }
        // Neighbours of earlier rounds may be behind by the topology's lead.
        let oldest = if self.charter.topology.changes() {
            self.charter.rounds.saturating_sub(self.ahead + 1)
        } else {
            self.last_round()
        };
        let mut neighbours =
            (oldest..=self.last_round()).flat_map(|round| self.overlay.neighbourhood(round));
        if !neighbours.any(|peer| self.overlay.is_up(&peer) && !self.overlay.has_finished(&peer)) {
            self.stop("every round is done", out);
        }
    }

    pub(super) fn stop(&mut self, why: &str, out: &mut Vec<Effect>) {
        let finished = self.round >= self.charter.rounds;
        if !finished {
            self.say_goodbye(false, out);
        }
        self.phase = Phase::Stopped;
        let history = self.history.clone();
        out.push(Effect::Emit(Event::Left {
            round: self.round,
            finished,
            why: why.to_owned(),
            history,
        }));
        out.push(Effect::Stop);
    }

    fn say_goodbye(&mut self, finished: bool, out: &mut Vec<Effect>) {
        let bytes = self.farewell(finished);
        // Every connected peer: other rounds have other neighbours, and some may still be in those
        // rounds.
        for peer in self.overlay.everyone_ready() {
            out.push(Effect::Send {
                to: peer,
                bytes: bytes.clone(),
            });
        }
    }

    pub(super) fn farewell(&self, finished: bool) -> crate::packet::Packet {
        self.seal(
            Kind::Goodbye,
            Digest::default(),
            wire::encode(&Goodbye { finished }),
        )
    }

    /// A neighbour said goodbye. If it has finished, it said so after its last update, and serves
    /// that as long as it is connected. If not, it may come back, and is waited for like any other
    /// absent peer.
    pub(super) fn goodbye(
        &mut self,
        from: PeerId,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let Goodbye { finished } = wire::decode(envelope.payload())?;
        let sender = envelope.header.sender;
        // A peer that is connected here says goodbye itself, after its handshake. Of one that is
        // not, a copy that others hand over, or that it passes on itself, may be older than what is
        // known of it. Of one that was never met, nobody can tell.
        let is_overtaken = self.overlay.may_have_said_more(&sender, envelope.header)
            && !planted(Mutant::BelieveOldGoodbye);
        let is_ready = self.overlay.is_ready(&sender);
        let says_itself = from == sender && is_ready;
        if !says_itself && (is_ready || is_overtaken) {
            return Ok(());
        }
        if !finished || self.overlay.finish(sender) {
            out.push(Effect::Emit(Event::Departed {
                peer: sender,
                finished,
            }));
        }
        self.close_if_complete(out);
        self.leave_when_done(out);
        Ok(())
    }

    /// Whether nothing more can come from anybody: all peers that this one has met, and all its
    /// neighbours, have finished and are gone, or were expelled.
    pub(super) fn is_over(&self) -> bool {
        let met = self.overlay.everyone_met();
        let neighbours = self.overlay.neighbourhood(self.last_or_current_round());
        let finished = met.iter().any(|peer| self.overlay.has_finished(peer));
        finished
            && !met
                .iter()
                .chain(&neighbours)
                .any(|peer| self.overlay.may_come(peer))
    }

    /// There is nobody left to train with.
    pub(super) fn end_alone(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::Emit(Event::Over { round: self.round }));
        self.stop("the federation is over: every neighbour has finished", out);
    }
}
