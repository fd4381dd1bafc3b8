//! `[aggregation]`: how models become one.

use crate::aggregate::{Rule, rule_from_section};
use crate::optimization::{METHODS, Method};
use crate::section::Section;

/// How models become one.
#[derive(Debug)]
pub struct Aggregation {
    /// The rule that combines models, with its parameters.
    pub rule: Box<dyn Rule>,
    /// Arbitrary models to tolerate in every neighbourhood.
    pub byzantine: usize,
    /// How contributions are weighed.
    pub weighting: Weighting,
    /// Whether the rule sees models or updates.
    pub on: Space,
    /// What else peers exchange, so that unlike data does not pull them apart.
    pub method: Method,
    /// How much of the last round's change carries over into the next (server momentum, at every
    /// peer); 0 is none.
    pub momentum: f64,
}

/// What a rule gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The models.
    Models,
    /// Each model minus the aggregating peer's model at the start of the round; the result is added
    /// to that.
    Updates,
}

/// How contributions are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// The topology's mixing weight.
    Mixing,
    /// The topology's mixing weight times min(1, claimed samples / cap); the rest goes to the
    /// peer's own model. The cap bounds a liar's weight.
    Samples {
        /// Samples at which a claim counts in full.
        cap: u64,
    },
}

impl Aggregation {
    /// `None`, with the problem noted, if the rule is unknown.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Aggregation> {
        let rule = rule_from_section(section);
        let weighting = section.choice("weighting", Some("mixing"), &["mixing", "samples"]);
        let weighting = match weighting.as_str() {
            "samples" => Weighting::Samples {
                cap: section.integer("sample_cap", None, 1..=1_000_000_000_000),
            },
            _ => Weighting::Mixing,
        };
        let on = match section
            .choice("on", Some("models"), &["models", "updates"])
            .as_str()
        {
            "updates" => Space::Updates,
            _ => Space::Models,
        };
        let method = METHODS.choose(section, "method", Some(METHODS[0].name));
        let method = (method.unwrap_or(&METHODS[0]).new)(section);
        let momentum = section.number("momentum", Some(0.0), 0.0..=0.9999);
        let rule = rule?;
        Some(Aggregation {
            byzantine: rule.byzantine(),
            rule,
            weighting,
            on,
            method,
            momentum,
        })
    }
}
