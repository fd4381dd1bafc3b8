//! `departures-are-true`: a peer takes an honest one for gone only if that has said goodbye in this
//! run.

use kith_gossip::Event;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "departures-are-true",
    help: "an honest peer is taken for gone only if it has said so in this run",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(DeparturesAreTrue {
            gone: vec![false; scope.ids.len()],
        })
    },
};

struct DeparturesAreTrue {
    /// By member, whether it has ever finished or left.
    gone: Vec<bool>,
}

impl Check for DeparturesAreTrue {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::Finished { .. } | Event::Left { .. } => self.gone[moment.member] = true,
            Event::Departed { peer, .. } => {
                let number = scope.number(peer).filter(|number| !scope.lies[*number])?;
                return (!self.gone[number])
                    .then(|| format!("it takes peer {number} for gone, which said no goodbye"));
            }
            _ => {}
        }
        None
    }
}
