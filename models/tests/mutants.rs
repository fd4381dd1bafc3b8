//! What private training promises, and that a bug planted in each promise is noticed.

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

/// Values of releases of one step from zero, divided by nothing: the noised sums of gradients of
/// rows that are all alike, with features of this size.
fn releases(size: f32, sigma: f64, count: u8) -> Vec<Vec<f64>> {
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
    let private = PrivateTraining::new(scale, sampling, 50, 1).expect("a lot");
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
            .map(|value| 50.0 * f64::from(*value))
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
    let found = releases(0.0, 4.0, 64);
    (0..found[0].len()).all(|at| deviation(found.iter().map(|values| values[at])) > 3.0)
}

/// Sums of rows of gradient norm 1 are as long as there are rows in the lot, whose number varies by
/// √(100 · ½ · ½) = 5.
fn lots_vary() -> bool {
    let length = |values: &Vec<f64>| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    deviation(releases(10.0, 0.2, 64).iter().map(length)) > 2.5
}

/// No sum is longer than its lot, noise aside.
fn rows_are_clipped() -> bool {
    let long = |values: &Vec<f64>| values.iter().map(|value| value * value).sum::<f64>() > 1e4;
    !releases(100.0, 0.2, 8).iter().any(long)
}

#[test]
fn private_training_keeps_its_promises_and_each_planted_bug_breaks_the_one_that_it_is_about() {
    let promises = [every_value_is_noised, lots_vary, rows_are_clipped];
    let kept = || promises.map(|promise| promise());
    assert_eq!(kept(), [true; 3]);
    for (mutant, broken) in [
        (Mutant::BareTensor, 0),
        (Mutant::FixedLots, 1),
        (Mutant::NoClip, 2),
    ] {
        plant(Some(mutant));
        assert!(!kept()[broken], "{mutant:?}");
        plant(None);
    }
}
