//! `wrong-shape`: announces a vector of one value more than the federation's models have.
//!
//! If nobody checked, receivers would combine vectors of different lengths. The announcement is
//! refused as `dimension` before the body is looked at, and never mixed, with or without a robust
//! rule, so it harms nobody.

use kith_consensus::Stream;
use kith_gossip::Publication;
use kith_gossip::conduct::Fraud;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "wrong-shape",
    help: "announces a vector of another length than the federation's: refused, never mixed",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |_| Box::new(WrongShape),
    },
};

#[derive(Debug)]
struct WrongShape;

impl Attack for WrongShape {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        Publication::Same(scene.view.trained.to_vec())
    }

    fn fraud(&self, _round: u64) -> Option<Fraud> {
        Some(Fraud::Shape)
    }
}
