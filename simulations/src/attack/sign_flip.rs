//! `sign-flip`: start − scale · (trained − start): the own step, reversed and made larger.
//!
//! ALGORITHMS, section B ("scaled: −c μ" with the own step in place of the mean). With scale 2 a plain mean of six models
//! hardly suffers; with 10 (the default, measured) it breaks.

use kith_consensus::{Section, Stream};
use kith_gossip::Conduct;
use kith_gossip::conduct::View;

use super::{AttackEntry, Knowledge};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "sign-flip",
    help: "publishes the own step reversed, `scale` times as long",
    source: "Li et al., RSA, AAAI 2019",
    knowledge: Knowledge::Own,
    parameter: Some("scale"),
    new: |section: &mut Section<'_>| Box::new(SignFlip { scale: section.number("scale", Some(10.0), 0.0..=1e6) }),
};

#[derive(Debug)]
struct SignFlip {
    scale: f64,
}

impl Conduct for SignFlip {
    fn publish(&mut self, view: &View<'_>, _random: &mut Stream) -> Option<Vec<f32>> {
        let scale = self.scale as f32;
        Some(view.start.iter().zip(view.trained).map(|(start, trained)| start - scale * (trained - start)).collect())
    }
}
