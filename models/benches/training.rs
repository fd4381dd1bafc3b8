//! Rounds of local training per second, on one core: `RAYON_NUM_THREADS=1 cargo bench -p kith-models`. Takes a few seconds.
//!
//! The first task has Fashion-MNIST's size: MLP 784-128-64-10, batch 32, 19 local steps a round (600 rows), on random bytes.

use std::time::{Duration, Instant};

use kith_consensus::Seed;
use kith_consensus::section::Document;
use kith_models::{DATASETS, Dataset, DatasetOptions, Images, ModelSection, Schema, Task, TrainingSection};

/// Long enough for a stable number, short enough to wait for.
const MEASURED: Duration = Duration::from_secs(3);

fn task(text: &str) -> Task {
    let mut document = Document::parse(text).expect("the bench's text is TOML");
    let schema = document.section("data", Schema::read);
    let model = document.section("model", ModelSection::read);
    let training = document.section("training", TrainingSection::read);
    document.finish().expect("the bench's sections are right");
    Task::new(schema, model, training).expect("the bench's sections go together")
}

fn random_images(side: usize, rows: usize) -> Images {
    let mut stream = Seed::from_number(0).stream("bench");
    let pixels = (0..rows * side * side).map(|_| stream.bounded(256) as u8).collect();
    let labels = (0..rows).map(|_| stream.bounded(10) as u8).collect();
    Images::new("random", side, side, pixels, labels).expect("rows × side × side pixels")
}

fn measure(name: &str, task: &Task, data: Dataset) {
    // `cargo bench -- mlp` measures only the names with "mlp".
    if std::env::args().skip(1).any(|argument| !argument.starts_with('-') && !name.contains(&argument)) {
        return;
    }
    let mut trainer = task.trainer(data, Seed::from_number(0)).expect("rows of the schema");
    let start = task.initial_parameters();
    trainer.train(&start, 0).expect("the warm-up round trains");
    let begin = Instant::now();
    let (mut rounds, mut steps) = (0u64, 0);
    while begin.elapsed() < MEASURED {
        steps = trainer.train(&start, rounds).expect("the round trains").local_steps;
        rounds += 1;
    }
    let rate = rounds as f64 / begin.elapsed().as_secs_f64();
    println!("{name}: {rate:.1} rounds/s of {steps} steps, {:.0} steps/s, d = {}", rate * steps as f64, start.len());
}

fn main() {
    let defaults = |name: &str| DATASETS.iter().find(|entry| entry.name == name).expect("a listed data set");
    let fashion = task(defaults("fashion-mnist").defaults);
    let images = random_images(28, 600);
    measure("mlp 784-128-64-10, random bytes", &fashion, Dataset::from_images(&images, fashion.schema()).expect("28×28"));

    let cnn = "[data]\nshape = [1, 28, 28]\nclasses = 10\ndeviation = [255]\n[model]\nkind = \"cnn\"\n[training]\nlearning_rate = 0.01\n";
    let cnn = task(cnn);
    measure("cnn 28×28, random bytes", &cnn, Dataset::from_images(&images, cnn.schema()).expect("28×28"));

    let entry = defaults("digits");
    let digits = task(entry.defaults);
    let source = (entry.load)(&DatasetOptions::default()).expect("digits are compiled in").source;
    let rows: Vec<usize> = (0..180).collect();
    measure("digits, 180 rows", &digits, source.select(&rows).dataset(digits.schema()).expect("digits of the schema"));
}
