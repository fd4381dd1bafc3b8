//! `label-flip`: trains honestly on rows whose label y is turned into K − 1 − y, for K classes.
//!
//! It knows nothing and publishes what it trained. On the digits, dealt evenly, two liars of nine
//! take a plain mean from 0.93 to 0.87; dealt unevenly, three take it to between 0.5 and 0.75
//! (measured).

use kith_consensus::Stream;
use kith_gossip::Publication;
use kith_models::poison::{PoisonError, flip_labels};
use kith_models::{Dataset, Schema};

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "label-flip",
    help: "trains on rows with the label y turned into K − 1 − y",
    source: "Allen-Zhu et al., ICLR 2021; as in byzfl",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Rows,
        build: |_| Box::new(LabelFlip),
    },
};

#[derive(Debug)]
struct LabelFlip;

impl Attack for LabelFlip {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        Publication::Same(scene.view.trained.to_vec())
    }

    fn poison(
        &self,
        rows: &Dataset,
        schema: &Schema,
        _random: &mut Stream,
    ) -> Result<Option<Dataset>, PoisonError> {
        Ok(Some(flip_labels(rows, schema.classes)))
    }
}
