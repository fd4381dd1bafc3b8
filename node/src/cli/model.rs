//! stub
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Model { /// x
 X }
impl Model { pub(crate) fn run(self) -> super::output::Verdict { super::done() } }
