//! `lateness-is-bounded`: a liar that is late in every second round costs few deadlines.
//!
//! Rounds cease to wait for it, and each time it takes twice as many updates in time until they wait
//! again. Where a rule needs every neighbour, rounds wait for all in any case.

use std::time::Duration;

use kith_gossip::Event;
use kith_gossip::event::Closed;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

const NAME: &str = "lateness-is-bounded";

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: NAME,
    help: "a liar that is late now and then costs few deadlines",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(LatenessIsBounded {
            rounds: vec![(0, 0); scope.ids.len()],
        })
    },
};

/// Rounds from which a share of them says something (guess).
const ROUNDS_MIN: u64 = 30;

struct LatenessIsBounded {
    /// By member, its rounds, and those that lasted until the deadline for want of liars alone.
    rounds: Vec<(u64, u64)>,
}

impl Check for LatenessIsBounded {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let Event::RoundClosed { why, missing, .. } = event else {
            return None;
        };
        let (rounds, late) = &mut self.rounds[moment.member];
        *rounds += 1;
        let waited = *why == Closed::Deadline && !missing.is_empty();
        let for_liars = missing.iter().all(|peer| !scope.is_honest(peer));
        *late += u64::from(waited && for_liars);
        None
    }

    fn ended(&mut self, scope: &Scope, _: Duration, _: &[usize]) -> Breach {
        if !scope.clear || !scope.is_attacked(NAME) {
            return None;
        }
        let graph = scope.charter.topology.graph(scope.ids.len(), 0).ok()?;
        let needed = scope.charter.aggregation.rule.minimum().max(2);
        let has_enough = |member: usize| {
            let senders = graph.receives_from(member).iter();
            senders.filter(|sender| !scope.lies[**sender]).count() + 1 >= needed
        };
        let mut members = self.rounds.iter().enumerate();
        let (member, (rounds, late)) = members.find(|(member, (rounds, late))| {
            let watched = !scope.lies[*member] && has_enough(*member);
            watched && *rounds >= ROUNDS_MIN && 3 * late > *rounds
        })?;
        Some(format!(
            "{late} of {rounds} rounds of peer {member} lasted until the deadline for want of liars"
        ))
    }
}
