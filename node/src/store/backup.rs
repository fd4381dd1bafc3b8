//! A copy of a peer's state that always opens, and putting one back.
//!
//! The state changes with every round: copying its files one after the other gives parts that do
//! not match. So the store itself writes a snapshot, between two records: a new transactional file,
//! and a second name for every file that it refers to. Those files are never changed, only removed,
//! so the snapshot can be copied at any speed.
//!
//! A state that is put back may be older than what the peer has published since. It therefore
//! begins with a promise that the peer never made (see [`mark_restored`]): nothing is published in
//! the rounds up to it, and no later update has a sequence number that was used before. So no two
//! updates of this peer contradict each other.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use super::error::StoreError;
use super::lock::lock;
use super::promise::StoredIntent;
use super::tables::{CHECKPOINTS, EVENTS, EVIDENCE, FEDERATION, INTENTS, META, read_checkpoints};
use super::{Store, database, folder, vectors};
use crate::{checkpoint, private};

/// Prefix of snapshot folders in the state folder; a number follows.
const SNAPSHOT: &str = "snapshot-";
/// The state, in a snapshot or a backup.
pub(crate) const STATE: &str = "state";
/// The checkpoints, in a snapshot or a backup.
pub(crate) const CHECKPOINT_FILES: &str = "checkpoints";

/// What a state holds, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Number of completed rounds.
    pub(crate) completed: u64,
    /// The round of the newest update that was promised.
    pub(crate) promised: Option<u64>,
    /// The federation that it belongs to.
    pub(crate) federation: kith_consensus::Digest,
}

impl Store {
    /// Writes a snapshot into a new folder in the state folder; its path.
    ///
    /// # Errors
    /// When the disk or the database fails.
    pub(crate) fn snapshot(&self) -> Result<PathBuf, StoreError> {
        let number = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_micros());
        let to = self.folder.join(format!("{SNAPSHOT}{number}"));
        self.write_snapshot(&to)
            .inspect_err(|_| drop(std::fs::remove_dir_all(&to)))?;
        Ok(to)
    }

    fn write_snapshot(&self, to: &Path) -> Result<(), StoreError> {
        let io = |path: &Path, source| StoreError::Io {
            act: "write",
            path: path.to_owned(),
            source,
        };
        let (state, checkpoints) = (to.join(STATE), to.join(CHECKPOINT_FILES));
        for folder in [to, &state, &checkpoints] {
            private::create_folder(folder).map_err(|error| io(folder, error))?;
        }
        let known = {
            let transaction = self
                .database
                .begin_read()
                .map_err(|error| self.failed(error))?;
            self.copy_tables(&transaction, &state)?;
            read_checkpoints(&transaction).map_err(|error| self.failed(error))?
        };
        for (round, _) in known {
            let name = checkpoint::file_name(round);
            // A file that is gone already is missing in the original as well.
            link(&self.checkpoints.join(&name), &checkpoints.join(&name))
                .map_err(|error| io(&checkpoints, error))?;
        }
        for (round, _) in self.intents()? {
            let (from, into) = (
                vectors::path(&self.folder, round),
                vectors::path(&state, round),
            );
            if from.exists() {
                private::create_folder(&state.join(vectors::FOLDER))
                    .map_err(|error| io(&state, error))?;
                link(&from, &into).map_err(|error| io(&into, error))?;
            }
        }
        Ok(())
    }

    fn copy_tables(&self, from: &redb::ReadTransaction, state: &Path) -> Result<(), StoreError> {
        let path = state.join(database::FILE);
        drop(private::open(&path).map_err(|source| StoreError::Io {
            act: "create",
            path: path.clone(),
            source,
        })?);
        let copy = || -> Result<(), redb::Error> {
            let database = Database::builder().create(&path)?;
            let into = database.begin_write()?;
            copy_table(from, &into, META)?;
            copy_table(from, &into, CHECKPOINTS)?;
            copy_table(from, &into, INTENTS)?;
            copy_table(from, &into, EVENTS)?;
            if from
                .list_tables()?
                .any(|table| table.name() == EVIDENCE.name())
            {
                copy_table(from, &into, EVIDENCE)?;
            }
            into.commit()?;
            Ok(database.close()?)
        };
        copy().map_err(|error| self.failed(error))
    }

    /// Removes leftover snapshots of a program that was ended meanwhile.
    pub(super) fn remove_old_snapshots(&self) -> Result<(), StoreError> {
        for folder in folder::files(&self.folder, |name| name.starts_with(SNAPSHOT))? {
            // Left behind it only costs space.
            let _ = std::fs::remove_dir_all(folder);
        }
        Ok(())
    }
}

fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
    from: &redb::ReadTransaction,
    into: &redb::WriteTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    let (from, mut into) = (from.open_table(definition)?, into.open_table(definition)?);
    for entry in from.iter()? {
        let (key, value) = entry?;
        into.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// A snapshot of the state in `folder`, which no running peer may have open.
///
/// # Errors
/// When a peer has it open, or it cannot be read.
pub(crate) fn snapshot_of(folder: &Path, checkpoints: &Path) -> Result<PathBuf, StoreError> {
    Store::unchecked(folder, checkpoints)?.snapshot()
}

/// Copies a folder with everything in it, durably and readable by its owner alone.
///
/// # Errors
/// When the disk fails.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    private::create_folder(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let into = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &into)?;
        } else {
            copy_file(&entry.path(), &into)?;
        }
    }
    folder::sync_folder(to)
}

/// Copies a file, durably and readable by its owner alone.
///
/// # Errors
/// When the disk fails.
pub(crate) fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = private::create(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.flush()?;
    file.sync_all()
}

/// A second name for a file that nobody changes; a copy if the file system has no such names.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(_) => copy_file(from, to),
    }
}

/// Whether a peer runs on the state in `folder`.
///
/// # Errors
/// [`StoreError::InUse`] if one does.
pub(crate) fn check_unused(folder: &Path) -> Result<(), StoreError> {
    if folder.exists() {
        lock(folder).map(drop)
    } else {
        Ok(())
    }
}

/// What the state in `folder` holds, after looking at every file that it refers to.
///
/// # Errors
/// When something is missing or damaged.
pub(crate) fn verify(folder: &Path, checkpoints: &Path) -> Result<Held, StoreError> {
    let store = Store::unchecked(folder, checkpoints)?;
    let (known, federation) = {
        let transaction = store
            .database
            .begin_read()
            .map_err(|error| store.failed(error))?;
        let known = read_checkpoints(&transaction).map_err(|error| store.failed(error))?;
        let meta = || -> Result<Vec<u8>, redb::Error> {
            let table = transaction.open_table(META)?;
            Ok(table
                .get(FEDERATION)?
                .map(|value| value.value().to_vec())
                .unwrap_or_default())
        };
        (known, meta().map_err(|error| store.failed(error))?)
    };
    for (round, digest) in &known {
        checkpoint::check(checkpoints, *round, *digest)?;
    }
    let completed = known.last().map_or(0, |(round, _)| *round);
    let promised = store.intents()?.pop();
    if let Some((
        round,
        StoredIntent {
            vectors: Some(contents),
            ..
        },
    )) = &promised
        && *round >= completed
    {
        vectors::read(folder, *round, contents).map_err(|why| store.unreadable(why))?;
    }
    let federation = kith_consensus::Digest(federation.try_into().unwrap_or_default());
    Ok(Held {
        completed,
        promised: promised.map(|(round, _)| round),
        federation,
    })
}

