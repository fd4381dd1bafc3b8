//! `nobody-is-silenced`: where nothing fails, an honest peer publishes in every round that it opens,
//! whatever others show it.
//!
//! Watched where every peer publishes in every round: peers keep step, rounds have no stages, and the
//! graph stays.

use kith_consensus::mode::Mode;
use kith_gossip::Event;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "nobody-is-silenced",
    help: "where nothing fails, an honest peer publishes in every round that it opens",
    source: "own",
    main_key: None,
    new: |scope| {
        let in_step = matches!(scope.charter.round.mode, Mode::Synchronous);
        let staged = scope.charter.topology.has_stages(scope.ids.len());
        Box::new(NobodyIsSilenced {
            watches: scope.clear && in_step && !staged && !scope.charter.topology.changes(),
            silent: vec![None; scope.ids.len()],
        })
    },
};

struct NobodyIsSilenced {
    watches: bool,
    /// By member, the round that it has opened and not published in.
    silent: Vec<Option<u64>>,
}

impl Check for NobodyIsSilenced {
    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        if !self.watches {
            return None;
        }
        let silent = &mut self.silent[moment.member];
        match event {
            Event::RoundOpened { round, .. } => *silent = Some(*round),
            Event::Published { .. }
            | Event::CatchingUp { .. }
            | Event::Jumped { .. }
            | Event::TrainingFailed { .. }
            | Event::BudgetExhausted { .. }
            | Event::Unanswered { .. } => *silent = None,
            Event::RoundClosed { round, .. } if *silent == Some(*round) => {
                return Some(format!("it published nothing in round {round}"));
            }
            _ => {}
        }
        None
    }
}
