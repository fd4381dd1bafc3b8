//! `honest-keep-step`: where nothing is lost, nobody fails and everybody hears everybody, no round
//! closes without an honest neighbour that is only late because it waits for a liar.
//!
//! A liar may keep its handshake or its updates from some peers. Those wait for it and so are late
//! themselves. Their neighbours must not go on without them because of that, as often as a peer may
//! be late. In other graphs the waits of several peers add up.

use std::time::Duration;

use kith_consensus::PeerId;
use kith_consensus::mode::Mode;
use kith_gossip::Event;
use kith_gossip::event::Closed;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "honest-keep-step",
    help: "where nothing is lost, no round closes without an honest peer that waits for a liar",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(HonestKeepStep {
            applies: applies(scope),
            opened: vec![None; scope.ids.len()],
            held_up: vec![0; scope.ids.len()],
            is_slow: vec![false; scope.ids.len()],
        })
    },
};

/// Whether rounds wait for everybody, and a liar can make a peer late.
fn applies(scope: &Scope) -> bool {
    let (section, peers) = (&scope.charter.round, scope.ids.len());
    let waits_for_all = section.quorum >= 1.0 && section.selection.is_everyone();
    let graph = scope.charter.topology.graph(peers, 0);
    let hears_all = |member| {
        let graph = graph.as_ref().ok();
        graph.is_some_and(|graph| graph.receives_from(member).len() + 1 == peers)
    };
    let all_hear_all = !scope.charter.topology.changes() && (0..peers).all(hears_all);
    let lies = scope.lies.contains(&true);
    lies && scope.clear && section.mode == Mode::Synchronous && waits_for_all && all_hear_all
}

struct HonestKeepStep {
    applies: bool,
    /// By member, its round and when that opened.
    opened: Vec<Option<(u64, Duration)>>,
    /// By member, how many of its rounds have lasted for half a deadline or more.
    held_up: Vec<u64>,
    /// By member, whether its training ever took a quarter of a deadline.
    is_slow: Vec<bool>,
}

impl HonestKeepStep {
    /// Why an honest peer is late for `round`, if it is not slow itself.
    fn excuse(
        &self,
        scope: &Scope,
        peer: &PeerId,
        round: u64,
        now: Duration,
    ) -> Option<&'static str> {
        let deadline = scope.charter.round.deadline;
        let number = scope.number(peer).filter(|number| !scope.lies[*number])?;
        let Some((own, opened)) = self.opened[number] else {
            return Some("still waits for others to begin with");
        };
        let since = now.saturating_sub(opened);
        match own {
            _ if self.is_slow[number] || self.held_up[number] > scope.charter.round.patience => {
                None
            }
            own if own < round && since < 2 * deadline => Some("is in an earlier round"),
            own if own == round && since < deadline / 2 => Some("has just begun that round"),
            _ => None,
        }
    }
}

impl Check for HonestKeepStep {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        if !self.applies {
            return None;
        }
        let half = scope.charter.round.deadline / 2;
        let opened = self.opened[moment.member];
        let since = opened.map_or(Duration::ZERO, |(_, opened)| moment.now - opened);
        match event {
            Event::RoundOpened { round, .. } => {
                self.opened[moment.member] = Some((*round, moment.now));
                None
            }
            Event::Published { .. } => {
                self.is_slow[moment.member] |= since >= half / 2;
                None
            }
            Event::RoundClosed {
                round,
                why,
                missing,
                ..
            } => {
                self.held_up[moment.member] += u64::from(since >= half);
                let mut late = missing.iter().filter(|_| *why == Closed::Deadline);
                late.find_map(|peer| {
                    let excuse = self.excuse(scope, peer, *round, moment.now)?;
                    Some(format!(
                        "it closed round {round} without the honest {}, which {excuse}",
                        peer.short()
                    ))
                })
            }
            _ => None,
        }
    }
}
