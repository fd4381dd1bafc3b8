//! Rules for use outside a federation.

use super::contribution::{Aggregate, Context, Contribution, finite_contributions};
use super::error::AggregateError;
use super::rows::Rows;
use super::rule::{Rule, aggregate_finite};
use super::table::rule_from_section;
use crate::section::{Document, Problem};

/// The rule `rule` with `parameters` as (key, value in TOML's notation; a bare word is taken as
/// text), for use outside a federation. There a model that is not finite is left out *and* counted
/// as one of the `byzantine`, which drops by one for each, not below 0.
///
/// # Errors
/// Every unknown name, unknown key and unacceptable value.
pub fn rule_from_text(
    rule: &str,
    byzantine: usize,
    parameters: &[(String, String)],
) -> Result<Box<dyn Rule>, Vec<Problem>> {
    let built = section_rule(rule, byzantine, parameters)?;
    Ok(Box::new(Offline {
        text: rule.to_owned(),
        parameters: parameters.to_vec(),
        rule: built,
    }))
}

fn section_rule(
    rule: &str,
    byzantine: usize,
    parameters: &[(String, String)],
) -> Result<Box<dyn Rule>, Vec<Problem>> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!(
        "[aggregation]\nrule = {}\nbyzantine = {byzantine}\n",
        quoted(rule)
    );
    for (key, value) in parameters {
        let is_toml = format!("value = {value}")
            .parse::<toml::Table>()
            .is_ok_and(|table| table.len() == 1);
        let value = if is_toml {
            value.clone()
        } else {
            quoted(value)
        };
        text.push_str(&format!("{} = {value}\n", quoted(key)));
    }
    // The caller never saw this text, so its lines would only mislead.
    let placeless = |problem: Problem| Problem {
        line: 0,
        column: 0,
        span: None,
        ..problem
    };
    let mut document = Document::parse(&text).map_err(|problem| vec![placeless(problem)])?;
    let rule = document.section("aggregation", rule_from_section);
    document
        .finish()
        .map_err(|problems| problems.into_iter().map(placeless).collect::<Vec<_>>())?;
    Ok(rule.expect("a section without problems has its rule"))
}

/// A rule outside a federation, which can be built anew for fewer arbitrary models.
#[derive(Debug)]
struct Offline {
    text: String,
    parameters: Vec<(String, String)>,
    rule: Box<dyn Rule>,
}

impl Rule for Offline {
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

    fn needs_losses(&self) -> bool {
        self.rule.needs_losses()
    }

    fn needs_updates(&self) -> bool {
        self.rule.needs_updates()
    }

    fn needs_models(&self) -> bool {
        self.rule.needs_models()
    }

    fn uses_weights(&self) -> bool {
        self.rule.uses_weights()
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
        let finite = finite_contributions(contributions)?;
        let byzantine = self
            .byzantine()
            .saturating_sub(contributions.len() - finite.len());
        if byzantine == self.byzantine() {
            return aggregate_finite(self.rule.as_ref(), context, contributions, &finite);
        }
        let rule = section_rule(&self.text, byzantine, &self.parameters);
        let rule = rule.expect("the same text with a smaller number makes a rule again");
        aggregate_finite(rule.as_ref(), context, contributions, &finite)
    }
}
