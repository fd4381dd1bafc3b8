//! The member's own rows, read as the charter says.

use std::path::Path;

use kith_consensus::{Seed, Stream};
use kith_models::{Dataset, Schema, open, open_idx};

use crate::config::DataConfig;
use crate::error::NodeError;

/// Rows to train on, and rows to evaluate on where there are any.
///
/// # Errors
/// When a file cannot be read as the charter says, or holds no row.
pub fn load(config: &DataConfig, schema: &Schema, seed: Seed) -> Result<(Dataset, Option<Dataset>), NodeError> {
    let rows = read(&config.path, config.labels.as_deref(), schema)?;
    if rows.is_empty() {
        return Err(NodeError::Data {
            path: config.path.clone(),
            why: format!("{} holds no row to train on", config.path.display()),
        });
    }
    if let Some(path) = &config.test_path {
        let held_out = read(path, config.test_labels.as_deref(), schema)?;
        return Ok((rows, Some(held_out)));
    }
    if config.holdout == 0.0 {
        return Ok((rows, None));
    }
    let (train, test) = hold_out(&rows, schema.classes, config.holdout, &seed);
    if train.is_empty() || test.is_empty() {
        let why =
            format!("the {} rows of {} are too few to hold out a share of {}", rows.len(), config.path.display(), config.holdout);
        return Err(NodeError::Data { path: config.path.clone(), why });
    }
    Ok((rows.select(&train), Some(rows.select(&test))))
}

fn read(path: &Path, labels: Option<&Path>, schema: &Schema) -> Result<Dataset, NodeError> {
    let found = match labels {
        Some(labels) if path.extension().is_some_and(|extension| extension == "npy") => {
            kith_models::source::open_npy(path, labels, schema)
        }
        Some(labels) => open_idx(path, labels, schema),
        None => open(path, schema),
    };
    found.map_err(|error| NodeError::Data { path: path.to_owned(), why: error.to_string() })
}

/// Ascending positions of rows to train on and of rows to hold out: this share of every class, at random.
fn hold_out(rows: &Dataset, classes: usize, share: f64, seed: &Seed) -> (Vec<usize>, Vec<usize>) {
    let mut test = Vec::new();
    for class in 0..classes {
        let mut members: Vec<usize> = (0..rows.len()).filter(|row| rows.labels()[*row] as usize == class).collect();
        Stream::derive("kith.v1 holdout", seed, 0, 0, class as u64).shuffle(&mut members);
        test.extend_from_slice(&members[..(share * members.len() as f64).round() as usize]);
    }
    test.sort_unstable();
    let train = (0..rows.len()).filter(|row| test.binary_search(row).is_err()).collect();
    (train, test)
}
