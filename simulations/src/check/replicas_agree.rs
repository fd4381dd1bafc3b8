//! `replicas-agree`: what a peer holds as an honest sender's vector is one that the sender published.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::Digest;
use kith_gossip::{Effect, Event, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "replicas-agree",
    help: "a peer's copy of an honest sender's vector is one that the sender published",
    new: |scope| Box::new(ReplicasAgree { published: vec![BTreeMap::new(); scope.ids.len()] }),
};

struct ReplicasAgree {
    /// Per peer, the states it promised, by round.
    published: Vec<BTreeMap<u64, BTreeSet<Digest>>>,
}

impl Check for ReplicasAgree {
    fn effect(&mut self, _: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        if let Effect::Persist(Record::Intent(intent)) = effect {
            let published = &mut self.published[moment.member];
            published.entry(intent.round).or_default().insert(intent.state);
            while published.len() > 64 {
                published.pop_first();
            }
        }
        None
    }

    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let Event::Accepted { of, peer, .. } = event else { return None };
        let sender = scope.number(peer).filter(|sender| !scope.lies[*sender])?;
        let held = moment.peer.replica_of(peer)?;
        let states = self.published[sender].get(of)?;
        let known = states.contains(&held);
        (!known).then(|| format!("its copy of {} is none that {} published in round {}", peer.short(), peer.short(), of))
    }
}
