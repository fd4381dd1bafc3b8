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

impl LatenessIsBounded {
    /// Whether a member's graph of that round has enough honest senders, so that it could do without
    /// the liars.
    fn has_enough(scope: &Scope, member: usize, round: u64) -> Option<bool> {
        let graph = scope.charter.topology.graph(scope.ids.len(), round).ok()?;
        let needed = scope.charter.aggregation.rule.minimum().max(2);
        let senders = graph.receives_from(member).iter();
        Some(senders.filter(|sender| !scope.lies[**sender]).count() + 1 >= needed)
    }
}

impl Check for LatenessIsBounded {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let Event::RoundClosed {
            round,
            why,
            missing,
            ..
        } = event
        else {
            return None;
        };
        let member = moment.member;
        self.rounds[member].0 += 1;
        let waited = *why == Closed::Deadline && !missing.is_empty();
        let for_liars = missing.iter().all(|peer| !scope.is_honest(peer));
        if waited && for_liars && scope.is_attacked(NAME) {
            let in_vain = Self::has_enough(scope, member, *round)?;
            self.rounds[member].1 += u64::from(in_vain);
        }
        None
    }

    fn ended(&mut self, scope: &Scope, _: Duration, _: &[usize]) -> Breach {
        if !scope.clear {
            return None;
        }
        let mut members = self.rounds.iter().enumerate();
        let (member, (rounds, late)) = members.find(|(member, (rounds, late))| {
            !scope.lies[*member] && *rounds >= ROUNDS_MIN && 3 * late > *rounds
        })?;
        Some(format!(
            "{late} of {rounds} rounds of peer {member} lasted until the deadline for want of liars"
        ))
    }
}
