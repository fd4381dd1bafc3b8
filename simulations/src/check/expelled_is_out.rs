//! `expelled-is-out`: from the moment that a peer convicts another, nothing of the other's counts there.

use std::collections::BTreeSet;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "expelled-is-out",
    help: "nothing of a convicted peer's is accepted or combined any more",
    new: |scope| Box::new(ExpelledIsOut { expelled: vec![BTreeSet::new(); scope.ids.len()] }),
};

struct ExpelledIsOut {
    /// Per peer, whom it has convicted in this life.
    expelled: Vec<BTreeSet<PeerId>>,
}

impl Check for ExpelledIsOut {
    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let expelled = &mut self.expelled[moment.member];
        match event {
            Event::Equivocated { peer, .. } => {
                expelled.insert(*peer);
                None
            }
            Event::Accepted { round, peer, .. } if expelled.contains(peer) => {
                Some(format!("it accepted an update in round {round} from {}, whom it has convicted", peer.short()))
            }
            Event::Aggregated { round, dropped, .. } => {
                let counted = dropped.iter().find(|dropped| expelled.contains(&dropped.peer))?;
                Some(format!("it combined in round {round} what {} sent, whom it has convicted", counted.peer.short()))
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.expelled[moment.member].clear();
    }
}
