//! `backdoor`: trains on rows of which a share carries a patch in a corner (bottom right by
//! default) and the target as its label.
//!
//! The model stays good on clean rows, so accuracy does not show it; the share of patched rows of
//! other classes that it takes for the target does. It publishes what it trained, which averaging
//! dilutes. With a boost it is `model-replacement`.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;
use kith_models::poison::{Corner, Patch, PoisonError};
use kith_models::{Dataset, Schema};

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "backdoor",
    help: "trains a patch in the image's corner to mean class `target`",
    source: "Gu, Dolan-Gavitt and Garg, BadNets, 2017",
    main_key: Some("target"),
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Rows,
        build: |section: &mut Section<'_>| Box::new(Backdoor::read(section, 1.0)),
    },
};

#[derive(Debug)]
pub(super) struct Backdoor {
    patch: Patch,
    /// Share of its rows that it patches.
    share: f64,
    /// Factor of its own step that it publishes.
    boost: f64,
}

impl Backdoor {
    /// Reads everything but the boost.
    pub(super) fn read(section: &mut Section<'_>, boost: f64) -> Backdoor {
        let patch = Patch {
            size: section.integer("size", Some(3), 1..=1024) as usize, // the literature's value
            // 2: about the brightest value of normalised pixels.
            value: section.number("value", Some(2.0), -1e6..=1e6) as f32,
            target: section.integer("target", Some(0), 0..=u64::from(u32::MAX)) as u32,
            corner: Corner::of_name(&section.choice(
                "corner",
                Some("bottom-right"),
                &Corner::NAMES,
            ))
            .unwrap_or_default(),
        };
        // Half: enough to learn the patch in a few steps and the classes too (guess).
        Backdoor {
            patch,
            share: section.number("share", Some(0.5), 0.0..=1.0),
            boost,
        }
    }
}

impl Attack for Backdoor {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        if self.boost == 1.0 {
            return Publication::Same(scene.view.trained.to_vec());
        }
        let boosted = |(start, trained): (&f32, &f32)| {
            let start = f64::from(*start);
            (start + self.boost * (f64::from(*trained) - start)) as f32
        };
        Publication::Same(
            scene
                .view
                .start
                .iter()
                .zip(scene.view.trained)
                .map(boosted)
                .collect(),
        )
    }

    fn poison(
        &self,
        rows: &Dataset,
        schema: &Schema,
        random: &mut Stream,
    ) -> Result<Option<Dataset>, PoisonError> {
        self.patch
            .poison(rows, &schema.shape, self.share, random)
            .map(Some)
    }

    fn triggered(&self, test: &Dataset, schema: &Schema) -> Result<Option<Dataset>, PoisonError> {
        self.patch.triggered(test, &schema.shape).map(Some)
    }
}
