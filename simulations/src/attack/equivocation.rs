//! `equivocation`: tells every other receiver the trained vector and the rest its step reversed,
//! `scale` times as long.
//!
//! Both are signed for one round, so the first two receivers that hear of each other hold the
//! proof, and the liar is expelled.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "equivocation",
    help: "tells every second receiver its step reversed, `scale` times as long, and the others the truth",
    source: "Lamport, Shostak and Pease, 1982",
    main_key: Some("scale"),
    // 10: as `sign-flip`.
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(Equivocation {
                scale: section.number("scale", Some(10.0), 0.0..=1e6),
            })
        },
    },
};

#[derive(Debug)]
pub(super) struct Equivocation {
    pub(super) scale: f64,
}

impl Attack for Equivocation {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        let view = scene.view;
        let scale = self.scale as f32;
        let reversed: Vec<f32> = view
            .start
            .iter()
            .zip(view.trained)
            .map(|(start, trained)| start - scale * (trained - start))
            .collect();
        let receivers = view
            .roster
            .binary_search(&view.own)
            .map_or(&[][..], |own| view.graph.sends_to(own));
        let tell = |(place, receiver): (usize, &usize)| {
            let vector = if place % 2 == 0 {
                view.trained
            } else {
                &reversed
            };
            (view.roster[*receiver], vector.to_vec())
        };
        Publication::Each(receivers.iter().enumerate().map(tell).collect())
    }
}
