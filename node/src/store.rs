//! What a peer must not forget: its round, what it promised to send, its checkpoints and its events.
//!
//! One transactional file (`state/kith.redb`) beside the checkpoint files. Everything that [`Store::persist`] returned from is
//! on disk. A second program on the same folder is refused by a file lock, which ends with the process however that ends.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kith_consensus::Digest;
use kith_gossip::{Checkpoint, Intent, Record, Stored};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, CheckpointError, Shapes};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Round to hash of its checkpoint's file.
const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
const INTENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("intents");
const EVENTS: TableDefinition<'_, u64, &str> = TableDefinition::new("events");

const FEDERATION: &str = "federation";
const SEQUENCE: &str = "sequence";

/// Checkpoints kept. The newest may be damaged, so its predecessor stays.
const GENERATIONS: usize = 2;
/// Events kept; the oldest go first. About 20 MB (guess: a year of a round an hour).
const EVENTS_MAX: u64 = 100_000;
/// Memory for redb's pages; its own default is 1 GiB.
const CACHE_BYTES: usize = 4 << 20;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another program has it open.
    #[error("the state folder {} is in use by {holder}; stop that one first (`kith status` tells what it does), or give this peer a folder of its own", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Which process, if it says so.
        holder: String,
    },
    /// It belongs to another federation.
    #[error("the state folder {} belongs to federation {found}, the charter is federation {expected}; use another state folder for another charter", path.display())]
    OtherFederation {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// What the charter says.
        expected: Digest,
    },
    /// The file system failed.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The database failed.
    #[error("the store in {} failed: {why}", path.display())]
    Database {
        /// The folder.
        path: PathBuf,
        /// What it said.
        why: String,
    },
    /// No checkpoint can be read.
    #[error("none of the checkpoints can be read ({why}); move {} away to begin anew, or restore it from a backup", path.display())]
    NoCheckpoint {
        /// The folder.
        path: PathBuf,
        /// What is wrong with each.
        why: String,
    },
    /// A checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// What a peer resumes with.
#[derive(Debug, Default)]
pub struct Resumed {
    /// The last completed round that can be read.
    pub checkpoint: Option<Checkpoint>,
    /// What was promised for the round after it.
    pub intent: Option<Intent>,
    /// What a person should know, for example a damaged file.
    pub warnings: Vec<String>,
}

/// A peer's durable state, open and locked.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    checkpoints: PathBuf,
    database: Database,
    shapes: Shapes,
    federation: Digest,
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct StoredIntent {
    sequence: u64,
    state: Digest,
    #[serde(with = "serde_bytes")]
    announcement: Vec<u8>,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    #[serde(with = "serde_bytes")]
    own: Vec<u8>,
    /// Empty where nothing is carried, and in files of before anything could be.
    #[serde(default)]
    carried: BTreeMap<String, serde_bytes::ByteBuf>,
}

impl Store {
    /// Opens the state in `folder`, or begins it; checkpoints go to `checkpoints`.
    ///
    /// # Errors
    /// When another program has it open, it belongs to another federation, or it cannot be read.
    pub fn open(folder: &Path, checkpoints: &Path, shapes: Shapes, federation: Digest) -> Result<Store, StoreError> {
        for path in [folder, checkpoints] {
            std::fs::create_dir_all(path).map_err(|source| StoreError::Io { act: "create", path: path.to_owned(), source })?;
        }
        let lock = lock(folder)?;
        let failed = |why: String| StoreError::Database { path: folder.to_owned(), why };
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(folder.join("kith.redb"))
            .map_err(|error| failed(error.to_string()))?;
        let store =
            Store { folder: folder.to_owned(), checkpoints: checkpoints.to_owned(), database, shapes, federation, _lock: lock };
        store.claim_federation()?;
        Ok(store)
    }

    fn failed(&self, error: impl std::fmt::Display) -> StoreError {
        StoreError::Database { path: self.folder.clone(), why: error.to_string() }
    }

