//! `sybil`: one party under every liar's name. Each sends the step of the honest mean reversed,
//! `scale` times as long, with a little noise, so that the names lie close together and vouch for
//! each other before rules that look for the densest group.
//!
//! Douceur 2002, "The Sybil Attack": a party with many names has many votes. A roster that
//! everybody knows and a rule for f liars hold as long as the names are at most f; beyond that no
//! rule does.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

/// Deviation of the noise, as a share of the step's root mean square (guess: vectors differ, and
/// stay far closer than honest peers' do).
const NOISE: f64 = 0.01;

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "sybil",
    help: "one party under every liar's name: the honest mean's step reversed, `scale` times as long, nearly alike",
    source: "Douceur, IPTPS 2002; Fung et al. 2020",
    main_key: Some("scale"),
    // 10: as `sign-flip`.
    new: AttackKind {
        knowledge: Knowledge::Omniscient,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(Sybil {
                scale: section.number("scale", Some(10.0), 0.0..=1e6),
            })
        },
    },
};

#[derive(Debug)]
struct Sybil {
    scale: f64,
}

impl Attack for Sybil {
    fn publish(&mut self, scene: &Scene<'_>, random: &mut Stream) -> Publication {
        let start = scene.view.start;
        let steps: Vec<f64> = (0..start.len())
            .map(|index| scene.mean(index) - f64::from(start[index]))
            .collect();
        let size =
            (steps.iter().map(|step| step * step).sum::<f64>() / steps.len().max(1) as f64).sqrt();
        let reversed = |(start, step): (&f32, &f64)| {
            (f64::from(*start) - self.scale * (step + NOISE * size * random.normal())) as f32
        };
        Publication::Same(start.iter().zip(&steps).map(reversed).collect())
    }
}
