//! `counted-once`: no update enters a round twice, and no more models are combined than came in.

use std::collections::BTreeSet;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "counted-once",
    help: "no update is counted twice",
    new: |scope| Box::new(CountedOnce { accepted: vec![BTreeSet::new(); scope.ids.len()] }),
};

struct CountedOnce {
    /// Per peer, (sender, the update's round) accepted in this life, for the newest rounds.
    accepted: Vec<BTreeSet<(u64, PeerId)>>,
}

impl Check for CountedOnce {
    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::Accepted { round, peer, staleness, .. } => {
                let of = round.saturating_sub(*staleness);
                let fresh = self.accepted[moment.member].insert((of, *peer));
                (!fresh).then(|| format!("it accepted the update of round {of} from {} twice", peer.short()))
            }
            Event::Aggregated { round, models, .. } => {
                let kept = &mut self.accepted[moment.member];
                let came = kept.iter().filter(|(of, _)| of == round).count();
                *kept = kept.split_off(&(round.saturating_sub(64), PeerId([0; 32])));
                (*models > came + 1).then(|| format!("it combined {models} models in round {round}, {came} came in"))
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.accepted[moment.member].clear();
    }
}