    fn claim_federation(&self) -> Result<(), StoreError> {
        let found = self.transact(|transaction| {
            transaction.open_table(CHECKPOINTS)?;
            transaction.open_table(INTENTS)?;
            transaction.open_table(EVENTS)?;
            let mut meta = transaction.open_table(META)?;
            let found = meta.get(FEDERATION)?.map(|value| value.value().to_vec());
            if found.is_none() {
                meta.insert(FEDERATION, self.federation.0.as_slice())?;
            }
            Ok(found)
        })?;
        match found {
            Some(found) if found != self.federation.0 => Err(StoreError::OtherFederation {
                path: self.folder.clone(),
                found: <[u8; 32]>::try_from(found).map_or("of another kind".to_owned(), |bytes| Digest(bytes).to_string()),
                expected: self.federation,
            }),
            _ => Ok(()),
        }
    }

    /// One durable transaction.
    fn transact<T>(&self, work: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        let value = work(&transaction).map_err(|error| self.failed(error))?;
        transaction.commit().map_err(|error| self.failed(error))?;
        Ok(value)
    }

    /// Makes a record durable; returns what to answer the peer.
    ///
    /// # Errors
    /// When the disk or the database fails. The peer must not go on then: it could forget what it promised.
    pub fn persist(&self, record: &Record) -> Result<Stored, StoreError> {
        match record {
            Record::Intent(intent) => {
                self.persist_intent(intent)?;
                Ok(Stored::Intent { round: intent.round })
            }
            Record::Checkpoint(checkpoint) => {
                self.persist_checkpoint(checkpoint)?;
                Ok(Stored::Checkpoint { round: checkpoint.round })
            }
        }
    }

    fn persist_intent(&self, intent: &Intent) -> Result<(), StoreError> {
        let stored = StoredIntent {
            sequence: intent.sequence,
            state: intent.state,
            announcement: intent.announcement.to_vec(),
            body: intent.body.to_vec(),
            own: checkpoint::values_to_bytes(&intent.own),
            carried: (intent.carried.iter())
                .map(|(name, values)| (name.clone(), checkpoint::values_to_bytes(values).into()))
                .collect(),
        };
        let bytes = serde_cbor::to_vec(&stored).map_err(|error| self.failed(error))?;
        self.transact(|transaction| {
            transaction.open_table(INTENTS)?.insert(intent.round, bytes.as_slice())?;
            transaction.open_table(META)?.insert(SEQUENCE, intent.sequence.to_le_bytes().as_slice())?;
            Ok(())
        })
    }

