//! `over-is-true`: a peer that says that the federation is over has only neighbours that have gone
//! through every round, or that lie.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "over-is-true",
    help: "a peer ends before its last round only when all its honest neighbours have finished",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(OverIsTrue {
            finished: scope.lies.clone(),
        })
    },
};

struct OverIsTrue {
    /// By member, whether it has finished, or lies.
    finished: Vec<bool>,
}

impl Check for OverIsTrue {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::Finished { .. } => self.finished[moment.member] = true,
            Event::Over { round } => {
                let unfinished = |peer: &_| {
                    scope
                        .number(peer)
                        .is_some_and(|number| !self.finished[number])
                };
                let neighbour = moment.peer.neighbours().into_iter().find(unfinished);
                return neighbour.map(|peer| {
                    format!(
                        "it ended in round {round} though {} has not finished",
                        peer.short()
                    )
                });
            }
            _ => {}
        }
        None
    }
}
