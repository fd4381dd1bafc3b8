//! `kith sim`: experiments under virtual time.

mod rehearse;
mod report;
mod run;
mod sweep;

use clap::Subcommand;

use super::output::Verdict;

/// Experiments under virtual time: the same peers, thousands of them
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Run one experiment, or rehearse a charter in a world
    Run(run::Run),
    /// Run an experiment over a grid of settings and seeds, or over very many seeds
    Sweep(sweep::Sweep),
    /// Make the report of a run's or a sweep's folder again
    Report(report::Report),
}

impl Sim {
    pub(crate) fn run(self) -> Verdict {
        match self {
            Sim::Run(run) => run.run(),
            Sim::Sweep(sweep) => sweep.run(),
            Sim::Report(report) => report.run(),
        }
    }
}
