//! `kith sim`: experiments under virtual time.

mod events;
mod experiment;
mod folder;
mod options;
mod rehearse;
mod report;
mod run;
mod sweep;

use std::path::Path;

use clap::Subcommand;
use kith_simulations::report as results;

use super::output::{Failure, Verdict};

/// Experiments under virtual time: the same peers, thousands of them
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Run one experiment, or rehearse a charter in a world
    Run(options::Run),
    /// Run an experiment over a grid of settings and seeds, or over very many seeds
    Sweep(sweep::Sweep),
    /// Make the report of a run's or a sweep's folder again
    Report(report::Report),
}

/// Before anything runs: checks that tables can be written as Parquet if that is asked for.
fn parquet_is_built(asked: bool) -> Result<(), Failure> {
    match asked && !results::PARQUET {
        true => Err(Failure::with_help(
            "this program was built without Parquet",
            results::PARQUET_BUILD,
        )),
        false => Ok(()),
    }
}

/// Writes the tables of a folder as Parquet if that is asked for.
fn parquet(asked: bool, folder: &Path) -> Result<(), Failure> {
    if !asked {
        return Ok(());
    }
    let wrong = |error| {
        Failure::new(format!(
            "cannot write the tables of {} as Parquet: {error}",
            folder.display()
        ))
    };
    results::write_parquet(folder).map_err(wrong)
}

impl Sim {
    pub(crate) fn run(self) -> Verdict {
        match self {
            Sim::Run(options) => match options.rehearsal() {
                Some((charter, world)) => rehearse::rehearse(charter, world, &options),
                None => run::run(&options),
            },
            Sim::Sweep(sweep) => sweep.run(),
            Sim::Report(report) => report.run(),
        }
    }
}
