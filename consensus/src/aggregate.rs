//! Aggregation rules: from the models of a neighbourhood to one.
//!
//! [`RULES`] and [`PRE_AGGREGATORS`] list them; [`rule_from_section`] and
//! [`rule_from_text`] build one, for example `nnm+trimmed-mean`. [`Rule::aggregate`] checks its
//! input once for all rules (empty, dimensions, finite, enough models) and then calls the rule's
//! own [`Rule::combine`] on [`Rows`], which are read block by block so that pre-aggregated models
//! are never held in memory.
//!
//! This holds for every rule: vectors are f32, all sums and distances are f64, and nothing is
//! fused. The senders' order fixes every order, and every tie goes to the lower index. So equal
//! contributions give equal bits on every machine.
//!
//! Not here: which peers contribute, when a round closes, what happens to a peer whose model was
//! dropped.

mod arc;
mod balance;
mod bridge;
mod bucketing;
mod bulyan;
mod centered_clipping;
mod cge;
mod choco;
mod clipped_gossip;
mod fltrust;
mod geometric_median;
mod gram;
mod kernel;
mod krum;
mod mda;
mod meamed;
mod mean;
mod median;
mod nna;
mod nnm;
mod rows;
mod static_clip;
mod trimmed_mean;
mod ubar;
mod weighted_mean;

use crate::identity::{Digest, PeerId};
use crate::mutant::{Mutant, planted};
use crate::random::Seed;
use crate::registry::{Entry, Registry};
use crate::section::{Document, Problem, Section};

use rows::shares_of;
pub use rows::{Mixing, Rows};

/// One model offered to a rule. All vectors have the same number of values `d`.
#[derive(Clone, Copy, Debug)]
pub struct Contribution<'a> {
    /// The peer that made it; contributions are in the order of their senders.
    pub sender: PeerId,
    /// The model, `d` values.
    pub parameters: &'a [f32],
    /// Whether it is known that no value is NaN or infinite, so that nobody has to look. Others'
    /// values are checked on arrival.
    pub is_finite: bool,
    /// Hash of `parameters`, if somebody has computed it already. It names the contribution in a
    /// cache of results.
    pub state: Option<Digest>,
    /// Weight that the topology and the charter's weighting give this sender, at least 0.
    pub mixing_weight: f64,
}

impl<'a> Contribution<'a> {
    /// A contribution of which only the model is known: weight 1, no hash.
    pub fn of(sender: PeerId, parameters: &'a [f32]) -> Contribution<'a> {
        Contribution {
            sender,
            parameters,
            is_finite: false,
            state: None,
            mixing_weight: 1.0,
        }
    }
}

/// What a rule may know besides the contributions.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Which contribution is the aggregating peer's own; `None` offline.
    pub own: Option<usize>,
    /// The aggregating peer's model as the others know it (a replica that a lossy codec made), `d`
    /// values; `None` if they know it exactly.
    pub own_public: Option<&'a [f32]>,
    /// The aggregate of the last round, `d` values.
    pub last_aggregate: Option<&'a [f32]>,
    /// Number of this round, from 0.
    pub round: u64,
    /// Number of rounds in the charter.
    pub rounds: u64,
    /// Loss of each contribution, the peer's own included, on the aggregating peer's data, if the
    /// rule asked for it.
    pub losses: Option<&'a [f64]>,
    /// Randomness that all peers share.
    pub seed: Seed,
}

impl Context<'_> {
    /// The context of an aggregation outside any federation.
    pub fn offline() -> Context<'static> {
        Context {
            own: None,
            own_public: None,
            last_aggregate: None,
            round: 0,
            rounds: 1,
            losses: None,
            seed: Seed::from_number(0),
        }
    }

    /// The row of the aggregating peer's model.
    fn own_row(&self, rule: &'static str) -> Result<usize, AggregateError> {
        self.own.ok_or(AggregateError::Missing {
            rule,
            what: "a finite own model",
        })
    }
}

/// What a rule made of the contributions.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The new model, `d` values.
    pub parameters: Vec<f32>,
    /// Per contribution, the share of the result that comes from it; sums to 1.
    pub influence: Vec<f64>,
    /// Per contribution, the rule's score (lower is nearer to the others); empty if the rule has
    /// none.
    pub scores: Vec<f64>,
}

impl Aggregate {
    /// Half of an equal share (guess): a contribution with less influence counts as dropped.
    const KEPT_SHARE: f64 = 0.5;

    /// Contributions that shaped the result.
    pub fn kept(&self) -> Vec<usize> {
        (0..self.influence.len())
            .filter(|index| !self.is_dropped(*index))
            .collect()
    }

    /// Contributions whose influence is below half of an equal share.
    pub fn dropped(&self) -> Vec<usize> {
        (0..self.influence.len())
            .filter(|index| self.is_dropped(*index))
            .collect()
    }

    /// How much of an equal share contribution `index` lacks: 0 (all of it counted) to 1 (none of
    /// it).
    pub fn dropped_share(&self, index: usize) -> f64 {
        1.0 - (self.influence.len() as f64 * self.influence[index]).min(1.0)
    }

    fn is_dropped(&self, index: usize) -> bool {
        self.influence[index] * (self.influence.len() as f64) < Aggregate::KEPT_SHARE
    }
}

