//! `counted-once`: no update enters a round twice, and no more models are combined than came in.

use std::collections::BTreeSet;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_consensus::charter::Mode;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "counted-once",
    help: "no update is counted twice",
    new: |scope| {
        Box::new(CountedOnce { accepted: vec![Vec::new(); scope.ids.len()], since: vec![BTreeSet::new(); scope.ids.len()] })
    },
};

struct CountedOnce {
    /// Per peer, (the update's round, the sender's number) accepted in this life, of rounds that are not stale.
    accepted: Vec<Vec<(u64, usize)>>,
    /// Per peer, of whom something came since it combined, where rounds are not in step.
    since: Vec<BTreeSet<PeerId>>,
}

impl Check for CountedOnce {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        // Without rounds in step, whatever came since the last time is combined, one update of each sender.
        let in_step = scope.charter.round.mode == Mode::Synchronous;
        let kept = &mut self.accepted[moment.member];
        match event {
            Event::Accepted { of, peer, .. } => {
                let update = (*of, scope.number(peer)?);
                let fresh = !kept.contains(&update);
                kept.push(update);
                if !in_step {
                    self.since[moment.member].insert(*peer);
                }
                (!fresh).then(|| format!("it accepted the update of round {of} from {} twice", peer.short()))
            }
            Event::Aggregated { round, models, .. } => {
                let since = std::mem::take(&mut self.since[moment.member]).len();
                let came = if in_step { kept.iter().filter(|(of, _)| of == round).count() } else { since };
                kept.retain(|(of, _)| of.saturating_add(scope.charter.round.staleness) >= *round); // an older one is stale
                (*models > came + 1).then(|| format!("it combined {models} models in round {round}, {came} came in"))
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.accepted[moment.member].clear();
        self.since[moment.member].clear();
    }
}
