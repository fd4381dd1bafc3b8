//! How peers keep step: one file for each mode.
//!
//! A [`RoundMode`] decides how one way of going through rounds differs from another: whom a peer
//! tells its update, which updates it admits, whom a round waits for and when it is complete, and
//! what each model weighs. Two things that a mode declares are asked for elsewhere: its [`Pace`],
//! and whether a round is a question to one partner. A mode decides and does not act: it looks at a [`Scene`] and
//! answers. The peer sends, waits and combines.
//!
//! # Two modes that do not exist yet
//!
//! The trait was checked on paper against these.
//!
//! *Groups that learn only a sum.* Peers of a group agree on a roll, mask their vectors against
//! each other, and unmask the sum of those that came. `audience` is the group instead of the
//! graph's neighbours, and `meet` refuses an update of a peer that is not on the roll. `wait` keeps
//! the window, opened for the group, and `is_complete` holds once each member of the roll has sent
//! its masked vector, or enough shares to remove the masks of those that are missing. Masking is a
//! stage of `release`, after noise and before sealing. What a round mixes is one row, the sum, so
//! `weight` is the number of peers in it. The trait lacks one thing for it: messages of its own
//! (roll, shares), that is one method that takes an opened message and returns what to send.
//!
//! *Membership that grows while a run continues.* A round has the roster that was in force when it
//! opened. The graph of a round follows from that roster, so `audience` and `is_for` ask the
//! scene's overlay with the round, as they do now, and so does the check that a sender is a
//! neighbour (`updates`). A newcomer is refused for rounds before its first one. `lead` follows
//! from the largest roster. The trait lacks nothing for it. The overlay needs a roster for each
//! height in place of one.

mod asynchronous;
mod pairwise;
mod staged;
mod synchronous;

use kith_consensus::PeerId;
use kith_consensus::charter::Charter;
use kith_consensus::mode::Mode;
use kith_consensus::mutant::{Mutant, planted};

use super::exchange::{AHEAD_MIN, Applied, Exchange};
use super::overlay::Overlay;
use super::window::Window;
use crate::refusal::Refusal;

/// What a mode looks at when it decides.
pub(super) struct Scene<'a> {
    pub(super) charter: &'a Charter,
    pub(super) own: &'a PeerId,
    /// The round that this peer is in.
    pub(super) round: u64,
    pub(super) overlay: &'a Overlay,
    pub(super) exchange: &'a Exchange,
    pub(super) window: &'a Window,
    /// Whether the peer publishes nothing in this round and takes what others say.
    pub(super) listens: bool,
}

/// How peers' rounds relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Neighbours are in the same round or near it. A peer's round shows how far the others are,
    /// and a peer that is behind goes forward. An update counts in its round.
    InStep,
    /// Each peer goes at its own speed, and one that is behind is only slow. The newest update of
    /// each neighbour counts until a newer one comes.
    Free,
}

impl Pace {
    /// The newest round of which a peer in `round` works on updates.
    pub(super) fn newest(self, round: u64) -> u64 {
        match self {
            Pace::InStep => round,
            Pace::Free => u64::MAX,
        }
    }

    /// How old an update is for a peer in `round`, in that peer's rounds.
    pub(super) fn age(self, applied: &Applied, round: u64) -> u64 {
        round.saturating_sub(match self {
            Pace::InStep => applied.round,
            Pace::Free => applied.heard,
        })
    }
}

/// Whom a round waits for once the peer's own update is on its way.
pub(super) enum Wait {
    /// For those that the window was opened for.
    Window,
    /// For this neighbour, or for nobody: then the round closes at once.
    For(Option<PeerId>),
}

/// What is owed to a neighbour that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// This peer's update of the round that was asked for.
    Asked,
    /// The newest update that is promised, or the next one if there is none yet.
    Newest,
    /// A message that there is no update of that round.
    Skip,
    Nothing,
}

/// A way to keep step. See the module's documentation.
pub(super) trait RoundMode: Send {
    fn pace(&self) -> Pace;

    /// Rounds that a neighbour can be ahead of this peer while nobody fails.
    fn lead(&self, charter: &Charter) -> u64 {
        match self.pace() {
            Pace::InStep => charter.topology.lead(charter.membership.peers),
            Pace::Free => AHEAD_MIN,
        }
    }

    /// Whether peers train in this round, or pass on the models that they have.
    fn trains(&self, _charter: &Charter, _round: u64) -> bool {
        true
    }

