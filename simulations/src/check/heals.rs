//! `heals`: once faults have stopped, every honest peer that runs goes through every round within
//! the world's bound.

use std::time::Duration;

use super::{Breach, Check, CheckEntry, Scope};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "heals",
    help: "once faults stop, everybody finishes within the world's bound",
    source: "own",
    main_key: None,
    new: |_| Box::new(Heals),
};

struct Heals;

impl Check for Heals {
    fn ended(&mut self, scope: &Scope, now: Duration, unfinished: &[usize]) -> Breach {
        let late = now.saturating_sub(scope.healed_at);
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
