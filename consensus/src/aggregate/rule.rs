//! What a rule is, and what may prepare models for one.

use super::contribution::{Aggregate, Context, Contribution, finite_contributions};
use super::error::AggregateError;
use super::rows::{Mixing, Rows};
use crate::mutant::{Mutant, planted};
use crate::registry::Entry;
use crate::section::Section;

/// An aggregation rule with its parameters.
pub trait Rule: std::fmt::Debug + Send + Sync {
    /// The name under which a charter asks for it, pre-aggregators included.
    fn name(&self) -> String;

    /// How many arbitrary models it was built to tolerate.
    fn byzantine(&self) -> usize;

    /// Fewest models, the aggregating peer's included.
    fn minimum(&self) -> usize;

    /// Whether its parameters fit this number of models, as far as that depends on nothing else.
    ///
    /// # Errors
    /// When a parameter does not fit that number of models.
    fn fits(&self, _models: usize) -> Result<(), AggregateError> {
        Ok(())
    }

    /// Whether it needs a model that it trusts: the aggregating peer's own.
    fn needs_own(&self) -> bool {
        false
    }

    /// Whether it needs the loss of each model on the aggregating peer's data, which takes a pass
    /// over that data for each.
    fn needs_losses(&self) -> bool {
        false
    }

    /// Whether it judges updates (model minus the aggregating peer's start of the round) and cannot
    /// judge models.
    fn needs_updates(&self) -> bool {
        false
    }

    /// Whether it judges models and cannot judge updates.
    fn needs_models(&self) -> bool {
        false
    }

    /// Whether mixing weights count; most robust rules give every model the same weight, since
    /// weights can be lied about.
    fn uses_weights(&self) -> bool {
        false
    }

    /// Whether, with at most [`Rule::byzantine`] arbitrary models among the rows, every coordinate
    /// of the result lies between the least and the greatest of the other rows.
    fn stays_in_honest_range(&self) -> bool {
        false
    }

    /// The rule itself: `rows` are finite, of one length, at least [`Rule::minimum`] many, and
    /// [`Rule::fits`] them. Influence and scores are per row.
    ///
    /// # Errors
    /// When a parameter does not fit the rows.
    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError>;

