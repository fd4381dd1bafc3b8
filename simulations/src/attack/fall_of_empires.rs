//! `foe`: start + (1 − τ) · (mean of the honest − start), as the literature on robust mixing writes
//! inner-product manipulation.
//!
//! The same as `ipm` with ε = τ − 1. τ = 0 publishes the honest mean, τ = 1 the start.

use kith_consensus::Section;

use super::inner_product::InnerProduct;
use super::{AttackEntry, AttackKind, Knowledge, Means};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "foe",
    help: "publishes 1 − `tau` times the honest peers' mean step",
    source: "Xie, Koyejo and Gupta, Fall of Empires, UAI 2019, in the form of Allouah et al., AISTATS 2023",
    main_key: Some("tau"),
    // 3: the default of `ipm`.
    new: AttackKind {
        knowledge: Knowledge::Omniscient,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(InnerProduct {
                epsilon: section.number("tau", Some(3.0), 0.0..=1e6) - 1.0,
            })
        },
    },
};