    /// File first, then its hash: a crash between the two leaves a file that nobody asks for.
    fn persist_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let digest = checkpoint::write(&self.checkpoints, &self.shapes, self.federation, checkpoint)?;
        let removed = self.transact(|transaction| {
            let mut table = transaction.open_table(CHECKPOINTS)?;
            table.insert(checkpoint.round, digest.0.as_slice())?;
            let mut removed = Vec::new();
            while table.len()? > GENERATIONS as u64 {
                removed.extend(table.pop_first()?.map(|(round, _)| round.value()));
            }
            let oldest = table.first()?.map_or(0, |(round, _)| round.value());
            // An intent older than the oldest checkpoint can never be needed again.
            transaction.open_table(INTENTS)?.retain(|round, _| round >= oldest)?;
            Ok(removed)
        })?;
        for round in removed {
            // Left behind it only costs space.
            let _ = std::fs::remove_file(self.checkpoints.join(checkpoint::file_name(round)));
        }
        Ok(())
    }

    /// The last completed round that can be read, and what was promised after it. A damaged newest checkpoint is reported
    /// and its predecessor used.
    ///
    /// # Errors
    /// When there are checkpoints and none can be read: beginning anew in silence would break promises.
    pub fn resume(&self) -> Result<Resumed, StoreError> {
        let transaction = self.database.begin_read().map_err(|error| self.failed(error))?;
        let failed = |error: redb::Error| self.failed(error);
        let known = read_checkpoints(&transaction).map_err(failed)?;
        let mut warnings = Vec::new();
        let mut found = None;
        for (round, digest) in known.iter().rev() {
            match checkpoint::read(&self.checkpoints, &self.shapes, self.federation, *round, *digest) {
                Ok(checkpoint) => {
                    found = Some(checkpoint);
                    break;
                }
                Err(error) => warnings.push(error.to_string()),
            }
        }
        if found.is_none() && !known.is_empty() {
            return Err(StoreError::NoCheckpoint { path: self.checkpoints.clone(), why: warnings.join("; ") });
        }
        let round = found.as_ref().map_or(0, |checkpoint| checkpoint.round);
        let intents = read_intents(&transaction).map_err(failed)?;
        // The one that is due, or else the newest beyond it: a promise that must not be contradicted.
        let due = intents.iter().find(|(of, _)| *of == round);
        let promised = due.or_else(|| intents.iter().filter(|(of, _)| *of > round).max_by_key(|(of, _)| *of));
        let intent = promised.map(|(of, bytes)| intent_from_bytes(*of, bytes)).transpose().map_err(|why| self.failed(why))?;
        Ok(Resumed { checkpoint: found, intent, warnings })
    }

    /// Appends lines to the event log, durably with the next [`Store::persist`] or [`Store::flush`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn append_events(&self, lines: &[String]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        transaction.set_durability(redb::Durability::None).map_err(|error| self.failed(error))?;
        append(&transaction, lines).map_err(|error| self.failed(error))?;
        transaction.commit().map_err(|error| self.failed(error))
    }

    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// When the database fails.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.transact(|_| Ok(()))
    }

    /// The last `count` lines of the event log, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn events(&self, count: usize) -> Result<Vec<String>, StoreError> {
        let transaction = self.database.begin_read().map_err(|error| self.failed(error))?;
        let read = || -> Result<Vec<String>, redb::Error> {
            let table = transaction.open_table(EVENTS)?;
            let newest = table.iter()?.rev().take(count).map(|entry| Ok(entry?.1.value().to_owned()));
            newest.collect()
        };
        let mut lines = read().map_err(|error| self.failed(error))?;
        lines.reverse();
        Ok(lines)
    }
}

/// Opens the state in `folder` only to read its event log.
///
/// # Errors
/// When a running peer has it open, or there is none.
pub fn read_events(folder: &Path, count: usize) -> Result<Vec<String>, StoreError> {
    let path = folder.join("kith.redb");
    if !path.exists() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no peer has run here");
        return Err(StoreError::Io { act: "read", path, source });
    }
    let lock = lock(folder)?;
    let failed = |why: String| StoreError::Database { path: folder.to_owned(), why };
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|error| failed(error.to_string()))?;
    let store = Store {
        folder: folder.to_owned(),
        checkpoints: folder.to_owned(),
        database,
        shapes: Shapes::new([]),
        federation: Digest::default(),
        _lock: lock,
    };
    store.events(count)
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let io = |act, source| StoreError::Io { act, path: path.clone(), source };
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(|source| io("open", source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = (&mut file).take(32).read_to_string(&mut text);
            let holder = text.trim().parse::<u32>().map_or("another process".to_owned(), |pid| format!("process {pid}"));
            return Err(StoreError::InUse { path: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io("lock", source)),
    }
    // Only for the message above; the lock itself is what counts.
    let written =
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| writeln!(file, "{}", std::process::id()));
    written.map_err(|source| io("write", source))?;
    Ok(file)
}

fn append(transaction: &redb::WriteTransaction, lines: &[String]) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(EVENTS)?;
    let next = table.last()?.map_or(0, |(index, _)| index.value() + 1);
    for (index, line) in (next..).zip(lines) {
        table.insert(index, line.as_str())?;
    }
    while table.len()? > EVENTS_MAX {
        table.pop_first()?;
    }
    Ok(())
}

fn read_checkpoints(transaction: &redb::ReadTransaction) -> Result<Vec<(u64, Digest)>, redb::Error> {
    let table = transaction.open_table(CHECKPOINTS)?;
    let mut known = Vec::new();
    for entry in table.iter()? {
        let (round, digest) = entry?;
        // A hash of another length matches no file.
        known.push((round.value(), Digest(digest.value().try_into().unwrap_or_default())));
    }
    Ok(known)
}

fn read_intents(transaction: &redb::ReadTransaction) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let table = transaction.open_table(INTENTS)?;
    table.iter()?.map(|entry| entry.map(|(round, bytes)| (round.value(), bytes.value().to_vec())).map_err(Into::into)).collect()
}