    /// Checks the contributions and combines them.
    ///
    /// A contribution with a value that is not finite is left out, with influence 0; the number of
    /// arbitrary models to tolerate stays what it was.
    ///
    /// # Errors
    /// See [`AggregateError`].
    ///
    /// # Panics
    /// When the contributions are not in the strict order of their senders: the result would depend
    /// on which arrived first.
    fn aggregate(
        &self,
        context: &Context<'_>,
        contributions: &[Contribution<'_>],
    ) -> Result<Aggregate, AggregateError> {
        aggregate_finite(
            self,
            context,
            contributions,
            &finite_contributions(contributions)?,
        )
    }
}

/// Combines the contributions `finite`; the others get influence 0 and an infinite score.
pub(super) fn aggregate_finite<R: Rule + ?Sized>(
    rule: &R,
    context: &Context<'_>,
    contributions: &[Contribution<'_>],
    finite: &[usize],
) -> Result<Aggregate, AggregateError> {
    rule.fits(finite.len())?;
    if finite.len() + usize::from(planted(Mutant::CombineOneTooFew)) < rule.minimum() {
        return Err(AggregateError::TooManyByzantine {
            rule: rule.name(),
            byzantine: rule.byzantine(),
            needed: rule.minimum(),
            found: finite.len(),
        });
    }
    let own = context
        .own
        .and_then(|own| finite.iter().position(|index| *index == own));
    let losses: Option<Vec<f64>> = context
        .losses
        .map(|losses| finite.iter().map(|index| losses[*index]).collect());
    let context = Context {
        own,
        losses: losses.as_deref(),
        ..*context
    };
    let parameters = finite
        .iter()
        .map(|index| contributions[*index].parameters)
        .collect();
    let weights = finite
        .iter()
        .map(|index| contributions[*index].mixing_weight)
        .collect();
    let aggregate = rule.combine(&context, &Rows::new(parameters, weights))?;
    if finite.len() == contributions.len() {
        return Ok(aggregate);
    }
    Ok(with_left_out(aggregate, finite, contributions.len()))
}

/// The aggregate of the contributions `finite` as one of all `count`: the others have influence 0
/// and an infinite score.
fn with_left_out(aggregate: Aggregate, finite: &[usize], count: usize) -> Aggregate {
    let mut influence = vec![0.0; count];
    let has_scores = !aggregate.scores.is_empty();
    let mut scores = vec![f64::INFINITY; if has_scores { count } else { 0 }];
    for (row, index) in finite.iter().enumerate() {
        influence[*index] = aggregate.influence[row];
        if let Some(score) = aggregate.scores.get(row) {
            scores[*index] = *score;
        }
    }
    Aggregate {
        parameters: aggregate.parameters,
        influence,
        scores,
    }
}

/// Reads a rule's keys and builds it for a number of arbitrary models (`byzantine`).
pub type NewRule = fn(&mut Section<'_>, usize) -> Box<dyn Rule>;

/// A rule in the table; `new` reads its keys and builds it for a number of arbitrary models.
pub type RuleEntry = Entry<NewRule>;

/// Prepares models before a rule judges them: `nnm+krum` is Krum on what `nnm` made of the models.
pub trait PreAggregator: std::fmt::Debug + Send + Sync {
    /// The name under which a charter asks for it.
    fn name(&self) -> &'static str;

    /// How many arbitrary models it was built to tolerate.
    fn byzantine(&self) -> usize;

    /// Fewest models from which it makes the `needed` rows that come after it.
    fn minimum(&self, needed: usize) -> usize;

    /// How many rows it makes of `models` models.
    fn rows(&self, models: usize) -> usize {
        models
    }

    /// Whether it prepares updates (model minus the aggregating peer's start of the round) and
    /// cannot prepare models.
    fn needs_updates(&self) -> bool {
        false
    }

    /// The models, with their factors, that each new row is made of. `rows` are at least
    /// [`PreAggregator::minimum`] many. `context.own` is given only if the rule that follows needs
    /// the aggregating peer's model.
    fn mixing(&self, context: &Context<'_>, rows: &Rows<'_>) -> Mixing;

    /// Which of the new rows stands for the aggregating peer's model.
    fn own_after(&self, own: usize) -> usize {
        own
    }

    /// The rows it makes of the contributions, for inspection.
    ///
    /// # Errors
    /// See [`AggregateError`].
    fn apply(
        &self,
        context: &Context<'_>,
        contributions: &[Contribution<'_>],
    ) -> Result<Vec<Vec<f32>>, AggregateError> {
        let finite = finite_contributions(contributions)?;
        let (found, needed) = (finite.len(), self.minimum(1));
        if found < needed {
            return Err(AggregateError::TooManyByzantine {
                rule: self.name().to_owned(),
                byzantine: self.byzantine(),
                needed,
                found,
            });
        }
        let models: Vec<&[f32]> = finite
            .iter()
            .map(|index| contributions[*index].parameters)
            .collect();
        let rows = Rows::new(models, vec![1.0; found]);
        let mixed = rows.mixed(self.mixing(context, &rows));
        let one = |row: usize| {
            mixed.weighted_sum(
                &(0..mixed.count())
                    .map(|other| f64::from(u8::from(other == row)))
                    .collect::<Vec<_>>(),
            )
        };
        Ok((0..mixed.count()).map(one).collect())
    }
}

/// Reads a pre-aggregator's keys and builds it for a number of arbitrary models (`byzantine`).
pub type NewPreAggregator = fn(&mut Section<'_>, usize) -> Box<dyn PreAggregator>;

/// A pre-aggregator in the table; `new` as of a [`RuleEntry`].
pub type PreEntry = Entry<NewPreAggregator>;
