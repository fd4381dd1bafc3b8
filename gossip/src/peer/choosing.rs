//! Whose updates a round waits for and mixes: the selection's input about each neighbour, and its
//! decision.
//!
//! The memory of neighbours lives as long as the process: after a restart each counts as quick
//! until it is late again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kith_consensus::PeerId;
use kith_consensus::charter::Charter;
use kith_consensus::selection::{Candidate, stream};

use super::exchange::Applied;
use super::overlay::Overlay;
use super::window::Window;

/// Rounds whose start of waiting is remembered. An update of an older one counts as a whole
/// deadline late (guess).
const ROUNDS_KEPT: usize = 64;

#[derive(Debug)]
pub(super) struct Choosing {
    /// Whether every neighbour is chosen; then nothing below is kept.
    everyone: bool,
    /// Whether the round mixes every update that comes in time, awaited or not.
    takes_others: bool,
    /// Whom the selection waits for in this round, whether they can still come or not.
    awaited: BTreeSet<PeerId>,
    /// The losses claimed by those that have come.
    losses: BTreeMap<PeerId, f64>,
    /// Factor of the mixing weights of this round's contributions.
    factor: f64,
    /// When the newest rounds began to wait.
    began: BTreeMap<u64, Duration>,
    /// How late each neighbour's newest update came, see [`Candidate::lateness`].
    lateness: BTreeMap<PeerId, f64>,
    /// The last round in which each neighbour was awaited.
    last: BTreeMap<PeerId, u64>,
}

impl Default for Choosing {
    fn default() -> Choosing {
        Choosing {
            everyone: true,
            takes_others: true,
            awaited: BTreeSet::new(),
            losses: BTreeMap::new(),
            factor: 1.0,
            began: BTreeMap::new(),
            lateness: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }
}

impl Choosing {
    /// A round opens: whom it waits for, and how many the selection chose, including peers that can
    /// no longer come.
    pub(super) fn open(
        &mut self,
        charter: &Charter,
        overlay: &Overlay,
        own: &PeerId,
        round: u64,
        neighbours: &[PeerId],
    ) -> (Vec<PeerId>, usize) {
        let selection = &charter.round.selection;
        self.everyone = selection.is_everyone();
        if self.everyone {
            return (
                overlay.awaited(neighbours.to_vec(), round),
                neighbours.len(),
            );
        }
        let candidates: Vec<Candidate> = neighbours
            .iter()
            .map(|peer| self.candidate(peer, overlay, round))
            .collect();
        let least = charter.aggregation.rule.minimum().max(2) - 1;
        let places = selection.awaits(&candidates, least, &mut stream(charter.seed, round, own));
        let chosen: Vec<PeerId> = places.into_iter().map(|place| neighbours[place]).collect();
        self.takes_others = selection.takes_others();
        self.awaited = chosen.iter().copied().collect();
        self.losses.clear();
        self.factor = 1.0;
        self.last.extend(chosen.iter().map(|peer| (*peer, round)));
        let count = chosen.len();
        (
            if selection.is_patient() {
                chosen
            } else {
                overlay.awaited(chosen, round)
            },
            count,
        )
    }

    fn candidate(&self, peer: &PeerId, overlay: &Overlay, round: u64) -> Candidate {
        Candidate {
            loss: self.losses.get(peer).copied(),
            missed: overlay.missed(peer),
            lateness: self.lateness.get(peer).copied(),
            since: self.last.get(peer).map(|last| round.saturating_sub(*last)),
            away: !overlay.may_come(peer),
        }
    }

    /// A round begins to wait.
    pub(super) fn collects(&mut self, round: u64, now: Duration) {
        if self.everyone {
            return;
        }
        self.began.insert(round, now);
        while self.began.len() > ROUNDS_KEPT {
            self.began.pop_first();
        }
    }

    /// An update came, perhaps too late.
    pub(super) fn heard(
        &mut self,
        sender: PeerId,
        update: &Applied,
        round: u64,
        now: Duration,
        deadline: Duration,
    ) {
        if self.everyone {
            return;
        }
        let lateness = match self.began.get(&update.round) {
            Some(began) => now.saturating_sub(*began).as_secs_f64() / deadline.as_secs_f64(),
            None if update.round >= round => 0.0,
            None => 1.0,
        };
        self.lateness.insert(sender, lateness);
        if let Some(loss) = update.loss.filter(|_| update.round == round) {
            self.losses.insert(sender, loss);
        }
    }

    /// Whether an update of this round is mixed if it comes in time and stays among the chosen.
    pub(super) fn takes(&self, peer: &PeerId) -> bool {
        self.everyone || self.takes_others || self.awaited.contains(peer)
    }

    /// Whether a neighbour was on time; `None` if nobody waited for it and its update is not in.
    pub(super) fn on_time(&self, peer: &PeerId, is_in: bool) -> Option<bool> {
        (is_in || self.everyone || self.awaited.contains(peer)).then_some(is_in)
    }

    /// The round is closed: only the contributions that are mixed stay in the window.
    pub(super) fn close(
        &mut self,
        charter: &Charter,
        overlay: &Overlay,
        round: u64,
        window: &mut Window,
    ) {
        if self.everyone {
            return;
        }
        let selection = &charter.round.selection;
        let come: Vec<PeerId> = window.counted().map(|(peer, _)| *peer).collect();
        let candidates: Vec<Candidate> = come
            .iter()
            .map(|peer| self.candidate(peer, overlay, round))
            .collect();
        let mixed: BTreeSet<PeerId> = selection
            .mixes(&candidates)
            .into_iter()
            .map(|place| come[place])
            .collect();
        let weight = |peer: &PeerId| overlay.mixing_weight(peer, round);
        let all: Vec<f64> = overlay.receives_from(round).iter().map(weight).collect();
        let awaited: Vec<f64> = self.awaited.iter().map(weight).collect();
        self.factor = selection.factor(
            &all,
            &awaited,
            &mixed.iter().map(weight).collect::<Vec<_>>(),
        );
        window.keep(&mixed);
    }

    /// Factor of the mixing weights of the contributions.
    pub(super) fn factor(&self) -> f64 {
        self.factor
    }
}
