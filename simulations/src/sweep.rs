//! A sweep: one experiment over a grid of settings and several seeds.
//!
//! The experiment's file says in `[sweep]` which seeds, and in `[sweep.grid]` which keys take which
//! values. Each combination of values is a cell; each cell is run once with each seed. Every run
//! has a folder of its own, whose `outcome.json` names the resolved experiment it came from, so
//! that a sweep resumes where it stopped: results that are there and still apply are kept. A run
//! that cannot be run, breaks an invariant or panics is noted, and the sweep continues.
//!
//! [`shard`] divides the runs among machines. [`campaign`] runs one cell with very many seeds and keeps nothing but failures.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kith_consensus::section::Document;
use kith_consensus::{Digest, Problem, Section};
use serde::Deserialize;

use crate::check::Failure;
use crate::experiment::{Checks, Experiment, Outcome, SWEEP, Setting, setting_to_text};
use crate::metrics::PEER_ROWS_MAX;
use crate::report;

pub mod campaign;
pub(crate) mod manifest;
pub mod shard;

pub use manifest::{Entry, Manifest};

/// Most runs of a sweep: as many as one folder can list. A guess.
pub const RUNS_MAX: usize = 100_000;

/// A key and the values it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Dotted key, or a section's name if the values are whole sections.
    pub key: String,
    /// Its values, in TOML.
    pub values: Vec<toml::Value>,
}

impl Axis {
    /// The values in short, for tables and names.
    pub fn labels(&self) -> Vec<String> {
        self.values.iter().map(label).collect()
    }

    fn of(key: String, values: Vec<toml::Value>) -> Result<Axis, String> {
        match key.contains('.') || values.iter().all(toml::Value::is_table) {
            true => Ok(Axis { key, values }),
            false => Err(format!(
                "expected a section and a key, for example \"aggregation.rule\", or a section whose values are tables, found {key:?}"
            )),
        }
    }
}

/// Reads `key=value,value,…`; commas within brackets, braces and quotes do not separate values.
///
/// # Errors
/// What was expected, in words for people.
pub fn axis(text: &str) -> Result<Axis, String> {
    let expected = || {
        format!(
            "expected KEY=VALUE,VALUE,…, for example aggregation.rule=mean,krum, found {text:?}"
        )
    };
    let (key, list) = text.split_once('=').ok_or_else(expected)?;
    let (mut parts, mut depth, mut quoted) = (vec![String::new()], 0usize, None);
    for character in list.chars() {
        match (quoted, character) {
            (Some(quote), character) if quote == character => quoted = None,
            (None, '"' | '\'') => quoted = Some(character),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts
            .last_mut()
            .into_iter()
            .for_each(|part| part.push(character));
    }
    if parts.iter().any(|part| part.trim().is_empty()) {
        return Err(expected());
    }
    Axis::of(
        key.trim().to_owned(),
        parts
            .iter()
            .map(|part| crate::experiment::value_from_text(part.trim()))
            .collect(),
    )
}

/// A resolved `[sweep]`.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The grid, in the file's order, then the command line's.
    pub axes: Vec<Axis>,
    /// The worlds' seeds.
    pub seeds: Vec<u64>,
    /// Settings of every run.
    settings: Vec<Setting>,
}

/// One run of a sweep.
#[derive(Clone, Debug)]
pub struct Run {
    /// Name of its folder.
    pub slug: String,
    /// Number of its cell.
    pub cell: usize,
    /// Its value on each axis, in short.
    pub values: Vec<String>,
    /// Its world's seed.
    pub seed: u64,
    /// Everything that is set on top of the file.
    pub settings: Vec<Setting>,
}

impl Run {
    /// The command that runs it alone.
    pub fn command(&self, file: &str) -> String {
        let mut text = format!("kith sim run {file} --seed {}", self.seed);
        for setting in self.settings.iter().filter(|(key, _)| key != "world.seed") {
            text.push_str(&format!(" --set {}", setting_to_text(setting)));
        }
        text
    }
}

