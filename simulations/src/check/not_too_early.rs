//! `not-too-early`: a round that closes by its deadline has lasted that long, unless f + 1 neighbours are two rounds ahead or more,
//! so that waiting is of no use.

use std::time::Duration;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;
use kith_gossip::event::Closed;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "not-too-early",
    help: "a round closes by its deadline no sooner than that, unless f + 1 neighbours are far ahead",
    new: |scope| Box::new(NotTooEarly { opened: vec![Duration::ZERO; scope.ids.len()], reached: vec![0; scope.ids.len()] }),
};

/// Clocks of worlds run at most 1.5 times as fast as they should.
const FASTEST_CLOCK: f64 = 1.5;

struct NotTooEarly {
    /// When each peer opened its round.
    opened: Vec<Duration>,
    /// The latest round that each peer has ever been in.
    reached: Vec<u64>,
}

impl Check for NotTooEarly {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::RoundOpened { round, .. } => {
                self.opened[moment.member] = moment.now;
                self.reached[moment.member] = self.reached[moment.member].max(*round);
                None
            }
            Event::Finished { rounds, .. } => {
                self.reached[moment.member] = *rounds;
                None
            }
            Event::RoundClosed { round, why, .. } => {
                // While it stores what comes out it is in the next one, and says so.
                self.reached[moment.member] = self.reached[moment.member].max(round + 1);
                let lasted = moment.now.saturating_sub(self.opened[moment.member]);
                let deadline = scope.charter.round.deadline;
                if *why == Closed::Quorum || lasted.as_secs_f64() * FASTEST_CLOCK * 1.001 >= deadline.as_secs_f64() {
                    return None;
                }
                let graph = scope.charter.topology.graph(scope.ids.len(), *round).ok()?;
                let ends = graph.receives_from(moment.member).iter().chain(graph.sends_to(moment.member));
                let neighbours: std::collections::BTreeSet<usize> = ends.copied().collect();
                let ahead = neighbours.iter().filter(|peer| scope.lies[**peer] || self.reached[**peer] >= round + 2).count();
                let needed = scope.charter.aggregation.byzantine + 1;
                (ahead < needed).then(|| format!("it closed round {round} by its deadline of {deadline:?} after {lasted:?}"))
            }
            _ => None,
        }
    }
}
