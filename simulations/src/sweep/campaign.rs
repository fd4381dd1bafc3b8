//! A campaign: one cell with very many seeds, to find the rare one that breaks an invariant.
//!
//! Nothing is kept of a seed that passes. The state is one small file, written now and then, so
//! that a stopped campaign resumes where it was. Seeds that were finished out of order are run
//! again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::attempt;
use crate::experiment::{Experiment, Setting};
use crate::replace::replace;

/// A campaign ends at this many failures: it has found what it was looking for.
const FAILURES_MAX: usize = 10_000;

/// How often the state is written.
const EVERY: Duration = Duration::from_secs(2);

/// The state of a campaign, as in its file `campaign.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    /// The program's version.
    pub version: String,
    /// What else names the program, as the command line gave it.
    pub commit: Option<String>,
    /// Name of the resolved experiment under its own seed.
    pub experiment: String,
    /// The first seed, included.
    pub from: u64,
    /// The seed after the last one that was asked for.
    pub to: u64,
    /// Every seed below this one is done.
    pub next: u64,
    /// What broke, by seed.
    pub failures: Vec<Failed>,
    /// Time it took so far.
    pub wall_seconds: f64,
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// The world's seed.
    pub seed: u64,
    /// The broken invariant; `run` if the run could not be run to its end.
    pub check: String,
    /// Number of the peer at which it broke; `None` for the run as a whole.
    pub peer: Option<usize>,
    /// When, in virtual seconds.
    pub virtual_seconds: Option<f64>,
    /// What happened, in words.
    pub what: String,
}

impl Campaign {
    /// A campaign over seeds `from..to`.
    pub fn new(
        experiment: &Experiment,
        version: &str,
        commit: Option<String>,
        from: u64,
        to: u64,
    ) -> Campaign {
        let experiment = experiment.digest().to_string();
        Campaign {
            version: version.to_owned(),
            commit,
            experiment,
            from,
            to,
            next: from,
            failures: Vec::new(),
            wall_seconds: 0.0,
        }
    }

