//! Whether a row was trained on, told from the final model: the likelihood ratio attack (LiRA; Carlini
//! et al. 2022, arXiv 2112.03570, algorithm 1, with the variances of all rows together).
//!
//! Shadow models are trained on random halves of a pool, so that each row is in half of them. Each
//! in turn is the target; the others say how confident a model is of a row that it has seen, and of
//! one that it has not.

use kith_consensus::Seed;
use kith_consensus::privacy::audit::{interval, logit};
use serde::Serialize;

use super::Subject;
use crate::data::Dataset;
use crate::trainer::PrivateError;

/// What membership inference found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Membership {
    /// Shadow models.
    pub shadows: u64,
    /// Rows of the pool.
    pub rows: u64,
    /// The chance that a row of the training set gets a higher score than another; 0.5 for
    /// guessing.
    pub auc: f64,
    /// At false positive rates of 1 % and 0.1 %.
    pub at: [Rate; 2],
}

/// How many members are found where so many others are taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// The share of rows taken for members that are none.
    pub false_positive: f64,
    /// The share of members found.
    pub true_positive: f64,
    /// Where that share lies, at 95 %.
    pub between: (f64, f64),
}

/// Trains `shadows` models on halves of the `pool` and attacks each with the others.
///
/// # Errors
/// What cannot be trained.
///
/// # Panics
/// With fewer than four shadows, or an odd number of them: each row has to be in half of them.
pub fn membership(
    subject: Subject<'_>,
    pool: &Dataset,
    shadows: usize,
    seed: &Seed,
) -> Result<Membership, PrivateError> {
    assert!(
        shadows >= 4 && shadows.is_multiple_of(2),
        "half of the shadows have a row"
    );
    let seen = halves(pool.len(), shadows, seed);
    let mut confidence = Vec::with_capacity(shadows);
    for (shadow, seen) in seen.iter().enumerate() {
        let rows: Vec<usize> = (0..pool.len()).filter(|row| seen[*row]).collect();
        let seed = seed.child(&format!("shadow {shadow}"));
        let parameters = subject.train(pool.select(&rows), &seed, &mut |_, _| Ok(()))?;
        let scores = subject.task.scores(&parameters, pool)?;
        let of_truth = scores.iter().zip(pool.labels());
        let of_truth = of_truth.map(|(scores, label)| logit(f64::from(scores[*label as usize])));
        confidence.push(of_truth.collect::<Vec<f64>>());
    }
    Ok(attack(&confidence, &seen))
}

/// Which rows each shadow is trained on: half of the shadows have a row.
fn halves(rows: usize, shadows: usize, seed: &Seed) -> Vec<Vec<bool>> {
    let mut stream = seed.stream("halves of the pool");
    let mut seen = vec![vec![false; rows]; shadows];
    let mut order: Vec<usize> = (0..shadows).collect();
    let mut shadows_of_row = || {
        stream.shuffle(&mut order);
        order[..shadows / 2].to_vec()
    };
    let chosen: Vec<Vec<usize>> = (0..rows).map(|_| shadows_of_row()).collect();
    for (row, shadows) in chosen.iter().enumerate() {
        shadows.iter().for_each(|shadow| seen[*shadow][row] = true);
    }
    seen
}

/// Scores each row for each target: the log-likelihood ratio of its confidence among models that
/// have seen it and models that have not.
fn attack(confidence: &[Vec<f64>], seen: &[Vec<bool>]) -> Membership {
    let (shadows, rows) = (confidence.len(), confidence[0].len());
    let half = shadows as f64 / 2.0;
    let (sums, variances) = moments(confidence, seen);
    let mut scored = Vec::with_capacity(shadows * rows);
    for (confidence, seen) in confidence.iter().zip(seen) {
        for row in 0..rows {
            let (value, is_in) = (confidence[row], usize::from(seen[row]));
            let density = |kind: usize| {
                // The target itself is left out of its kind's mean.
                let (sum, count) = match kind == is_in {
                    true => (sums[row][kind] - value, half - 1.0),
                    false => (sums[row][kind], half),
                };
                let apart = value - sum / count;
                -apart * apart / (2.0 * variances[kind]) - variances[kind].ln() / 2.0
            };
            scored.push((density(1) - density(0), seen[row]));
        }
    }
    summary(scored, shadows as u64, rows as u64)
}

/// Sums of the confidence in each row over the models that have not seen it and those that have, and
/// the variances of both kinds, over all rows.
fn moments(confidence: &[Vec<f64>], seen: &[Vec<bool>]) -> (Vec<[f64; 2]>, [f64; 2]) {
    let (half, rows) = (confidence.len() as f64 / 2.0, confidence[0].len());
    let mut sums = vec![[0.0; 2]; rows];
    for (confidence, seen) in confidence.iter().zip(seen) {
        for row in 0..rows {
            sums[row][usize::from(seen[row])] += confidence[row];
        }
    }
    let mut deviations = [0.0; 2];
    for (confidence, seen) in confidence.iter().zip(seen) {
        for row in 0..rows {
            let kind = usize::from(seen[row]);
            deviations[kind] += (confidence[row] - sums[row][kind] / half).powi(2);
        }
    }
    let of_all = rows as f64 * (half - 1.0);
    let variances = deviations.map(|sum| (sum / of_all).max(f64::MIN_POSITIVE));
    (sums, variances)
}

fn summary(mut scored: Vec<(f64, bool)>, shadows: u64, rows: u64) -> Membership {
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let others = scored.iter().filter(|(_, is_in)| !is_in).count();
    let members = scored.len() - others;
    // Pairs of a member and another row that is scored lower.
    let (mut before, mut pairs) = (0u64, 0u64);
    for (_, is_in) in &scored {
        match is_in {
            true => before += 1,
            false => pairs += before,
        }
    }
    let at = |false_positive: f64| {
        let allowed = (false_positive * others as f64) as usize;
        let (mut wrong, mut right) = (0, 0u64);
        for (_, is_in) in &scored {
            match is_in {
                true => right += 1,
                false if wrong == allowed => break,
                false => wrong += 1,
            }
        }
        Rate {
            false_positive,
            true_positive: right as f64 / members as f64,
            between: interval(right, members as u64),
        }
    };
    Membership {
        shadows,
        rows,
        auc: pairs as f64 / (members as f64 * others as f64),
        at: [at(0.01), at(0.001)],
    }
}
