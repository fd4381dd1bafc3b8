//! The state that a peer must not forget: its round, its promises, its checkpoints and its events.
//!
//! One transactional file (`state/kith.redb`), made and opened in `database`, next to the
//! checkpoint files and the vectors of a promise (`vectors`). Everything that [`Store::persist`]
//! returned from is on disk. A second program on the same folder is refused by a file lock, which
//! ends with the process however that ends. `backup` copies all of it and puts a copy back.

pub(crate) mod backup;
mod database;
mod folder;
mod vectors;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use kith_consensus::{Digest, Genesis};
use kith_gossip::{Checkpoint, Intent, Record, Stored};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize};

use self::vectors::{Contents, Vectors};
use crate::checkpoint::{self, CheckpointError, Shapes};
use crate::private;
use crate::private::can_be_made;

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
/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another program has it open.
    #[error("the state folder {} is in use by {holder}; stop that one first (`kith status` tells what it does), or give this peer a folder of its own", path.display())]
    InUse {
        /// Path of the folder.
        path: PathBuf,
        /// The process that has it open, if it says so.
        holder: String,
    },
    /// It belongs to another federation.
    #[error("the state folder {} belongs to federation {found}, the charter is federation {expected}; use another state folder for another charter", path.display())]
    OtherFederation {
        /// Path of the folder.
        path: PathBuf,
        /// The federation that it belongs to.
        found: String,
        /// The charter's federation.
        expected: Genesis,
    },
    /// The file system failed.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// The action as a verb.
        act: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The database failed.
    #[error("the store in {} failed: {why}", path.display())]
    Database {
        /// Path of the folder.
        path: PathBuf,
        /// The database's message.
        why: String,
    },
    /// The transactional file is damaged or gone, and there is something to lose.
    #[error(
        "the state cannot be used: {} is damaged: {why}; put a backup back with `kith restore`, or move {} and {} away to begin anew \
         (the neighbours then tell this peer which rounds it has published)",
        path.display(), state.display(), checkpoints.display()
    )]
    Damaged {
        /// Path of the transactional file.
        path: PathBuf,
        /// Path of the state folder.
        state: PathBuf,
        /// Path of the checkpoints' folder.
        checkpoints: PathBuf,
        /// How the damage was noticed.
        why: String,
    },
    /// No checkpoint can be read.
    #[error("none of the checkpoints can be read ({why}); put a backup back with `kith restore`, or move {} away to begin anew", path.display())]
    NoCheckpoint {
        /// Path of the folder.
        path: PathBuf,
        /// What is wrong with each.
        why: String,
    },
    /// A checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl StoreError {
    /// What the operating system said, if that is the cause: no space, no permission, a broken
    /// disk.
    pub fn cause(&self) -> Option<&std::io::Error> {
        match self {
            StoreError::Io { source, .. }
            | StoreError::Checkpoint(CheckpointError::Io { source, .. }) => Some(source),
            _ => None,
        }
    }
}

/// What a peer resumes with.
#[derive(Debug, Default)]
pub struct Resumed {
    /// The last completed round that can be read.
    pub checkpoint: Option<Checkpoint>,
    /// The promise for the round after it.
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
    federation: Genesis,
    /// What the operating system said first. Afterwards the database only says that it failed
    /// before.
    cause: OnceLock<(std::io::ErrorKind, String)>,
    /// Warnings from when it was opened.
    warnings: Vec<String>,
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct StoredIntent {
    sequence: u64,
    state: Digest,
    #[serde(with = "serde_bytes")]
    announcement: Vec<u8>,
    /// Large vectors are in a file; the three below are empty then.
    #[serde(default)]
    vectors: Option<Contents>,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    #[serde(with = "serde_bytes")]
    own: Vec<u8>,
    /// Empty if nothing is carried, and in files from before that was possible.
    #[serde(default)]
    carried: BTreeMap<String, serde_bytes::ByteBuf>,
}

impl Store {
    /// Opens the state in `folder`, or begins it; checkpoints go to `checkpoints`.
    ///
    /// # Errors
    /// When another program has it open, it belongs to another federation, or it cannot be read.
    pub fn open(
        folder: &Path,
        checkpoints: &Path,
        shapes: Shapes,
        federation: Genesis,
    ) -> Result<Store, StoreError> {
        let mut warnings = Vec::new();
        for path in [folder, checkpoints] {
            let made = private::create_folder(path);
            warnings.extend(made.map_err(|source| StoreError::Io {
                act: "create",
                path: path.to_owned(),
                source,
            })?);
        }
        let lock = lock(folder)?;
        let (database, more) =
            database::open(folder, checkpoints, |database| begin(database, federation))?;
        warnings.extend(more);
        let store = Store {
            folder: folder.to_owned(),
            checkpoints: checkpoints.to_owned(),
            database,
            shapes,
            federation,
            cause: OnceLock::new(),
            warnings,
            _lock: lock,
        };
        store.check_federation()?;
        store.remove_leftovers()?;
        store.remove_old_snapshots()?;
        Ok(store)
    }

