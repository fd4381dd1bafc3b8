//! `no-dismissal`: no honest peer sends another honest one away.
//!
//! All peers of a world have one charter, so only a malformed message could be a reason, and honest
//! peers send none.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "no-dismissal",
    help: "no honest peer sends another honest peer away",
    source: "own",
    main_key: None,
    new: |_| Box::new(NoDismissal),
};

struct NoDismissal;

impl Check for NoDismissal {
    fn event(&mut self, scope: &Scope, _: &Moment<'_>, event: &Event) -> Breach {
        let Event::Dismissed { peer, reason } = event else {
            return None;
        };
        let honest = scope.is_honest(peer);
        honest.then(|| format!("it sent the honest {} away: {reason}", peer.short()))
    }
}