/// Keeps a restored state from contradicting later updates of the same peer. It gets a promise one
/// round beyond all that it knows, under a sequence number that follows the clock and so has never
/// been used.
///
/// # Errors
/// When the disk or the database fails.
pub(crate) fn mark_restored(folder: &Path, checkpoints: &Path) -> Result<(), StoreError> {
    let held = verify(folder, checkpoints)?;
    let store = Store::unchecked(folder, checkpoints)?;
    let known = store
        .intents()?
        .pop()
        .map_or(0, |(_, record)| record.sequence + 1);
    let clock = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0));
    let record = StoredIntent {
        sequence: known.max(clock),
        state: kith_consensus::Digest::default(),
        announcement: Vec::new(),
        vectors: None,
        body: Vec::new(),
        own: Vec::new(),
        carried: Default::default(),
    };
    store.replace_intents(held.promised.unwrap_or(0).max(held.completed) + 1, &record)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{checkpoint_record, intent, open};
    use super::*;
    use kith_gossip::Record;

    /// A copy of the state, taken as `kith backup` does.
    fn copied(store: &Store, to: &Path) {
        let snapshot = store.snapshot().unwrap();
        copy_folder(&snapshot, to).unwrap();
        std::fs::remove_dir_all(snapshot).unwrap();
    }

    #[test]
    fn a_copy_taken_between_any_two_records_opens_and_holds_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        for round in 0..6u64 {
            store
                .persist(&Record::Intent(Box::new(intent(round))))
                .unwrap();
            let to = folder.path().join(format!("a{round}"));
            copied(&store, &to);
            let copy = open(&to).unwrap().resume().unwrap();
            assert_eq!(copy.checkpoint.map_or(0, |found| found.round), round);
            assert_eq!(copy.intent, Some(intent(round)));
            assert!(copy.warnings.is_empty(), "{:?}", copy.warnings);
            store.persist(&checkpoint_record(round + 1)).unwrap();
            let to = folder.path().join(format!("b{round}"));
            copied(&store, &to);
            assert_eq!(
                verify(&to.join(STATE), &to.join(CHECKPOINT_FILES))
                    .unwrap()
                    .completed,
                round + 1
            );
        }
        let left = folder::files(&folder.path().join("state"), |name| {
            name.starts_with(SNAPSHOT)
        })
        .unwrap();
        assert!(left.is_empty());
    }

    #[test]
    fn a_state_that_was_put_back_publishes_nothing_it_may_have_published() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        for round in 0..3u64 {
            store
                .persist(&Record::Intent(Box::new(intent(round))))
                .unwrap();
            store.persist(&checkpoint_record(round + 1)).unwrap();
        }
        store.persist(&Record::Intent(Box::new(intent(3)))).unwrap();
        drop(store);
        let (state, checkpoints) = (
            folder.path().join(STATE),
            folder.path().join(CHECKPOINT_FILES),
        );
        let mut sequences = Vec::new();
        for _ in 0..2 {
            mark_restored(&state, &checkpoints).unwrap();
            let resumed = open(folder.path()).unwrap().resume().unwrap();
            let promise = resumed.intent.unwrap();
            assert_eq!(resumed.checkpoint.unwrap().round, 3);
            assert!(
                promise.round > 3,
                "silent in round 3, which it had promised"
            );
            sequences.push(promise.sequence);
        }
        assert!(
            sequences[0] > 1_000_000_000_000 && sequences[1] > sequences[0],
            "never used before: {sequences:?}"
        );
    }

    #[test]
    fn a_copy_with_a_damaged_or_missing_part_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        store.persist(&checkpoint_record(1)).unwrap();
        let to = folder.path().join("copy");
        copied(&store, &to);
        let (state, checkpoints) = (to.join(STATE), to.join(CHECKPOINT_FILES));
        verify(&state, &checkpoints).unwrap();
        let path = checkpoints.join(checkpoint::file_name(1));
        std::fs::write(&path, b"rubbish").unwrap();
        assert!(verify(&state, &checkpoints).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(verify(&state, &checkpoints).is_err());
    }
}
