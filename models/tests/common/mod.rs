//! Shared by the tests of this folder: tasks from text and loaded data sets.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use kith_consensus::section::Document;
use kith_consensus::{Seed, Stream};
use kith_models::{Dataset, DatasetOptions, Loaded, ModelSection, Schema, Task, TrainingSection};

/// The task of charter text with `[data]`, `[model]` and `[training]`.
pub fn task(text: &str) -> Task {
    read(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub fn read(text: &str) -> Result<Task, Vec<String>> {
    let texts = |problems: Vec<kith_consensus::Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut document = Document::parse(text).map_err(|problem| vec![problem.to_string()])?;
    let schema = document.section("data", Schema::read);
    let model = document.section("model", ModelSection::read);
    let training = document.section("training", TrainingSection::read);
    document.finish().map_err(texts)?;
    Task::new(schema, model, training).map_err(texts)
}

/// A data set by name, its default task, and its training and test rows.
pub fn loaded(name: &str) -> (Loaded, Task, Dataset, Dataset) {
    let entry = kith_models::DATASETS
        .iter()
        .find(|entry| entry.name == name)
        .unwrap();
    let loaded = (entry.new.load)(&DatasetOptions::default()).unwrap();
    let task = task(entry.new.defaults);
    let split = loaded
        .split(task.schema(), None, &Seed::from_number(0))
        .unwrap();
    let all = loaded.dataset(task.schema()).unwrap();
    (
        loaded,
        task,
        all.select(&split.train),
        all.select(&split.test),
    )
}

/// Random images or rows of these features: bytes as an IDX file would have them.
pub fn random_images(
    height: usize,
    width: usize,
    rows: usize,
    classes: u64,
    schema: &Schema,
) -> Dataset {
    let mut stream = Seed::from_number(1).stream("test images");
    let pixels = (0..rows * height * width)
        .map(|_| stream.bounded(256) as u8)
        .collect();
    let labels = (0..rows).map(|_| stream.bounded(classes) as u8).collect();
    let images = kith_models::Images::new("random", height, width, pixels, labels).unwrap();
    Dataset::from_images(&images, schema).unwrap()
}

pub fn stream(name: &str) -> Stream {
    Seed::from_number(2).stream(name)
}
