//! `kith sim`: experiments under virtual time.

mod rehearse;
mod run;

use clap::Subcommand;

use super::output::Verdict;

/// Experiments under virtual time: the same peers, thousands of them
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Run one experiment, or rehearse a charter in a world
    Run(run::Run),
}

impl Sim {
    pub(crate) fn run(self) -> Verdict {
        match self {
            Sim::Run(run) => run.run(),
        }
    }
}
