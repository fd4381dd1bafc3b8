//! The options of `kith sim run`, for an experiment and for a rehearsal.

use std::path::{Path, PathBuf};

use clap::Args;
use kith_simulations::experiment::{Setting, setting, setting_to_text};

use super::super::text;

/// Run one experiment, or rehearse a charter in a world
#[derive(Debug, Args)]
#[command(after_help = "\
An experiment file holds a charter's sections and [world]: see docs/experiments.md. Results go to a folder beside it: first-results, or
first-results-2 and so on where those of another seed or experiment are there, which are never overwritten.

Examples:
  kith sim run experiments/first.toml
  kith sim run experiments/first.toml --seed 7 --set aggregation.rule=median --json
  kith sim run experiments/first.toml --events first.jsonl && kith view first.jsonl
  kith sim run --charter charter.toml --world world.toml      rehearse a charter

Exit codes: 0 done, whatever a rehearsal's answer is; 1 it could not be run; 5 an invariant was broken, and the command that replays
it was printed")]
pub(crate) struct Run {
    /// The experiment
    #[arg(required_unless_present = "charter")]
    pub(super) file: Option<PathBuf>,
    /// A charter to rehearse, in place of an experiment
    #[arg(long, requires = "world", conflicts_with = "file")]
    charter: Option<PathBuf>,
    /// The world to rehearse it in
    #[arg(long, requires = "charter")]
    world: Option<PathBuf>,
    /// Seed of the world
    #[arg(long, value_parser = text::seed)]
    seed: Option<u64>,
    /// A setting on top of the file, for example aggregation.rule=median
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<Setting>,
    /// Seeds of a rehearsal, from the world's on
    #[arg(long, default_value_t = 5, requires = "charter")]
    seeds: u64,
    /// Threads that train besides the one that runs the queue; the result is the same for any
    /// number
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Folder for the results; a rehearsal writes none without it
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Write no files
    #[arg(long, conflicts_with = "out")]
    pub(super) no_files: bool,
    /// Replace the results of another run that are in the folder
    #[arg(long, conflicts_with = "no_files")]
    pub(super) again: bool,
    /// Write the tables as Parquet too, next to the CSV files
    #[arg(long, conflicts_with_all = ["no_files", "charter"])]
    pub(super) parquet: bool,
    /// Write every event into this file, for `kith view`
    #[arg(long, value_name = "FILE", conflicts_with = "charter")]
    pub(super) events: Option<PathBuf>,
    /// End with one JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl Run {
    /// The charter and the world of a rehearsal, if one is asked for.
    pub(super) fn rehearsal(&self) -> Option<(&Path, &Path)> {
        self.charter.as_deref().zip(self.world.as_deref())
    }

    /// The command that runs it again.
    pub(super) fn command(&self, path: &Path, seed: u64) -> String {
        let mut text = format!("kith sim run {} --seed {seed}", shell_path(path),);
        self.add_settings(&mut text);
        text
    }

    /// The command that rehearses one seed again.
    pub(super) fn rehearsal_command(&self, charter: &Path, world: &Path, seed: u64) -> String {
        let [charter, world] = [charter, world].map(shell_path);
        let mut text =
            format!("kith sim run --charter {charter} --world {world} --seed {seed} --seeds 1");
        self.add_settings(&mut text);
        text
    }

    fn add_settings(&self, text: &mut String) {
        for setting in self.settings.iter().filter(|(key, _)| key != "world.seed") {
            text.push_str(&format!(" --set {}", setting_to_text(setting)));
        }
    }

    /// The settings of the command line, the seed among them.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let seed = self
            .seed
            // At most 2⁶³ − 1.
            .map(|seed| ("world.seed".to_owned(), toml::Value::Integer(seed as i64)));
        self.settings.iter().cloned().chain(seed).collect()
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    pub(super) fn seeds(&self) -> u64 {
        self.seeds.max(1)
    }

    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn again(&self) -> bool {
        self.again
    }

    pub(super) fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }
}

/// A path in a command that somebody may copy.
pub(super) fn shell_path(path: &Path) -> String {
    text::shell_word(&path.display().to_string())
}
