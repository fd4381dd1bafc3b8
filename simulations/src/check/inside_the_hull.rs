//! `inside-the-hull`: if objectives are parabolas and the rule tolerates the liars, honest models
//! stay in the box around the honest objectives' places and the common start.
//!
//! A step of gradient descent with η·a ≤ 1 moves a model towards its own place, and a rule that
//! keeps coordinates inside the honest range cannot lead out of the box. One coordinate outside is
//! proof that a liar's value got through.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::{Effect, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "inside-the-hull",
    help: "liars that the rule tolerates cannot drag an honest model out of the honest range",
    source: "own",
    main_key: None,
    new: |_| Box::new(InsideTheHull),
};

struct InsideTheHull;

impl Check for InsideTheHull {
    fn effect(&mut self, scope: &Scope, _: &Moment<'_>, effect: &Effect) -> Breach {
        let (low, high) = scope.hull?;
        let Effect::Persist(Record::Checkpoint(checkpoint)) = effect else {
            return None;
        };
        let slack = 1e-4 * (high - low).abs().max(1.0); // rounding of f32 over the rounds
        let outside = checkpoint
            .parameters
            .iter()
            .position(|value| *value < low - slack || *value > high + slack)?;
        let value = checkpoint.parameters[outside];
        Some(format!(
            "coordinate {outside} is {value} after {} rounds, honest values lie between {low} and {high}",
            checkpoint.round
        ))
    }
}
