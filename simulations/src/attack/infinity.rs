//! `infinity`: infinite in the last coordinate. It survives comparisons that a NaN does not, and
//! makes every distance infinite.

use kith_consensus::Stream;
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "infinity",
    help: "publishes an infinite value in its last coordinate",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |_| Box::new(Infinity),
    },
};

#[derive(Debug)]
struct Infinity;

impl Attack for Infinity {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        let mut values = scene.view.trained.to_vec();
        if let Some(last) = values.last_mut() {
            *last = f32::INFINITY;
        }
        Publication::Same(values)
    }
}
