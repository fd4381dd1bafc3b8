//! `not-a-number`: a NaN in the first coordinate. Selectors that compare distances without looking
//! first pick it.

use kith_consensus::Stream;
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "not-a-number",
    help: "publishes a NaN in its first coordinate",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |_| Box::new(NotANumber),
    },
};

#[derive(Debug)]
struct NotANumber;

impl Attack for NotANumber {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        let mut values = scene.view.trained.to_vec();
        if let Some(first) = values.first_mut() {
            *first = f32::NAN;
        }
        Publication::Same(values)
    }
}
