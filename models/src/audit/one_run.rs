//! A lower bound on ε from a single run (Steinke et al. 2023, arXiv 2305.08846).
//!
//! Each canary is a training row by the toss of a coin. The auditor sees every release, and scores a
//! canary by how far the releases went along its gradient. It guesses that those with the highest
//! scores were there and those with the lowest were not.

use kith_consensus::Seed;
use kith_consensus::privacy::Delta;
use kith_consensus::privacy::audit::Guesses;
use serde::Serialize;

use super::{Subject, dot};
use crate::data::Dataset;
use crate::model::Workspace;
use crate::trainer::PrivateError;

/// Probability that the bound is above the true ε.
pub const ERROR: f64 = 0.05;

/// What an audit of one run found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct OneRun {
    /// Rows that took part or not by a coin.
    pub canaries: u64,
    /// Guesses; they limit what can be shown.
    pub guesses: u64,
    /// Right guesses.
    pub right: u64,
    /// ε that the mechanism cannot be below, at 95 %.
    pub epsilon_low: f64,
    /// The most that so many guesses could have shown.
    pub epsilon_most: f64,
}

/// Trains once on about half of the canaries and guesses at `guesses` of them. δ is that of the
/// statement that is audited.
///
/// # Errors
/// What cannot be trained.
///
/// # Panics
/// When there are fewer canaries than guesses.
pub fn one_run(
    subject: Subject<'_>,
    canaries: &Dataset,
    guesses: usize,
    delta: Delta,
    seed: &Seed,
) -> Result<OneRun, PrivateError> {
    let count = canaries.len();
    assert!(guesses <= count, "each guess is about a canary");
    let mut coins = seed.stream("coins");
    let there: Vec<bool> = (0..count).map(|_| coins.bounded(2) == 1).collect();
    let scores = scores(subject, canaries, &there, seed)?;
    let found = guess(&scores, &there, guesses);
    let most = Guesses {
        right: found.made,
        ..found
    };
    Ok(OneRun {
        canaries: found.canaries,
        guesses: found.made,
        right: found.right,
        epsilon_low: found.epsilon_low(delta, ERROR),
        epsilon_most: most.epsilon_low(delta, ERROR),
    })
}

/// How far the releases of a run with the canaries that are `there` went along each one's gradient.
fn scores(
    subject: Subject<'_>,
    canaries: &Dataset,
    there: &[bool],
    seed: &Seed,
) -> Result<Vec<f64>, PrivateError> {
    let rows: Vec<usize> = (0..canaries.len()).filter(|row| there[*row]).collect();
    let mut scores = vec![0.0; canaries.len()];
    let (mut workspace, mut gradient) = (Workspace::default(), Vec::new());
    subject.train(canaries.select(&rows), seed, &mut |before, after| {
        let moved: Vec<f32> = before.iter().zip(after).map(|(a, b)| a - b).collect();
        let mut parameters = before.to_vec();
        for (row, score) in scores.iter_mut().enumerate() {
            let row = (canaries, row);
            let (workspace, gradient) = (&mut workspace, &mut gradient);
            let task = subject.task;
            task.gradient_of(&mut parameters, row, workspace, gradient)?;
            let length = dot(gradient, gradient).sqrt();
            if length > 0.0 {
                *score += dot(&moved, gradient) / length;
            }
        }
        Ok(())
    })?;
    Ok(scores)
}

/// Guesses that half of so many canaries were there, those with the highest scores, and that those
/// with the lowest were not.
fn guess(scores: &[f64], there: &[bool], guesses: usize) -> Guesses {
    let count = scores.len();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let (top, bottom) = (guesses.div_ceil(2), guesses / 2);
    let (highest, lowest) = (&order[..top], &order[count - bottom..]);
    let right_in = highest.iter().filter(|row| there[**row]).count();
    let right_out = lowest.iter().filter(|row| !there[**row]).count();
    Guesses {
        canaries: count as u64,
        made: guesses as u64,
        right: (right_in + right_out) as u64,
    }
}
