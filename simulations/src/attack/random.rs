//! `random`: every parameter anew from −scale to scale, whatever was trained.
//!
//! Unlike `gaussian` it has nothing to do with the start: a peer with broken memory.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "random",
    help: "publishes values drawn evenly from −`scale` to `scale`",
    source: "fault injection",
    main_key: Some("scale"),
    // 1: far above a model's weights, which are about 0.1 (guess).
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(Random {
                scale: section.number("scale", Some(1.0), 0.0..=1e6),
            })
        },
    },
};

#[derive(Debug)]
struct Random {
    scale: f64,
}

impl Attack for Random {
    fn publish(&mut self, scene: &Scene<'_>, random: &mut Stream) -> Publication {
        let values = scene
            .view
            .trained
            .iter()
            .map(|_| (self.scale * (2.0 * random.unit() - 1.0)) as f32);
        Publication::Same(values.collect())
    }
}
