//! stub
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Charter { /// x
 X }
impl Charter { pub(crate) fn run(self) -> super::output::Verdict { super::done() } }
