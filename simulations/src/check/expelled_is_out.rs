//! `expelled-is-out`: from the moment that a peer convicts another, nothing from the other counts
//! there, also after a restart with the proof on its disk.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_gossip::{Event, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "expelled-is-out",
    help: "nothing of a convicted peer's is accepted or combined any more",
    source: "own",
    main_key: None,
    new: |_| {
        Box::new(ExpelledIsOut {
            expelled: BTreeMap::new(),
            stored: BTreeMap::new(),
        })
    },
};

struct ExpelledIsOut {
    /// By peer, those that it has convicted in this life.
    expelled: BTreeMap<usize, BTreeSet<PeerId>>,
    /// By peer, those against which it has a proof on its disk.
    stored: BTreeMap<usize, BTreeSet<PeerId>>,
}

impl Check for ExpelledIsOut {
    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::Equivocated { peer, .. } => {
                self.expelled
                    .entry(moment.member)
                    .or_default()
                    .insert(*peer);
                return None;
            }
            // Its disk may be gone, and the proofs with it.
            Event::Started { resumed: false, .. } => {
                self.stored.remove(&moment.member);
                self.expelled.remove(&moment.member);
                return None;
            }
            _ => {}
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

    fn stored(&mut self, _: &Scope, moment: &Moment<'_>, record: &Record) -> Breach {
        if let Record::Evidence { peer, .. } = record {
            self.stored.entry(moment.member).or_default().insert(*peer);
        }
        None
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        let stored = self.stored.get(&moment.member).cloned();
        self.expelled
            .insert(moment.member, stored.unwrap_or_default());
    }
}
