//! `ipm`: inner-product manipulation: start − ε · (mean of the neighbourhood − start), so that the mean moves backwards.
//!
//! ALGORITHMS, section B ("IPM / FoE", −ε μ of the steps). Knows the neighbours' last vectors and its own.

use kith_consensus::{Section, Stream};
use kith_gossip::Conduct;
use kith_gossip::conduct::View;

use super::{AttackEntry, Knowledge};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "ipm",
    help: "publishes `epsilon` times the neighbourhood's mean step, reversed",
    source: "Xie, Koyejo and Gupta, Fall of Empires, UAI 2019",
    knowledge: Knowledge::Neighbourhood,
    parameter: Some("epsilon"),
    // 2: byzfl's default.
    new: |section: &mut Section<'_>| Box::new(InnerProduct { epsilon: section.number("epsilon", Some(2.0), 0.0..=1e6) }),
};

#[derive(Debug)]
struct InnerProduct {
    epsilon: f64,
}

impl Conduct for InnerProduct {
    fn publish(&mut self, view: &View<'_>, _random: &mut Stream) -> Option<Vec<f32>> {
        let rows: Vec<&[f32]> = view.neighbours.iter().map(|(_, values)| *values).chain([view.trained]).collect();
        let values = view.start.iter().enumerate().map(|(index, start)| {
            let mean = rows.iter().map(|row| f64::from(row[index])).sum::<f64>() / rows.len() as f64;
            (f64::from(*start) - self.epsilon * (mean - f64::from(*start))) as f32
        });
        Some(values.collect())
    }
}
