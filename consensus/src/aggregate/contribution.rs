//! What a rule is given and what it makes of it: contributions and their context, the aggregate.

use super::error::AggregateError;
use super::kernel;
use crate::identity::{Digest, PeerId};
use crate::random::Seed;

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
    pub(super) fn own_row(&self, rule: &'static str) -> Result<usize, AggregateError> {
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

/// The indices of contributions without NaN or infinity, after the checks that need no rule.
pub(super) fn finite_contributions(
    contributions: &[Contribution<'_>],
) -> Result<Vec<usize>, AggregateError> {
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
