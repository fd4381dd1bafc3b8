//! Pairwise rounds (AD-PSGD): each peer averages with one neighbour a round, and nobody waits for
//! the slow.
//!
//! Lian et al. 2018, arXiv 1710.06952. In its own round a peer trains, sends its update to one
//! partner, drawn from the charter's id, its place in the roster and the round, so that everybody
//! can tell whose partner is who; and waits for that partner's answer, up to the deadline. The
//! partner answers at once, in whatever phase it is, with its newest published update, and merges
//! what it got when its own round closes. So who answers never waits, and there is no deadlock.
//! Each of k models that came weighs 1/(k + 1): a half, where it is one. Averaging is not of the
//! two current models as in the paper, but of what each has published last: a peer signs one update
//! a round, never two.
//!
//! Nobody is waited for who has not been heard to have published anything, is not connected, or has
//! nothing newer. Only updates count that ask this peer or answer it. Not here: how updates travel
//! and are combined.

use std::collections::{BTreeMap, BTreeSet};

use kith_consensus::charter::Mode;
use kith_consensus::{PeerId, Seed, Stream};

use super::{NUDGES, Peer, Phase};
use crate::effect::{Effect, Timer};
use crate::event::{Closed, Refusal};

/// Who has asked whom. Everything here is bounded by the roster.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// To whom an answer is owed as soon as there is an update.
    owed: BTreeSet<PeerId>,
    /// Per peer, the round of its newest update that asked this peer.
    asked_by: BTreeMap<PeerId, u64>,
    /// Whom this peer has asked since they answered last.
    asked: BTreeSet<PeerId>,
    /// Who is known to have published something.
    published: BTreeSet<PeerId>,
}

impl Peer {
    pub(super) fn is_pairwise(&self) -> bool {
        self.charter.round.mode == Mode::Pairwise
    }

    /// With whom `peer` averages in its round; everybody comes to the same.
    fn partner_of(&self, peer: &PeerId, round: u64) -> Option<PeerId> {
        let neighbours = self.overlay.audience(peer, round);
        let place = self.overlay.roster().index(peer)? as u64;
        let mut random = Stream::derive(
            "kith.v1 pairwise partner",
            &Seed(self.charter.id.0),
            round,
            place,
            0,
        );
        (!neighbours.is_empty())
            .then(|| neighbours[random.bounded(neighbours.len() as u64) as usize])
    }

    /// Who is told the own update of a round when it is published.
    pub(super) fn listeners(&mut self, round: u64) -> Vec<PeerId> {
        if !self.is_pairwise() {
            return self.overlay.audience(&self.id, round);
        }
        let mut listeners = std::mem::take(&mut self.pairs.owed);
        listeners.extend(self.partner_of(&self.id, round));
        listeners.into_iter().collect()
    }

    /// Whether the own update of a round was for `peer`.
    pub(super) fn is_for(&self, peer: &PeerId, round: u64) -> bool {
        match self.is_pairwise() {
            true => self.partner_of(&self.id, round).as_ref() == Some(peer),
            false => self.overlay.audience(&self.id, round).contains(peer),
        }
    }

    /// Waits for the partner's answer, where one can be expected.
    pub(super) fn await_partner(&mut self, out: &mut Vec<Effect>) {
        let (round, deadline) = (self.round, self.charter.round.deadline);
        let told = self.exchange.outgoing(round).is_some();
        let partner = self
            .partner_of(&self.id, round)
            .filter(|peer| told && self.overlay.is_ready(peer));
        self.pairs.asked.extend(partner);
        let awaited = partner
            .filter(|peer| self.pairs.published.contains(peer) && self.overlay.is_awaited(peer));
        self.window.await_only(awaited);
        if awaited.is_none() {
            return self.close(Closed::Quorum, out);
        }
        out.push(Effect::SetTimer {
            timer: Timer::Deadline { round },
            after: deadline,
        });
        out.push(Effect::SetTimer {
            timer: Timer::Nudge { round },
            after: deadline / NUDGES,
        });
        self.close_if_complete(out);
    }

    /// A signed header told that `peer` has published.
    pub(super) fn has_published(&mut self, peer: PeerId) {
        if self.is_pairwise() {
            self.pairs.published.insert(peer);
        }
    }

    /// Answers an update that asks this peer, once; refuses one that neither asks nor answers it.
    pub(super) fn admit_partner(
        &mut self,
        sender: PeerId,
        round: u64,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let asks = self.partner_of(&sender, round) == Some(self.id);
        if self.listens() {
            if asks && self.overlay.is_ready(&sender) {
                // There is nothing yet that would be worth an answer.
                let bytes = self.skip_of(round);
                out.push(Effect::Send { to: sender, bytes });
            }
            return Ok(());
        }
        if asks
            && self
                .pairs
                .asked_by
                .get(&sender)
                .is_none_or(|newest| *newest < round)
        {
            self.pairs.asked_by.insert(sender, round);
            self.answer(sender, out);
        }
        if asks || self.pairs.asked.contains(&sender) {
            Ok(())
        } else {
            Err(Refusal::NotAPartner { round })
        }
    }

    /// Sends the newest update that is promised; where there is none, the next one will go.
    fn answer(&mut self, to: PeerId, out: &mut Vec<Effect>) {
        let promised = |round: &u64| self.phase != Phase::Promising || *round != self.round;
        let Some(newest) = self
            .exchange
            .outgoing_rounds()
            .into_iter()
            .rev()
            .find(promised)
        else {
            self.pairs.owed.insert(to);
            return;
        };
        if let Some(bytes) = self
            .announcement_for(&to, newest)
            .filter(|_| self.overlay.is_ready(&to))
        {
            out.push(Effect::Send { to, bytes });
        }
    }

    /// Somebody misses the answer to the update of that round, or to one that was lost.
    pub(super) fn answer_again(&mut self, sender: PeerId, round: u64, out: &mut Vec<Effect>) {
        if self.partner_of(&sender, round) == Some(self.id) {
            self.answer(sender, out);
        }
    }

    /// A partner that is waited for is asked again: the update may be lost, or the answer.
    pub(super) fn ask_again(&mut self, out: &mut Vec<Effect>) {
        for peer in self.window.unheard() {
            let bytes = self
                .announcement_for(&peer, self.round)
                .filter(|_| self.is_pairwise() && self.overlay.is_ready(&peer));
            out.extend(bytes.map(|bytes| Effect::Send { to: peer, bytes }));
        }
    }

    /// The partner's answer is in.
    pub(super) fn answered(&mut self, sender: &PeerId, round: u64) {
        if self.is_pairwise() && self.partner_of(sender, round) != Some(self.id) {
            self.pairs.asked.remove(sender);
        }
    }

    /// Nothing that could be merged will come of this partner in the own round.
    pub(super) fn give_up_on(&mut self, sender: &PeerId, out: &mut Vec<Effect>) {
        if self.is_pairwise() {
            self.window.release(sender);
            self.close_if_complete(out);
        }
    }
}
