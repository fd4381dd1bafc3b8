//! Static clipping: scale every update to a norm of at most c before a rule judges it.
//!
//! Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063. Needs updates: a model's norm does not
//! measure the update. Works for any n, cost n·d. Bounds what one update can do to an average to
//! c/n; it does nothing about direction, and a c below the honest norms slows everyone.

use super::rows::Mixing;
use super::{Context, PreAggregator, PreEntry, Rows};

pub(super) const ENTRY: PreEntry = PreEntry {
    name: "static-clip",
    help: "scale each update to a norm of at most clip_norm; on updates",
    source: "Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063",
    main_key: None,
    // A guess; the right value depends on the model's size and the local steps.
    new: |section, byzantine| {
        Box::new(StaticClip {
            byzantine,
            clip_norm: section.number("clip_norm", Some(10.0), 1e-30..=1e30),
        })
    },
};

#[derive(Debug)]
struct StaticClip {
    byzantine: usize,
    clip_norm: f64,
}

impl PreAggregator for StaticClip {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self, needed: usize) -> usize {
        needed
    }

    fn needs_updates(&self) -> bool {
        true
    }

    fn mixing(&self, _: &Context<'_>, rows: &Rows<'_>) -> Mixing {
        let norms = rows.squared_norms();
        norms
            .iter()
            .enumerate()
            .map(|(row, square)| vec![(row, clip_factor(square.sqrt(), self.clip_norm))])
            .collect()
    }
}

/// The factor that scales a vector of norm `norm` to a norm of at most `limit`.
pub(super) fn clip_factor(norm: f64, limit: f64) -> f64 {
    if norm > limit { limit / norm } else { 1.0 }
}
