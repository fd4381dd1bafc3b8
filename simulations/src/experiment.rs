//! An experiment: a charter plus a world, read from one file, run, and measured.
//!
//! The file holds a charter's sections and `[world]`. What a charter must say but an experiment
//! need not is filled in: the data set's `[data]`, `[model]` and `[training]` where a section is
//! missing, the membership, and seeds, which follow the world's where they are not set. The
//! resolved experiment, every default written out, is [`Experiment::to_toml`].
//!
//! | file | what it holds |
//! |---|---|
//! | `file` | reading the text and settings on top of it, and refusing what cannot be run |
//! | `cast` | the peers that take part: keys, names, liars |
//! | `workload` | what the peers train on, and what their models are measured against |
//! | `run` | putting all of it into a simulation, and watching it |
//! | `outcome` | what came out, as a value that is written and read |

mod cast;
mod file;
mod outcome;
mod run;
mod workload;

use std::sync::Arc;

use kith_consensus::section::Places;
use kith_consensus::{Charter, Digest, Problem};
use kith_models::Task;

use crate::world::World;
pub(crate) use file::SWEEP;
pub use file::{Setting, has_sweep, setting, setting_to_text, value_from_text};
pub use outcome::{Checks, Outcome, Range};
pub use run::Run;

/// A resolved experiment.
#[derive(Debug)]
pub struct Experiment {
    /// What the peers agree on.
    pub charter: Arc<Charter>,
    /// What lies around them.
    pub world: World,
    /// What is learned; none if the world has a trainer of its own.
    task: Option<Task>,
    /// The world with every default written out.
    canonical: toml::Table,
    /// Where its keys stand.
    places: Places,
}

/// Why an experiment could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// What is wrong with the file.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
    /// The rows cannot be had or dealt.
    #[error("the rows: {0}")]
    Rows(String),
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

impl Experiment {
    /// The experiment with every key written.
    pub fn to_toml(&self) -> String {
        let world = toml::to_string(&self.canonical)
            .expect("tables of texts, numbers, flags and lists are TOML");
        format!("{}\n{world}", self.charter.to_toml())
    }

    /// The name of everything that decides the outcome: BLAKE3 of [`Experiment::to_toml`].
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_toml().as_bytes())
    }

    /// Peers of the world.
    pub fn peers(&self) -> usize {
        self.charter.membership.peers
    }
}