    /// Resumes from the file at `path`; returns whether there was anything.
    ///
    /// # Errors
    /// If that is another campaign: how it differs.
    pub fn resume(&mut self, path: &Path) -> Result<bool, String> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        let before: Campaign = serde_json::from_slice(&bytes)
            .map_err(|error| format!("it is no campaign's state: {error}"))?;
        let differs =
            |what: &str, was: &str, is: &str| Err(format!("it is of {what} {was}, not {is}"));
        let commit =
            |campaign: &Campaign| campaign.commit.clone().unwrap_or_else(|| "none".to_owned());
        if before.experiment != self.experiment {
            return differs("experiment", &before.experiment, &self.experiment);
        }
        if before.version != self.version {
            return differs("version", &before.version, &self.version);
        }
        if before.commit != self.commit {
            return differs("commit", &commit(&before), &commit(self));
        }
        if before.from != self.from {
            return differs(
                "first seed",
                &before.from.to_string(),
                &self.from.to_string(),
            );
        }
        self.next = before.next.clamp(self.from, self.to);
        self.wall_seconds = before.wall_seconds;
        self.failures = before
            .failures
            .into_iter()
            .filter(|failed| failed.seed < self.next)
            .collect();
        Ok(true)
    }

    /// Number of seeds that are done.
    pub fn seeds(&self) -> u64 {
        self.next - self.from
    }

    /// Seeds that failed among them.
    pub fn failed(&self) -> u64 {
        let mut seeds: Vec<u64> = self.failures.iter().map(|failed| failed.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds.len() as u64
    }

    /// Upper bound, at 95 % confidence, of the share of seeds that fail, if none did: 3 / N, the
    /// rule of three (Hanley and Lippman-Hand 1983, doi 10.1001/jama.1983.03330370053031).
    pub fn bound(&self) -> Option<f64> {
        (self.failed() == 0 && self.seeds() > 0).then(|| (3.0 / self.seeds() as f64).min(1.0))
    }

    /// Runs what is left, on `jobs` threads, writing the state to `path`. `told` is called with the
    /// state now and then.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn run(
        &mut self,
        text: &str,
        settings: &[Setting],
        jobs: usize,
        path: &Path,
        told: &mut dyn FnMut(&Campaign),
    ) -> io::Result<()> {
        let (started, before) = (Instant::now(), self.wall_seconds);
        let (first, end) = (self.next, self.to);
        let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
        let mut result = Ok(());
        std::thread::scope(|scope| {
            // The threads wait for the one that writes.
            let (sender, ended) = sync_channel::<(u64, Vec<Failed>)>(256);
            for _ in 0..jobs.max(1) {
                let sender = sender.clone();
                let (next, stop) = (&next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end || sender.send((seed, one(text, settings, seed))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut waiting: BTreeMap<u64, Vec<Failed>> = BTreeMap::new();
            let mut written = Instant::now();
            for (seed, failures) in ended {
                waiting.insert(seed, failures);
                while let Some(failures) = waiting.remove(&self.next) {
                    self.failures.extend(failures);
                    self.next += 1;
                }
                if self.failures.len() >= FAILURES_MAX {
                    stop.store(true, Ordering::Relaxed);
                }
                if written.elapsed() >= EVERY {
                    written = Instant::now();
                    self.wall_seconds = before + started.elapsed().as_secs_f64();
                    result = self.write(path);
                    told(self);
                }
                if result.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
        self.wall_seconds = before + started.elapsed().as_secs_f64();
        result.and_then(|()| self.write(path))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        replace(
            path,
            &serde_json::to_vec_pretty(self).map_err(io::Error::other)?,
        )
    }
}

fn one(text: &str, settings: &[Setting], seed: u64) -> Vec<Failed> {
    let mut settings = settings.to_vec();
    settings.push((
        "world.seed".to_owned(),
        toml::Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX)),
    ));
    let failed = |what: String| {
        vec![Failed {
            seed,
            check: "run".to_owned(),
            peer: None,
            virtual_seconds: None,
            what,
        }]
    };
    let experiment = match Experiment::parse(text, &settings) {
        Ok(experiment) => experiment,
        Err(problems) => {
            return failed(
                problems
                    .first()
                    .map_or_else(String::new, ToString::to_string),
            );
        }
    };
    match attempt(&experiment) {
        Err(reason) => failed(reason),
        Ok(outcome) => outcome
            .checks
            .failed
            .into_iter()
            .map(|failure| Failed {
                seed,
                check: failure.check,
                peer: failure.peer,
                virtual_seconds: Some(failure.virtual_seconds),
                what: failure.what,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_goes_on_where_it_stopped_and_knows_its_own_state() {
        let text = "[federation]\nname = \"t\"\nrounds = 2\n[topology]\nkind = \"complete\"\n[world]\npeers = 3\n\
                    [world.trainer]\nkind = \"quadratic\"\n";
        let folder = std::env::temp_dir().join(format!("kith-campaign-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("campaign.json");
        let experiment = Experiment::parse(text, &[]).unwrap();
        let fresh = |from, to| Campaign::new(&experiment, "1", None, from, to);
        let mut first = fresh(10, 30);
        assert_eq!(first.resume(&path), Ok(false));
        first.run(text, &[], 2, &path, &mut |_| {}).unwrap();
        assert_eq!(
            (first.seeds(), first.failed(), first.bound()),
            (20, 0, Some(0.15))
        );
        let mut second = fresh(10, 35);
        assert_eq!(second.resume(&path), Ok(true));
        assert_eq!(second.next, 30);
        second.run(text, &[], 1, &path, &mut |_| {}).unwrap();
        assert_eq!(second.seeds(), 25);
        assert!(
            fresh(11, 35)
                .resume(&path)
                .unwrap_err()
                .contains("first seed 10")
        );
        assert!(
            Campaign {
                version: "2".to_owned(),
                ..fresh(10, 35)
            }
            .resume(&path)
            .unwrap_err()
            .contains("version 1")
        );
        let mut broken = fresh(0, 6);
        let limit = vec![("world.limit_seconds".to_owned(), toml::Value::Float(0.0001))];
        broken.run(text, &limit, 2, &path, &mut |_| {}).unwrap();
        assert_eq!((broken.failed(), broken.bound()), (6, None), "{broken:?}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
