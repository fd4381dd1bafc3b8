//! What private training promises, for each row and for whole peers, and that a bug planted in each
//! promise is noticed. Bugs of the ledger are planted in node's `store/ledger/campaign.rs`.

use kith_consensus::Section;
use kith_consensus::Seed;
use kith_consensus::mutant::{Mutant, plant};
use kith_consensus::privacy::noise::{NoiseScale, ReleaseKey};
use kith_consensus::privacy::sampling::PoissonSampling;
use kith_consensus::section::Document;
use kith_models::{
    ModelSection, Opening, PrivateTraining, Request, Schema, Task, TrainingSection, Units, open_as,
};

const ROWS: usize = 100;

fn section<T>(text: &str, name: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
    Document::parse(text).expect("TOML").section(name, read)
}

/// What is protected.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Rows,
    Peers,
}

/// Values of releases of one step from zero, divided by nothing: the noised sums of gradients of
/// rows that are all alike, with features of this size; or the noised change of a step with all rows.
fn releases(level: Level, size: f32, sigma: f64, count: u8) -> Vec<Vec<f64>> {
    releases_of(level, size, sigma, (1, count))
}

/// The same for so many steps.
fn releases_of(level: Level, size: f32, sigma: f64, (steps, count): (u64, u8)) -> Vec<Vec<f64>> {
    let text = "[data]\nshape = [4]\nclasses = 2\n[model]\nkind = \"softmax\"\n[training]\nlocal_steps = 1\nlocal_epochs = 0\n\
                learning_rate = 1.0\nmomentum = 0.0\nbatch_size = 50\n";
    let task = Task::new(
        section(text, "data", Schema::read),
        section(text, "model", ModelSection::read),
        section(text, "training", TrainingSection::read),
    )
    .expect("a task");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    let row = format!("{size},{size},{size},{size},0\n");
    std::fs::write(&path, format!("a,b,c,d,label\n{}", row.repeat(ROWS))).expect("written");
    let opening = Opening {
        labels: None,
        columns: &[],
    };
    let (rows, _) = open_as(&path, task.schema(), opening).expect("rows");
    let trainer = task.trainer(rows, Seed::from_number(1)).expect("they fit");
    let scale = NoiseScale::new(sigma, 1.0).expect("noise");
    let sampling = PoissonSampling::new(0.5).expect("a rate");
    let private = match level {
        Level::Rows => PrivateTraining::new(scale, sampling, 50, steps),
        Level::Peers => PrivateTraining::of_updates(scale, steps),
    };
    let private = private.expect("a lot");
    let lot = if level == Level::Rows { 50.0 } else { 1.0 };
    let start = vec![0.0; task.layout().dimension];
    let release = |key: u8| {
        let trained = trainer.train_privately(
            &Request::new(&start, 0),
            &private,
            &Units::rows(ROWS),
            ReleaseKey::new([key; 32]),
        );
        let parameters = trained.expect("it trains").parameters;
        parameters
            .iter()
            .map(|value| lot * f64::from(*value))
            .collect()
    };
    (0..count).map(release).collect()
}

fn deviation(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count)
        .sqrt()
}

/// Every value varies by at least three quarters of the noise: of 64 samples a deviation is that low
/// less than once in a thousand times.
fn every_value_is_noised() -> bool {
    all_vary(&releases(Level::Rows, 0.0, 4.0, 64))
}

fn every_value_of_an_update_is_noised() -> bool {
    all_vary(&releases(Level::Peers, 0.0, 4.0, 64))
}

fn all_vary(found: &[Vec<f64>]) -> bool {
    (0..found[0].len()).all(|at| deviation(found.iter().map(|values| values[at])) > 3.0)
}

/// Sums of rows of gradient norm 1 are as long as there are rows in the lot, whose number varies by
/// √(100 · ½ · ½) = 5.
fn lots_vary() -> bool {
    let length = |values: &Vec<f64>| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    deviation(releases(Level::Rows, 10.0, 0.2, 64).iter().map(length)) > 2.5
}

/// No sum is longer than its lot, noise aside.
fn rows_are_clipped() -> bool {
    let long = |values: &Vec<f64>| values.iter().map(|value| value * value).sum::<f64>() > 1e4;
    !releases(Level::Rows, 100.0, 0.2, 8).iter().any(long)
}

/// No change is longer than the clip norm of 1, noise of norm 0.6 aside.
fn updates_are_clipped() -> bool {
    let long = |values: &Vec<f64>| values.iter().map(|value| value * value).sum::<f64>() > 9.0;
    !releases(Level::Peers, 100.0, 0.2, 8).iter().any(long)
}

/// The noise of two steps adds up to √2 times that of one, and to twice as much if it is the same.
fn every_step_has_noise_of_its_own() -> bool {
    let found = releases_of(Level::Rows, 0.0, 4.0, (2, 64));
    // Weights of features that are 0 have no gradient; the two biases come first.
    let values = found.iter().flat_map(|values| &values[2..]).copied();
    (5.2..6.2).contains(&deviation(values))
}

#[test]
fn private_training_keeps_its_promises_and_each_planted_bug_breaks_the_one_that_it_is_about() {
    let promises: [(&str, fn() -> bool); 6] = [
        ("every value is noised", every_value_is_noised),
        ("lots vary", lots_vary),
        ("rows are clipped", rows_are_clipped),
        (
            "every step has noise of its own",
            every_step_has_noise_of_its_own,
        ),
        ("updates are noised", every_value_of_an_update_is_noised),
        ("updates are clipped", updates_are_clipped),
    ];
    for (name, holds) in promises {
        assert!(holds(), "{name}");
    }
    for (mutant, broken) in [
        (Mutant::QuarterNoise, &[0, 4][..]),
        (Mutant::BareTensor, &[0, 4]),
        (Mutant::FixedLots, &[1]),
        (Mutant::NoClip, &[2, 5]),
        (Mutant::SameNoise, &[3]),
    ] {
        plant(Some(mutant));
        for place in broken {
            let (name, holds) = promises[*place];
            assert!(!holds(), "{mutant:?} is not noticed by: {name}");
            println!("{mutant:?}: found by {name:?}");
        }
        plant(None);
    }
}
