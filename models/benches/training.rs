//! Rounds of local training per second, on one core: `RAYON_NUM_THREADS=1 cargo bench -p
//! kith-models`. Takes half a minute.
//!
//! The first five are steps of batch 32, 19 a round (608 rows of random bytes), of models from 0.1
//! to 20 million parameters; `experiments/reference/torch_training.py` prints PyTorch's time for
//! the same. The next is the size of a published comparison of robust rules (MLP 784-100-10, batch
//! 25, clipped), then that of one peer among thousands: softmax regression on 18 rows of 64
//! features, one step a round.

use std::time::{Duration, Instant};

use kith_consensus::Seed;
use kith_consensus::section::Document;
use kith_models::{
    DATASETS, Dataset, DatasetOptions, Images, ModelSection, Request, Schema, Task, TrainingSection,
};

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
    let pixels = (0..rows * side * side)
        .map(|_| stream.bounded(256) as u8)
        .collect();
    let labels = (0..rows).map(|_| stream.bounded(10) as u8).collect();
    Images::new("random", side, side, pixels, labels).expect("rows × side × side pixels")
}

fn measure(name: &str, task: &Task, data: Dataset) {
    // `cargo bench -- mlp` measures only the names with "mlp".
    if std::env::args()
        .skip(1)
        .any(|argument| !argument.starts_with('-') && !name.contains(&argument))
    {
        return;
    }
    let trainer = task
        .trainer(data, Seed::from_number(0))
        .expect("rows of the schema");
    let start = task.initial_parameters();
    trainer
        .train(&Request::new(&start, 0))
        .expect("the warm-up round trains");
    let (begin, begin_processor) = (Instant::now(), processor_time());
    let (mut rounds, mut steps) = (0u64, 0);
    while begin.elapsed() < MEASURED {
        steps = trainer
            .train(&Request::new(&start, rounds))
            .expect("the round trains")
            .local_steps;
        rounds += 1;
    }
    let rate = rounds as f64 / begin.elapsed().as_secs_f64();
    let processor = processor_time()
        .zip(begin_processor)
        .map_or(f64::NAN, |(end, begin)| (end - begin).as_secs_f64());
    println!(
        "{name}: {rate:.1} rounds/s of {steps} steps, {:.0} steps/s, {:.1} µs a step, {:.1} of processor time, d = {}",
        rate * steps as f64,
        1e6 / (rate * steps as f64),
        1e6 * processor / (rounds * steps) as f64,
        start.len()
    );
}

/// Time that the processor gave to this thread, which other programs do not lengthen; known on
/// Linux only.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ')
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

fn evaluate(name: &str, task: &Task, data: &Dataset) {
    if std::env::args()
        .skip(1)
        .any(|argument| !argument.starts_with('-') && !name.contains(&argument))
    {
        return;
    }
    let parameters = task.initial_parameters();
    let begin = Instant::now();
    let mut times = 0u64;
    while begin.elapsed() < MEASURED / 3 {
        task.evaluate(&parameters, data)
            .expect("rows of the schema");
        times += 1;
    }
    let micros = begin.elapsed().as_secs_f64() * 1e6 / times as f64;
    println!(
        "{name}: {micros:.1} µs for {} rows, {:.3} µs a row",
        data.len(),
        micros / data.len() as f64
    );
}

fn main() {
    let defaults = |name: &str| {
        DATASETS
            .iter()
            .find(|entry| entry.name == name)
            .expect("a listed data set")
    };
    let images = random_images(28, 608);
    for (name, model) in [
        (
            "step, mlp 784-128-64-10",
            "kind = \"mlp\"\nhidden = [128, 64]",
        ),
        (
            "step, mlp 784-1024-1024-10",
            "kind = \"mlp\"\nhidden = [1024, 1024]",
        ),
        (
            "step, mlp 784-4096-4096-10",
            "kind = \"mlp\"\nhidden = [4096, 4096]",
        ),
        (
            "step, cnn 6-16, 120 hidden",
            "kind = \"cnn\"\nchannels = [6, 16]\nhidden = [120]",
        ),
        (
            "step, cnn 32-64, 512 hidden",
            "kind = \"cnn\"\nchannels = [32, 64]\nhidden = [512]",
        ),
    ] {
        let data = "[data]\nshape = [1, 28, 28]\nclasses = 10\nmean = [73]\ndeviation = [90]\n";
        let task = task(&format!(
            "{data}[model]\n{model}\n[training]\nlearning_rate = 0.01\nbatch_size = 32\n"
        ));
        measure(
            name,
            &task,
            Dataset::from_images(&images, task.schema()).expect("28×28"),
        );
    }

    let narrow = "[data]\nshape = [1, 28, 28]\nclasses = 10\nmean = [73]\ndeviation = [90]\n[model]\nkind = \"mlp\"\nhidden = [100]\n[training]\n\
                  learning_rate = 0.1\ndampening = 0.9\nweight_decay = 0.0001\nclip_norm = 2\nbatch_size = 25\nlocal_steps = 24\n";
    let narrow = task(narrow);
    let rows = Dataset::from_images(&images, narrow.schema()).expect("28×28");
    measure("mlp 784-100-10, batch 25, 24 steps", &narrow, rows.clone());
    evaluate("evaluation, mlp 784-100-10", &narrow, &rows);

    let entry = defaults("digits");
    let source = (entry.new.load)(&DatasetOptions::default())
        .expect("digits are compiled in")
        .source;
    let text = "[data]\nshape = [64]\nclasses = 10\nmean = [5]\ndeviation = [6]\n[model]\nkind = \"softmax\"\n[training]\nbatch_size = 18\n";
    for (name, steps) in [
        ("softmax, 18 rows, one step a round", 1),
        ("softmax, 18 rows, 100 steps a round", 100),
    ] {
        let softmax = task(&format!("{text}local_steps = {steps}\n"));
        let all = source
            .dataset(softmax.schema())
            .expect("digits of the schema");
        let rows: Vec<usize> = (0..18).map(|row| row * 97).collect();
        measure(name, &softmax, all.select(&rows));
        measure(
            &format!("{name}, as numbers"),
            &softmax,
            all.select(&rows).normalised(),
        );
        if steps == 1 {
            let test: Vec<usize> = (0..360).collect();
            evaluate("evaluation, softmax", &softmax, &all.select(&test));
            evaluate(
                "evaluation, softmax, as numbers",
                &softmax,
                &all.select(&test).normalised(),
            );
        }
    }

    let digits = task(entry.new.defaults);
    let rows: Vec<usize> = (0..180).collect();
    measure(
        "digits, 180 rows",
        &digits,
        source
            .select(&rows)
            .dataset(digits.schema())
            .expect("digits of the schema"),
    );
}
