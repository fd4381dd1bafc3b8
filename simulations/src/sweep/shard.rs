//! A shard of a sweep: every N-th of its runs, so that several machines share the work.
//!
//! Each shard writes its runs' results into one shared folder, and the list of its runs into
//! `shards/K-of-N.json` there, so that no two of them write one file. [`join`] makes the sweep's
//! list of theirs. Shards are of runs, and not of cells: a sweep of few cells and many seeds can be
//! divided as well.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::RUNS_MAX;
use super::manifest::Manifest;
use crate::replace::replace;

/// Folder of the shards' lists in a sweep's folder.
pub const SHARDS: &str = "shards";

/// Which part of a sweep: `K/N`, the K-th of N, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    number: usize,
    of: usize,
}

/// Why shards cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The text is no shard.
    #[error("expected K/N with K from 1 to N and N up to {RUNS_MAX}, for example 1/3, found {0:?}")]
    Text(String),
    /// A list cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The list, or the folder of the lists.
        path: PathBuf,
        /// What the operating system said, or why it is no list.
        source: io::Error,
    },
    /// The folder holds shards of another sweep.
    #[error(
        "{} is of another sweep than shard {shard}: its {what} differs; choose another folder with --out, or remove {} if it is left \
         over from an earlier sweep",
        path.display(), path.parent().unwrap_or(Path::new("")).display()
    )]
    Differs {
        /// The list that is there.
        path: PathBuf,
        /// The shard that it was compared with.
        shard: Shard,
        /// What differs.
        what: &'static str,
    },
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Shard, ShardError> {
        let parts = text
            .split_once('/')
            .and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        parts
            .filter(|(number, of)| (1..=*of).contains(number) && *of <= RUNS_MAX)
            .map(|(number, of)| Shard { number, of })
            .ok_or_else(|| ShardError::Text(text.to_owned()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.of)
    }
}

impl Shard {
    /// Whether the run at this place, counted from 0, is the shard's.
    pub fn has(&self, place: usize) -> bool {
        place % self.of == self.number - 1
    }

    fn file(&self, folder: &Path) -> PathBuf {
        let Shard { number, of } = self;
        folder.join(SHARDS).join(format!("{number}-of-{of}.json"))
    }
}

/// What a shard leaves besides its results.
#[derive(Serialize, Deserialize)]
struct List {
    shard: Shard,
    /// The experiment's text.
    experiment: String,
    /// The sweep, with this shard's runs alone.
    manifest: Manifest,
}

impl List {
    fn read(path: &Path) -> Result<List, ShardError> {
        std::fs::read(path)
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other))
            .map_err(|source| failed(path, source))
    }

    /// What shows that another list is of another sweep.
    fn difference(&self, other: &List) -> Option<&'static str> {
        let (own, their) = (&self.manifest, &other.manifest);
        let parts = [
            (self.shard.of != other.shard.of, "number of shards"),
            (self.experiment != other.experiment, "experiment file"),
            (own.command != their.command, "command"),
            (own.seeds != their.seeds, "list of seeds"),
            (own.values != their.values, "grid"),
        ];
        parts
            .iter()
            .find_map(|(differs, what)| differs.then_some(*what))
    }
}

fn failed(path: &Path, source: io::Error) -> ShardError {
    ShardError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The lists in a sweep's folder, in the order of the shards; none if there are no shards.
fn lists(folder: &Path) -> Result<Vec<(PathBuf, List)>, ShardError> {
    let place = folder.join(SHARDS);
    let entries = match place.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| failed(&place, error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(&place, error))?.path();
        // A list that is just being written has another name.
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let list = List::read(&path)?;
            found.push((path, list));
        }
    }
    found.sort_by_key(|(_, list)| list.shard);
    Ok(found)
}

/// Writes the list of a shard's runs into the sweep's folder.
///
/// # Errors
/// When the folder holds shards of another sweep, or cannot be written.
pub fn write(
    folder: &Path,
    shard: Shard,
    experiment: &str,
    manifest: &Manifest,
) -> Result<(), ShardError> {
    let list = List {
        shard,
        experiment: experiment.to_owned(),
        manifest: manifest.clone(),
    };
    for (path, other) in lists(folder)? {
        if let Some(what) = list.difference(&other).filter(|_| other.shard != shard) {
            return Err(ShardError::Differs { path, shard, what });
        }
    }
    let path = shard.file(folder);
    std::fs::create_dir_all(folder.join(SHARDS))
        .and_then(|()| replace(&path, &serde_json::to_vec_pretty(&list)?))
        .map_err(|source| failed(&path, source))
}

/// Makes the sweep's list out of its shards' lists, if there are any; the shards whose lists are not
/// there.
///
/// # Errors
/// When the lists are of different sweeps, or a file cannot be read or written.
pub fn join(folder: &Path) -> Result<Vec<Shard>, ShardError> {
    let found = lists(folder)?;
    let Some((_, first)) = found.first() else {
        return Ok(Vec::new());
    };
    for (path, other) in &found {
        if let Some(what) = first.difference(other) {
            return Err(ShardError::Differs {
                path: path.clone(),
                shard: first.shard,
                what,
            });
        }
    }
    let of = first.shard.of;
    let length = found.iter().map(|(_, list)| list.manifest.runs.len()).max();
    let runs = (0..length.unwrap_or(0))
        .flat_map(|place| found.iter().map(move |(_, list)| (place, list)))
        .filter_map(|(place, list)| list.manifest.runs.get(place).cloned());
    let whole = Manifest {
        runs: runs.collect(),
        ..first.manifest.clone()
    };
    whole
        .write(folder)
        .and_then(|()| replace(&folder.join("sweep.toml"), first.experiment.as_bytes()))
        .map_err(|source| failed(folder, source))?;
    let is_there = |shard: &Shard| found.iter().any(|(_, list)| list.shard == *shard);
    Ok((1..=of)
        .map(|number| Shard { number, of })
        .filter(|shard| !is_there(shard))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_in_exactly_one_shard() {
        let shards = ["1/3", "2/3", "3/3"].map(|text| text.parse::<Shard>().unwrap());
        for place in 0..10 {
            let having = shards.iter().filter(|shard| shard.has(place)).count();
            assert_eq!(having, 1, "run {place}");
        }
        assert_eq!(shards[1].to_string(), "2/3");
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in [
            "0/3", "4/3", "1/0", "0/0", "1", "1/", "/3", "a/b", "-1/3", "1/3/4", "1/100001",
        ] {
            let told = text.parse::<Shard>().unwrap_err().to_string();
            assert!(told.contains("expected K/N"), "{text}: {told}");
        }
    }
}
