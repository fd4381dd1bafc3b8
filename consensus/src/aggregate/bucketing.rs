//! Bucketing: average the models in random groups of s before a rule judges the groups' means.
//!
//! Karimireddy, He and Jaggi 2022, arXiv 2006.09365. Brings honest models together under
//! heterogeneous data, at the price of fewer rows: the same f of ⌈n/s⌉ rows can be bad, so ⌈n/s⌉
//! must be enough for the rule. Each round draws anew which models share a bucket, from randomness
//! that all peers share; the last bucket may be smaller. If the rule needs the peer's own model,
//! that model is alone in the first bucket, and only the others are mixed. Cost n·d.

use super::rows::Mixing;
use super::{Context, PreAggregator, PreEntry, Rows};
use crate::random::Stream;

pub(super) const ENTRY: PreEntry = PreEntry {
    name: "bucketing",
    help: "average random groups of s models; the rule needs enough groups",
    source: "Karimireddy, He and Jaggi 2022, arXiv 2006.09365",
    main_key: None,
    // s = 2 is the paper's recommendation.
    new: |section, byzantine| {
        Box::new(Bucketing {
            byzantine,
            size: section.integer("s", Some(2), 1..=65_535) as usize,
        })
    },
};

#[derive(Debug)]
struct Bucketing {
    byzantine: usize,
    size: usize,
}

impl PreAggregator for Bucketing {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self, needed: usize) -> usize {
        (needed - 1) * self.size + 1
    }

    fn rows(&self, models: usize) -> usize {
        models.div_ceil(self.size)
    }

    fn mixing(&self, context: &Context<'_>, rows: &Rows<'_>) -> Mixing {
        let mut order: Vec<usize> = (0..rows.count())
            .filter(|row| Some(*row) != context.own)
            .collect();
        Stream::derive(
            "kith.v1 aggregate bucketing",
            &context.seed,
            context.round,
            0,
            0,
        )
        .shuffle(&mut order);
        let bucket = |members: &[usize]| {
            let mut members = members.to_vec();
            members.sort_unstable();
            members
                .iter()
                .map(|member| (*member, 1.0 / members.len() as f64))
                .collect()
        };
        let alone = context.own.map(|own| vec![(own, 1.0)]);
        alone
            .into_iter()
            .chain(order.chunks(self.size).map(bucket))
            .collect()
    }

    fn own_after(&self, _: usize) -> usize {
        0
    }
}
