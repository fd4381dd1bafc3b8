//! `replicas-agree`: the vector that a peer holds for an honest sender is one that the sender
//! published.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::{Digest, PeerId};
use kith_gossip::{Effect, Event, Input, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "replicas-agree",
    help: "a peer's copy of an honest sender's vector is one that the sender published",
    source: "own",
    main_key: None,
    new: |scope| {
        let peers = scope.ids.len();
        Box::new(ReplicasAgree {
            published: vec![BTreeMap::new(); peers],
            accepted: BTreeMap::new(),
        })
    },
};

struct ReplicasAgree {
    /// Per peer, the states it promised, by round.
    published: Vec<BTreeMap<u64, BTreeSet<Digest>>>,
    /// By peer, the senders and rounds of the updates that it accepted in the last input. One input
    /// can lead to several, and events are shown when all of them are applied.
    accepted: BTreeMap<usize, BTreeMap<PeerId, u64>>,
}

/// Rounds whose states are remembered (guess: neighbours further apart no longer hear each other).
const ROUNDS_KEPT: usize = 16;

impl Check for ReplicasAgree {
    fn effect(&mut self, _: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        // A stateless codec leaves no copy to compare.
        if let Effect::Persist(Record::Intent(intent)) = effect
            && moment.peer.keeps_replicas()
        {
            let published = &mut self.published[moment.member];
            published
                .entry(intent.round)
                .or_default()
                .insert(intent.state);
            while published.len() > ROUNDS_KEPT {
                published.pop_first();
            }
        }
        None
    }

    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        if let Event::Accepted { of, peer, .. } = event
            && moment.peer.replica_of(peer).is_some()
        {
            self.accepted
                .entry(moment.member)
                .or_default()
                .insert(*peer, *of);
        }
        None
    }

    fn input(&mut self, scope: &Scope, moment: &Moment<'_>, _: &Input) -> Breach {
        self.accepted
            .remove(&moment.member)?
            .into_iter()
            .find_map(|(peer, of)| {
                let sender = scope.number(&peer).filter(|sender| !scope.lies[*sender])?;
                let held = moment.peer.replica_of(&peer)?;
                let known = self.published[sender].get(&of)?.contains(&held);
                (!known).then(|| {
                    format!(
                        "its copy of {} is none that {} published in round {of}",
                        peer.short(),
                        peer.short()
                    )
                })
            })
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.accepted.remove(&moment.member);
    }
}
