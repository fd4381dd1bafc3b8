//! `rule-has-enough`: a rule never combines fewer models than it needs for the charter's f, and f
//! is never lowered silently.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "rule-has-enough",
    help: "a rule never combines fewer models than its f needs, and mixing is skipped only then",
    source: "own",
    main_key: None,
    new: |_| Box::new(RuleHasEnough),
};

struct RuleHasEnough;

impl Check for RuleHasEnough {
    fn event(&mut self, scope: &Scope, _: &Moment<'_>, event: &Event) -> Breach {
        let need = scope.charter.aggregation.rule.minimum();
        match event {
            Event::Aggregated { round, models, .. } if *models < need => Some(format!(
                "it combined {models} models in round {round}, the rule needs {need}"
            )),
            Event::MixingSkipped { round, have, .. } if *have >= need => Some(format!(
                "it skipped mixing in round {round} with {have} models, the rule needs {need}"
            )),
            _ => None,
        }
    }
}