impl Sweep {
    /// Reads `[sweep]` of an experiment's text, with settings, further axes and a number of seeds
    /// on top. An axis of `grid` takes the place of the file's with the same key.
    ///
    /// # Errors
    /// Every problem of the section.
    pub fn parse(
        text: &str,
        settings: &[Setting],
        grid: &[Axis],
        seeds: Option<u64>,
    ) -> Result<Sweep, Vec<Problem>> {
        let mut document = Document::parse(text).map_err(|problem| vec![problem])?;
        let written: toml::Table = text.parse().unwrap_or_default(); // it was just parsed
        for other in written.keys().filter(|name| *name != SWEEP) {
            document.remove(other);
        }
        let of_settings = settings
            .iter()
            .rev()
            .find(|(key, _)| key == "world.seed")
            .map(|(_, value)| value);
        let of_file = written.get("world").and_then(|world| world.get("seed"));
        let first = of_settings
            .or(of_file)
            .and_then(toml::Value::as_integer)
            .and_then(|seed| u64::try_from(seed).ok())
            .unwrap_or(0);
        let listed = written
            .get(SWEEP)
            .and_then(|sweep| sweep.get("seeds"))
            .is_some_and(toml::Value::is_array);
        let (mut axes, mut own_seeds) = document.section(SWEEP, |section| {
            let seeds = match listed {
                true => section.integers("seeds", None, 0..=i64::MAX as u64),
                // One: more seeds cost time only if they are asked for.
                false => (0..section.integer("seeds", Some(1), 1..=RUNS_MAX as u64))
                    .map(|place| first.saturating_add(place))
                    .collect(),
            };
            (section.table("grid", read_grid), seeds)
        });
        if listed && own_seeds.is_empty() {
            document.note("sweep.seeds", "expected at least one seed");
        }
        if let Some(count) = seeds {
            own_seeds = (0..count.max(1))
                .map(|place| first.saturating_add(place))
                .collect();
        }
        for axis in grid {
            match axes.iter_mut().find(|known| known.key == axis.key) {
                Some(known) => *known = axis.clone(),
                None => axes.push(axis.clone()),
            }
        }
        if axes.iter().any(|axis| axis.key == "world.seed") {
            document.note(
                "sweep.grid",
                "world.seed is no axis, since every cell is run with every seed; expected sweep.seeds = [1, 2]",
            );
        }
        let runs = axes
            .iter()
            .map(|axis| axis.values.len())
            .fold(own_seeds.len(), usize::saturating_mul);
        if runs > RUNS_MAX {
            document.note("sweep", format!("{runs} runs; expected at most {RUNS_MAX}"));
        }
        document.finish()?;
        // Every run sets its seed, so only this notices that the file's own seed is invalid.
        let base = Experiment::parse(text, settings).err().unwrap_or_default();
        let seed: Vec<Problem> = base
            .into_iter()
            .filter(|problem| problem.key == "world.seed")
            .collect();
        if !seed.is_empty() {
            return Err(seed);
        }
        Ok(Sweep {
            axes,
            seeds: own_seeds,
            settings: settings.to_vec(),
        })
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.axes.iter().map(|axis| axis.values.len()).product()
    }

    /// Every run: cell after cell, the last axis fastest, and in each cell seed after seed.
    pub fn runs(&self) -> Vec<Run> {
        let shorts = short_names(&self.axes);
        let mut taken = BTreeSet::new();
        let mut runs = Vec::new();
        for cell in 0..self.cells() {
            let mut rest = cell;
            let mut places = vec![0; self.axes.len()];
            for (place, axis) in places.iter_mut().zip(&self.axes).rev() {
                (rest, *place) = (rest / axis.values.len(), rest % axis.values.len());
            }
            let chosen = || {
                self.axes
                    .iter()
                    .zip(&places)
                    .map(|(axis, place)| (axis.key.clone(), axis.values[*place].clone()))
            };
            let values: Vec<String> = chosen().map(|(_, value)| label(&value)).collect();
            let named = shorts
                .iter()
                .zip(&values)
                .map(|(key, value)| format!("{key}={value}"));
            let name = named.collect::<Vec<_>>().join(",");
            for seed in &self.seeds {
                let name = if name.is_empty() {
                    format!("seed={seed}")
                } else {
                    format!("{name},seed={seed}")
                };
                let mut slug = slug(&name);
                if !taken.insert(slug.clone()) {
                    slug = format!("{slug}-{cell}");
                    taken.insert(slug.clone());
                }
                let number = toml::Value::Integer(i64::try_from(*seed).unwrap_or(i64::MAX));
                let own = chosen().chain([("world.seed".to_owned(), number)]);
                let settings = self
                    .settings
                    .iter()
                    .filter(|(key, _)| key != "world.seed")
                    .cloned()
                    .chain(own)
                    .collect();
                runs.push(Run {
                    slug,
                    cell,
                    values: values.clone(),
                    seed: *seed,
                    settings,
                });
            }
        }
        runs
    }
}

