//! `nothing-stale`: no peer accepts an update that is older than the charter allows, from the
//! future, or not from a neighbour in that round. `no-contradiction` shows, under the attack
//! `forgery`, that nobody believes unsigned headers.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::mode::Mode;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "nothing-stale",
    help: "no update is accepted that is too old, too new, or not a neighbour's",
    source: "own",
    main_key: None,
    new: |_| Box::new(NothingStale),
};

struct NothingStale;

impl Check for NothingStale {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let Event::Accepted {
            round,
            of,
            peer,
            staleness,
            ..
        } = event
        else {
            return None;
        };
        if scope.charter.round.mode == Mode::Synchronous && of > round {
            return Some(format!(
                "it accepted an update of round {of} in round {round}"
            ));
        }
        // If nobody keeps step, an old update is discounted, not refused.
        if scope.charter.round.mode == Mode::Synchronous
            && *staleness > scope.charter.round.staleness
        {
            return Some(format!(
                "it accepted an update {staleness} rounds old; the charter allows {}",
                scope.charter.round.staleness
            ));
        }
        let graph = scope.charter.topology.graph(scope.ids.len(), *of).ok()?;
        let number = scope.number(peer);
        let neighbour =
            number.is_some_and(|number| graph.receives_from(moment.member).contains(&number));
        (!neighbour).then(|| {
            format!(
                "it accepted an update of round {of} from {}, which is no neighbour then",
                peer.short()
            )
        })
    }
}
