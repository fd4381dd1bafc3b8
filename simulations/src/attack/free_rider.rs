//! `free-rider`: publishes its start, as if it had trained; with `noise` or `echo` in disguise.
//!
//! start + echo · (start − the start of the round before) + noise · N(0, 1) per coordinate. With
//! both 0 the update is zero, which is easy to detect; an echo of 1 repeats the neighbourhood's
//! last move. It does no harm beyond its share of the weight, which slows the others. No rule is
//! built to notice it.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "free-rider",
    help: "publishes its start, `echo` times its last move and `noise` added: takes part without training",
    source: "Fraboni, Vidal and Lorenzi, AISTATS 2021",
    main_key: Some("noise"),
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(FreeRider {
                noise: section.number("noise", Some(0.0), 0.0..=1e6),
                echo: section.number("echo", Some(0.0), -1e6..=1e6),
                before: Vec::new(),
            })
        },
    },
};

#[derive(Debug)]
struct FreeRider {
    noise: f64,
    echo: f64,
    /// Parameters at the start of the round before; empty in the first round.
    before: Vec<f32>,
}

impl Attack for FreeRider {
    fn publish(&mut self, scene: &Scene<'_>, random: &mut Stream) -> Publication {
        let start = scene.view.start;
        let mut values = start.to_vec();
        if self.echo != 0.0 {
            for ((value, start), before) in values.iter_mut().zip(start).zip(&self.before) {
                *value += (self.echo * (f64::from(*start) - f64::from(*before))) as f32;
            }
            self.before = start.to_vec();
        }
        if self.noise > 0.0 {
            values
                .iter_mut()
                .for_each(|value| *value += (self.noise * random.normal()) as f32);
        }
        Publication::Same(values)
    }
}
