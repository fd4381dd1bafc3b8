//! A rule that remembers: if everybody receives everybody's update, many peers combine the same
//! models. Equal contributions give equal bits, so one of them computes for all.
//!
//! Only results that depend on nothing else are remembered. Every contribution is named by its
//! hash, the last aggregate is the same, and the rule needs no model of the peer's own, no weights
//! and no losses.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kith_consensus::aggregate::{Aggregate, AggregateError, Context, Contribution, Rows};
use kith_consensus::{Digest, Rule};

/// Results kept: those of the round that peers are in, and of the few that stragglers are in.
const RESULTS_MAX: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Remembered {
    rule: Box<dyn Rule>,
    /// Only this many contributions, everybody's, are worth remembering.
    peers: usize,
    results: Mutex<BTreeMap<(u64, Digest), Aggregate>>,
}

impl Remembered {
    /// A rule for a federation of `peers` peers.
    pub(crate) fn new(rule: Box<dyn Rule>, peers: usize) -> Remembered {
        Remembered {
            rule,
            peers,
            results: Mutex::default(),
        }
    }

    /// The name of everything that the result depends on.
    fn name(
        &self,
        context: &Context<'_>,
        contributions: &[Contribution<'_>],
    ) -> Option<(u64, Digest)> {
        let alone = !self.needs_own() && !self.uses_weights() && !self.needs_losses();
        if !alone || contributions.len() != self.peers {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        for contribution in contributions {
            hasher.update(&contribution.sender.0);
            hasher.update(&contribution.state?.0);
        }
        if let Some(last) = context.last_aggregate {
            hasher.update(&Digest::of_values(last).0);
        }
        Some((context.round, Digest(*hasher.finalize().as_bytes())))
    }
}

impl Rule for Remembered {
    fn name(&self) -> String {
        self.rule.name()
    }

    fn byzantine(&self) -> usize {
        self.rule.byzantine()
    }

    fn minimum(&self) -> usize {
        self.rule.minimum()
    }

    fn fits(&self, models: usize) -> Result<(), AggregateError> {
        self.rule.fits(models)
    }

    fn needs_own(&self) -> bool {
        self.rule.needs_own()
    }

    fn uses_weights(&self) -> bool {
        self.rule.uses_weights()
    }

    fn needs_losses(&self) -> bool {
        self.rule.needs_losses()
    }

    fn needs_updates(&self) -> bool {
        self.rule.needs_updates()
    }

    fn needs_models(&self) -> bool {
        self.rule.needs_models()
    }

    fn stays_in_honest_range(&self) -> bool {
        self.rule.stays_in_honest_range()
    }

    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        self.rule.combine(context, rows)
    }

    fn aggregate(
        &self,
        context: &Context<'_>,
        contributions: &[Contribution<'_>],
    ) -> Result<Aggregate, AggregateError> {
        let Some(name) = self.name(context, contributions) else {
            return self.rule.aggregate(context, contributions);
        };
        let known = self
            .results
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&name)
            .cloned();
        if let Some(aggregate) = known {
            return Ok(aggregate);
        }
        let aggregate = self.rule.aggregate(context, contributions)?;
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.insert(name, aggregate.clone());
        while results.len() > RESULTS_MAX {
            results.pop_first();
        }
        Ok(aggregate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::aggregate::{RULES, rule_from_text};

    #[test]
    fn it_says_of_itself_what_its_rule_says() {
        // One has weights that must be given.
        for entry in RULES.iter().filter(|entry| entry.name != "weighted-mean") {
            let rule = || rule_from_text(entry.name, 1, &[]).expect("the others have defaults");
            let (plain, remembered) = (rule(), Remembered::new(rule(), 8));
            let told = |rule: &dyn Rule| {
                let needs = [
                    rule.needs_own(),
                    rule.needs_losses(),
                    rule.needs_updates(),
                    rule.needs_models(),
                ];
                let numbers = (rule.byzantine(), rule.minimum(), rule.fits(1000));
                (
                    rule.name(),
                    numbers,
                    needs,
                    rule.uses_weights(),
                    rule.stays_in_honest_range(),
                )
            };
            assert_eq!(told(&remembered), told(&*plain), "{}", entry.name);
        }
    }
}