    /// Whether the state in `folder` could be resumed or begun; the texts are the warnings of a
    /// start. Creates nothing.
    ///
    /// # Errors
    /// What [`Store::open`] or [`Store::resume`] would fail with.
    pub fn look(
        folder: &Path,
        checkpoints: &Path,
        shapes: Shapes,
        federation: Genesis,
    ) -> Result<Vec<String>, StoreError> {
        if folder.join(database::FILE).exists() {
            return Ok(Store::open(folder, checkpoints, shapes, federation)?
                .found(false)?
                .warnings);
        }
        database::check_absent(folder, checkpoints)?;
        for path in [folder, checkpoints] {
            can_be_made(path).map_err(|source| StoreError::Io {
                act: "create",
                path: path.to_owned(),
                source,
            })?;
        }
        Ok(Vec::new())
    }

    /// Opens a state whatever its federation is, to copy it or to read its log; nothing is begun or
    /// resumed with it.
    fn unchecked(folder: &Path, checkpoints: &Path) -> Result<Store, StoreError> {
        let lock = lock(folder)?;
        let damaged = |why| database::damaged(folder, checkpoints, why);
        Ok(Store {
            folder: folder.to_owned(),
            checkpoints: checkpoints.to_owned(),
            database: database::existing(folder)?.map_err(damaged)?,
            shapes: Shapes::new([]),
            federation: Genesis::default(),
            cause: OnceLock::new(),
            warnings: Vec::new(),
            _lock: lock,
        })
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        let path = self.folder.join(database::FILE);
        match error.into() {
            redb::Error::Io(source) => {
                let _ = self.cause.set((source.kind(), source.to_string()));
                StoreError::Io {
                    act: "write",
                    path,
                    source,
                }
            }
            redb::Error::PreviousIo if self.cause.get().is_some() => {
                let (kind, text) = self
                    .cause
                    .get()
                    .cloned()
                    .unwrap_or((std::io::ErrorKind::Other, String::new()));
                StoreError::Io {
                    act: "write",
                    path,
                    source: std::io::Error::new(kind, text),
                }
            }
            other => StoreError::Database {
                path: self.folder.clone(),
                why: other.to_string(),
            },
        }
    }

    fn unreadable(&self, why: String) -> StoreError {
        StoreError::Database {
            path: self.folder.clone(),
            why,
        }
    }

    fn check_federation(&self) -> Result<(), StoreError> {
        let found = self.transact(|transaction| {
            let meta = transaction.open_table(META)?;
            Ok(meta
                .get(FEDERATION)?
                .map(|value| value.value().to_vec())
                .unwrap_or_default())
        })?;
        if found == self.federation.0.0 {
            return Ok(());
        }
        Err(StoreError::OtherFederation {
            path: self.folder.clone(),
            found: <[u8; 32]>::try_from(found).map_or("of another kind".to_owned(), |bytes| {
                Digest(bytes).to_string()
            }),
            expected: self.federation,
        })
    }

