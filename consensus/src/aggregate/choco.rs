//! CHOCO-gossip: a step of averaging among public replicas, added to the peer's exact model.
//!
//! Koloskova, Stich and Jaggi 2019, arXiv 1902.00340. xᵢ ← xᵢ + γ Σⱼ wᵢⱼ (x̂ⱼ − x̂ᵢ), where x̂ is a
//! model as the others know it through a lossy codec, x̂ᵢ included. So compression losses cancel,
//! and the mean of all models does not change. Works for n ≥ 1, cost n·d. With exact replicas and γ
//! = 1 it is gossip averaging. The coarser the codec, the smaller γ has to be; otherwise it
//! diverges. One arbitrary model moves the result anywhere.

use super::mean::shares;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "choco",
    help: "gossip averaging among compressed replicas; key step_size; tolerates no arbitrary model",
    source: "Koloskova, Stich and Jaggi 2019, arXiv 1902.00340",
    main_key: None,
    // A guess between 1, which is for exact replicas, and the paper's tuned values for coarse
    // codecs, a tenth and below.
    new: |section, byzantine| {
        Box::new(Choco {
            byzantine,
            step_size: section.number("step_size", Some(0.5), 1e-6..=1.0),
        })
    },
};

#[derive(Debug)]
struct Choco {
    byzantine: usize,
    /// Step size γ of the averaging.
    step_size: f64,
}

impl Rule for Choco {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        1
    }

    fn needs_own(&self) -> bool {
        true
    }

    fn uses_weights(&self) -> bool {
        true
    }

    fn combine(&self, context: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let own = context.own_row(ENTRY.name)?;
        let weights = shares(ENTRY.name, "mixing weight", rows.weights())?;
        let mut influence: Vec<f64> = weights
            .iter()
            .map(|weight| self.step_size * weight)
            .collect();
        influence[own] = 0.0;
        let moved: f64 = influence.iter().sum();
        influence[own] = 1.0 - moved;
        let parameters = match context.own_public {
            None => rows.weighted_sum(&influence),
            Some(public) if public.len() != rows.dimension() => {
                return Err(AggregateError::Missing {
                    rule: ENTRY.name,
                    what: "a public own model as long as the others",
                });
            }
            Some(public) => {
                let mut factors = influence.clone();
                factors[own] = 1.0;
                rows.weighted_sum_and(&factors, Some((public, -moved)))
            }
        };
        Ok(Aggregate {
            parameters,
            influence,
            scores: Vec::new(),
        })
    }
}
