//! `kith sim sweep`: one experiment over a grid and seeds, and campaigns over very many seeds.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kith_simulations::check::place;
use kith_simulations::experiment::{Experiment, Setting, setting, setting_to_text};
use kith_simulations::sweep::campaign::Campaign;
use kith_simulations::sweep::shard::{self, SHARDS, Shard, ShardError};
use kith_simulations::sweep::{Axis, Entry, Manifest, Run, Sweep as Grid, axis, execute};
use serde_json::{Value, json};

use super::super::done;
use super::super::output::{Failure, Verdict, print, print_json, tell};
use super::experiment::BROKEN;
use super::folder::may_hold_runs;
use super::options::shell_path;
use super::report;
use crate::problems::BadFile;

/// Run an experiment over a grid of settings and seeds, or over very many seeds
#[derive(Debug, Args)]
#[command(after_help = "\
An experiment file with [sweep]: seeds = 3 and [sweep.grid] \"aggregation.rule\" = [\"mean\", \"krum\"]; see docs/experiments.md.
A sweep that was stopped goes on where it was: start it again. With --seed-range nothing is kept but failures.
On several machines: give each its --shard and one folder that all of them see; then `kith sim report FOLDER` joins the results.

Examples:
  kith sim sweep experiments/rules.toml
  kith sim sweep experiments/first.toml --grid aggregation.rule=mean,krum --grid world.attack=sign-flip:10,ipm:10 --seeds 5
  kith sim sweep experiments/rules.toml --shard 2/8 --out /shared/rules
  kith sim sweep experiments/faults.toml --seed-range 0..100000 --out campaign

Exit codes: 0 done; 1 it could not be run; 5 a run failed: reasons and the commands that run each alone were printed")]
pub(crate) struct Sweep {
    /// The experiment
    file: PathBuf,
    /// A setting on top of the file, for example aggregation.byzantine=1
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<Setting>,
    /// An axis of the grid, for example aggregation.rule=mean,krum
    #[arg(long = "grid", value_name = "KEY=VALUE,VALUE,…", value_parser = axis, conflicts_with = "range")]
    grid: Vec<Axis>,
    /// Seeds of each cell, from the world's on
    #[arg(long, conflicts_with = "range", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// A campaign: run one cell with the seeds from A up to, but not with, B
    #[arg(long = "seed-range", value_name = "A..B", value_parser = range)]
    range: Option<(u64, u64)>,
    /// Names the program in a campaign's state, besides its version
    #[arg(long, value_name = "TEXT", requires = "range")]
    commit: Option<String>,
    /// Runs at a time, each on one thread; by default as many as there are processors
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=4096))]
    jobs: Option<u64>,
    /// Run only the K-th of N parts: every N-th run, counted from 1. With the word `job` for K it
    /// is the number of a Kubernetes job's pod
    #[arg(long, value_name = "K/N", value_parser = shard, conflicts_with_all = ["range", "parquet"])]
    shard: Option<Shard>,
    /// Folder for the results
    #[arg(long)]
    out: Option<PathBuf>,
    /// Run everything again, also runs that are there
    #[arg(long)]
    again: bool,
    /// Write a row for every peer and round of each run too: peers.csv in the run's folder, as
    /// `kith sim run` does
    #[arg(long, conflicts_with = "range")]
    peers: bool,
    /// Write the tables as Parquet too, next to the CSV files
    #[arg(long, conflicts_with = "range")]
    parquet: bool,
    /// End with one JSON object on stdout
    #[arg(long)]
    json: bool,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let ends = text
        .split_once("..")
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    ends.filter(|(from, to)| from < to && *to <= i64::MAX as u64)
        .ok_or_else(|| format!("expected A..B with A below B, for example 0..1000, found {text:?}"))
}

/// Variable with the number that Kubernetes gives a pod of an indexed job, from 0. An image without
/// a shell cannot add 1 to it.
const JOB_INDEX: &str = "JOB_COMPLETION_INDEX";

fn shard(text: &str) -> Result<Shard, String> {
    let Some(of) = text.strip_prefix("job/") else {
        return text.parse().map_err(|error: ShardError| error.to_string());
    };
    let index = std::env::var(JOB_INDEX).ok();
    let index = index.and_then(|index| index.parse::<usize>().ok());
    let Some(number) = index.and_then(|index| index.checked_add(1)) else {
        return Err(format!(
            "{text:?} needs {JOB_INDEX}, the number that Kubernetes gives a pod of an indexed job; expected K/N, for example 1/3"
        ));
    };
    let numbered = format!("{number}/{of}").parse();
    numbered.map_err(|error: ShardError| error.to_string())
}

