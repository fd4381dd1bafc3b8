//! `honest-are-heard`: what an honest peer sends is refused only for being early, late or a repetition, never for what it says.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::{Event, Refusal};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "honest-are-heard",
    help: "honest messages are refused only for being early, late, or repeated",
    new: |_| Box::new(HonestAreHeard),
};

struct HonestAreHeard;

impl Check for HonestAreHeard {
    fn event(&mut self, scope: &Scope, _: &Moment<'_>, event: &Event) -> Breach {
        let Event::Refused { peer, reason, .. } = event else { return None };
        let excusable = matches!(
            reason,
            Refusal::StaleRound { .. }
                | Refusal::FutureRound { .. }
                | Refusal::Duplicate
                | Refusal::Unavailable { .. }
                | Refusal::NotANeighbour { .. }
        );
        (!excusable && scope.is_honest(peer)).then(|| format!("it refused the honest {}: {reason}", peer.short()))
    }
}
