//! `slow-drift`: its trained vector plus a step of length `step` in a direction that all liars
//! share, the same in every round.
//!
//! It stays under every clip radius above the honest spread, so clipping does not catch it. But it
//! is bounded: the liars move a receiver that gives them the total weight w by at most w · step a
//! round. If local training contracts distances by q < 1 a round and mixing does not stretch them,
//! the drift never exceeds w · step / (1 − q).

use kith_consensus::{Section, Seed, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "slow-drift",
    help: "publishes its trained vector, moved by `step` in one fixed direction: too little to be clipped",
    source: "after Baruch, Baruch and Goldberg, NeurIPS 2019",
    main_key: Some("step"),
    // 0.1: less than a small model's step in a round (guess).
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(SlowDrift {
                step: section.number("step", Some(0.1), 0.0..=1e6),
            })
        },
    },
};

#[derive(Debug)]
struct SlowDrift {
    step: f64,
}

impl Attack for SlowDrift {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        // Not from the peer's own stream: the liars must not pull in different directions.
        let mut shared = Seed::from_number(0).stream("kith.v1 slow drift");
        let direction: Vec<f64> = scene.view.trained.iter().map(|_| shared.normal()).collect();
        let length = direction
            .iter()
            .map(|value| value * value)
            .sum::<f64>()
            .sqrt();
        let values = scene.view.trained.iter().zip(direction);
        Publication::Same(
            values
                .map(|(value, along)| (f64::from(*value) + self.step * along / length) as f32)
                .collect(),
        )
    }
}
