//! `bounded`: a peer's memory of others does not grow with the length of the run.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "bounded",
    help: "queues and memories of a peer stay within their limits",
    source: "own",
    main_key: None,
    new: |_| Box::new(Bounded),
};

struct Bounded;

impl Check for Bounded {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        if !matches!(event, Event::RoundClosed { .. }) {
            return None;
        }
        let load = moment.peer.load();
        // Updates of a few rounds from each neighbour, over a few draws of the graph.
        const ROUNDS: usize = 8;
        let peers = scope.ids.len();
        let limits = [
            ("updates that wait", load.waiting, ROUNDS * peers),
            ("own updates that are kept", load.outgoing, ROUNDS),
            ("headers that are remembered", load.headers, ROUNDS * peers),
        ];
        let over = limits.into_iter().find(|(_, found, limit)| found > limit);
        over.map(|(what, found, limit)| format!("{found} {what}; at most {limit} are ever needed"))
    }
}
