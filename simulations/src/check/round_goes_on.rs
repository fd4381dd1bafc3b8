//! `round-goes-on`: a peer's round never goes back, not even over a crash that leaves it its disk.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::{Event, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "round-goes-on",
    help: "a round never goes back, and what is durable is never forgotten",
    new: |scope| Box::new(RoundGoesOn { opened: vec![None; scope.ids.len()], durable: vec![0; scope.ids.len()] }),
};

struct RoundGoesOn {
    /// The life and the round each peer opened last.
    opened: Vec<Option<(u32, u64)>>,
    /// Rounds completed on its disk.
    durable: Vec<u64>,
}

impl Check for RoundGoesOn {
    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::Started { round, resumed, .. } => {
                if !resumed {
                    self.durable[moment.member] = 0; // a disk that is lost takes its promise with it
                }
                let durable = self.durable[moment.member];
                (*round < durable).then(|| format!("it resumed in round {round}, its disk held {durable} completed rounds"))
            }
            Event::RoundOpened { round, .. } => {
                let before = self.opened[moment.member].replace((moment.life, *round));
                match before {
                    Some((life, before)) if life == moment.life && *round <= before => {
                        Some(format!("it opened round {round} after round {before}"))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn stored(&mut self, _: &Scope, moment: &Moment<'_>, record: &Record) -> Breach {
        if let Record::Checkpoint(checkpoint) = record {
            self.durable[moment.member] = checkpoint.round;
        }
        None
    }
}
