//! `kith sim run`: one experiment, measured, with its report.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kith_consensus::Problem;
use kith_simulations::experiment::{
    Experiment, ExperimentError, Outcome, Range, Setting, has_sweep, setting, setting_to_text,
};
use kith_simulations::metrics::Bytes;
use kith_simulations::report;

use super::super::done;
use super::super::output::{Failure, Verdict, bytes, print, print_json, tell};
use super::super::text;
use super::folder::{beside, may_hold};
use crate::problems::{BadFile, BadFiles};

/// Run one experiment, or rehearse a charter in a world
#[derive(Debug, Args)]
#[command(after_help = "\
An experiment file holds a charter's sections and [world]: see docs/experiments.md. Results go to a folder beside it: first-results, or
first-results-2 and so on where those of another seed or experiment are there, which are never overwritten.

Examples:
  kith sim run experiments/first.toml
  kith sim run experiments/first.toml --seed 7 --set aggregation.rule=median --json
  kith sim run --charter charter.toml --world world.toml      rehearse a charter

Exit codes: 0 done, whatever a rehearsal's answer is; 1 it could not be run; 5 a promise was broken, and the command that replays
it was printed")]
pub(crate) struct Run {
    /// The experiment
    #[arg(required_unless_present = "charter")]
    file: Option<PathBuf>,
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
    out: Option<PathBuf>,
    /// Write no files
    #[arg(long, conflicts_with = "out")]
    no_files: bool,
    /// Replace the results of another run that are in the folder
    #[arg(long, conflicts_with = "no_files")]
    again: bool,
    /// Write the tables as Parquet too, next to the CSV files
    #[arg(long, conflicts_with_all = ["no_files", "charter"])]
    parquet: bool,
    /// End with one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Exit code if an invariant was broken.
pub(super) const BROKEN: u8 = 5;

impl Run {
    pub(crate) fn run(self) -> Verdict {
        if let (Some(charter), Some(world)) = (&self.charter, &self.world) {
            return super::rehearse::rehearse(charter, world, &self);
        }
        let path = self.file.as_ref().expect("clap wants a file or a charter");
        super::parquet_is_built(self.parquet)?;
        let experiment = load(path, &self.settings())?;
        let command = self.command(path, &experiment);
        let folder = match &self.out {
            _ if self.no_files => None,
            None => Some(beside(path, &experiment, self.again)?),
            Some(out) => {
                may_hold(out, &experiment, self.again)?;
                Some(out.clone())
            }
        };
        warn_of_liars(&experiment);
        let wrong = |problems| {
            BadFile::problems(
                path,
                &std::fs::read_to_string(path).unwrap_or_default(),
                problems,
            )
        };
        let outcome = run(&experiment, self.threads, wrong)?;
        if let Some(folder) = &folder {
            report(&experiment, &outcome, folder, &command)?;
            super::parquet(self.parquet, folder)?;
        }
        if self.json {
            print_json(&outcome)?
        } else {
            print(&summary(&outcome, folder.as_deref()))?
        }
        tell_of_faults(&outcome);
        if outcome.checks.failed.is_empty() {
            return done();
        }
        for failure in &outcome.checks.failed {
            tell(&failure.to_string());
        }
        tell(&format!("replay it: {command}"));
        Ok(ExitCode::from(BROKEN))
    }

    /// The command that runs it again.
    fn command(&self, path: &Path, experiment: &Experiment) -> String {
        let mut text = format!(
            "kith sim run {} --seed {}",
            shell_path(path),
            experiment.world.seed
        );
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

fn tell_of_faults(outcome: &Outcome) {
    if !outcome.faults_not_felt.is_empty() {
        tell(&format!(
            "warning: never felt, since the run ended at {:.3} s: {}",
            outcome.virtual_seconds,
            outcome.faults_not_felt.join(", ")
        ));
    }
}

/// Warns of neighbourhoods with more liars than the rule was told to tolerate.
pub(super) fn warn_of_liars(experiment: &Experiment) {
    let byzantine = experiment.charter.aggregation.byzantine;
    if let Some((peer, liars)) = experiment
        .worst_neighbourhood()
        .filter(|(_, liars)| *liars > byzantine)
    {
        tell(&format!(
            "warning: peer {peer} hears {liars} liars in a round, and aggregation.byzantine is {byzantine}: rule {:?} promises nothing there",
            experiment.charter.aggregation.rule.name()
        ));
    }
}

/// Reads an experiment, or says everything that is wrong with it.
pub(super) fn load(path: &Path, settings: &[Setting]) -> Result<Experiment, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::with_help(
            format!("cannot read the experiment {}: {error}", path.display()),
            "`kith sim run --help` shows examples",
        )
    })?;
    if has_sweep(&text) {
        tell(&format!(
            "[sweep] of {} is left out here; `kith sim sweep {}` runs it",
            path.display(),
            shell_path(path)
        ));
    }
    Experiment::parse(&text, settings)
        .map_err(|problems| BadFile::problems(path, &text, problems).into())
}

/// A path in a command that somebody may copy.
pub(super) fn shell_path(path: &Path) -> String {
    text::shell_word(&path.display().to_string())
}

