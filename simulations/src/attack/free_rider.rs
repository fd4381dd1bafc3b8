//! `free-rider`: publishes where it started, as if it had trained.

use kith_consensus::Stream;
use kith_gossip::Conduct;
use kith_gossip::conduct::View;

use super::{AttackEntry, Knowledge};

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

impl Conduct for FreeRider {
    fn publish(&mut self, view: &View<'_>, _random: &mut Stream) -> Option<Vec<f32>> {
        Some(view.start.to_vec())
    }
}
