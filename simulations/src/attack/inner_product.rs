//! `ipm`: inner-product manipulation: start − ε · (mean of the honest − start), so that the mean
//! moves backwards.
//!
//! With ε = 1 it is the sign flip of the honest mean. A small ε (0.1) hides from filters that look
//! at distances and still turns the inner product with the honest step negative if liars are many;
//! a large one breaks any mean.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "ipm",
    help: "publishes `epsilon` times the honest peers' mean step, reversed",
    source: "Xie, Koyejo and Gupta, Fall of Empires, UAI 2019",
    main_key: Some("epsilon"),
    // 2: byzfl's default.
    new: AttackKind {
        knowledge: Knowledge::Omniscient,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(InnerProduct {
                epsilon: section.number("epsilon", Some(2.0), 0.0..=1e6),
            })
        },
    },
};

#[derive(Debug)]
pub(super) struct InnerProduct {
    pub(super) epsilon: f64,
}

impl Attack for InnerProduct {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        let values = scene.view.start.iter().enumerate().map(|(index, start)| {
            (f64::from(*start) - self.epsilon * (scene.mean(index) - f64::from(*start))) as f32
        });
        Publication::Same(values.collect())
    }
}
