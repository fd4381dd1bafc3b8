//! The results of a run as files: tables as CSV, the outcome as JSON.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::experiment::Outcome;

/// Writes `outcome.json`, `rounds.csv` and, for worlds that keep them, `peers.csv` into an existing folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, outcome: &Outcome) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(outcome).map_err(io::Error::other)?;
    std::fs::write(folder.join("outcome.json"), json)?;
    table(&folder.join("rounds.csv"), &outcome.round_rows)?;
    if !outcome.peer_rows.is_empty() {
        table(&folder.join("peers.csv"), &outcome.peer_rows)?;
    }
    Ok(())
}

fn table<T: Serialize>(path: &Path, rows: &[T]) -> io::Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    writer.flush()
}
