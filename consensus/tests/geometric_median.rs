//! The geometric median against a slow reference: plain Weiszfeld steps on the models themselves,
//! very many of them.

#![allow(clippy::unwrap_used)] // helpers of tests count as tests

use kith_consensus::aggregate::{Aggregate, Context, Contribution, rule_from_text};
use kith_consensus::{PeerId, Seed, Stream};

fn aggregate(rows: &[Vec<f32>]) -> Aggregate {
    let contributions: Vec<Contribution<'_>> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| Contribution::of(PeerId([index as u8; 32]), row))
        .collect();
    rule_from_text("geometric-median", 0, &[])
        .unwrap()
        .aggregate(&Context::offline(), &contributions)
        .unwrap()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt()
}

fn wide(row: &[f32]) -> Vec<f64> {
    row.iter().map(|value| f64::from(*value)).collect()
}

fn objective(rows: &[Vec<f64>], at: &[f64]) -> f64 {
    rows.iter().map(|row| distance(row, at)).sum()
}

/// The model that is the optimum, if one is: the unit forces of those elsewhere add up to no more
/// than how many stand there.
fn model_that_holds(rows: &[Vec<f64>]) -> Option<&Vec<f64>> {
    rows.iter().find(|at| {
        let here = rows.iter().filter(|row| row == at).count() as f64;
        let mut pull = vec![0.0; at.len()];
        for row in rows.iter().filter(|row| row != at) {
            let length = distance(row, at);
            pull.iter_mut()
                .zip(row.iter().zip(at.iter()))
                .for_each(|(pull, (row, at))| *pull += (row - at) / length);
        }
        pull.iter().map(|pull| pull * pull).sum::<f64>().sqrt() <= here
    })
}

/// Weiszfeld steps until they no longer move, at most so many.
fn reference(rows: &[Vec<f32>], steps: usize) -> Vec<f64> {
    let rows: Vec<Vec<f64>> = rows.iter().map(|row| wide(row)).collect();
    if let Some(model) = model_that_holds(&rows) {
        return model.clone();
    }
    // From beside the best model, so that no step meets one.
    let best = rows
        .iter()
        .min_by(|a, b| objective(&rows, a).total_cmp(&objective(&rows, b)))
        .unwrap();
    let step = |at: &[f64]| {
        let weights: Vec<f64> = rows
            .iter()
            .map(|row| distance(row, at))
            .map(|to| if to > 0.0 { 1.0 / to } else { 0.0 })
            .collect();
        let total: f64 = weights.iter().sum();
        let column = |column: usize| {
            rows.iter()
                .zip(&weights)
                .map(|(row, weight)| weight * row[column])
                .sum::<f64>()
                / total
        };
        (0..at.len()).map(column).collect::<Vec<f64>>()
    };
    let away = step(best);
    let mut at: Vec<f64> = best
        .iter()
        .zip(&away)
        .map(|(best, away)| best + 1e-3 * (away - best))
        .collect();
    for _ in 0..steps {
        at = step(&at);
    }
    at
}

/// The median distance from the reference: what an error is measured in.
fn spread(rows: &[Vec<f32>], at: &[f64]) -> f64 {
    let mut distances: Vec<f64> = rows.iter().map(|row| distance(&wide(row), at)).collect();
    distances.sort_by(f64::total_cmp);
    distances[distances.len() / 2]
}

/// What rounding to f32 may take away at most.
fn rounding(at: &[f64]) -> f64 {
    at.iter()
        .map(|value| (value * 6e-8).powi(2))
        .sum::<f64>()
        .sqrt()
}

fn assert_converged(rows: &[Vec<f32>], steps: usize, what: &str) {
    let found = aggregate(rows);
    let expected = reference(rows, steps);
    let off = distance(&wide(&found.parameters), &expected);
    let allowed = 1e-7 * spread(rows, &expected) + rounding(&expected);
    assert!(
        off <= allowed,
        "{what}: off by {off:.2e}, allowed {allowed:.2e}; {:?}",
        found.influence
    );
    assert!(
        (found.influence.iter().sum::<f64>() - 1.0).abs() < 1e-12
            && found.influence.iter().all(|share| *share >= 0.0)
    );
}

