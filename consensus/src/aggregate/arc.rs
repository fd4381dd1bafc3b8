//! Adaptive robust clipping: the longest updates are clipped to the longest of the others.
//!
//! Allouah et al. 2025, arXiv 2405.14432. The k = ⌊2f(n − f)/n⌋ updates with the largest norm are
//! scaled to the largest norm among the other n − k. Keeps the robustness of the rule that follows,
//! which a fixed clip does not, and adds a bound on how far a few extreme updates can pull. Needs
//! updates. Works for n > f; n ≥ 2f + 1 is required. Cost n·d.

use super::rows::Mixing;
use super::static_clip::clip_factor;
use super::{Context, PreAggregator, PreEntry, Rows};

pub(super) const ENTRY: PreEntry = PreEntry {
    name: "arc",
    help: "clip the longest updates to the longest of the others; on updates; n >= 2f + 1",
    source: "Allouah et al. 2025, arXiv 2405.14432",
    main_key: None,
    new: |_, byzantine| Box::new(AdaptiveClipping { byzantine }),
};

#[derive(Debug)]
struct AdaptiveClipping {
    byzantine: usize,
}

impl PreAggregator for AdaptiveClipping {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self, needed: usize) -> usize {
        needed.max(2 * self.byzantine + 1)
    }

    fn needs_updates(&self) -> bool {
        true
    }

    fn mixing(&self, _: &Context<'_>, rows: &Rows<'_>) -> Mixing {
        let norms: Vec<f64> = rows.squared_norms().into_iter().map(f64::sqrt).collect();
        let clipped = 2 * self.byzantine * (rows.count() - self.byzantine) / rows.count();
        let mut descending = norms.clone();
        descending.sort_by(|a, b| b.total_cmp(a));
        let limit = descending[clipped];
        norms
            .iter()
            .enumerate()
            .map(|(row, norm)| vec![(row, clip_factor(*norm, limit))])
            .collect()
    }
}
