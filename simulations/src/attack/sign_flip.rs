//! `sign-flip`: start − scale · (trained − start): its own step, reversed and made larger.
//!
//! With scale 1 it is also called bit flip; with the honest mean's step in place of its own it is
//! `ipm:1`. With scale 2 a plain mean of six models hardly suffers; with 10 (the default, measured)
//! it breaks.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "sign-flip",
    help: "publishes its own step reversed, `scale` times as long",
    source: "Li et al., RSA, AAAI 2019",
    main_key: Some("scale"),
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(SignFlip {
                scale: section.number("scale", Some(10.0), 0.0..=1e6),
            })
        },
    },
};

#[derive(Debug)]
struct SignFlip {
    scale: f64,
}

impl Attack for SignFlip {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        let scale = self.scale as f32;
        Publication::Same(
            scene
                .view
                .start
                .iter()
                .zip(scene.view.trained)
                .map(|(start, trained)| start - scale * (trained - start))
                .collect(),
        )
    }
}
