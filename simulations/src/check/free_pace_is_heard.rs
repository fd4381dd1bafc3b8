//! `free-pace-is-heard`: where nobody waits and nothing fails, a peer hears every neighbour that has
//! published often, however slow its bodies are.

use std::collections::BTreeSet;
use std::time::Duration;

use kith_consensus::mode::Mode;
use kith_gossip::Event;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "free-pace-is-heard",
    help: "where nobody waits, neighbours that publish often are heard",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(FreePaceIsHeard {
            published: vec![0; scope.ids.len()],
            heard: vec![BTreeSet::new(); scope.ids.len()],
        })
    },
};

/// Updates after which a sender must have been heard (guess: many times those that can wait).
const PUBLISHED_MIN: u64 = 30;

struct FreePaceIsHeard {
    /// By member, the updates that it has published.
    published: Vec<u64>,
    /// By member, the numbers of those that it has heard.
    heard: Vec<BTreeSet<usize>>,
}

impl Check for FreePaceIsHeard {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::Published { .. } => self.published[moment.member] += 1,
            Event::Accepted { peer, .. } => {
                self.heard[moment.member].extend(scope.number(peer));
            }
            _ => {}
        }
        None
    }

    fn ended(&mut self, scope: &Scope, _: Duration, _: &[usize]) -> Breach {
        let free = matches!(scope.charter.round.mode, Mode::Asynchronous { .. });
        if !free || !scope.clear || scope.charter.topology.changes() {
            return None;
        }
        let graph = scope.charter.topology.graph(scope.ids.len(), 0).ok()?;
        let often = |peer: &usize| !scope.lies[*peer] && self.published[*peer] >= PUBLISHED_MIN;
        (0..scope.ids.len()).filter(often).find_map(|member| {
            let mut senders = graph
                .receives_from(member)
                .iter()
                .filter(|peer| often(peer));
            let unheard = senders.find(|sender| !self.heard[member].contains(sender))?;
            Some(format!(
                "peer {member} has never heard peer {unheard}, which published {} updates",
                self.published[*unheard]
            ))
        })
    }
}
