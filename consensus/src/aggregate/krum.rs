//! Krum and Multi-Krum: trust the models that have the nearest neighbours.
//!
//! Blanchard et al. 2017, arXiv 1703.02757. sᵢ is the sum of the smallest squared distances of
//! model i to others; Krum returns the model with the smallest sᵢ, Multi-Krum the mean of the m
//! best. Variant `blanchard` looks at n − f − 2 others and needs n ≥ 2f + 3;
//! `nearest_n_minus_f_minus_1` (byzfl's) at n − f − 1 and needs n ≥ 2f + 1. Cost n²·d. Under
//! heterogeneous data Krum follows one peer's data (combine with `nnm`); in high dimension an
//! attacker may hide a large change in one coordinate within the honest spread.

use super::rows::Distances;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};
use crate::section::Section;

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "krum",
    help: "the one model with the nearest neighbours; n >= 2f + 3",
    source: "Blanchard et al. 2017, arXiv 1703.02757",
    main_key: None,
    new: |section, byzantine| {
        Box::new(Krum {
            byzantine,
            variant: Variant::read(section),
            selected: Selected::One,
        })
    },
};

pub(super) const MULTI_ENTRY: RuleEntry = RuleEntry {
    name: "multi-krum",
    help: "mean of the m models with the nearest neighbours; n >= 2f + 3",
    source: "Blanchard et al. 2017, arXiv 1703.02757",
    main_key: None,
    new: |section, byzantine| {
        let variant = Variant::read(section);
        // 0: as many as the paper's analysis allows, which depends on how many models there are.
        let selected = match section.integer("m", Some(0), 0..=65_535) {
            0 => Selected::Automatic,
            m => Selected::Best(m as usize),
        };
        Box::new(Krum {
            byzantine,
            variant,
            selected,
        })
    },
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Variant {
    Blanchard,
    NearestNMinusFMinus1,
}

impl Variant {
    fn read(section: &mut Section<'_>) -> Variant {
        match section
            .choice(
                "variant",
                Some("blanchard"),
                &["blanchard", "nearest_n_minus_f_minus_1"],
            )
            .as_str()
        {
            "nearest_n_minus_f_minus_1" => Variant::NearestNMinusFMinus1,
            _ => Variant::Blanchard,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Selected {
    One,
    Best(usize),
    Automatic,
}

#[derive(Debug)]
struct Krum {
    byzantine: usize,
    variant: Variant,
    selected: Selected,
}

impl Rule for Krum {
    fn name(&self) -> String {
        match self.selected {
            Selected::One => ENTRY.name.to_owned(),
            _ => MULTI_ENTRY.name.to_owned(),
        }
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        let least = match self.variant {
            Variant::Blanchard => 2 * self.byzantine + 3,
            Variant::NearestNMinusFMinus1 => 2 * self.byzantine + 1,
        };
        if let Selected::Best(m) = self.selected {
            least.max(m + self.byzantine)
        } else {
            least
        }
    }

    fn fits(&self, models: usize) -> Result<(), AggregateError> {
        match self.selected {
            Selected::Best(m) if m + self.byzantine > models => {
                Err(AggregateError::InvalidParameter {
                    rule: MULTI_ENTRY.name,
                    parameter: "m",
                    reason: format!(
                        "{m} of {models} models with byzantine = {}; expected at most {}",
                        self.byzantine,
                        models.saturating_sub(self.byzantine)
                    ),
                })
            }
            _ => Ok(()),
        }
    }

    fn combine(&self, _: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let count = rows.count();
        let (neighbours, automatic) = match self.variant {
            Variant::Blanchard => (count - self.byzantine - 2, count - self.byzantine - 2),
            Variant::NearestNMinusFMinus1 => (count - self.byzantine - 1, count - self.byzantine),
        };
        let selected = match self.selected {
            Selected::One => 1,
            Selected::Automatic => automatic,
            Selected::Best(m) => m,
        };
        let scores = scores(&rows.distances(), count, neighbours);
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let mut influence = vec![0.0; count];
        order[..selected]
            .iter()
            .for_each(|row| influence[*row] = 1.0 / selected as f64);
        Ok(Aggregate {
            parameters: rows.weighted_sum(&influence),
            influence,
            scores,
        })
    }
}

/// Per row, the sum of its `neighbours` smallest squared distances to others.
fn scores(distances: &Distances, rows: usize, neighbours: usize) -> Vec<f64> {
    let score = |row: usize| {
        distances.neighbours(row)[..neighbours]
            .iter()
            .map(|other| distances.between(row, *other))
            .sum()
    };
    (0..rows).map(score).collect()
}
