//! `kith man`: manual pages, for packages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::output::{Failure, Verdict, tell};
use super::{Kith, done};

/// Manual pages
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kith man man1 && man man1/kith-run.1")]
pub(crate) struct Man {
    /// The folder to write them to, one page for each verb
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> Verdict {
        let dir = &self.dir;
        std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(Kith::command(), dir))
            .map_err(|error| {
                Failure::new(format!("cannot write pages to {}: {error}", dir.display()))
            })?;
        tell(&format!("wrote the manual pages to {}", dir.display()));
        done()
    }
}
