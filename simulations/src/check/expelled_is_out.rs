//! `expelled-is-out`: from the moment that a peer convicts another, nothing from the other counts
//! there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "expelled-is-out",
    help: "nothing of a convicted peer's is accepted or combined any more",
    source: "own",
    main_key: None,
    new: |_| {
        Box::new(ExpelledIsOut {
            expelled: BTreeMap::new(),
        })
    },
};

struct ExpelledIsOut {
    /// By peer, those that it has convicted in this life.
    expelled: BTreeMap<usize, BTreeSet<PeerId>>,
}

impl Check for ExpelledIsOut {
    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        if let Event::Equivocated { peer, .. } = event {
            self.expelled
                .entry(moment.member)
                .or_default()
                .insert(*peer);
            return None;
        }
        let expelled = self.expelled.get(&moment.member)?;
        match event {
            Event::Accepted { round, peer, .. } if expelled.contains(peer) => Some(format!(
                "it accepted an update in round {round} from {}, whom it has convicted",
                peer.short()
            )),
            Event::Aggregated { round, dropped, .. } => {
                let counted = dropped
                    .iter()
                    .find(|dropped| expelled.contains(&dropped.peer))?;
                Some(format!(
                    "it combined in round {round} what {} sent, whom it has convicted",
                    counted.peer.short()
                ))
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.expelled.remove(&moment.member);
    }
}
