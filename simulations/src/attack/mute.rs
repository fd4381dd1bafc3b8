//! `mute`: publishes nothing from a given round on, as if it had crashed, but stays connected,
//! trains and listens.
//!
//! Its neighbours wait for it until they lose patience.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "mute",
    help: "publishes nothing from round `round` on",
    source: "fault injection",
    main_key: Some("round"),
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(Mute {
                from: section.integer("round", Some(0), 0..=u64::from(u32::MAX)),
            })
        },
    },
};

#[derive(Debug)]
struct Mute {
    from: u64,
}

impl Attack for Mute {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        if scene.view.round >= self.from {
            Publication::Nothing
        } else {
            Publication::Same(scene.view.trained.to_vec())
        }
    }
}
