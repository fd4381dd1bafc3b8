//! `no-contradiction`: an honest peer is never convicted of contradicting itself, no matter how
//! often it crashes and restarts, with or without its disk.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "no-contradiction",
    help: "no honest peer is convicted of equivocation",
    source: "own",
    main_key: None,
    new: |_| Box::new(NoContradiction),
};

struct NoContradiction;

impl Check for NoContradiction {
    fn event(&mut self, scope: &Scope, _: &Moment<'_>, event: &Event) -> Breach {
        let Event::Equivocated { peer, round, .. } = event else {
            return None;
        };
        let honest = scope.is_honest(peer);
        honest.then(|| {
            format!(
                "it convicted the honest {} of contradicting itself in round {round}",
                peer.short()
            )
        })
    }
}
