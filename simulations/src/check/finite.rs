//! `finite`: no value that is not finite is ever stored or published.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::{Effect, Parameters, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "finite",
    help: "no model and no copy of another's holds a NaN or an infinity",
    source: "own",
    main_key: None,
    new: |_| Box::new(Finite),
};

struct Finite;

impl Check for Finite {
    fn effect(&mut self, _: &Scope, _: &Moment<'_>, effect: &Effect) -> Breach {
        let Effect::Persist(Record::Checkpoint(checkpoint)) = effect else {
            return None;
        };
        let models = std::iter::once(&checkpoint.parameters).chain(checkpoint.replicas.values());
        // Bits without the sign order like magnitudes, with infinity and NaN above all: one pass
        // without a branch shows whether to look closer.
        let largest = |model: &Parameters| {
            model.iter().fold(0, |largest, value| {
                largest.max(value.to_bits() & 0x7fff_ffff)
            })
        };
        let models = models.filter(|model| largest(model) >= f32::INFINITY.to_bits());
        let wrong = models
            .flat_map(|model| model.iter())
            .find(|value| !value.is_finite())?;
        Some(format!(
            "the checkpoint after {} rounds holds a value that is {wrong}",
            checkpoint.round
        ))
    }
}
