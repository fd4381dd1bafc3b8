//! The folder that results go to: files of another run are never overwritten.

use std::path::{Path, PathBuf};

use kith_simulations::experiment::Experiment;
use kith_simulations::report::{Contents, contents};
use kith_simulations::sweep::shard::SHARDS;

use super::super::output::Failure;

/// The default folder for the results of an experiment's file. `ring.toml` leaves them in
/// `ring-results`, or, if that holds another run's or something else, in the first of
/// `ring-results-2`, `ring-results-3`, … that may hold them.
///
/// # Errors
/// When all of them are taken.
pub(super) fn beside(
    file: &Path,
    experiment: &Experiment,
    again: bool,
) -> Result<PathBuf, Failure> {
    /// More runs of one file need folders that the user names (guess).
    const NUMBERS_MAX: usize = 999;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let first = file.with_file_name(format!("{stem}-results"));
    let others =
        (2..=NUMBERS_MAX).map(|number| file.with_file_name(format!("{stem}-results-{number}")));
    let free = |folder: &PathBuf| may_hold(folder, experiment, again).is_ok();
    match std::iter::once(first.clone()).chain(others).find(free) {
        Some(folder) => Ok(folder),
        None => may_hold(&first, experiment, again).map(|()| first),
    }
}

/// Whether the results of `experiment` may go to `folder`: it is not there, empty, or holds nothing
/// but results of the same experiment with the same seed. With `again` results of another run may
/// be replaced.
///
/// # Errors
/// What the folder holds, and what to do.
pub(super) fn may_hold(folder: &Path, experiment: &Experiment, again: bool) -> Result<(), Failure> {
    let place = folder.display();
    let found = contents(folder)
        .map_err(|error| Failure::new(format!("cannot look into {place}: {error}")))?;
    match found {
        Contents::Nothing => Ok(()),
        Contents::Run {
            experiment: digest, ..
        } if digest == experiment.digest().to_string() => Ok(()),
        Contents::Run { .. } if again => Ok(()),
        Contents::Run { seed, .. } => {
            let other = match seed {
                Some(seed) if seed != experiment.world.seed => {
                    format!("the results of seed {seed}")
                }
                _ => "the results of another experiment".to_owned(),
            };
            Err(Failure::with_help(
                format!("{place} holds {other}, and they are not overwritten"),
                "choose another folder with --out, write none with --no-files, or replace them with --again",
            ))
        }
        Contents::Other(name) => Err(Failure::with_help(
            format!(
                "{place} holds {name}, which is no result of a run, so nothing is written there"
            ),
            "choose an empty folder, or one that does not exist yet, with --out",
        )),
    }
}

/// Refuses a folder with anything in it that a sweep, a campaign or a rehearsal does not leave
/// there itself.
///
/// # Errors
/// What the folder holds, and what to do.
pub(super) fn may_hold_runs(folder: &Path) -> Result<(), Failure> {
    const SWEEP: [&str; 11] = [
        "sweep.toml",
        "sweep.json",
        "sweep.json.partial",
        "cells",
        SHARDS,
        "sweep.csv",
        "summary.csv",
        "sweep.parquet",
        "summary.parquet",
        "campaign.json",
        "campaign.json.partial",
    ];
    const PAGE: [&str; 2] = ["report.html", "plots"];
    const REHEARSAL: [&str; 4] = ["nobody-lies", "liars", "answer.txt", "answer.json"];
    let place = folder.display();
    let Ok(entries) = folder.read_dir() else {
        return Ok(());
    }; // it is not there, or writing will say what is wrong
    let names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let marked = names
        .iter()
        .any(|name| SWEEP.contains(&name.as_str()) || REHEARSAL.contains(&name.as_str()));
    let ours = |name: &str| {
        SWEEP.contains(&name) || REHEARSAL.contains(&name) || (marked && PAGE.contains(&name))
    };
    match names.iter().find(|name| !ours(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::with_help(
            format!(
                "{place} holds {name}, which is no result of ours, so nothing is written there"
            ),
            "choose an empty folder, or one that does not exist yet, with --out",
        )),
    }
}
