//! `false-state`: its step reversed, `scale` times as long, under a signed state that the body does
//! not lead to.
//!
//! If nobody checked, receivers would accept the vector and the header would later prove nothing
//! about it. Everybody checks: the update is refused as `state-mismatch` and never mixed, with or
//! without a robust rule, so it harms nobody.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;
use kith_gossip::conduct::Fraud;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "false-state",
    help: "its step reversed, `scale` times as long, under a state that it does not lead to: refused, never mixed",
    source: "our own: what the announced state is for",
    main_key: Some("scale"),
    // 10: as `sign-flip`.
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(FalseState {
                scale: section.number("scale", Some(10.0), 0.0..=1e6),
            })
        },
    },
};

#[derive(Debug)]
struct FalseState {
    scale: f64,
}

impl Attack for FalseState {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        let (view, scale) = (scene.view, self.scale as f32);
        let reversed = |(start, trained): (&f32, &f32)| start - scale * (trained - start);
        Publication::Same(view.start.iter().zip(view.trained).map(reversed).collect())
    }

    fn fraud(&self, _round: u64) -> Option<Fraud> {
        Some(Fraud::State)
    }
}
