//! `replay`: besides this round's update it sends that of `age` rounds ago once more, signature
//! included.
//!
//! Receivers know the header, and the round is over: they refuse it by name, and nothing else
//! changes. A peer keeps its last three updates, so there is nothing older to repeat.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "replay",
    help: "sends the update of `age` rounds ago once more with every update",
    source: "fault injection",
    main_key: Some("age"),
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(Replay {
                age: section.integer("age", Some(1), 1..=2),
            })
        },
    },
};

#[derive(Debug)]
struct Replay {
    age: u64,
}

impl Attack for Replay {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        Publication::Same(scene.view.trained.to_vec())
    }

    fn replays(&mut self, round: u64) -> Option<u64> {
        round.checked_sub(self.age)
    }
}
