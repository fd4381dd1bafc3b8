//! `finds-back`: some time after the last fault honest neighbours that both run are connected
//! again.
//!
//! Not watched if the graph changes: then neighbours are dialled from round to round.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "finds-back",
    help: "some time after the last fault neighbours that run are connected",
    source: "own",
    main_key: None,
    new: |scope| {
        let peers = scope.ids.len();
        Box::new(FindsBack {
            connected: vec![BTreeSet::new(); peers],
            runs: vec![false; peers],
        })
    },
};

/// The time in which a dead connection is noticed (24 s), a ban (10 s), and several times the time
/// that a peer takes to dial again (guess).
const PATIENCE: Duration = Duration::from_secs(45);

struct FindsBack {
    connected: Vec<BTreeSet<PeerId>>,
    /// By member, whether it has started and not gone through every round.
    runs: Vec<bool>,
}

impl Check for FindsBack {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let connected = &mut self.connected[moment.member];
        match event {
            Event::Started { .. } => self.runs[moment.member] = true,
            Event::Finished { .. } | Event::Left { .. } => self.runs[moment.member] = false,
            Event::Connected { peer } => _ = connected.insert(*peer),
            Event::Disconnected { peer } => _ = connected.remove(peer),
            Event::RoundOpened { round, .. } => {
                if moment.now < scope.healed_at + PATIENCE || scope.charter.topology.changes() {
                    return None;
                }
                let graph = scope.charter.topology.graph(scope.ids.len(), *round).ok()?;
                let there = |peer: &&usize| self.runs[**peer] && !scope.lies[**peer];
                let lost = graph
                    .receives_from(moment.member)
                    .iter()
                    .filter(there)
                    .find(|peer| !connected.contains(&scope.ids[**peer]))?;
                return Some(format!(
                    "in round {round} it is not connected with its neighbour {lost}, who runs"
                ));
            }
            _ => {}
        }
        None
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.connected[moment.member].clear();
        self.runs[moment.member] = false;
    }
}