impl Sweep {
    pub(crate) fn run(self) -> Verdict {
        super::parquet_is_built(self.parquet)?;
        let text = std::fs::read_to_string(&self.file).map_err(|error| {
            let what = format!(
                "cannot read the experiment {}: {error}",
                self.file.display()
            );
            Failure::with_help(what, "`kith sim sweep --help` shows examples")
        })?;
        let bad = |problems| Failure::from(BadFile::problems(&self.file, &text, problems));
        let sweep = Grid::parse(&text, &self.settings, &self.grid, self.seeds).map_err(bad)?;
        let out = self.out.clone().unwrap_or_else(|| {
            let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
            self.file.with_file_name(format!("{stem}-sweep"))
        });
        may_hold_runs(&out)?;
        std::fs::create_dir_all(&out).map_err(|error| wrong(&out, &error))?;
        if let Some((from, to)) = self.range {
            return self.campaign(&text, &sweep, from, to, &out);
        }
        let runs = sweep.runs();
        let first = resolves(&text, &runs).map_err(bad)?;
        self.grid_of(&text, &sweep, &runs, &first, &out)
    }

    fn jobs(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(processors, |jobs| jobs as usize)
    }

    fn command(&self) -> String {
        let mut text = format!("kith sim sweep {}", shell_path(&self.file));
        self.settings
            .iter()
            .for_each(|setting| text.push_str(&format!(" --set {}", setting_to_text(setting))));
        for axis in &self.grid {
            let values: Vec<String> = axis.values.iter().map(toml::Value::to_string).collect();
            text.push_str(&format!(
                " --grid '{}={}'",
                axis.key,
                values.join(",").replace('\'', "'\\''")
            ));
        }
        self.seeds
            .iter()
            .for_each(|seeds| text.push_str(&format!(" --seeds {seeds}")));
        text.push_str(if self.peers { " --peers" } else { "" });
        text
    }

    fn grid_of(
        &self,
        text: &str,
        sweep: &Grid,
        runs: &[Run],
        first: &Experiment,
        out: &Path,
    ) -> Verdict {
        let of_shard = |place: &usize| self.shard.is_none_or(|shard| shard.has(*place));
        let places = (0..runs.len()).filter(of_shard);
        let runs: Vec<Run> = places.map(|place| runs[place].clone()).collect();
        let mut manifest = self.waiting(sweep, &runs, first);
        self.begin(text, &manifest, out)?;
        let started = Instant::now();
        manifest.runs = self
            .executed(text, &runs, out)
            .map_err(|error| wrong(out, &error))?;
        self.keep(text, &manifest, out)?;
        let rows = match self.shard {
            None => report::of_sweep(out)?,
            Some(_) => Vec::new(), // the tables are of all shards
        };
        super::parquet(self.parquet, out)?;
        let failed: Vec<&Entry> = manifest
            .runs
            .iter()
            .filter(|run| run.failure.is_some())
            .collect();
        let kept = manifest.runs.iter().filter(|run| run.kept).count();
        if self.json {
            let failure = |run: &&Entry| json!({"run": run.slug, "seed": run.seed, "why": run.failure, "command": run.command});
            print_json(&json!({
                "name": manifest.name, "out": out.display().to_string(), "cells": sweep.cells(), "runs": runs.len(), "kept": kept,
                "wall_seconds": started.elapsed().as_secs_f64(), "failed": failed.iter().map(failure).collect::<Vec<_>>(),
                "summary": rows, "shard": self.shard.map(|shard| shard.to_string()),
            }))?;
        } else if self.shard.is_none() {
            print(&report::cells(&rows, &manifest.axes, out))?;
        }
        tell(&format!(
            "{} runs, {kept} of them done before, {} failed",
            runs.len(),
            failed.len()
        ));
        tell_of_failures(&manifest, &failed);
        if let Some(shard) = self.shard {
            tell(&format!(
                "shard {shard} is done; when all are: kith sim report {}",
                shell_path(out)
            ));
        }
        if failed.is_empty() {
            done()
        } else {
            Ok(ExitCode::from(BROKEN))
        }
    }

    /// The folder's manifest before any run.
    fn waiting(&self, sweep: &Grid, runs: &[Run], first: &Experiment) -> Manifest {
        let file = shell_path(&self.file);
        let waiting = |run: &Run| Entry {
            slug: run.slug.clone(),
            cell: run.cell,
            values: run.values.clone(),
            seed: run.seed,
            failure: Some("not run: the sweep was stopped before".to_owned()),
            kept: false,
            command: run.command(&file),
        };
        Manifest {
            name: first.charter.name.clone(),
            command: self.command(),
            axes: sweep.axes.iter().map(|axis| axis.key.clone()).collect(),
            values: sweep.axes.iter().map(Axis::labels).collect(),
            seeds: sweep.seeds.clone(),
            runs: runs.iter().map(waiting).collect(),
        }
    }

