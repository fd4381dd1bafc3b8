//! stub
#[derive(Debug, clap::Args)]
pub(crate) struct List {}
impl List { pub(crate) fn run(self) -> super::output::Verdict { super::done() } }
