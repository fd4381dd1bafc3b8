//! Which neighbours' contributions the rule leaves out round after round.
//!
//! A suspicion is an event that people read. Nothing else follows from it: an honest peer with
//! unlike data looks like a liar to many rules.

use kith_consensus::aggregate::Aggregate;
use kith_consensus::{PeerId, Sorted};

use crate::effect::Effect;
use crate::event::{DroppedShare, Event};

/// A neighbour is suspected when the moving average of its dropped share exceeds this, after
/// [`ROUNDS_MIN`] rounds (guess).
const SCORE_MIN: f64 = 0.6;
/// See [`SCORE_MIN`].
const ROUNDS_MIN: u32 = 5;
/// Weight of the newest round in that average (guess).
const NEWEST_WEIGHT: f64 = 0.2;

/// A neighbour's record.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// Moving average of its dropped share.
    score: f64,
    rounds: u32,
}

impl Record {
    /// Adds a round; whether that makes it suspect.
    fn add(&mut self, share: f64) -> bool {
        let was_suspect = self.is_suspect();
        let from = if self.rounds == 0 { share } else { self.score };
        self.score = from + NEWEST_WEIGHT * (share - from);
        self.rounds += 1;
        self.is_suspect() && !was_suspect
    }

    fn is_suspect(&self) -> bool {
        self.score > SCORE_MIN && self.rounds >= ROUNDS_MIN
    }
}

#[derive(Debug, Default)]
pub(super) struct Suspicion {
    records: Sorted<PeerId, Record>,
}

impl Suspicion {
    /// Records what the rule left out of each neighbour's contribution; reports whom that makes
    /// suspect.
    pub(super) fn judge(
        &mut self,
        own: &PeerId,
        senders: &[PeerId],
        aggregate: &Aggregate,
        out: &mut Vec<Effect>,
    ) -> Vec<DroppedShare> {
        let mut dropped = Vec::with_capacity(senders.len() - 1);
        for (index, peer) in senders.iter().enumerate().filter(|(_, peer)| *peer != own) {
            let share = aggregate.dropped_share(index);
            let influence = aggregate.influence[index];
            dropped.push(DroppedShare {
                peer: *peer,
                share,
                influence,
            });
            let record = self.records.entry(*peer, Record::default);
            if record.add(share) {
                let score = record.score;
                out.push(Effect::Emit(Event::Suspected { peer: *peer, score }));
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_suspected_once_after_five_rounds_and_not_for_one_bad_round() {
        let (own, liar, honest) = (PeerId([1; 32]), PeerId([2; 32]), PeerId([3; 32]));
        let mut suspicion = Suspicion::default();
        let mut suspected = Vec::new();
        for round in 0..12 {
            let mut out = Vec::new();
            let honest_share = if round == 3 { 0.0 } else { 1.0 / 3.0 };
            let influence = vec![1.0 - honest_share, 0.0, honest_share];
            let aggregate = Aggregate {
                parameters: vec![0.0],
                influence,
                scores: Vec::new(),
            };
            let dropped = suspicion.judge(&own, &[own, liar, honest], &aggregate, &mut out);
            assert_eq!(dropped.len(), 2);
            suspected.extend(out.into_iter().map(|effect| match effect {
                Effect::Emit(Event::Suspected { peer, .. }) => (round, peer),
                other => panic!("{other:?}"),
            }));
        }
        assert_eq!(suspected, [(4, liar)]);
    }
}
