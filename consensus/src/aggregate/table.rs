//! The tables of rules and pre-aggregators, and the rule that a section asks for.

use super::chain::Chain;
use super::rule::{NewPreAggregator, NewRule, Rule};
use super::{
    arc, balance, bridge, bucketing, bulyan, centered_clipping, cge, choco, clipped_gossip,
    fltrust, geometric_median, krum, mda, meamed, mean, median, nna, nnm, static_clip,
    trimmed_mean, ubar, weighted_mean,
};
use crate::registry::Registry;
use crate::section::Section;

/// Every rule there is.
pub static RULES: Registry<NewRule> = Registry::new(
    "rule",
    &[
        mean::ENTRY,
        weighted_mean::ENTRY,
        median::ENTRY,
        trimmed_mean::ENTRY,
        krum::ENTRY,
        krum::MULTI_ENTRY,
        geometric_median::ENTRY,
        meamed::ENTRY,
        bulyan::ENTRY,
        mda::ENTRY,
        cge::ENTRY,
        centered_clipping::ENTRY,
        nna::ENTRY,
        bridge::ENTRY,
        clipped_gossip::ENTRY,
        balance::ENTRY,
        fltrust::ENTRY,
        ubar::ENTRY,
        choco::ENTRY,
    ],
);

/// Every pre-aggregator there is.
pub static PRE_AGGREGATORS: Registry<NewPreAggregator> = Registry::new(
    "pre-aggregator",
    &[nnm::ENTRY, bucketing::ENTRY, static_clip::ENTRY, arc::ENTRY],
);

/// The rule that `[aggregation]` asks for: keys `rule` (a name, or pre-aggregators before it:
/// `nnm+trimmed-mean`), `byzantine`, and the keys of the parts. `None`, with the problem noted, if
/// a name is unknown.
pub fn rule_from_section(section: &mut Section<'_>) -> Option<Box<dyn Rule>> {
    // Plain averaging among honest peers is the expected default.
    let text = section.text("rule", Some("mean"));
    let byzantine = section.integer("byzantine", Some(0), 0..=BYZANTINE_MAX) as usize;
    let (before, last) = text
        .rsplit_once('+')
        .map_or((None, text.as_str()), |(before, last)| (Some(before), last));
    let rule = match RULES.find(last) {
        Ok(entry) => Some((entry.new)(section, byzantine)),
        Err(_) if PRE_AGGREGATORS.get(last).is_some() => {
            let example = format!("{text}+trimmed-mean");
            let what =
                format!("{last:?} prepares models for a rule; expected for example {example:?}");
            section.note("rule", what);
            None
        }
        Err(what) => {
            section.note("rule", what);
            None
        }
    };
    let mut chain = rule;
    for name in before.into_iter().flat_map(|before| before.rsplit('+')) {
        let entry = match PRE_AGGREGATORS.find(name) {
            Ok(entry) => entry,
            Err(what) => {
                section.note("rule", what);
                chain = None;
                continue;
            }
        };
        let pre = (entry.new)(section, byzantine);
        chain = chain.map(|rule| Box::new(Chain { pre, rule }) as Box<dyn Rule>);
    }
    chain
}

/// Largest `byzantine` accepted, so that no minimum overflows.
const BYZANTINE_MAX: u64 = 65_535;
