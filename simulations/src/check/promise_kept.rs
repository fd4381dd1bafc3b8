//! `promise-kept`: a peer that restarts with its disk re-sends the update that the disk holds as a
//! promise for the round in which it comes back.
//!
//! A peer whose newest checkpoint was damaged goes through a round again, and the promise after it
//! may build on a replica that is lost. Then it says nothing in that round, which contradicts
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::Digest;
use kith_gossip::{Event, Input, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "promise-kept",
    help: "a peer that restarts with its disk re-sends the update promised there for its round",
    source: "own",
    main_key: None,
    new: |_| {
        Box::new(PromiseKept {
            owed: BTreeMap::new(),
            reached: BTreeMap::new(),
            rolled_back: BTreeSet::new(),
        })
    },
};

struct PromiseKept {
    /// By peer, the round and the state of the update that it came back with and has not sent yet.
    owed: BTreeMap<usize, (u64, Digest)>,
    /// By peer, the completed rounds of its newest checkpoint.
    reached: BTreeMap<usize, u64>,
    /// Peers that have come back with an older one.
    rolled_back: BTreeSet<usize>,
}

impl Check for PromiseKept {
    fn input(&mut self, _: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        if let Input::Start { checkpoint, intent } = input {
            let round = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.round);
            let newest = self.reached.insert(moment.member, round);
            if newest.is_some_and(|newest| newest > round) {
                self.rolled_back.insert(moment.member);
            }
            let owed = intent.as_ref().filter(|intent| intent.round == round);
            self.owed
                .extend(owed.map(|intent| (moment.member, (intent.round, intent.state))));
        }
        None
    }

    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::TrainingFailed { .. } if self.rolled_back.contains(&moment.member) => {
                self.owed.remove(&moment.member);
                None
            }
            Event::Published { round, state, .. } => {
                let (promised, what) = self.owed.remove(&moment.member)?;
                let kept = promised == *round && what == *state;
                (!kept)
                    .then(|| format!("it came back with a promise for round {promised} and published another update in {round}"))
            }
            Event::RoundClosed { round, .. } => {
                let (promised, _) = self.owed.remove(&moment.member)?;
                Some(format!(
                    "it came back with a promise for round {promised} and closed round {round} without keeping it"
                ))
            }
            _ => None,
        }
    }

    fn stored(&mut self, _: &Scope, moment: &Moment<'_>, record: &Record) -> Breach {
        if let Record::Checkpoint(checkpoint) = record {
            self.reached.insert(moment.member, checkpoint.round);
        }
        None
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.owed.remove(&moment.member);
    }
}
