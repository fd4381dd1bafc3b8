//! `no-stall`: where nothing fails or all faults are over, no round misses the update of an honest
//! peer that published it while the round was open, long before its deadline.
//!
//! A peer that trains too slowly for the deadline breaks nothing, and neither does one that was
//! far ahead or has left; an update that is published in time and does not arrive does. Watched only if links lose nothing and lines have no limit, since a slow
//! line delays an update for reasons of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;
use kith_gossip::event::Closed;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "no-stall",
    help: "without faults no round misses an update that was published long before its deadline",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(NoStall {
            published: vec![BTreeMap::new(); scope.ids.len()],
            opened: vec![Duration::ZERO; scope.ids.len()],
        })
    },
};

/// After the last fault: connections that died silently are noticed, dialled again, and the rounds
/// that were open then are closed (guess).
const PATIENCE: Duration = Duration::from_secs(60);

/// Rounds of a peer that are remembered: one that is further behind waits for other rounds.
const ROUNDS_MAX: usize = 16;

struct NoStall {
    /// By member, when it published its newest rounds.
    published: Vec<BTreeMap<u64, Duration>>,
    /// By member, when it opened its round.
    opened: Vec<Duration>,
}

impl Check for NoStall {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::RoundOpened { .. } => {
                self.opened[moment.member] = moment.now;
                None
            }
            Event::Left { .. } => {
                self.published[moment.member].clear();
                None
            }
            Event::Published { round, .. } => {
                let published = &mut self.published[moment.member];
                published.insert(*round, moment.now);
                while published.len() > ROUNDS_MAX {
                    published.pop_first();
                }
                None
            }
            Event::RoundClosed {
                round,
                why: Closed::Deadline,
                missing,
                ..
            } => {
                let calm = scope.clear || moment.now > scope.healed_at + PATIENCE;
                if !calm || !scope.prompt {
                    return None;
                }
                let deadline = scope.charter.round.deadline;
                let opened = self.opened[moment.member];
                let stalled = missing.iter().find_map(|peer| {
                    let number = scope.number(peer).filter(|number| !scope.lies[*number])?;
                    let published = &self.published[number];
                    let at = *published.get(round)?;
                    // One that is further ahead keeps this round's update no longer.
                    let near = published.keys().next_back()? <= &(round + 1);
                    let in_time = near && at + deadline >= opened && at + deadline / 2 < moment.now;
                    in_time.then_some((number, at))
                });
                stalled.map(|(peer, at)| {
                    format!(
                        "it closed round {round} without the update that peer {peer} had published at {at:?}"
                    )
                })
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.published[moment.member].clear();
    }
}
