//! `heals`: once faults have stopped, every honest peer that runs goes through every round within
//! the world's bound.
//!
//! It also leaves within that bound, unless a liar that goes on talking keeps it: a peer that has
//! finished stays for neighbours that have not. A peer that comes back when every other honest one
//! has left has nobody but liars to go through its rounds with, and may take as long as they like.

use std::collections::BTreeSet;
use std::time::Duration;

use kith_gossip::Event;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "heals",
    help: "once faults stop, everybody finishes within the world's bound",
    source: "own",
    main_key: None,
    new: |_| {
        Box::new(Heals {
            finished: Duration::ZERO,
            left: BTreeSet::new(),
        })
    },
};

struct Heals {
    /// When the last peer finished that had others.
    finished: Duration,
    /// The members that have left.
    left: BTreeSet<usize>,
}

impl Check for Heals {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::Finished { .. } | Event::Over { .. } => {
                let mut others = (0..scope.ids.len()).filter(|other| *other != moment.member);
                if others.any(|other| !scope.lies[other] && !self.left.contains(&other)) {
                    self.finished = moment.now;
                }
            }
            Event::Left { .. } => {
                self.left.insert(moment.member);
            }
            Event::Started { .. } => {
                self.left.remove(&moment.member);
            }
            _ => {}
        }
        None
    }

    fn ended(&mut self, scope: &Scope, now: Duration, unfinished: &[usize]) -> Breach {
        let over = match scope.is_spoken_to() {
            true => self.finished,
            false => now,
        };
        let late = over.saturating_sub(scope.healed_at);
        if let Some(first) = unfinished.first() {
            let (count, round) = (unfinished.len(), scope.charter.rounds);
            return Some(format!(
                "{count} peers (the first is {first}) have not gone through {round} rounds at {now:?}"
            ));
        }
        let within = scope.heals_within;
        (late > within).then(|| {
            format!("it took {late:?} after the last fault, at most {within:?} are allowed")
        })
    }
}
