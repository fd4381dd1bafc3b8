//! `model-replacement`: a backdoor whose step is boosted, start + boost · (trained − start), so
//! that a mean over as many models comes out as the liar's own.
//!
//! Assumes that the others have come to rest, so that their steps cancel. A boosted step is long,
//! so clipping and distances catch it, unlike a plain `backdoor`.

use kith_consensus::Section;

use super::backdoor::Backdoor;
use super::{AttackEntry, AttackKind, Knowledge, Means};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "model-replacement",
    help: "a backdoor whose own step it publishes `boost` times as long",
    source: "Bagdasaryan et al., How to backdoor federated learning, AISTATS 2020",
    main_key: Some("boost"),
    // 8: the models in a small neighbourhood's mean (guess).
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Rows,
        build: |section: &mut Section<'_>| {
            let boost = section.number("boost", Some(8.0), -1e6..=1e6);
            Box::new(Backdoor::read(section, boost))
        },
    },
};
