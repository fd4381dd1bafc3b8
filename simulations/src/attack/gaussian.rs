//! `gaussian`: start plus noise of a standard deviation per coordinate.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "gaussian",
    help: "publishes its start plus Gaussian noise of standard deviation `deviation`",
    source: "Blanchard et al., Krum, NeurIPS 2017",
    main_key: Some("deviation"),
    // 1: far above a model's weights, which are about 0.1 (guess).
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(Gaussian {
                deviation: section.number("deviation", Some(1.0), 0.0..=1e6),
            })
        },
    },
};

#[derive(Debug)]
struct Gaussian {
    deviation: f64,
}

impl Attack for Gaussian {
    fn publish(&mut self, scene: &Scene<'_>, random: &mut Stream) -> Publication {
        Publication::Same(
            scene
                .view
                .start
                .iter()
                .map(|start| start + (self.deviation * random.normal()) as f32)
                .collect(),
        )
    }
}