fn read_grid(section: &mut Section<'_>) -> Vec<Axis> {
    let mut axes = Vec::new();
    for (key, values) in section.lists() {
        match Axis::of(key.clone(), values) {
            Ok(axis) => axes.push(axis),
            Err(what) => section.note(&key, what),
        }
    }
    axes
}

/// A value in short: `top-k,share=0.1` for a section.
fn label(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Table(table) => {
            let kind = table.get("kind").map(label);
            let rest = table
                .iter()
                .filter(|(key, _)| *key != "kind")
                .map(|(key, value)| format!("{key}={}", label(value)));
            kind.into_iter().chain(rest).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// The last part of each key; the whole key if that would be ambiguous.
pub(crate) fn short_names(axes: &[Axis]) -> Vec<String> {
    let last = |axis: &Axis| axis.key.rsplit('.').next().unwrap_or(&axis.key).to_owned();
    let unique = |name: &String| axes.iter().filter(|axis| last(axis) == *name).count() == 1;
    axes.iter()
        .map(|axis| {
            Some(last(axis))
                .filter(unique)
                .unwrap_or_else(|| axis.key.clone())
        })
        .collect()
}

/// A name as a folder's: letters, digits and a few signs; long ones end in a part of their hash.
fn slug(name: &str) -> String {
    const LENGTH_MAX: usize = 120;
    let safe: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._=,+-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    if safe.len() <= LENGTH_MAX {
        return safe;
    }
    format!(
        "{}-{}",
        &safe[..LENGTH_MAX - 9],
        &Digest::of(name.as_bytes()).to_string()[..8]
    )
}

/// Runs `runs` of the experiment `text`, `jobs` at a time, into `folder/cells`. `ended` is called
/// as each ends, in any order; the entries are returned in the order of the runs. `file` is the
/// experiment's name in commands; `peers` asks for a row of every peer and round of each run, too.
///
/// # Errors
/// When a result cannot be written: the first such.
pub fn execute(
    text: &str,
    file: &str,
    runs: &[Run],
    jobs: usize,
    folder: &Path,
    peers: bool,
    ended: &(dyn Fn(&Entry) + Sync),
) -> io::Result<Vec<Entry>> {
    let next = AtomicUsize::new(0);
    let entries: Mutex<Vec<Option<Entry>>> = Mutex::new(vec![None; runs.len()]);
    let wrong: Mutex<Option<io::Error>> = Mutex::new(None);
    let lock = "nobody panics while holding it";
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, runs.len().max(1)) {
            scope.spawn(|| {
                while let Some((place, run)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|place| Some((place, runs.get(place)?)))
                {
                    match one(
                        text,
                        file,
                        run,
                        &folder.join("cells").join(&run.slug),
                        peers,
                    ) {
                        Ok(entry) => {
                            ended(&entry);
                            entries.lock().expect(lock)[place] = Some(entry);
                        }
                        Err(error) => {
                            next.store(runs.len(), Ordering::Relaxed);
                            wrong.lock().expect(lock).get_or_insert(error);
                            break;
                        }
                    }
                }
            });
        }
    });
    match wrong.into_inner().expect(lock) {
        Some(error) => Err(error),
        None => Ok(entries
            .into_inner()
            .expect(lock)
            .into_iter()
            .flatten()
            .collect()),
    }
}