fn draw(stream: &mut Stream, count: usize, dimension: usize) -> Vec<Vec<f32>> {
    (0..count)
        .map(|_| (0..dimension).map(|_| stream.normal() as f32).collect())
        .collect()
}

/// Plain steps shrink with the distance to the model, so that a short one says nothing.
#[test]
fn three_points_whose_median_is_close_to_one_of_them() {
    // A corner of a bit less than 120°, at which the median is the corner itself.
    for missing in [10.0f64, 3.0, 1.0, 0.3, 0.1, 0.03] {
        let angle = (120.0 - missing).to_radians();
        for long in [1.0, 2.5, 40.0] {
            let rows = vec![
                vec![0.25, -0.5],
                vec![1.25, -0.5],
                vec![
                    0.25 + (long * angle.cos()) as f32,
                    -0.5 + (long * angle.sin()) as f32,
                ],
            ];
            assert_converged(
                &rows,
                400_000,
                &format!("{missing}° less than 120°, sides 1 and {long}"),
            );
        }
    }
}

#[test]
fn random_models_of_any_number_and_dimension() {
    let mut stream = Seed::from_number(11).stream("geometric median");
    for case in 0..60 {
        let (count, dimension) = (
            3 + stream.bounded(12) as usize,
            2 + stream.bounded(300) as usize,
        );
        let mut rows = draw(&mut stream, count, dimension);
        // Some stand close together, some twice in one place.
        if case % 3 == 1 {
            rows[1] = rows[0].iter().map(|value| value + 1e-3).collect();
        }
        if case % 4 == 2 {
            rows[2] = rows[0].clone();
        }
        assert_converged(
            &rows,
            20_000,
            &format!("case {case}: {count} models of {dimension} values"),
        );
    }
}

/// What is far away pulls with the same unit force, and must not take the digits of those that are
/// near each other.
#[test]
fn far_models_cost_no_digits() {
    let mut stream = Seed::from_number(12).stream("geometric median");
    for (case, far) in [1e3f32, 1e6, 1e9, 1e15, 1e25].into_iter().enumerate() {
        for place in [0, 3, 6] {
            let mut rows = draw(&mut stream, 7, 5);
            for row in &mut rows {
                row.iter_mut()
                    .for_each(|value| *value = 1.0 + *value / 64.0);
            }
            for liar in [place, (place + 1) % 7] {
                rows[liar].iter_mut().for_each(|value| *value *= far);
            }
            assert_converged(
                &rows,
                100_000,
                &format!("case {case}, {far:e}, from {place}"),
            );
        }
    }
}

/// A model far from the rest in coordinates that no sample of the first ones shows.
#[test]
fn a_model_that_only_looks_central_costs_no_digits() {
    let mut stream = Seed::from_number(13).stream("geometric median");
    let mut rows = draw(&mut stream, 6, 400);
    let mean: Vec<f32> = (0..128)
        .map(|column| rows.iter().map(|row| row[column]).sum::<f32>() / 6.0)
        .collect();
    let mut liar = mean;
    liar.resize(400, 1e12);
    rows.insert(2, liar);
    assert_converged(
        &rows,
        50_000,
        "a liar that is nearest to all in its first coordinates",
    );
}

#[test]
fn where_several_points_are_as_good_the_middle_is_taken() {
    let line = |values: &[f32]| {
        values
            .iter()
            .map(|value| vec![*value, 2.0 * *value])
            .collect::<Vec<_>>()
    };
    assert_eq!(aggregate(&line(&[1.0, 3.0])).parameters, [2.0, 4.0]);
    assert_eq!(
        aggregate(&line(&[0.0, 1.0, 3.0, 100.0])).parameters,
        [2.0, 4.0]
    );
    assert_eq!(aggregate(&line(&[7.0, 1.0, 3.0])).parameters, [3.0, 6.0]);
    assert_eq!(aggregate(&line(&[5.0; 4])).parameters, [5.0, 10.0]);
    assert_eq!(
        aggregate(&line(&[5.0, 5.0, 5.0, 9.0, 1.0])).parameters,
        [5.0, 10.0]
    );
}
