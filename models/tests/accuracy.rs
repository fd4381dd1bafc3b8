//! What the shipped defaults reach when one peer has all rows: the numbers that the defaults'
//! comments refer to.
#![allow(clippy::unwrap_used)]

mod common;

use kith_consensus::Seed;
use kith_consensus::privacy::noise::{NoiseScale, ReleaseKey};
use kith_consensus::privacy::sampling::PoissonSampling;
use kith_consensus::privacy::{Delta, pld};
use kith_models::{Dataset, Evaluation, PrivateTraining, Request, Task, Units, auc};

fn pooled(
    task: &Task,
    train: Dataset,
    test: &Dataset,
    rounds: u64,
    seed: u64,
) -> (Vec<f32>, Evaluation) {
    let trainer = task.trainer(train, Seed::from_number(seed)).unwrap();
    let mut parameters = task.initial_parameters();
    for round in 0..rounds {
        parameters = trainer
            .train(&Request::new(&parameters, round))
            .unwrap()
            .parameters;
    }
    let evaluation = task.evaluate(&parameters, test).unwrap();
    (parameters, evaluation)
}

#[test]
fn digits_pooled_reach_0_95_in_60_epochs() {
    let (_, task, train, test) = common::loaded("digits");
    assert_eq!((train.len(), test.len()), (1437, 360));
    // The default round has two epochs.
    let (_, evaluation) = pooled(&task, train, &test, 30, 0);
    println!(
        "digits, pooled, 60 epochs: accuracy {:.4}, loss {:.4}",
        evaluation.accuracy, evaluation.loss
    );
    assert!(evaluation.accuracy > 0.95, "{evaluation:?}");
}

/// One release of 400 steps. Without clipping and noise the same steps reach 0.96.
#[test]
fn digits_are_learned_with_differential_privacy() {
    let (_, task, train, test) = common::loaded("digits");
    let scale = NoiseScale::new(1.5, 1.0).unwrap();
    let sampling = PoissonSampling::new(128.0 / 1437.0).unwrap();
    let private = PrivateTraining::new(scale, sampling, 128, 400).unwrap();
    let units = Units::rows(train.len());
    let trainer = task.trainer(train, Seed::from_number(0)).unwrap();
    let start = task.initial_parameters();
    let trained = trainer
        .train_privately(
            &Request::new(&start, 0),
            &private,
            &units,
            ReleaseKey::new([0; 32]),
        )
        .unwrap();
    let evaluation = task.evaluate(&trained.parameters, &test).unwrap();
    let delta = Delta::new(1e-4).unwrap();
    let epsilon = pld::epsilon(&[private.phase().unwrap()], delta).unwrap();
    println!(
        "digits, private, 400 steps: accuracy {:.4} at ε {epsilon:.3}, δ 1e-4",
        evaluation.accuracy
    );
    assert!(
        evaluation.accuracy > 0.8 && epsilon < 6.0,
        "{evaluation:?}, ε {epsilon}"
    );
}

#[test]
fn heart_pooled_tells_the_sick_from_the_healthy() {
    let (_, task, train, test) = common::loaded("heart");
    assert_eq!((train.len(), test.len()), (690, 230));
    let (parameters, evaluation) = pooled(&task, train, &test, 30, 0);
    let auc = auc(&task.scores(&parameters, &test).unwrap(), test.labels()).unwrap();
    println!(
        "heart, pooled, 30 epochs: accuracy {:.4}, balanced {:.4}, AUC {auc:.4}, loss {:.4}",
        evaluation.accuracy,
        evaluation.balanced_accuracy(),
        evaluation.loss
    );
    assert!(
        evaluation.balanced_accuracy() > 0.75 && auc > 0.82,
        "{evaluation:?}, AUC {auc}"
    );
}

#[test]
fn fashion_mnist_pooled_reaches_0_75_in_one_epoch_where_it_is_installed() {
    let entry = kith_models::DATASETS
        .iter()
        .find(|entry| entry.name == "fashion-mnist")
        .unwrap();
    if let Err(error) = (entry.new.load)(&kith_models::DatasetOptions::default()) {
        println!("not measured: {error}");
        return;
    }
    let (_, task, train, test) = common::loaded("fashion-mnist");
    assert_eq!((train.len(), test.len()), (60_000, 10_000));
    let (_, evaluation) = pooled(&task, train, &test, 1, 0);
    println!(
        "fashion-mnist, pooled, 1 epoch: accuracy {:.4}, loss {:.4}",
        evaluation.accuracy, evaluation.loss
    );
    assert!(evaluation.accuracy > 0.75, "{evaluation:?}");
}