fn one(text: &str, file: &str, run: &Run, folder: &Path, peers: bool) -> io::Result<Entry> {
    let command = run.command(file);
    let entry = |failure: Option<String>, kept: bool| Entry {
        slug: run.slug.clone(),
        cell: run.cell,
        values: run.values.clone(),
        seed: run.seed,
        failure,
        kept,
        command: command.clone(),
    };
    let (outcome_file, peers_file) = (folder.join("outcome.json"), folder.join("peers.csv"));
    let parsed = Experiment::parse(text, &run.settings);
    if let Ok(experiment) = &parsed
        && (!peers || peers_file.exists() || experiment.peers() > PEER_ROWS_MAX)
        && let Some(failure) = finished(&outcome_file, &experiment.digest())
    {
        return Ok(entry(failure, true));
    }
    for file in [&outcome_file, &peers_file] {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {} // the file there belongs to another experiment, or is incomplete
        }
    }
    let experiment = match parsed {
        Ok(experiment) => experiment,
        Err(problems) => {
            let list: Vec<String> = problems.iter().map(Problem::to_string).collect();
            return Ok(entry(Some(format!("refused: {}", list.join("; "))), false));
        }
    };
    match attempt(&experiment) {
        Ok(outcome) => {
            std::fs::create_dir_all(folder)?;
            report::write(folder, &experiment, &outcome, &command, peers)?;
            let broken = outcome.checks.failed.first().map(Failure::to_string);
            Ok(entry(broken, false))
        }
        Err(reason) => Ok(entry(Some(reason), false)),
    }
}

/// The part of an outcome that shows whether a run has to be made again.
#[derive(Deserialize)]
struct Ending {
    experiment: Digest,
    checks: Checks,
}

/// For a finished run of this very experiment: why it failed, if it did. `None`: there is no such
/// run.
fn finished(file: &Path, experiment: &Digest) -> Option<Option<String>> {
    let ending: Ending = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (ending.experiment == *experiment).then(|| ending.checks.failed.first().map(Failure::to_string))
}

