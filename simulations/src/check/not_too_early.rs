//! `not-too-early`: a round that closes by its deadline has lasted that long, unless f + 1
//! neighbours are two rounds ahead or more, so that waiting is useless.

use std::time::Duration;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;
use kith_gossip::event::Closed;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "not-too-early",
    help: "a round closes by its deadline no sooner than that, unless f + 1 neighbours are far ahead",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(NotTooEarly {
            opened: vec![Duration::ZERO; scope.ids.len()],
        })
    },
};

/// Clocks of worlds run at most 1.5 times as fast as they should.
const FASTEST_CLOCK: f64 = 1.5;

struct NotTooEarly {
    /// When each peer opened its round.
    opened: Vec<Duration>,
}

impl Check for NotTooEarly {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::RoundOpened { .. } => {
                self.opened[moment.member] = moment.now;
                None
            }
            Event::RoundClosed { round, why, .. } => {
                let lasted = moment.now.saturating_sub(self.opened[moment.member]);
                let deadline = scope.charter.round.deadline;
                if *why == Closed::Quorum
                    || lasted.as_secs_f64() * FASTEST_CLOCK * 1.001 >= deadline.as_secs_f64()
                {
                    return None;
                }
                let ahead = scope.neighbours_in(moment.member, *round, round + 2)?;
                let needed = scope.charter.aggregation.byzantine + 1;
                (ahead < needed).then(|| {
                    format!(
                        "it closed round {round} by its deadline of {deadline:?} after {lasted:?}"
                    )
                })
            }
            _ => None,
        }
    }
}