    /// Deadlines after which a round closes with what it has.
    fn deadlines(&self, _charter: &Charter, _round: u64) -> u32 {
        1
    }

    // --- whom to tell ---

    /// The peers that are told this peer's update of the scene's round when it is published.
    fn audience(&mut self, scene: &Scene<'_>) -> Vec<PeerId> {
        scene.overlay.audience(scene.own, scene.round)
    }

    /// Whether this peer's update of `round` is for `peer`.
    fn is_for(&self, scene: &Scene<'_>, peer: &PeerId, round: u64) -> bool {
        scene.overlay.audience(scene.own, round).contains(peer)
    }

    /// Whether `peer` may pull the body of this peer's update of `round`.
    fn may_pull(&self, scene: &Scene<'_>, peer: &PeerId, round: u64) -> bool {
        self.is_for(scene, peer, round)
    }

    /// The answer to a neighbour that misses this peer's update of `round`.
    fn answer(&self, _scene: &Scene<'_>, _peer: &PeerId, _round: u64) -> Reply {
        Reply::Asked
    }

    /// There is nothing to answer `peer` with yet: it gets the next update.
    fn owe(&mut self, _peer: PeerId) {}

    // --- which updates are admitted ---

    /// A signed header showed that `peer` has published something.
    fn has_published(&mut self, _peer: PeerId) {}

    /// The answer that a neighbour is owed for an update of `round`.
    ///
    /// # Errors
    /// The update is not meant for this peer.
    fn meet(
        &mut self,
        _scene: &Scene<'_>,
        _sender: &PeerId,
        _round: u64,
    ) -> Result<Reply, Refusal> {
        Ok(Reply::Nothing)
    }

    /// Whether an update of `round` may come in now. `ahead` is how far ahead it may be of a peer
    /// that keeps step.
    ///
    /// # Errors
    /// It is too old, or too far ahead.
    fn admit(&self, scene: &Scene<'_>, round: u64, ahead: u64) -> Result<(), Refusal> {
        let (ours, theirs) = (scene.round, round);
        let in_step = self.pace() == Pace::InStep;
        let most = if in_step { ahead } else { scene.charter.rounds };
        if theirs > ours.saturating_add(most) {
            return Err(Refusal::FutureRound { theirs, ours });
        }
        let is_old = in_step && theirs.saturating_add(scene.charter.round.staleness) < ours;
        match is_old && !planted(Mutant::AcceptStale) {
            true => Err(Refusal::StaleRound { theirs, ours }),
            false => Ok(()),
        }
    }

    /// An update was announced for the first time.
    fn announced(&mut self, _scene: &Scene<'_>, _sender: &PeerId, _round: u64) {}

    // --- when a round is complete ---

    /// Whether a round is a question to one partner and its answer. Then an update that is here
    /// already is an answer too, a partner from which nothing can come is given up at once, and a
    /// peer that waits repeats its question.
    fn asks_a_partner(&self) -> bool {
        false
    }

    /// Whom the scene's round waits for once the peer's own update is on its way.
    fn wait(&mut self, _scene: &Scene<'_>) -> Wait {
        Wait::Window
    }

    /// Whether the window holds enough to close. `needs` is how many models a peer that listens
    /// has to hear.
    fn is_complete(&self, scene: &Scene<'_>, needs: usize) -> bool {
        if self.pace() == Pace::Free && scene.listens {
            return scene.window.counted().count() >= needs.max(1);
        }
        let reachable = |peer: &PeerId| scene.overlay.is_up(peer);
        scene
            .window
            .is_complete(scene.charter.round.quorum, reachable)
    }

    /// Whether a neighbour whose update is not in has thereby missed a deadline.
    fn expects(&self, window: &Window, peer: &PeerId) -> bool;

    // --- which weights ---

    /// The weight of a model of this age among `models`, before the charter's weighting.
    fn weight(&self, scene: &Scene<'_>, peer: &PeerId, _age: u64, _models: usize) -> f64 {
        scene.overlay.mixing_weight(peer, scene.round)
    }
}

/// The mode that a charter names.
pub(super) fn new(charter: &Charter) -> Box<dyn RoundMode> {
    use asynchronous::Asynchronous;
    match charter.round.mode {
        Mode::Synchronous if charter.topology.has_stages(charter.membership.peers) => {
            Box::new(staged::Staged)
        }
        Mode::Synchronous => Box::new(synchronous::Synchronous),
        Mode::Asynchronous(staleness) => Box::new(Asynchronous { staleness }),
        Mode::Pairwise => Box::new(pairwise::Pairwise::default()),
    }
}