fn intent_from_bytes(round: u64, bytes: &[u8]) -> Result<Intent, String> {
    let stored: StoredIntent = serde_cbor::from_slice(bytes).map_err(|error| format!("the intent of round {round}: {error}"))?;
    Ok(Intent {
        round,
        sequence: stored.sequence,
        state: stored.state,
        announcement: stored.announcement.into(),
        body: Arc::new(stored.body),
        own: Arc::new(checkpoint::values_from_bytes(&stored.own)),
        carried: (stored.carried.into_iter())
            .map(|(name, values)| (name, Arc::new(checkpoint::values_from_bytes(&values))))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Result<Store, StoreError> {
        let shapes = Shapes::new([("weight".to_owned(), vec![3])]);
        Store::open(&folder.join("state"), &folder.join("checkpoints"), shapes, Digest::of(b"federation"))
    }

    fn checkpoint(round: u64) -> Record {
        let parameters = Arc::new(vec![round as f32; 3]);
        Record::Checkpoint(Box::new(Checkpoint {
            round,
            sequence: round,
            roster: kith_gossip::Roster::new(Vec::new()),
            parameters,
            replicas: BTreeMap::new(),
            carried: BTreeMap::new(),
            history: kith_gossip::History::default(),
        }))
    }

    fn intent(round: u64) -> Intent {
        Intent {
            round,
            sequence: round + 1,
            state: Digest::of(b"state"),
            announcement: vec![1, 2].into(),
            body: Arc::new(vec![3]),
            own: Arc::new(vec![0.1, f32::MIN_POSITIVE, -0.0]),
            carried: BTreeMap::from([("memory".to_owned(), Arc::new(vec![0.5, -1.5]))]),
        }
    }

    #[test]
    fn what_was_persisted_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        assert!(store.resume().unwrap().checkpoint.is_none());
        store.persist(&Record::Intent(Box::new(intent(0)))).unwrap();
        assert_eq!(store.persist(&checkpoint(1)).unwrap(), Stored::Checkpoint { round: 1 });
        assert_eq!(store.persist(&Record::Intent(Box::new(intent(1)))).unwrap(), Stored::Intent { round: 1 });
        drop(store);
        let resumed = open(folder.path()).unwrap().resume().unwrap();
        assert_eq!(resumed.checkpoint.unwrap().round, 1);
        assert_eq!(resumed.intent, Some(intent(1)));
        assert!(resumed.warnings.is_empty());
    }

    #[test]
    fn a_damaged_newest_checkpoint_falls_back_to_its_predecessor_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        for round in 1..=4 {
            store.persist(&checkpoint(round)).unwrap();
        }
        let files = std::fs::read_dir(folder.path().join("checkpoints")).unwrap().count();
        assert_eq!(files, GENERATIONS);
        std::fs::write(folder.path().join("checkpoints").join(checkpoint::file_name(4)), b"rubbish").unwrap();
        let resumed = store.resume().unwrap();
        assert_eq!(resumed.checkpoint.unwrap().round, 3);
        assert!(resumed.warnings[0].contains("round-000004.safetensors is damaged"));
        std::fs::remove_file(folder.path().join("checkpoints").join(checkpoint::file_name(3))).unwrap();
        assert!(matches!(store.resume(), Err(StoreError::NoCheckpoint { .. })));
    }

    #[test]
    fn a_second_start_and_another_federation_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
        drop(store);
        let shapes = Shapes::new([("weight".to_owned(), vec![3])]);
        let other = Store::open(&folder.path().join("state"), &folder.path().join("checkpoints"), shapes, Digest::of(b"another"));
        assert!(matches!(other, Err(StoreError::OtherFederation { .. })));
    }

    #[test]
    fn events_come_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        store.append_events(&["one".to_owned(), "two".to_owned()]).unwrap();
        store.append_events(&["three".to_owned()]).unwrap();
        store.flush().unwrap();
        drop(store);
        assert_eq!(read_events(&folder.path().join("state"), 2).unwrap(), ["two", "three"]);
    }
}