/// Runs with progress on stderr; `wrong` says where problems are that are only found then.
pub(super) fn run(
    experiment: &Experiment,
    threads: usize,
    wrong: impl FnOnce(Vec<Problem>) -> BadFiles,
) -> Result<Outcome, Failure> {
    let expected = experiment
        .charter
        .rounds
        .saturating_mul(experiment.peers() as u64);
    let bar = std::io::stderr().is_terminal().then(|| {
        let template = "{pos}/{len} peer-rounds {wide_bar} {eta} left  {msg}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(expected).with_style(style)
    });
    let mut told = Instant::now();
    let outcome = experiment.run(threads, &mut |now: Duration, rounds: u64| match &bar {
        Some(bar) => {
            bar.set_position(rounds);
            bar.set_message(format!("{:.1} s of virtual time", now.as_secs_f64()));
        }
        None if told.elapsed() > Duration::from_secs(10) => {
            told = Instant::now();
            tell(&format!(
                "{rounds} of {expected} peer-rounds, {:.1} s of virtual time",
                now.as_secs_f64()
            ));
        }
        None => {}
    });
    bar.into_iter().for_each(|bar| bar.finish_and_clear());
    outcome.map_err(|error| match error {
        ExperimentError::Problems(problems) => wrong(problems).into(),
        ExperimentError::Rows(_) => Failure::new(error.to_string()),
    })
}

/// Writes the resolved experiment, the measurements and the report.
pub(super) fn report(
    experiment: &Experiment,
    outcome: &Outcome,
    folder: &Path,
    command: &str,
) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| {
        Failure::new(format!("cannot write to {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(wrong)?;
    report::write(folder, experiment, outcome, command, true).map_err(wrong)?;
    report::run::page(folder).map_err(wrong)
}

/// The summary for people at the end.
fn summary(outcome: &Outcome, folder: Option<&Path>) -> String {
    let mut text = format!(
        "{}: {} peers, {} rounds, seed {}\n",
        outcome.name, outcome.peers, outcome.rounds, outcome.seed
    );
    let folder = folder.map(|folder| format!("{} (report.html)", folder.display()));
    let lines = [learned(outcome), sent(outcome), went(outcome)];
    for (name, value) in lines
        .into_iter()
        .flatten()
        .chain(folder.map(|folder| ("results", folder)))
    {
        text.push_str(&format!("  {name:<22}{value}\n"));
    }
    text
}

type Line = (&'static str, String);

/// Which peers lied, and what the honest ones learned.
fn learned(outcome: &Outcome) -> Vec<Line> {
    let mut lines = Vec::new();
    if outcome.adversaries > 0 {
        let liars = format!("{} ({})", outcome.adversaries, outcome.liars.join(", "));
        lines.push(("liars", liars));
    }
    if let Some(Range { mean, min, max }) = outcome.accuracy {
        let accuracy = format!("{mean:.4} (from {min:.4} to {max:.4})");
        lines.push(("accuracy", accuracy));
    }
    if let Some(share) = outcome.known_to_liars {
        let known = format!(
            "{:.1} % of the honest vectors of their rounds",
            100.0 * share
        );
        lines.push(("known to the liars", known));
    }
    if let Some(Range { mean, min, max }) = outcome.optimum_distance {
        let distance = format!("{mean:.3e} (from {min:.3e} to {max:.3e})");
        lines.push(("distance to optimum", distance));
    }
    if let Some(distance) = outcome.consensus_distance {
        lines.push(("consensus distance", format!("{distance:.4e}")));
    }
    lines
}

/// Bytes on the wire, and how the rows were dealt.
fn sent(outcome: &Outcome) -> Vec<Line> {
    let Bytes {
        dense_equivalent: dense,
        payload,
        keyframes,
        ..
    } = outcome.bytes;
    let share = if dense > 0 {
        100.0 * (payload + keyframes) as f64 / dense as f64
    } else {
        0.0
    };
    let bodies = bytes(payload + keyframes);
    let mut lines = vec![(
        "updates",
        format!("{bodies} of bodies, {share:.1} % of uncompressed"),
    )];
    if let Some(skew) = &outcome.skew {
        let unlike = format!(
            "{:.3} of 2 (mean distance of a peer's classes from everybody's)",
            skew.l1
        );
        lines.push(("unlike labels", unlike));
        if skew.left_over > 0 {
            let left = format!(
                "{} training rows that the partition deals to nobody",
                skew.left_over
            );
            lines.push(("rows left over", left));
        }
    }
    let again = outcome.bytes.retransmitted.filter(|again| *again > 0);
    let again = again.map_or(String::new(), |again| {
        format!(", of that {} sent once more", bytes(again))
    });
    let wire = format!("{}{again}", bytes(outcome.bytes.wire));
    lines.push(("on the wire", wire));
    lines
}

/// How the run went.
fn went(outcome: &Outcome) -> Vec<Line> {
    let jumped = if outcome.rounds_jumped > 0 {
        format!("; left out by jumps: {}", outcome.rounds_jumped)
    } else {
        String::new()
    };
    let (late, few) = (outcome.rounds_by_deadline, outcome.mixing_skipped);
    let took = format!(
        "{:.2} s, {:.0} peer-rounds/s, {} inputs, {}",
        outcome.wall_seconds,
        outcome.peer_rounds_per_second,
        outcome.events,
        outcome.signatures.name()
    );
    let (kept, broken) = (outcome.checks.passed, outcome.checks.failed.len());
    vec![
        (
            "rounds by deadline",
            format!("{late}; too few to mix: {few}{jumped}"),
        ),
        ("virtual time", format!("{:.3} s", outcome.virtual_seconds)),
        ("took", took),
        ("promises kept", format!("{kept} of {}", kept + broken)),
        ("trace", outcome.trace.to_string()),
    ]
}
