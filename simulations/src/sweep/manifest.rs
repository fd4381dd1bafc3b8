//! The list of a sweep's runs, as its folder keeps it.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::replace::replace;

/// How a run of a sweep ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of its folder under `cells`.
    pub slug: String,
    /// Number of its cell.
    pub cell: usize,
    /// Its value on each axis.
    pub values: Vec<String>,
    /// Its world's seed.
    pub seed: u64,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// Whether an earlier sweep's result was kept.
    #[serde(default)]
    pub kept: bool,
    /// The command that runs it alone.
    pub command: String,
}

/// The description of a sweep's folder: its `sweep.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The federation's name.
    pub name: String,
    /// The command that made it.
    pub command: String,
    /// Keys of the grid.
    pub axes: Vec<String>,
    /// Their values in short.
    pub values: Vec<Vec<String>>,
    /// Seeds of every cell's runs.
    pub seeds: Vec<u64>,
    /// Every run, in the order of the cells.
    pub runs: Vec<Entry>,
}

impl Manifest {
    /// Reads a sweep's folder.
    ///
    /// # Errors
    /// When there is none, or it is not one of ours.
    pub fn read(folder: &Path) -> io::Result<Manifest> {
        serde_json::from_slice(&std::fs::read(folder.join("sweep.json"))?).map_err(io::Error::other)
    }

    /// Writes it into its folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        replace(
            &folder.join("sweep.json"),
            &serde_json::to_vec_pretty(self).map_err(io::Error::other)?,
        )
    }
}
