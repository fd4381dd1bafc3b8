//! `counted-once`: no update enters a round twice, and no more models are combined than came in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_consensus::mode::Mode;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "counted-once",
    help: "no update is counted twice",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(CountedOnce {
            accepted: vec![Vec::new(); scope.ids.len()],
            since: BTreeMap::new(),
        })
    },
};

struct CountedOnce {
    /// Per peer, (the update's round, the sender's number) accepted in this life, of rounds that
    /// are not stale.
    accepted: Vec<Vec<(u32, u32)>>,
    /// By peer, the senders of which something came since it last combined, if rounds are not in
    /// step.
    since: BTreeMap<usize, BTreeSet<PeerId>>,
}

impl Check for CountedOnce {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        // If rounds are not in step, the updates that came since the last time are combined, one of
        // each sender.
        let in_step = scope.charter.round.mode == Mode::Synchronous;
        let kept = &mut self.accepted[moment.member];
        match event {
            Event::Accepted { of, peer, .. } => {
                let update = (small(*of), small(scope.number(peer)? as u64));
                let fresh = !kept.contains(&update);
                kept.push(update);
                if !in_step {
                    self.since.entry(moment.member).or_default().insert(*peer);
                }
                (!fresh).then(|| {
                    format!(
                        "it accepted the update of round {of} from {} twice",
                        peer.short()
                    )
                })
            }
            Event::Aggregated { round, models, .. } => {
                let came = match in_step {
                    true => kept.iter().filter(|(of, _)| *of == small(*round)).count(),
                    false => self
                        .since
                        .remove(&moment.member)
                        .map_or(0, |since| since.len()),
                };
                let stale =
                    |of: u32| u64::from(of).saturating_add(scope.charter.round.staleness) < *round;
                kept.retain(|(of, _)| !stale(*of));
                (*models > came + 1).then(|| {
                    format!("it combined {models} models in round {round}, {came} came in")
                })
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.accepted[moment.member].clear();
        self.since.remove(&moment.member);
    }
}

/// Charters have fewer rounds and worlds fewer peers than 2^32, and these lists are long in large
/// worlds.
fn small(number: u64) -> u32 {
    u32::try_from(number)
        .expect("no honest peer accepts an update of a round beyond its charter's last")
}
