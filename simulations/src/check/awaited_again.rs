//! `awaited-again`: a neighbour that was on time in the last round is waited for in the next, unless it has gone through all.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_consensus::charter::Mode;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "awaited-again",
    help: "a neighbour that was on time in the last round is waited for in the next",
    new: |scope| Box::new(AwaitedAgain { seats: vec![Seat::default(); scope.ids.len()], finished: scope.lies.clone() }),
};

#[derive(Clone, Debug, Default)]
struct Seat {
    /// Who was combined in the last round, and which that was.
    last: (u64, Vec<PeerId>),
    /// Those awaited when the newest round closed.
    awaited: usize,
}

struct AwaitedAgain {
    seats: Vec<Seat>,
    /// Who has said goodbye, perhaps: nobody waits for them, though what they sent before counts.
    finished: Vec<bool>,
}

impl Check for AwaitedAgain {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        if scope.charter.round.mode != Mode::Synchronous {
            return None; // nobody is waited for
        }
        let seat = &mut self.seats[moment.member];
        match event {
            Event::RoundClosed { awaited, .. } => {
                seat.awaited = *awaited;
                None
            }
            Event::Aggregated { round, dropped, .. } => {
                let now: Vec<PeerId> = dropped.iter().map(|dropped| dropped.peer).collect();
                let was = |peer: &&PeerId| seat.last.0 + 1 == *round && seat.last.1.contains(peer);
                let stays = |peer: &&PeerId| scope.number(peer).is_some_and(|number| !self.finished[number]);
                let again = now.iter().filter(was).filter(stays).count();
                seat.last = (*round, now);
                let awaited = seat.awaited;
                (awaited < again).then(|| {
                    format!("it waited for {awaited} neighbours in round {round}; {again} of those that came were on time before")
                })
            }
            Event::Finished { .. } => {
                self.finished[moment.member] = true;
                None
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.seats[moment.member] = Seat::default();
    }
}
