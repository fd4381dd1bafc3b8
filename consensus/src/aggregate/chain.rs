//! Pre-aggregators before a rule, as one rule: `nnm+krum`.

use super::contribution::{Aggregate, Context};
use super::error::AggregateError;
use super::rows::{Rows, shares_of};
use super::rule::{PreAggregator, Rule};

/// A pre-aggregator before a rule, or before another such chain.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) pre: Box<dyn PreAggregator>,
    pub(super) rule: Box<dyn Rule>,
}

impl Rule for Chain {
    fn name(&self) -> String {
        format!("{}+{}", self.pre.name(), self.rule.name())
    }

    fn byzantine(&self) -> usize {
        self.rule.byzantine()
    }

    fn minimum(&self) -> usize {
        self.pre.minimum(self.rule.minimum())
    }

    fn fits(&self, models: usize) -> Result<(), AggregateError> {
        self.rule.fits(self.pre.rows(models))
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
        self.pre.needs_updates() || self.rule.needs_updates()
    }

    fn needs_models(&self) -> bool {
        self.rule.needs_models()
    }

    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let own = context.own.filter(|_| self.rule.needs_own());
        let mixing = self.pre.mixing(&Context { own, ..*context }, rows);
        // The loss of a mixed row is taken to be the average loss of its parts; for a convex loss
        // it is at most that.
        let loss = |terms: &Vec<(usize, f64)>, losses: &[f64]| {
            shares_of(terms)
                .map(|(row, share)| share * losses[row])
                .sum()
        };
        let losses: Option<Vec<f64>> = context
            .losses
            .map(|losses| mixing.iter().map(|terms| loss(terms, losses)).collect());
        let own = own.map(|own| self.pre.own_after(own));
        let context = Context {
            own,
            losses: losses.as_deref(),
            ..*context
        };
        let aggregate = self.rule.combine(&context, &rows.mixed(mixing.clone()))?;
        // A mixed row's influence is shared among its parts; scores stay with the row of the same
        // number.
        let mut influence = vec![0.0; rows.count()];
        for (terms, share) in mixing.iter().zip(&aggregate.influence) {
            shares_of(terms).for_each(|(row, part)| influence[row] += share * part);
        }
        let scores = if mixing.len() == rows.count() {
            aggregate.scores
        } else {
            Vec::new()
        };
        Ok(Aggregate {
            parameters: aggregate.parameters,
            influence,
            scores,
        })
    }
}
