//! Optimizer steps a second with and without differential privacy, on one thread: `cargo bench -p
//! kith-models --bench private`, or `-- mlp` for the names that hold "mlp".
//!
//! A private step clips each row's gradient, adds noise to every value, and draws its lot by
//! Poisson sampling; the batch is the expected size of a lot.

use std::time::{Duration, Instant};

use kith_consensus::Seed;
use kith_consensus::privacy::noise::{NoiseScale, ReleaseKey};
use kith_consensus::privacy::sampling::PoissonSampling;
use kith_consensus::section::Document;
use kith_models::{
    Dataset, Images, ModelSection, PrivateTraining, Request, Schema, Task, Trainer,
    TrainingSection, Units,
};

/// Long enough for a stable number, short enough to wait for.
const MEASURED: Duration = Duration::from_secs(2);

/// Rows of a peer.
const ROWS: usize = 1024;

/// Steps of a round.
const STEPS: u64 = 8;

fn task(model: &str, batch: usize) -> Task {
    let text = format!(
        "[data]\nshape = [1, 28, 28]\nclasses = 10\nmean = [73]\ndeviation = [90]\n[model]\n{model}\n\
         [training]\nlearning_rate = 0.01\nbatch_size = {batch}\nlocal_steps = {STEPS}\n"
    );
    let mut document = Document::parse(&text).expect("the bench's text is TOML");
    let schema = document.section("data", Schema::read);
    let model = document.section("model", ModelSection::read);
    let training = document.section("training", TrainingSection::read);
    document.finish().expect("the bench's sections are right");
    Task::new(schema, model, training).expect("the bench's sections go together")
}

fn random_images() -> Images {
    let mut stream = Seed::from_number(0).stream("bench");
    let pixels = (0..ROWS * 28 * 28)
        .map(|_| stream.bounded(256) as u8)
        .collect();
    let labels = (0..ROWS).map(|_| stream.bounded(10) as u8).collect();
    Images::new("random", 28, 28, pixels, labels).expect("rows × side × side pixels")
}

/// Steps a second of the fastest of several rounds: on a machine that others use too, the others
/// are what varies.
fn rate(mut round: impl FnMut(u64)) -> f64 {
    round(0);
    let begin = Instant::now();
    let (mut least, mut number) = (f64::INFINITY, 1);
    while begin.elapsed() < MEASURED {
        let begin = Instant::now();
        round(number);
        least = least.min(begin.elapsed().as_secs_f64());
        number += 1;
    }
    STEPS as f64 / least
}

fn measure(name: &str, trainer: &Trainer, start: &[f32], batch: usize) {
    let plain = rate(|round| {
        trainer
            .train(&Request::new(start, round))
            .expect("the round trains");
    });
    let scale = NoiseScale::new(1.0, 1.0).expect("usual noise");
    let sampling = PoissonSampling::new(batch as f64 / ROWS as f64).expect("a usual rate");
    let private = PrivateTraining::new(scale, sampling, batch, STEPS).expect("usual sizes");
    let units = Units::rows(ROWS);
    let private = rate(|round| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&round.to_le_bytes());
        trainer
            .train_privately(
                &Request::new(start, round),
                &private,
                &units,
                ReleaseKey::new(bytes),
            )
            .expect("the round trains");
    });
    println!(
        "{name}, batch {batch}: {plain:.0} steps/s plain, {private:.0} private, {:.2} times as long, d = {}",
        plain / private,
        start.len()
    );
}

fn main() {
    let images = random_images();
    for (name, model) in [
        ("softmax 784-10", "kind = \"softmax\""),
        ("mlp 784-128-64-10", "kind = \"mlp\"\nhidden = [128, 64]"),
        (
            "cnn 6-16, 120 hidden",
            "kind = \"cnn\"\nchannels = [6, 16]\nhidden = [120]",
        ),
    ] {
        for batch in [32, 64, 256] {
            if std::env::args()
                .skip(1)
                .any(|argument| !argument.starts_with('-') && !name.contains(&argument))
            {
                continue;
            }
            let task = task(model, batch);
            let data = Dataset::from_images(&images, task.schema()).expect("28×28");
            let trainer = task
                .trainer(data, Seed::from_number(0))
                .expect("rows of the schema");
            measure(name, &trainer, &task.initial_parameters(), batch);
        }
    }
}
