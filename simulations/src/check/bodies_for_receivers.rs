//! `bodies-for-receivers`: where the graph stays, a peer gives bodies to nobody but the peers that
//! its updates are for.

use std::collections::BTreeMap;

use kith_consensus::PeerId;
use kith_gossip::{Effect, Input};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "bodies-for-receivers",
    help: "bodies are given to nobody but the peers that an update is for",
    source: "own",
    main_key: None,
    new: |_| {
        Box::new(BodiesForReceivers {
            asked: BTreeMap::new(),
        })
    },
};

struct BodiesForReceivers {
    /// By member, the request that came last, and from which peer.
    asked: BTreeMap<usize, (u64, PeerId)>,
}

impl Check for BodiesForReceivers {
    fn input(&mut self, _: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        if let Input::BodyRequested { from, request, .. } = input {
            self.asked.insert(moment.member, (*request, *from));
        }
        None
    }

    fn effect(&mut self, scope: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        let Effect::Provide {
            request,
            body: Some(_),
        } = effect
        else {
            return None;
        };
        let (last, to) = self.asked.get(&moment.member)?;
        if last != request || scope.charter.topology.changes() {
            return None;
        }
        let graph = scope.charter.topology.graph(scope.ids.len(), 0).ok()?;
        let number = scope.number(to)?;
        (!graph.sends_to(moment.member).contains(&number))
            .then(|| format!("it gave a body to peer {number}, which its updates are not for"))
    }
}
