//! `kith completions`: for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::output::{Verdict, print};
use super::{Kith, done};

/// Completions for a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kith completions bash > ~/.local/share/bash-completion/completions/kith"
)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Verdict {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Kith::command(), "kith", &mut script);
        print(&String::from_utf8_lossy(&script))?;
        done()
    }
}
