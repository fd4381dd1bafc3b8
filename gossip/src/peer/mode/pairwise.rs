//! `pairwise`: each peer averages with one neighbour a round, and nobody waits for the slow
//! (AD-PSGD, Lian et al. 2018, arXiv 1710.06952).
//!
//! In its round a peer trains, sends its update to one partner, and waits for that partner's
//! answer, up to the deadline. The partner is drawn from the federation's identity, the peer's
//! place in the roster and the round, so everybody can tell whose partner a peer is. The partner
//! answers at once, in whatever phase it is, with the newest update that it has published, and
//! merges the received update when its own round closes. A peer that answers never waits, so there
//! is no deadlock. Each of k models that came weighs 1/(k + 1): a half if it is one. The paper
//! averages the two current models; here each side contributes what it published last, because a
//! peer signs one update a round and never two.
//!
//! A peer does not wait for a partner that is not known to have published anything, is not
//! connected, or has nothing newer. Only updates count that ask this peer or answer it.

use std::collections::{BTreeMap, BTreeSet};

use kith_consensus::{PeerId, Stream};

use super::{Pace, Reply, RoundMode, Scene, Wait};
use crate::peer::window::Window;
use crate::refusal::Refusal;

/// Which peers asked which. Everything here is bounded by the roster.
#[derive(Debug, Default)]
pub(super) struct Pairwise {
    /// Peers that get an answer as soon as there is an update.
    owed: BTreeSet<PeerId>,
    /// By peer, the round of its newest update that asked this peer.
    asked_by: BTreeMap<PeerId, u64>,
    /// Peers that this peer has asked since they answered last.
    asked: BTreeSet<PeerId>,
    /// Peers that are known to have published something.
    published: BTreeSet<PeerId>,
}

/// The partner of `peer` in its `round`. Every peer computes the same one.
fn partner_of(scene: &Scene<'_>, peer: &PeerId, round: u64) -> Option<PeerId> {
    let neighbours = scene.overlay.audience(peer, round);
    let place = scene.overlay.roster().index(peer)? as u64;
    let seed = scene.charter.genesis.seed();
    let mut random = Stream::derive("kith.v1 pairwise partner", &seed, round, place, 0);
    (!neighbours.is_empty()).then(|| neighbours[random.bounded(neighbours.len() as u64) as usize])
}

/// Whether the update that `peer` made in `round` asks this peer.
fn asks(scene: &Scene<'_>, peer: &PeerId, round: u64) -> bool {
    partner_of(scene, peer, round).as_ref() == Some(scene.own)
}

impl RoundMode for Pairwise {
    fn pace(&self) -> Pace {
        Pace::Free
    }

    fn audience(&mut self, scene: &Scene<'_>) -> Vec<PeerId> {
        let mut audience = std::mem::take(&mut self.owed);
        audience.extend(partner_of(scene, scene.own, scene.round));
        audience.into_iter().collect()
    }

    fn is_for(&self, scene: &Scene<'_>, peer: &PeerId, round: u64) -> bool {
        partner_of(scene, scene.own, round).as_ref() == Some(peer)
    }

    /// An answer goes to whichever neighbour asks.
    fn may_pull(&self, scene: &Scene<'_>, peer: &PeerId, round: u64) -> bool {
        scene.overlay.audience(scene.own, round).contains(peer)
    }

    fn answer(&self, scene: &Scene<'_>, peer: &PeerId, round: u64) -> Reply {
        if asks(scene, peer, round) {
            Reply::Newest
        } else {
            Reply::Nothing
        }
    }

    fn owe(&mut self, peer: PeerId) {
        self.owed.insert(peer);
    }

    fn has_published(&mut self, peer: PeerId) {
        self.published.insert(peer);
    }

    /// An update that asks this peer is answered once.
    fn meet(&mut self, scene: &Scene<'_>, sender: &PeerId, round: u64) -> Result<Reply, Refusal> {
        let asks = asks(scene, sender, round);
        if scene.listens {
            // There is nothing yet that would be worth an answer.
            return Ok(if asks { Reply::Skip } else { Reply::Nothing });
        }
        if asks
            && self
                .asked_by
                .get(sender)
                .is_none_or(|newest| *newest < round)
        {
            self.asked_by.insert(*sender, round);
            return Ok(Reply::Newest);
        }
        match asks || self.asked.contains(sender) {
            true => Ok(Reply::Nothing),
            false => Err(Refusal::NotAPartner { round }),
        }
    }

    fn announced(&mut self, scene: &Scene<'_>, sender: &PeerId, round: u64) {
        if !asks(scene, sender, round) {
            self.asked.remove(sender);
        }
    }

    fn asks_a_partner(&self) -> bool {
        true
    }

    fn wait(&mut self, scene: &Scene<'_>) -> Wait {
        let told = scene.exchange.outgoing(scene.round).is_some();
        let partner = partner_of(scene, scene.own, scene.round);
        let partner = partner.filter(|peer| told && scene.overlay.is_ready(peer));
        self.asked.extend(partner);
        let can_answer = |peer: &PeerId| self.published.contains(peer);
        Wait::For(partner.filter(|peer| can_answer(peer) && scene.overlay.is_awaited(peer)))
    }

    fn expects(&self, window: &Window, peer: &PeerId) -> bool {
        window.awaits(peer)
    }

    fn weight(&self, _scene: &Scene<'_>, _peer: &PeerId, _age: u64, models: usize) -> f64 {
        1.0 / models as f64
    }
}