/// Runs it on this thread. Our own broken invariant, which is a panic, is a result as well.
fn attempt(experiment: &Experiment) -> Result<Outcome, String> {
    match catch_unwind(AssertUnwindSafe(|| experiment.run(0, &mut |_, _| {}))) {
        Ok(ended) => ended.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!(
                "panicked: {}",
                text.unwrap_or_else(|| "without a message".to_owned())
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[federation]\nname = \"t\"\nrounds = 3\n[topology]\nkind = \"complete\"\n[world]\npeers = 4\nseed = 7\n\
                        [world.trainer]\nkind = \"quadratic\"\n";

    fn sweep(section: &str) -> Result<Sweep, Vec<Problem>> {
        Sweep::parse(&format!("{TEXT}{section}"), &[], &[], None)
    }

    #[test]
    fn a_grid_becomes_runs_with_names_and_commands() {
        let text = "[sweep]\nseeds = 2\n[sweep.grid]\n\"aggregation.rule\" = [\"mean\", \"median\"]\ncodec = [{ kind = \"identity\" }, { kind = \"top-k\", share = 0.5 }]\n";
        let runs = sweep(text).unwrap().runs();
        assert_eq!(runs.len(), 8);
        assert_eq!(runs[0].slug, "rule=mean,codec=identity,seed=7");
        assert_eq!(runs[7].slug, "rule=median,codec=top-k,share=0.5,seed=8");
        assert_eq!(
            (runs[7].cell, runs[6].cell, runs[7].values.len()),
            (3, 3, 2)
        );
        assert_eq!(
            runs[7].command("f.toml"),
            "kith sim run f.toml --seed 8 --set 'aggregation.rule=\"median\"' --set 'codec={ kind = \"top-k\", share = 0.5 }'"
        );
        assert!(Experiment::parse(&format!("{TEXT}{text}"), &runs[7].settings).is_ok());
        assert_eq!(sweep("[sweep]\nseeds = [1, 5]\n").unwrap().seeds, [1, 5]);
    }

    #[test]
    fn a_section_of_another_kind_leaves_the_data_set_s_own_keys_behind() {
        let text = "[federation]\nname = \"t\"\n[world]\npeers = 4\n";
        let model = |text: &str| crate::experiment::setting(text).unwrap();
        for one in [
            model("model.kind=softmax"),
            model("model={ kind = \"softmax\" }"),
            model("training.learning_rate=0.5"),
        ] {
            assert!(
                Experiment::parse(text, std::slice::from_ref(&one)).is_ok(),
                "{one:?}"
            );
        }
        let formula = [
            model("world.trainer.kind=quadratic"),
            model("world.trainer.noise=0.5"),
        ];
        assert!(
            Experiment::parse(text, &formula).is_ok(),
            "a setting below [world] counts as written"
        );
    }

    #[test]
    fn what_a_sweep_does_not_know_is_refused_with_its_line() {
        let told = |section: &str| sweep(section).unwrap_err()[0].to_string();
        assert!(told("[sweep]\nseed = 3\n").starts_with(
            "line 12, column 8: sweep.seed: unknown key \"seed\"; known: grid, seeds"
        ));
        assert!(told("[sweep]\nseeds = 0\n").contains("expected an integer from 1"));
        assert!(told("[sweep]\nseeds = []\n").contains("at least one seed"));
        assert!(
            told("[sweep.grid]\n\"world.peers\" = 3\n")
                .contains("expected a list of at least one value")
        );
        assert!(told("[sweep.grid]\nrule = [\"mean\"]\n").contains("expected a section and a key"));
    }

    #[test]
    fn an_axis_of_the_command_line_is_split_at_its_own_commas() {
        let axis = axis("codec={ kind = \"top-k\", share = 0.1 },{ kind = \"identity\" }").unwrap();
        assert_eq!(axis.labels(), ["top-k,share=0.1", "identity"]);
        assert_eq!(
            super::axis("a.b=1,x:2,[3, 4]").unwrap().labels(),
            ["1", "x:2", "[3, 4]"]
        );
        assert!(
            super::axis("a.b=1,,2").is_err()
                && super::axis("ab=1").is_err()
                && super::axis("a.b").is_err()
        );
    }

    #[test]
    fn a_sweep_goes_on_where_it_stopped_and_past_what_fails() {
        let folder = std::env::temp_dir().join(format!("kith-sweep-{}", std::process::id()));
        let text = format!(
            "{TEXT}[sweep]\nseeds = 2\n[sweep.grid]\n\"aggregation.byzantine\" = [0, 9]\n\"aggregation.rule\" = [\"krum\"]\n"
        );
        let runs = Sweep::parse(&text, &[], &[], None).unwrap().runs();
        let run = || execute(&text, "f.toml", &runs, 2, &folder, false, &|_| {}).unwrap();
        let first = run();
        assert_eq!(
            first
                .iter()
                .filter(|entry| entry.failure.is_none() && !entry.kept)
                .count(),
            2,
            "{first:?}"
        );
        assert!(
            first[2].failure.as_ref().unwrap().contains("needs"),
            "{first:?}"
        );
        let outcome = folder
            .join("cells")
            .join(&runs[0].slug)
            .join("outcome.json");
        std::fs::write(&outcome, "{").unwrap();
        let second = run();
        assert_eq!(
            second.iter().map(|entry| entry.kept).collect::<Vec<_>>(),
            [false, true, false, false]
        );
        assert!(std::fs::read_to_string(&outcome).unwrap().len() > 100);
        // Rows of every peer, if they are asked for: then runs without them are run again, and runs
        // with them are kept.
        let rows = folder.join("cells").join(&runs[0].slug).join("peers.csv");
        assert!(!rows.exists());
        let kept = |peers| {
            let entries = execute(&text, "f.toml", &runs, 2, &folder, peers, &|_| {}).unwrap();
            entries.iter().map(|entry| entry.kept).collect::<Vec<_>>()
        };
        assert_eq!(
            [kept(true), kept(true), kept(false)],
            [
                [false; 4],
                [true, true, false, false],
                [true, true, false, false]
            ]
        );
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!(lines(&rows), 1 + 3 * 4);
        let other = text.replace("rounds = 3", "rounds = 4");
        let again = execute(&other, "f.toml", &runs, 1, &folder, false, &|_| {}).unwrap();
        assert!(again.iter().all(|entry| !entry.kept));
        assert!(!rows.exists(), "rows of another experiment do not stay");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
