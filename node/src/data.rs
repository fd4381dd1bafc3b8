//! The member's own rows, read as the charter says.

use std::path::Path;

use kith_consensus::Seed;
use kith_models::{Dataset, Opening, Reading, Schema, hold_out, open_as};

use crate::config::DataConfig;
use crate::error::NodeError;

/// This peer's rows, and what reading them showed.
#[derive(Debug)]
pub(crate) struct OwnRows {
    /// Rows to train on.
    pub(crate) train: Dataset,
    /// Rows to evaluate on, if there are any.
    pub(crate) held_out: Option<Dataset>,
    /// All rows of the first file.
    pub(crate) all: Dataset,
    /// What reading the first file showed.
    pub(crate) reading: Reading,
    /// The same for the file with held-out rows, if there is one.
    pub(crate) test_reading: Option<Reading>,
}

/// Rows to train on, and rows to evaluate on if there are any.
///
/// # Errors
/// When a file cannot be read as the charter says, or holds no row.
pub fn load(
    config: &DataConfig,
    schema: &Schema,
    seed: Seed,
) -> Result<(Dataset, Option<Dataset>), NodeError> {
    read(config, schema, seed).map(|rows| (rows.train, rows.held_out))
}

/// The same, with what reading them showed.
pub(crate) fn read(config: &DataConfig, schema: &Schema, seed: Seed) -> Result<OwnRows, NodeError> {
    let (all, reading) = read_file(&config.path, config.labels.as_deref(), &[], schema)?;
    let fault = |why: String| NodeError::Data {
        path: config.path.clone(),
        why,
    };
    if all.is_empty() {
        return Err(fault(format!(
            "{} holds no row to train on",
            config.path.display()
        )));
    }
    let (mut train, mut held_out, mut test_reading) = (all.clone(), None, None);
    if let Some(path) = &config.test_path {
        let (rows, reading) = read_file(
            path,
            config.test_labels.as_deref(),
            &reading.columns,
            schema,
        )?;
        (held_out, test_reading) = (Some(rows), Some(reading));
    } else if config.holdout > 0.0 {
        let (kept, apart) = hold_out(&all, config.holdout, &seed);
        if kept.is_empty() || apart.is_empty() {
            return Err(fault(format!(
                "the {} rows of {} are too few, or too many of them equal, to hold out a share of {}",
                all.len(),
                config.path.display(),
                config.holdout
            )));
        }
        (train, held_out) = (all.select(&kept), Some(all.select(&apart)));
    }
    Ok(OwnRows {
        train,
        held_out,
        all,
        reading,
        test_reading,
    })
}

fn read_file(
    path: &Path,
    labels: Option<&Path>,
    columns: &[String],
    schema: &Schema,
) -> Result<(Dataset, Reading), NodeError> {
    open_as(path, schema, Opening { labels, columns }).map_err(|error| NodeError::Data {
        path: path.to_owned(),
        why: error.to_string(),
    })
}
