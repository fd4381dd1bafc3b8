//! `not-a-number`: a NaN in the first coordinate. Selectors that compare distances without looking first pick it.

use kith_consensus::Stream;
use kith_gossip::Conduct;
use kith_gossip::conduct::View;

use super::{AttackEntry, Knowledge};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "not-a-number",
    help: "publishes a NaN in its first coordinate",
    source: "fault injection",
    knowledge: Knowledge::Own,
    parameter: None,
    new: |_| Box::new(NotANumber),
};

#[derive(Debug)]
struct NotANumber;

impl Conduct for NotANumber {
    fn publish(&mut self, view: &View<'_>, _random: &mut Stream) -> Option<Vec<f32>> {
        let mut values = view.trained.to_vec();
        if let Some(first) = values.first_mut() {
            *first = f32::NAN;
        }
        Some(values)
    }
}