    fn begin(&self, text: &str, manifest: &Manifest, out: &Path) -> Result<(), Failure> {
        if self.again {
            for run in &manifest.runs {
                let outcome = out.join("cells").join(&run.slug).join("outcome.json");
                let _ = std::fs::remove_file(outcome); // there may be none
            }
        }
        if self.shard.is_none() {
            // Lists of shards would count for more than this sweep's.
            let _ = std::fs::remove_dir_all(out.join(SHARDS)); // there may be none
            std::fs::write(out.join("sweep.toml"), text).map_err(|error| wrong(out, &error))?;
        }
        self.keep(text, manifest, out)
    }

    /// Writes the list of the sweep's runs, or that of a shard's.
    fn keep(&self, text: &str, manifest: &Manifest, out: &Path) -> Result<(), Failure> {
        match self.shard {
            None => manifest.write(out).map_err(|error| wrong(out, &error)),
            Some(shard) => shard::write(out, shard, text, manifest)
                .map_err(|error| Failure::new(format!("shard {shard} cannot be written: {error}"))),
        }
    }

    fn executed(&self, text: &str, runs: &[Run], out: &Path) -> std::io::Result<Vec<Entry>> {
        let file = shell_path(&self.file);
        let progress = Progress::new(runs.len() as u64, "runs");
        let (ended, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        let entries = execute(text, &file, runs, self.jobs(), out, self.peers, &|entry| {
            let failure = u64::from(entry.failure.is_some());
            let failed = failed.fetch_add(failure, Ordering::Relaxed) + failure;
            progress.at(ended.fetch_add(1, Ordering::Relaxed) + 1, failed);
        });
        progress.end();
        entries
    }

    fn campaign(&self, text: &str, sweep: &Grid, from: u64, to: u64, out: &Path) -> Verdict {
        if sweep.cells() > 1 {
            return Err(Failure::with_help(
                format!(
                    "--seed-range runs one cell; the grid of {} has {}",
                    self.file.display(),
                    sweep.cells()
                ),
                "choose one with --set KEY=VALUE and leave [sweep.grid] out of the file",
            ));
        }
        let mut settings: Vec<Setting> = self.settings.clone();
        settings.extend(
            sweep
                .axes
                .iter()
                .map(|axis| (axis.key.clone(), axis.values[0].clone())),
        );
        let experiment = Experiment::parse(text, &settings)
            .map_err(|problems| Failure::from(BadFile::problems(&self.file, text, problems)))?;
        let path = out.join("campaign.json");
        let version = env!("CARGO_PKG_VERSION");
        let mut campaign = Campaign::new(&experiment, version, self.commit.clone(), from, to);
        if !self.again {
            resume(&mut campaign, &path)?;
        }
        let (before, started) = (campaign.seeds(), Instant::now());
        let progress = Progress::new(to - from, "seeds");
        let ran = campaign.run(text, &settings, self.jobs(), &path, &mut |campaign| {
            progress.at(campaign.seeds(), campaign.failed())
        });
        progress.end();
        ran.map_err(|error| wrong(out, &error))?;
        let rate = (campaign.seeds() - before) as f64 / started.elapsed().as_secs_f64().max(1e-9);
        if self.json {
            print_json(&campaign_json(&campaign, &experiment.charter.name, rate))?;
        } else {
            print(&campaign_text(&campaign, rate))?;
        }
        if campaign.next < to {
            tell(&format!(
                "ended before seed {}: so many failures are enough",
                campaign.next
            ));
        }
        self.tell_of_broken_seeds(&campaign, &settings);
        if campaign.failed() == 0 {
            done()
        } else {
            Ok(ExitCode::from(BROKEN))
        }
    }

    fn tell_of_broken_seeds(&self, campaign: &Campaign, settings: &[Setting]) {
        let command = |seed: u64| {
            let mut text = format!("kith sim run {} --seed {seed}", shell_path(&self.file));
            settings
                .iter()
                .filter(|(key, _)| key != "world.seed")
                .for_each(|own| text.push_str(&format!(" --set {}", setting_to_text(own))));
            text
        };
        let mut reported = None;
        for failure in &campaign.failures {
            tell(&format!(
                "seed {}: {} broken by {}: {}",
                failure.seed,
                failure.check,
                place(failure.peer),
                failure.what
            ));
            if reported != Some(failure.seed) {
                tell(&format!("  alone: {}", command(failure.seed)));
            }
            reported = Some(failure.seed);
        }
    }
}

/// Resumes the earlier state of a campaign.
fn resume(campaign: &mut Campaign, path: &Path) -> Result<(), Failure> {
    let resumed = campaign.resume(path).map_err(|why| {
        let what = format!("{} cannot be continued: {why}", path.display());
        Failure::with_help(
            what,
            "choose another folder with --out, or start anew with --again",
        )
    })?;
    if resumed && campaign.seeds() > 0 {
        tell(&format!(
            "going on at seed {}: {} seeds were done before",
            campaign.next,
            campaign.seeds()
        ));
    }
    Ok(())
}

fn campaign_json(campaign: &Campaign, name: &str, rate: f64) -> Value {
    json!({
        "name": name, "from": campaign.from, "to": campaign.to, "next": campaign.next, "seeds": campaign.seeds(),
        "failed": campaign.failed(), "seeds_per_second": rate, "failure_rate_upper_95": campaign.bound(),
        "failures": campaign.failures, "version": campaign.version, "commit": campaign.commit,
        "wall_seconds": campaign.wall_seconds, "experiment": campaign.experiment,
    })
}

fn campaign_text(campaign: &Campaign, rate: f64) -> String {
    let bound = campaign.bound().map_or(String::new(), |bound| {
        format!("; with 95 % confidence fewer than {bound:.2e} of all seeds fail (3/N)")
    });
    let (seeds, failed) = (campaign.seeds(), campaign.failed());
    format!("{seeds} seeds, {failed} failures, {rate:.1} seeds/s{bound}\n")
}

/// Runs of a cell that failed alike are reported once; --json and the report have the command of
/// each.
fn tell_of_failures(manifest: &Manifest, failed: &[&Entry]) {
    for alike in
        failed.chunk_by(|left, right| left.cell == right.cell && left.failure == right.failure)
    {
        let seeds: Vec<String> = alike.iter().map(|run| run.seed.to_string()).collect();
        let cell = manifest
            .axes
            .iter()
            .zip(&alike[0].values)
            .map(|(key, value)| format!("{key} = {value}, "));
        let why = alike[0].failure.as_deref().unwrap_or_default();
        tell(&format!(
            "{}seed {}: {why}\n  alone: {}",
            cell.collect::<String>(),
            seeds.join(", "),
            alike[0].command
        ));
    }
}

/// The first cell that can be run, or the problems of the first cell if none can.
fn resolves(text: &str, runs: &[Run]) -> Result<Experiment, Vec<kith_consensus::Problem>> {
    let mut cells = runs
        .iter()
        .enumerate()
        .filter(|(place, run)| *place == 0 || runs[place - 1].cell != run.cell);
    let first = cells
        .next()
        .map(|(_, run)| Experiment::parse(text, &run.settings))
        .expect("a sweep has a cell and a seed");
    first.or_else(|problems| {
        cells
            .find_map(|(_, run)| Experiment::parse(text, &run.settings).ok())
            .ok_or(problems)
    })
}

fn wrong(out: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write to {}: {error}", out.display()))
}

/// A bar if stderr is a terminal, otherwise a line every ten seconds.
struct Progress {
    bar: Option<ProgressBar>,
    count: u64,
    what: &'static str,
    started: Instant,
    reported: Mutex<Instant>,
}

impl Progress {
    fn new(count: u64, what: &'static str) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{pos}/{len} {msg} {wide_bar} {eta} left");
            ProgressBar::new(count)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Progress {
            bar,
            count,
            what,
            started: Instant::now(),
            reported: Mutex::new(Instant::now()),
        }
    }

    fn at(&self, done: u64, failed: u64) {
        let message = if failed > 0 {
            format!("{}, {failed} failed", self.what)
        } else {
            self.what.to_owned()
        };
        match (&self.bar, self.reported.lock()) {
            (Some(bar), _) => {
                bar.set_position(done);
                bar.set_message(message);
            }
            (None, Ok(mut reported)) if reported.elapsed() > Duration::from_secs(10) => {
                *reported = Instant::now();
                let left = self.started.elapsed().as_secs_f64() / done.max(1) as f64
                    * (self.count - done.min(self.count)) as f64;
                tell(&format!(
                    "{done} of {} {message}, about {left:.0} s left",
                    self.count
                ));
            }
            (None, _) => {}
        }
    }

    fn end(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}
