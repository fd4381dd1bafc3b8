//! `zero`: every parameter is 0.
//!
//! A fault rather than a plan: it draws a mean of models towards zero. Under `[aggregation] on =
//! "updates"` it is the start, reversed; the update of length 0 is `free-rider`.

use kith_consensus::Stream;
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "zero",
    help: "publishes zeros",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |_| Box::new(Zero),
    },
};

#[derive(Debug)]
struct Zero;

impl Attack for Zero {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        Publication::Same(vec![0.0; scene.view.trained.len()])
    }
}
