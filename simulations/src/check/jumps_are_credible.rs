//! `jumps-are-credible`: a peer jumps to a later round only if f + 1 of its neighbours can have
//! said that they are there: liars may say anything, honest peers only what is true. Where nothing
//! fails and there are two neighbours to ask, two must have said so.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "jumps-are-credible",
    help: "a peer jumps only to a round that f + 1 neighbours can have claimed",
    source: "own",
    main_key: None,
    new: |_| Box::new(JumpsAreCredible),
};

struct JumpsAreCredible;

impl Check for JumpsAreCredible {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let Event::Jumped { from, to } = event else {
            return None;
        };
        let there = scope.neighbours_in(moment.member, *from, *to)?;
        let needed = scope.charter.aggregation.byzantine + 1;
        let can_confirm = scope.neighbours_in(moment.member, *from, 0)?;
        let needed = match scope.clear && can_confirm >= 2 {
            true => needed.max(2),
            false => needed,
        };
        (there < needed)
            .then(|| format!("it jumped from round {from} to {to}, where {there} of its neighbours can be; {needed} must say so"))
    }
}
