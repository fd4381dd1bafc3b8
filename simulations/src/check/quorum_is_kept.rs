//! `quorum-is-kept`: a round closes by its quorum only with the charter's share of those it awaits.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;
use kith_gossip::event::Closed;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "quorum-is-kept",
    help: "a round closes by its quorum only with the charter's share of the awaited",
    source: "own",
    main_key: None,
    new: |_| Box::new(QuorumIsKept),
};

struct QuorumIsKept;

impl Check for QuorumIsKept {
    fn event(&mut self, scope: &Scope, _: &Moment<'_>, event: &Event) -> Breach {
        let Event::RoundClosed {
            round,
            why: Closed::Quorum,
            awaited,
            missing,
            ..
        } = event
        else {
            return None;
        };
        let (came, quorum) = (awaited - missing.len(), scope.charter.round.quorum);
        let enough = came as f64 >= quorum * *awaited as f64 - 1e-9;
        (!enough)
            .then(|| format!("it closed round {round} by quorum with {came} of {awaited}; the charter wants {quorum} of them"))
    }
}