    /// A crash between the file and the record that names it leaves an unused file.
    fn remove_leftovers(&self) -> Result<(), StoreError> {
        let named: Vec<PathBuf> = self
            .intents()?
            .iter()
            .map(|(round, _)| vectors::path(&self.folder, *round))
            .collect();
        for path in folder::files(&self.folder.join(vectors::FOLDER), |_| true)? {
            if !named.contains(&path) {
                // If left behind, it only costs space.
                let _ = std::fs::remove_file(path);
            }
        }
        // A file that was being written when the program was killed is as large as the model.
        for path in folder::files(&self.checkpoints, checkpoint::is_unfinished)? {
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    /// Rounds and records of promises, oldest first.
    fn intents(&self) -> Result<Vec<(u64, StoredIntent)>, StoreError> {
        let transaction = self
            .database
            .begin_read()
            .map_err(|error| self.failed(error))?;
        let records = read_intents(&transaction).map_err(|error| self.failed(error))?;
        let read = |(round, bytes): (u64, Vec<u8>)| {
            let record = serde_cbor::from_slice(&bytes);
            Ok((
                round,
                record.map_err(|error| {
                    self.unreadable(format!("the intent of round {round}: {error}"))
                })?,
            ))
        };
        records.into_iter().map(read).collect()
    }

    /// One durable transaction.
    fn transact<T>(
        &self,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let transaction = self
            .database
            .begin_write()
            .map_err(|error| self.failed(error))?;
        let value = work(&transaction).map_err(|error| self.failed(error))?;
        transaction.commit().map_err(|error| self.failed(error))?;
        Ok(value)
    }

    /// Makes a record durable; returns what to answer the peer.
    ///
    /// # Errors
    /// When the disk or the database fails. The peer must not continue then: it could forget its
    /// promise.
    pub fn persist(&self, record: &Record) -> Result<Stored, StoreError> {
        match record {
            Record::Intent(intent) => {
                self.persist_intent(intent)?;
                Ok(Stored::Intent {
                    round: intent.round,
                })
            }
            Record::Checkpoint(checkpoint) => {
                self.persist_checkpoint(checkpoint)?;
                Ok(Stored::Checkpoint {
                    round: checkpoint.round,
                })
            }
        }
    }

    /// Only the newest promise is kept: an older one can no longer be sent, and says nothing more
    /// than this one.
    fn persist_intent(&self, intent: &Intent) -> Result<(), StoreError> {
        let mut stored = StoredIntent {
            sequence: intent.sequence,
            state: intent.state,
            announcement: intent.announcement.to_vec(),
            vectors: None,
            body: Vec::new(),
            own: Vec::new(),
            carried: BTreeMap::new(),
        };
        if vectors::are_large(intent) {
            let path = vectors::path(&self.folder, intent.round);
            let written = vectors::write(&self.folder, intent);
            stored.vectors = Some(written.map_err(|source| StoreError::Io {
                act: "write",
                path,
                source,
            })?);
        } else {
            stored.body = intent.body.to_vec();
            stored.own = checkpoint::values_to_bytes(&intent.own);
            let bytes = |values: &Arc<Vec<f32>>| checkpoint::values_to_bytes(values).into();
            stored.carried = intent
                .carried
                .iter()
                .map(|(name, values)| (name.clone(), bytes(values)))
                .collect();
        }
        self.replace_intents(intent.round, &stored)
    }

    fn replace_intents(&self, round: u64, stored: &StoredIntent) -> Result<(), StoreError> {
        let bytes =
            serde_cbor::to_vec(stored).map_err(|error| self.unreadable(error.to_string()))?;
        let superseded = self.transact(|transaction| {
            let mut intents = transaction.open_table(INTENTS)?;
            let mut superseded = Vec::new();
            intents.retain(|of, _| {
                superseded.push(of);
                false
            })?;
            intents.insert(round, bytes.as_slice())?;
            transaction
                .open_table(META)?
                .insert(SEQUENCE, stored.sequence.to_le_bytes().as_slice())?;
            Ok(superseded)
        })?;
        for of in superseded.into_iter().filter(|of| *of != round) {
            self.remove_vectors(of);
        }
        Ok(())
    }

    fn remove_vectors(&self, round: u64) {
        // There may be none; if left behind, it only costs space.
        let _ = std::fs::remove_file(vectors::path(&self.folder, round));
    }

    /// File first, then its hash: a crash between the two leaves an unused file. The promise of the
    /// round that led here has been mixed: its record stays, so that it is not contradicted, and
    /// its vectors are removed. The oldest checkpoint makes room before the one of `round` is
    /// written, so that with the promise there are never more than three models on disk.
    fn make_room(&self, round: u64) -> Result<(), StoreError> {
        let transaction = self
            .database
            .begin_read()
            .map_err(|error| self.failed(error))?;
        let known = read_checkpoints(&transaction).map_err(|error| self.failed(error))?;
        // Not those that this one replaces: the peer may have gone back behind a damaged one.
        let before = known.iter().rev().filter(|(known, _)| *known < round);
        for (round, _) in before.skip(GENERATIONS - 1) {
            let _ = std::fs::remove_file(self.checkpoints.join(checkpoint::file_name(*round)));
        }
        Ok(())
    }

    fn persist_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.make_room(checkpoint.round)?;
        let digest =
            checkpoint::write(&self.checkpoints, &self.shapes, self.federation, checkpoint)?;
        let (removed, promised) = self.transact(|transaction| {
            let mut table = transaction.open_table(CHECKPOINTS)?;
            table.insert(checkpoint.round, digest.0.as_slice())?;
            let mut removed = Vec::new();
            while table.len()? > GENERATIONS as u64 {
                removed.extend(table.pop_first()?.map(|(round, _)| round.value()));
            }
            let intents = transaction.open_table(INTENTS)?;
            let promised = intents
                .range(..checkpoint.round)?
                .map(|entry| Ok(entry?.0.value()));
            let promised: Vec<u64> = promised.collect::<Result<_, redb::StorageError>>()?;
            Ok((removed, promised))
        })?;
        for round in removed {
            // If left behind, it only costs space.
            let _ = std::fs::remove_file(self.checkpoints.join(checkpoint::file_name(round)));
        }
        promised
            .into_iter()
            .for_each(|round| self.remove_vectors(round));
        Ok(())
    }

    /// The last completed round that can be read, and the promise after it. A damaged newest
    /// checkpoint is reported and its predecessor used. If somebody removed all checkpoints, the
    /// peer begins anew, and says nothing in the rounds for which it has a promise.
    ///
    /// # Errors
    /// When there are checkpoints and none can be read: beginning anew silently would break
    /// promises.
    pub fn resume(&self) -> Result<Resumed, StoreError> {
        self.found(true)
    }

    fn found(&self, begins: bool) -> Result<Resumed, StoreError> {
        let mut warnings = self.warnings.clone();
        let mut known = {
            let transaction = self
                .database
                .begin_read()
                .map_err(|error| self.failed(error))?;
            read_checkpoints(&transaction).map_err(|error| self.failed(error))?
        };
        let gone = |round: u64| !self.checkpoints.join(checkpoint::file_name(round)).exists();
        if !known.is_empty() && known.iter().all(|(round, _)| gone(*round)) {
            if begins {
                self.forget_checkpoints()?;
            }
            let rounds = known.last().map_or(0, |(round, _)| *round);
            warnings.push(format!(
                "the checkpoints of {rounds} completed rounds are no longer in {}: beginning anew",
                self.checkpoints.display()
            ));
            known.clear();
        }
        let mut found = None;
        for (round, digest) in known.iter().rev() {
            match checkpoint::read(
                &self.checkpoints,
                &self.shapes,
                self.federation,
                *round,
                *digest,
            ) {
                Ok(checkpoint) => {
                    found = Some(checkpoint);
                    break;
                }
                Err(error) => warnings.push(error.to_string()),
            }
        }
        if found.is_none() && !known.is_empty() {
            return Err(StoreError::NoCheckpoint {
                path: self.checkpoints.clone(),
                why: warnings.join("; "),
            });
        }
        let round = found.as_ref().map_or(0, |checkpoint| checkpoint.round);
        let promised = self.intents()?.pop().filter(|(of, _)| *of >= round);
        let intent = promised.map(|(of, record)| self.promise(of, record, round, &mut warnings));
        Ok(Resumed {
            checkpoint: found,
            intent,
            warnings,
        })
    }

    /// What a peer that opens `round` next learns about its newest promise. One for this round is
    /// sent again; one for a later round, or one whose vectors are gone, must only not be
    /// contradicted.
    fn promise(
        &self,
        of: u64,
        record: StoredIntent,
        round: u64,
        warnings: &mut Vec<String>,
    ) -> Intent {
        let silent = |of: u64| Intent {
            round: of,
            sequence: record.sequence,
            state: record.state,
            announcement: record.announcement.clone().into(),
            body: Arc::default(),
            own: Arc::default(),
            carried: BTreeMap::new(),
        };
        if of > round {
            return silent(of);
        }
        let found = match &record.vectors {
            Some(contents) => vectors::read(&self.folder, of, contents),
            None => Ok(inline_vectors(&record)),
        };
        match found {
            Ok(Vectors { own, body, carried }) => Intent {
                own,
                body,
                carried,
                ..silent(of)
            },
            Err(why) => {
                warnings
                    .push(format!("the update that was promised for round {of} cannot be read, so nothing is said in it: {why}"));
                silent(of + 1)
            }
        }
    }

    fn forget_checkpoints(&self) -> Result<(), StoreError> {
        self.transact(|transaction| {
            transaction.open_table(CHECKPOINTS)?.retain(|_, _| false)?;
            Ok(())
        })
    }

    /// Appends lines to the event log, durably with the next [`Store::persist`] or
    /// [`Store::flush`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn append_events(&self, lines: &[String]) -> Result<(), StoreError> {
        let mut transaction = self
            .database
            .begin_write()
            .map_err(|error| self.failed(error))?;
        transaction
            .set_durability(redb::Durability::None)
            .map_err(|error| self.failed(error))?;
        append(&transaction, lines).map_err(|error| self.failed(error))?;
        transaction.commit().map_err(|error| self.failed(error))
    }

