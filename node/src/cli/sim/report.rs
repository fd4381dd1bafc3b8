//! `kith sim report`: the report of a folder again, from the files in it.

use std::path::{Path, PathBuf};

use clap::Args;
use kith_simulations::report;
use kith_simulations::report::sweep::{Spread, Summary};
use kith_simulations::sweep::{Manifest, shard};
use serde_json::json;

use super::super::done;
use super::super::output::{Failure, Verdict, print, print_json, table, tell};

/// Make the report of a run's or a sweep's folder again
#[derive(Debug, Args)]
#[command(after_help = "\
Writes report.html and plots/ into the folder; for a sweep also sweep.csv (a line for each run) and summary.csv (one for each cell).
Of a sweep that ran in shards it joins what they left, and says which shards are missing.

Examples:
  kith sim report experiments/first-results
  kith sim report experiments/rules-sweep --json")]
pub(crate) struct Report {
    /// A folder that `kith sim run` or `kith sim sweep` left
    dir: PathBuf,
    /// Write the tables as Parquet too, next to the CSV files
    #[arg(long)]
    parquet: bool,
    /// One JSON document: a run's outcome, or the list of a sweep's cells
    #[arg(long)]
    json: bool,
}

impl Report {
    pub(crate) fn run(self) -> Verdict {
        let dir = &self.dir;
        super::parquet_is_built(self.parquet)?;
        join(dir)?;
        if dir.join("sweep.json").exists() {
            let rows = of_sweep(dir)?;
            super::parquet(self.parquet, dir)?;
            let manifest = Manifest::read(dir).map_err(|error| wrong(dir, &error))?;
            if self.json {
                print_json(&json!(rows))?
            } else {
                print(&cells(&rows, &manifest.axes, dir))?
            }
        } else if dir.join("outcome.json").exists() {
            report::run::page(dir).map_err(|error| wrong(dir, &error))?;
            super::parquet(self.parquet, dir)?;
            if self.json {
                let outcome = report::read(dir).map_err(|error| wrong(dir, &error))?;
                print_json(&json!(outcome))?
            } else {
                print(&format!("{}\n", dir.join("report.html").display()))?
            }
        } else {
            return Err(Failure::with_help(
                format!(
                    "{} holds no results: expected outcome.json of a run, or sweep.json of a sweep",
                    dir.display()
                ),
                "`kith sim run FILE` and `kith sim sweep FILE` make such folders and name them at the end",
            ));
        }
        done()
    }
}

/// Joins what a sweep's shards left in the folder, if it ran in shards.
fn join(dir: &Path) -> Result<(), Failure> {
    let missing = shard::join(dir)
        .map_err(|error| Failure::new(format!("shards cannot be joined: {error}")))?;
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(shard::Shard::to_string).collect();
        tell(&format!(
            "the tables are not complete: nothing is there of shard {}; run `kith sim sweep` with --shard for each",
            names.join(", ")
        ));
    }
    Ok(())
}

fn wrong(dir: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!(
        "cannot make the report of {}: {error}",
        dir.display()
    ))
}

/// Writes a sweep's report; returns its cells.
pub(super) fn of_sweep(dir: &Path) -> Result<Vec<Summary>, Failure> {
    report::sweep::page(dir)
        .and_then(|()| report::sweep::summary(dir))
        .map_err(|error| wrong(dir, &error))
}

/// The cells as text for people.
pub(super) fn cells(rows: &[Summary], axes: &[String], dir: &Path) -> String {
    const SHOWN: [(&str, &str); 4] = [
        ("accuracy", "accuracy"),
        ("accuracy_min", "worst peer"),
        ("optimum_distance", "to the optimum"),
        ("consensus_distance", "consensus"),
    ];
    let of = |row: &Summary, key: &str| row.metrics.get(key).copied().flatten();
    let shown: Vec<_> = SHOWN
        .iter()
        .filter(|(key, _)| rows.iter().any(|row| of(row, key).is_some()))
        .collect();
    let heads = axes
        .iter()
        .map(String::as_str)
        .chain(["runs", "failed"])
        .chain(shown.iter().map(|(_, title)| *title));
    let mut lines = table(&heads.collect::<Vec<_>>());
    for row in rows {
        let values = axes
            .iter()
            .map(|axis| row.axes.get(axis).cloned().unwrap_or_default());
        let counts = [row.runs, row.failed].map(|count| count.to_string());
        let numbers = shown.iter().map(|(key, _)| spread(of(row, key)));
        lines.add_row(values.chain(counts).chain(numbers));
    }
    format!(
        "{lines}\nmean ± standard deviation over seeds; results in {} (report.html)\n",
        dir.display()
    )
}

fn spread(spread: Option<Spread>) -> String {
    spread.map_or("–".to_owned(), |spread| {
        report::spread_text(spread.mean, spread.deviation)
    })
}
