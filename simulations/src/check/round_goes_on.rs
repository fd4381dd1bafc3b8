//! `round-goes-on`: a peer's round never goes back, not even over a crash that leaves its disk
//! intact, and it resumes from the model that it stored. After a fault rolls a disk back, the peer
//! resumes from what that disk holds.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::{Effect, Event, Input, Parameters, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "round-goes-on",
    help: "a round never goes back, and what is durable is never forgotten",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(RoundGoesOn {
            seats: vec![Seat::default(); scope.ids.len()],
        })
    },
};

#[derive(Clone, Debug, Default)]
struct Seat {
    /// The life and the round that the peer opened last.
    opened: Option<(u32, u64)>,
    /// Completed rounds on its disk, and the model that they led to.
    durable: Option<(u64, Parameters)>,
}

struct RoundGoesOn {
    seats: Vec<Seat>,
}

impl Check for RoundGoesOn {
    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::Started { round, resumed, .. } => {
                if !resumed {
                    // A disk that is lost takes its promise with it.
                    self.seats[moment.member].durable = None;
                }
                let durable = self.seats[moment.member]
                    .durable
                    .as_ref()
                    .map_or(0, |(round, _)| *round);
                (*round < durable).then(|| {
                    format!("it resumed in round {round}, its disk held {durable} completed rounds")
                })
            }
            Event::RoundOpened { round, .. } => {
                let before = self.seats[moment.member]
                    .opened
                    .replace((moment.life, *round));
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

    fn input(&mut self, _: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        if let Input::Start { checkpoint, .. } = input {
            let held = checkpoint
                .as_ref()
                .map(|held| (held.round, Parameters::clone(&held.parameters)));
            self.seats[moment.member].durable = held;
        }
        None
    }

    fn stored(&mut self, _: &Scope, moment: &Moment<'_>, record: &Record) -> Breach {
        if let Record::Checkpoint(checkpoint) = record {
            self.seats[moment.member].durable =
                Some((checkpoint.round, Parameters::clone(&checkpoint.parameters)));
        }
        None
    }

    fn effect(&mut self, _: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        let Effect::Train {
            round, parameters, ..
        } = effect
        else {
            return None;
        };
        let (durable, stored) = self.seats[moment.member].durable.as_ref()?;
        let same = Parameters::ptr_eq(stored, parameters) || stored == parameters;
        (durable == round && !same)
            .then(|| format!("it trains in round {round} from another model than it stored"))
    }
}
