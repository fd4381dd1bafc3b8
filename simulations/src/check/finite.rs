//! `finite`: nothing that is not finite is ever stored or published.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::{Effect, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "finite",
    help: "no model and no copy of another's holds a NaN or an infinity",
    new: |_| Box::new(Finite),
};

struct Finite;

impl Check for Finite {
    fn effect(&mut self, _: &Scope, _: &Moment<'_>, effect: &Effect) -> Breach {
        let Effect::Persist(Record::Checkpoint(checkpoint)) = effect else { return None };
        let models = std::iter::once(&checkpoint.parameters).chain(checkpoint.replicas.values());
        let wrong = models.flat_map(|model| model.iter()).find(|value| !value.is_finite())?;
        Some(format!("the checkpoint after {} rounds holds a value that is {wrong}", checkpoint.round))
    }
}