/// Why there is no aggregate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AggregateError {
    /// No contribution, or contributions without values.
    #[error("nothing to aggregate: {0}")]
    EmptyInput(&'static str),
    /// Contributions of different length.
    #[error("contribution {index} has {found} values, the first has {expected}")]
    DimensionMismatch {
        /// Place of the contribution that differs.
        index: usize,
        /// Values of the first contribution.
        expected: usize,
        /// Values of contribution `index`.
        found: usize,
    },
    /// Too few models to tolerate `byzantine` of them being arbitrary.
    #[error("rule {rule:?} with byzantine = {byzantine} needs {needed} models, there are {found}")]
    TooManyByzantine {
        /// The rule as the charter names it.
        rule: String,
        /// The assumed bound of arbitrary models.
        byzantine: usize,
        /// Fewest models that the rule accepts.
        needed: usize,
        /// Models with finite values.
        found: usize,
    },
    /// A parameter of the rule does not fit these contributions.
    #[error("{parameter} of rule {rule:?}: {reason}")]
    InvalidParameter {
        /// The rule's name.
        rule: &'static str,
        /// The parameter's key.
        parameter: &'static str,
        /// What is wrong with it and what was expected.
        reason: String,
    },
    /// The rule cannot work without something that the aggregating peer knows.
    #[error("rule {rule:?} needs {what}, and there is none")]
    Missing {
        /// The rule's name.
        rule: &'static str,
        /// What it needs, in words for people.
        what: &'static str,
    },
    /// Every contribution holds a value that is not finite.
    #[error("none of the {0} contributions is finite")]
    NoFiniteInput(usize),
    /// The rule would have to search too many subsets.
    #[error("rule {rule:?} would search {subsets:.0} subsets, at most {limit} are accepted", subsets = f64::from_bits(*.subset_bits))]
    TooExpensive {
        /// The rule's name.
        rule: &'static str,
        /// Number of subsets as the bits of an f64 (so that errors stay comparable).
        subset_bits: u64,
        /// Most subsets accepted.
        limit: u64,
    },
}

impl AggregateError {
    /// The error's name in reports and known answers.
    pub fn code(&self) -> &'static str {
        match self {
            AggregateError::EmptyInput(_) => "empty_input",
            AggregateError::DimensionMismatch { .. } => "dimension_mismatch",
            AggregateError::TooManyByzantine { .. } => "too_many_byzantine",
            AggregateError::InvalidParameter { .. } => "invalid_parameter",
            AggregateError::Missing { .. } => "missing",
            AggregateError::NoFiniteInput(_) => "no_finite_input",
            AggregateError::TooExpensive { .. } => "too_expensive",
        }
    }
}

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

/// The indices of contributions without NaN or infinity, after the checks that need no rule.
fn finite_contributions(contributions: &[Contribution<'_>]) -> Result<Vec<usize>, AggregateError> {
    let first = contributions
        .first()
        .ok_or(AggregateError::EmptyInput("no contribution"))?;
    let expected = first.parameters.len();
    for (index, contribution) in contributions.iter().enumerate() {
        let found = contribution.parameters.len();
        if found != expected {
            return Err(AggregateError::DimensionMismatch {
                index,
                expected,
                found,
            });
        }
    }
    if expected == 0 {
        return Err(AggregateError::EmptyInput(
            "the contributions have no values",
        ));
    }
    assert!(
        contributions
            .windows(2)
            .all(|pair| pair[0].sender < pair[1].sender),
        "contributions must be in the strict order of their senders"
    );
    let is_finite = |contribution: &Contribution<'_>| {
        contribution.is_finite || kernel::all_finite(contribution.parameters)
    };
    let finite: Vec<usize> = (0..contributions.len())
        .filter(|index| is_finite(&contributions[*index]))
        .collect();
    if finite.is_empty() {
        Err(AggregateError::NoFiniteInput(contributions.len()))
    } else {
        Ok(finite)
    }
}

/// Combines the contributions `finite`; the others get influence 0 and an infinite score.
fn aggregate_finite<R: Rule + ?Sized>(
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
    let mut influence = vec![0.0; contributions.len()];
    let mut scores = vec![
        f64::INFINITY;
        if aggregate.scores.is_empty() {
            0
        } else {
            contributions.len()
        }
    ];
    for (row, index) in finite.iter().enumerate() {
        influence[*index] = aggregate.influence[row];
        if let Some(score) = aggregate.scores.get(row) {
            scores[*index] = *score;
        }
    }
    Ok(Aggregate {
        parameters: aggregate.parameters,
        influence,
        scores,
    })
}

/// Root mean square distance of the contributions, of one length each, to their mean; 0 without
/// any.
pub fn spread(contributions: &[Contribution<'_>]) -> f64 {
    /// Columns at a time, so that their sums stay in the first-level cache.
    const COLUMNS: usize = 256;
    let Some((first, others)) = contributions.split_first() else {
        return 0.0;
    };
    // Σ‖x − r‖² − ‖Σ(x − r)‖² / n with the first row as r, so that nearly equal rows do not cancel.
    let (mut squares, mut squared_sums) = ([0.0; COLUMNS], [0.0; COLUMNS]);
    for (block, reference) in first.parameters.chunks(COLUMNS).enumerate() {
        let mut sums = [0.0; COLUMNS];
        let columns = block * COLUMNS..block * COLUMNS + reference.len();
        for other in others {
            kernel::add_differences(
                &other.parameters[columns.clone()],
                reference,
                &mut sums,
                &mut squares,
            );
        }
        squared_sums
            .iter_mut()
            .zip(sums)
            .for_each(|(squared, sum)| *squared += sum * sum);
    }
    let count = contributions.len() as f64;
    let terms = squares
        .iter()
        .zip(squared_sums)
        .map(|(squares, squared)| squares - squared / count);
    (terms.sum::<f64>().max(0.0) / count).sqrt()
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

/// A pre-aggregator before a rule, or before another such chain.
#[derive(Debug)]
struct Chain {
    pre: Box<dyn PreAggregator>,
    rule: Box<dyn Rule>,
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
