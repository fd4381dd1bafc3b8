//! Bulyan: pick n − 2f models by repeated Krum, then per coordinate average those nearest the
//! median of the picked.
//!
//! El Mhamdi, Guerraoui and Rouault 2018, arXiv 1802.07927. θ = n − 2f times Krum on the k models
//! left, with max(1, k − f − 2) neighbours, moves its winner to S; then per coordinate the mean of
//! the θ − 2f values of S nearest the median of S. Needs n ≥ 4f + 3. Cost n²·d + θ·n². The second
//! step bounds a large change in few coordinates, which Krum alone cannot notice; the price is the
//! large neighbourhood. Under heterogeneous data it shares Krum's weakness.

use super::meamed::{influence_around_median, mean_around_median};
use super::rows::Distances;
use super::{Aggregate, AggregateError, Context, Rows, Rule, RuleEntry};

pub(super) const ENTRY: RuleEntry = RuleEntry {
    name: "bulyan",
    help: "n - 2f models picked by Krum, then the mean around their median; n >= 4f + 3",
    source: "El Mhamdi, Guerraoui and Rouault 2018, arXiv 1802.07927",
    main_key: None,
    new: |_, byzantine| Box::new(Bulyan { byzantine }),
};

#[derive(Debug)]
struct Bulyan {
    byzantine: usize,
}

impl Rule for Bulyan {
    fn name(&self) -> String {
        ENTRY.name.to_owned()
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn minimum(&self) -> usize {
        4 * self.byzantine + 3
    }

    /// Scores are the order in which the models were picked; those that were not picked share the
    /// last place.
    fn combine(&self, _: &Context<'_>, rows: &Rows<'_>) -> Result<Aggregate, AggregateError> {
        let count = rows.count();
        let picked = pick(&rows.distances(), count, self.byzantine);
        let mut scores = vec![picked.len() as f64; count];
        picked
            .iter()
            .enumerate()
            .for_each(|(place, row)| scores[*row] = place as f64);
        let mut members = picked;
        members.sort_unstable();
        let selected = rows.mixed(members.iter().map(|row| vec![(*row, 1.0)]).collect());
        let kept = members.len() - 2 * self.byzantine;
        let mut influence = vec![0.0; count];
        members
            .iter()
            .zip(influence_around_median(&selected, kept))
            .for_each(|(row, share)| influence[*row] = share);
        Ok(Aggregate {
            parameters: mean_around_median(&selected, kept),
            influence,
            scores,
        })
    }
}

/// n − 2f rows in the order in which Krum picks them from the remaining rows.
fn pick(distances: &Distances, count: usize, byzantine: usize) -> Vec<usize> {
    let nearest: Vec<Vec<usize>> = (0..count).map(|row| distances.neighbours(row)).collect();
    let mut left = vec![true; count];
    let mut picked = Vec::new();
    while picked.len() < count - 2 * byzantine {
        let remaining = count - picked.len();
        let neighbours = remaining.saturating_sub(byzantine + 2).max(1);
        let score = |row: usize| -> f64 {
            let others = nearest[row]
                .iter()
                .filter(|other| left[**other])
                .take(neighbours);
            others.map(|other| distances.between(row, *other)).sum()
        };
        let scored = (0..count)
            .filter(|row| left[*row])
            .map(|row| (score(row), row));
        let Some((_, best)) = scored.min_by(|a, b| a.0.total_cmp(&b.0)) else {
            break;
        };
        left[best] = false;
        picked.push(best);
    }
    picked
}
