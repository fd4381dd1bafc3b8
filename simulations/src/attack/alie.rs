//! `alie`: "a little is enough": mean − z · standard deviation of what the neighbourhood sent, per coordinate (ddof 1).
//!
//! ALGORITHMS, section B; z = 1.5 as in byzfl. Knows the neighbours' last vectors and its own, not those of this round.

use kith_consensus::{Section, Stream};
use kith_gossip::Conduct;
use kith_gossip::conduct::View;

use super::{AttackEntry, Knowledge};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "alie",
    help: "publishes the neighbourhood's mean minus `z` standard deviations: small enough to hide",
    source: "Baruch, Baruch and Goldberg, NeurIPS 2019",
    knowledge: Knowledge::Neighbourhood,
    parameter: Some("z"),
    new: |section: &mut Section<'_>| Box::new(Alie { z: section.number("z", Some(1.5), -100.0..=100.0) }),
};

#[derive(Debug)]
struct Alie {
    z: f64,
}

impl Conduct for Alie {
    fn publish(&mut self, view: &View<'_>, _random: &mut Stream) -> Option<Vec<f32>> {
        let rows: Vec<&[f32]> = view.neighbours.iter().map(|(_, values)| *values).chain([view.trained]).collect();
        let values = (0..view.trained.len()).map(|index| {
            let (mean, deviation) = moments(rows.iter().map(|row| f64::from(row[index])), rows.len());
            (mean - self.z * deviation) as f32
        });
        Some(values.collect())
    }
}

/// Mean and sample standard deviation (0 for a single value).
fn moments(values: impl Iterator<Item = f64> + Clone, count: usize) -> (f64, f64) {
    let mean = values.clone().sum::<f64>() / count as f64;
    let squares: f64 = values.map(|value| (value - mean) * (value - mean)).sum();
    (mean, if count > 1 { (squares / (count - 1) as f64).sqrt() } else { 0.0 })
}
