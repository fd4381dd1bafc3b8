//! An experiment: a charter plus a world, read from one file, run, and measured.
//!
//! The file holds a charter's sections and `[world]`. Parts that a charter needs but an experiment
//! may leave out are filled in: the data set's `[data]`, `[model]` and `[training]` if a section is
//! missing, the membership, and seeds, which follow the world's if they are not set. The resolved
//! experiment, every default written out, is [`Experiment::to_toml`].
//!
//! | file | what it holds |
//! |---|---|
//! | `file` | reading the text and settings on top of it, and refusing what cannot be run |
//! | `cast` | the peers that take part: keys, names, liars |
//! | `workload` | what the peers train on, and what their models are measured against |
//! | `run` | putting all of it into a simulation |
//! | `watchers` | what watches a run |
//! | `results` | what a run that is over came to |
//! | `outcome` | the results, as a value that is written and read |

mod cast;
mod file;
mod outcome;
mod results;
mod run;
mod watchers;
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
pub use watchers::{Happened, Listener};

/// A resolved experiment.
#[derive(Debug)]
pub struct Experiment {
    /// What the peers agree on.
    pub charter: Arc<Charter>,
    /// Their surroundings: links, devices, faults, data.
    pub world: World,
    /// The learning task; none if the world has a trainer of its own.
    task: Option<Task>,
    /// The world with every default written out.
    canonical: toml::Table,
    /// Places of its keys in the file.
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

    /// Number of peers.
    pub fn peers(&self) -> usize {
        self.charter.membership.peers
    }
}
