//! `free-rider`: publishes where it started, as if it had trained.

use kith_consensus::Stream;
use kith_gossip::Publication;

use super::{Attack, AttackEntry, Knowledge, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "free-rider",
    help: "publishes its start unchanged: takes part without training",
    source: "Fraboni et al., AISTATS 2021",
    knowledge: Knowledge::Own,
    parameter: None,
    new: |_| Box::new(FreeRider),
};

#[derive(Debug)]
struct FreeRider;

impl Attack for FreeRider {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        Publication::Same(scene.view.start.to_vec())
    }
}
