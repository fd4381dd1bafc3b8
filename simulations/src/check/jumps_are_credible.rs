//! `jumps-are-credible`: a peer goes on at a later round only where f + 1 of its neighbours can have said that they are there: liars
//! may say anything, honest peers only what is true.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "jumps-are-credible",
    help: "a peer jumps only to a round that f + 1 neighbours can have claimed",
    new: |scope| Box::new(JumpsAreCredible { reached: vec![0; scope.ids.len()] }),
};

struct JumpsAreCredible {
    /// The latest round that each peer has ever been in.
    reached: Vec<u64>,
}

impl Check for JumpsAreCredible {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::RoundOpened { round, .. } | Event::Finished { rounds: round, .. } => {
                let reached = &mut self.reached[moment.member];
                *reached = (*reached).max(*round);
                None
            }
            Event::RoundClosed { round, .. } => {
                // While it stores what came out it is in the next one, and says so.
                let reached = &mut self.reached[moment.member];
                *reached = (*reached).max(round + 1);
                None
            }
            Event::Jumped { from, to } => {
                let graph = scope.charter.topology.graph(scope.ids.len(), *from).ok()?;
                let ends = graph.receives_from(moment.member).iter().chain(graph.sends_to(moment.member));
                let neighbours: std::collections::BTreeSet<usize> = ends.copied().collect();
                let there = neighbours.iter().filter(|peer| scope.lies[**peer] || self.reached[**peer] >= *to).count();
                let needed = scope.charter.aggregation.byzantine + 1;
                (there < needed).then(|| {
                    format!("it jumped from round {from} to {to}, where {there} of its neighbours can be; {needed} must say so")
                })
            }
            _ => None,
        }
    }
}
