//! `alie`: "a little is enough": mean − z · standard deviation of what honest peers send, per coordinate (ddof 1).
//!
//! ALGORITHMS, section B; z = 1.5 as in byzfl.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, Knowledge, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "alie",
    help: "publishes the honest mean minus `z` standard deviations: small enough to hide",
    source: "Baruch, Baruch and Goldberg, NeurIPS 2019",
    knowledge: Knowledge::Omniscient,
    parameter: Some("z"),
    new: |section: &mut Section<'_>| Box::new(Alie { z: section.number("z", Some(1.5), -100.0..=100.0) }),
};

#[derive(Debug)]
struct Alie {
    z: f64,
}

impl Attack for Alie {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        let values = (0..scene.view.trained.len()).map(|index| {
            let (mean, deviation) = moments(scene.honest.iter().map(|(_, row)| f64::from(row[index])), scene.honest.len());
            (mean - self.z * deviation) as f32
        });
        Publication::Same(values.collect())
    }
}

/// Mean and sample standard deviation (0 for a single value).
fn moments(values: impl Iterator<Item = f64> + Clone, count: usize) -> (f64, f64) {
    let mean = values.clone().sum::<f64>() / count as f64;
    let squares: f64 = values.map(|value| (value - mean) * (value - mean)).sum();
    (mean, if count > 1 { (squares / (count - 1) as f64).sqrt() } else { 0.0 })
}