    /// Makes all appended lines durable.
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
        let transaction = self
            .database
            .begin_read()
            .map_err(|error| self.failed(error))?;
        let read = || -> Result<Vec<String>, redb::Error> {
            let table = transaction.open_table(EVENTS)?;
            let newest = table
                .iter()?
                .rev()
                .take(count)
                .map(|entry| Ok(entry?.1.value().to_owned()));
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
    let path = folder.join(database::FILE);
    if !path.exists() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no peer has run here");
        return Err(StoreError::Io {
            act: "read",
            path,
            source,
        });
    }
    Store::unchecked(folder, &folder.join("checkpoints"))?.events(count)
}

/// What a new file holds.
fn begin(database: &Database, federation: Genesis) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(CHECKPOINTS)?;
    transaction.open_table(INTENTS)?;
    transaction.open_table(EVENTS)?;
    transaction
        .open_table(META)?
        .insert(FEDERATION, federation.0.0.as_slice())?;
    transaction.commit()?;
    Ok(())
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let io = |act, source| StoreError::Io {
        act,
        path: path.clone(),
        source,
    };
    let mut file = private::open(&path).map_err(|source| io("open", source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = (&mut file).take(32).read_to_string(&mut text);
            let holder = text
                .trim()
                .parse::<u32>()
                .map_or("another process".to_owned(), |pid| format!("process {pid}"));
            return Err(StoreError::InUse {
                path: folder.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(source)) => return Err(io("lock", source)),
    }
    // Only for the message above; the lock itself is what counts, also on a full disk.
    let _ = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(file, "{}", std::process::id()));
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

fn read_checkpoints(
    transaction: &redb::ReadTransaction,
) -> Result<Vec<(u64, Digest)>, redb::Error> {
    let table = transaction.open_table(CHECKPOINTS)?;
    let mut known = Vec::new();
    for entry in table.iter()? {
        let (round, digest) = entry?;
        // A hash of another length matches no file.
        known.push((
            round.value(),
            Digest(digest.value().try_into().unwrap_or_default()),
        ));
    }
    Ok(known)
}

fn read_intents(transaction: &redb::ReadTransaction) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let table = transaction.open_table(INTENTS)?;
    table
        .iter()?
        .map(|entry| {
            entry
                .map(|(round, bytes)| (round.value(), bytes.value().to_vec()))
                .map_err(Into::into)
        })
        .collect()
}

fn inline_vectors(record: &StoredIntent) -> Vectors {
    let carried = record.carried.iter().map(|(name, values)| {
        (
            name.clone(),
            Arc::new(checkpoint::values_from_bytes(values)),
        )
    });
    Vectors {
        own: Arc::new(checkpoint::values_from_bytes(&record.own)),
        body: Arc::new(record.body.clone()),
        carried: carried.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn open(folder: &Path) -> Result<Store, StoreError> {
        let shapes = Shapes::new([("weight".to_owned(), vec![3])]);
        Store::open(
            &folder.join("state"),
            &folder.join("checkpoints"),
            shapes,
            Genesis(Digest::of(b"federation")),
        )
    }

    pub(super) fn checkpoint_record(round: u64) -> Record {
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

    pub(super) fn intent(round: u64) -> Intent {
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
        assert_eq!(
            store.persist(&checkpoint_record(1)).unwrap(),
            Stored::Checkpoint { round: 1 }
        );
        assert_eq!(
            store.persist(&Record::Intent(Box::new(intent(1)))).unwrap(),
            Stored::Intent { round: 1 }
        );
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
            store.persist(&checkpoint_record(round)).unwrap();
        }
        let files = std::fs::read_dir(folder.path().join("checkpoints"))
            .unwrap()
            .count();
        assert_eq!(files, GENERATIONS);
        std::fs::write(
            folder
                .path()
                .join("checkpoints")
                .join(checkpoint::file_name(4)),
            b"rubbish",
        )
        .unwrap();
        let resumed = store.resume().unwrap();
        assert_eq!(resumed.checkpoint.unwrap().round, 3);
        assert!(resumed.warnings[0].contains("round-000004.safetensors is damaged"));
        std::fs::remove_file(
            folder
                .path()
                .join("checkpoints")
                .join(checkpoint::file_name(3)),
        )
        .unwrap();
        assert!(matches!(
            store.resume(),
            Err(StoreError::NoCheckpoint { .. })
        ));
    }

    #[test]
    fn a_second_start_and_another_federation_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("in use by process {}", std::process::id())),
            "{error}"
        );
        drop(store);
        let shapes = Shapes::new([("weight".to_owned(), vec![3])]);
        let other = Store::open(
            &folder.path().join("state"),
            &folder.path().join("checkpoints"),
            shapes,
            Genesis(Digest::of(b"another")),
        );
        assert!(matches!(other, Err(StoreError::OtherFederation { .. })));
    }

    #[test]
    fn events_come_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        store
            .append_events(&["one".to_owned(), "two".to_owned()])
            .unwrap();
        store.append_events(&["three".to_owned()]).unwrap();
        store.flush().unwrap();
        drop(store);
        assert_eq!(
            read_events(&folder.path().join("state"), 2).unwrap(),
            ["two", "three"]
        );
    }
    /// A promise that is too large for the record.
    fn large(round: u64, same: bool) -> Intent {
        let own: Vec<f32> = (0..50_000).map(|value| value as f32 * 0.25).collect();
        let body = if same {
            checkpoint::values_to_bytes(&own)
        } else {
            vec![7; 90_001]
        };
        let carried = BTreeMap::from([("memory".to_owned(), Arc::new(vec![1.5; 50_000]))]);
        Intent {
            body: Arc::new(body),
            own: Arc::new(own),
            carried,
            ..intent(round)
        }
    }

    fn size(folder: &Path) -> u64 {
        let entries = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .map(|path| {
                if path.is_dir() {
                    size(&path)
                } else {
                    std::fs::metadata(path).unwrap().len()
                }
            })
            .sum()
    }

    #[test]
    fn large_promises_come_back_bit_for_bit_and_the_newest_alone_is_kept() {
        for same in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let store = open(folder.path()).unwrap();
            for round in 0..8 {
                let intent = large(round, same);
                store
                    .persist(&Record::Intent(Box::new(intent.clone())))
                    .unwrap();
                let again = store.resume().unwrap();
                assert_eq!(again.intent, Some(intent), "round {round}");
                // A model is 200 kB; the memory that is carried is another.
                let most = if same {
                    2 * 200_000
                } else {
                    2 * 200_000 + 90_001
                };
                let state = size(&folder.path().join("state"));
                let database = std::fs::metadata(folder.path().join("state/kith.redb"))
                    .unwrap()
                    .len();
                assert!(
                    state - database <= most + 100,
                    "{state} bytes, of them {database} in the database"
                );
                store.persist(&checkpoint_record(round + 1)).unwrap();
                assert!(
                    folder::files(&folder.path().join("state/intents"), |_| true)
                        .unwrap()
                        .is_empty()
                );
            }
            let database = std::fs::metadata(folder.path().join("state/kith.redb"))
                .unwrap()
                .len();
            assert!(
                database < 2_000_000,
                "vectors are beside the database, which has {database} bytes"
            );
        }
    }

    #[test]
    fn what_a_killed_program_was_writing_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()).unwrap());
        let left = [
            folder
                .path()
                .join("checkpoints")
                .join(checkpoint::file_name(1))
                .with_extension("safetensors.tmp"),
            folder.path().join("state/intents/round-000001.vectors"),
            folder.path().join("state/snapshot-1/state/kith.redb"),
        ];
        for path in &left {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"half").unwrap();
        }
        drop(open(folder.path()).unwrap());
        assert!(left.iter().all(|path| !path.exists()));
    }

    #[test]
    fn a_promise_whose_vectors_are_damaged_is_not_contradicted() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        store.persist(&checkpoint_record(3)).unwrap();
        store
            .persist(&Record::Intent(Box::new(large(3, false))))
            .unwrap();
        let path = vectors::path(&folder.path().join("state"), 3);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&flipped, &whole[..whole.len() - 1].to_vec(), &Vec::new()] {
            std::fs::write(&path, damaged).unwrap();
            let resumed = store.resume().unwrap();
            assert!(
                resumed.warnings[0].contains("round 3"),
                "{:?}",
                resumed.warnings
            );
            assert!(resumed.intent.unwrap().round > 3);
        }
    }

    #[test]
    fn after_falling_back_a_newer_promise_is_not_contradicted() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        for round in 0..4 {
            store
                .persist(&Record::Intent(Box::new(intent(round))))
                .unwrap();
            store.persist(&checkpoint_record(round + 1)).unwrap();
        }
        store.persist(&Record::Intent(Box::new(intent(4)))).unwrap();
        std::fs::write(
            folder
                .path()
                .join("checkpoints")
                .join(checkpoint::file_name(4)),
            b"rubbish",
        )
        .unwrap();
        let resumed = store.resume().unwrap();
        assert_eq!(
            (
                resumed.checkpoint.unwrap().round,
                resumed.intent.unwrap().round
            ),
            (3, 4)
        );
    }

    #[test]
    fn a_peer_that_went_back_behind_a_damaged_checkpoint_keeps_the_one_it_went_back_to() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        for round in [1, 2] {
            store.persist(&checkpoint_record(round)).unwrap();
        }
        let file = |round: u64| store.checkpoints.join(checkpoint::file_name(round));
        std::fs::write(file(2), b"damaged").unwrap();
        assert_eq!(store.resume().unwrap().checkpoint.unwrap().round, 1);
        store.persist(&checkpoint_record(2)).unwrap();
        assert!(file(1).exists() && file(2).exists());
        store.persist(&checkpoint_record(3)).unwrap();
        assert!(
            !file(1).exists() && file(2).exists() && file(3).exists(),
            "two generations"
        );
    }

    #[test]
    fn with_all_checkpoints_taken_away_a_peer_begins_anew_and_keeps_its_promises() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        for round in 0..3 {
            store
                .persist(&Record::Intent(Box::new(intent(round))))
                .unwrap();
            store.persist(&checkpoint_record(round + 1)).unwrap();
        }
        drop(store);
        std::fs::rename(folder.path().join("checkpoints"), folder.path().join("old")).unwrap();
        let store = open(folder.path()).unwrap();
        let resumed = store.resume().unwrap();
        assert!(
            resumed.checkpoint.is_none() && resumed.warnings[0].contains("beginning anew"),
            "{:?}",
            resumed.warnings
        );
        let promise = resumed.intent.unwrap();
        assert_eq!((promise.round, promise.sequence), (2, 3));
        for round in 1..4 {
            store.persist(&checkpoint_record(round)).unwrap();
        }
        assert_eq!(
            store.resume().unwrap().checkpoint.unwrap().round,
            3,
            "new checkpoints are not taken for older than the old ones"
        );
    }

    #[test]
    fn a_damaged_store_is_named_and_never_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        store.persist(&checkpoint_record(1)).unwrap();
        drop(store);
        let path = folder.path().join("state/kith.redb");
        let whole = std::fs::read(&path).unwrap();
        let mut cases: Vec<(String, Vec<u8>)> = vec![
            ("empty".to_owned(), Vec::new()),
            ("zeros".to_owned(), vec![0; 4096]),
        ];
        cases.push(("rubbish".to_owned(), b"rubbish".repeat(1000)));
        for length in [1, 100, 512, 4096, 5000, whole.len() / 2, whole.len() - 1] {
            cases.push((format!("cut to {length}"), whole[..length].to_vec()));
        }
        for (what, bytes) in cases {
            std::fs::write(&path, &bytes).unwrap();
            let error = open(folder.path())
                .err()
                .unwrap_or_else(|| panic!("{what} is opened"));
            let text = error.to_string();
            assert!(
                matches!(error, StoreError::Damaged { .. }),
                "{what}: {text}"
            );
            for part in ["kith.redb", "kith restore", "move "] {
                assert!(text.contains(part), "{what}: {text}");
            }
            assert_eq!(
                std::fs::read(&path).unwrap(),
                bytes,
                "{what}: it is left as it is"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(
            matches!(open(folder.path()), Err(StoreError::Damaged { .. })),
            "missing beside a checkpoint"
        );
        // The way out that the message names works.
        std::fs::rename(folder.path().join("state"), folder.path().join("state.old")).unwrap();
        std::fs::rename(
            folder.path().join("checkpoints"),
            folder.path().join("checkpoints.old"),
        )
        .unwrap();
        assert!(
            open(folder.path())
                .unwrap()
                .resume()
                .unwrap()
                .checkpoint
                .is_none()
        );
    }

    #[test]
    fn a_store_that_was_never_finished_is_begun_anew() {
        for half in [Vec::new(), vec![0; 3], vec![0; 1 << 16]] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("state")).unwrap();
            std::fs::write(folder.path().join("state/kith.redb"), &half).unwrap();
            // A file of a program that was interrupted while it made one.
            std::fs::write(folder.path().join("state/kith.redb.new"), &half).unwrap();
            let store = open(folder.path()).unwrap();
            assert!(
                store
                    .resume()
                    .unwrap()
                    .warnings
                    .iter()
                    .any(|text| text.contains("begun anew"))
            );
            store.persist(&checkpoint_record(1)).unwrap();
        }
    }

    #[test]
    fn everything_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        fn open_to_others(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if std::fs::metadata(&path).unwrap().permissions().mode() & 0o077 != 0 {
                    found.push(path.clone());
                }
                if path.is_dir() {
                    open_to_others(&path, found);
                }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        store.persist(&checkpoint_record(1)).unwrap();
        store
            .persist(&Record::Intent(Box::new(large(1, false))))
            .unwrap();
        let _ = store.snapshot().unwrap();
        let mut found = Vec::new();
        open_to_others(folder.path(), &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}
