//! The state that a peer must not forget: its round, its promises, its checkpoints and its events.
//!
//! One transactional file (`state/kith.redb`), made and opened in `database`, next to the
//! checkpoint files (`checkpoints`) and the vectors of a promise (`promise`, `vectors`). The privacy
//! ledger (`ledger`) stands beside the rows instead. Everything that [`Store::persist`]
//! returned from is on disk. A second program on the same folder is refused by a file lock, which
//! ends with the process however that ends. `backup` copies all of it and puts a copy back.

pub(crate) mod backup;
mod checkpoints;
mod database;
mod disk;
mod error;
mod folder;
mod ledger;
mod life;
mod lock;
mod log;
mod promise;
mod resume;
mod tables;
mod vectors;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kith_consensus::{Digest, Genesis};
use kith_gossip::{Record, Stored};
use redb::{Database, ReadableTable};

pub use self::error::StoreError;
pub use self::ledger::{Charging, LedgerFile};
use self::lock::lock;
pub use self::log::read_events;
pub use self::resume::Resumed;
use self::tables::{FEDERATION, META, begin};
use crate::checkpoint::{self, Shapes};
use crate::private;
use crate::private::can_be_made;

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
    /// The privacy ledger, under a charter with a guarantee.
    charging: Option<Charging>,
    _lock: File,
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
            charging: None,
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
            charging: None,
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
            Record::Charge { round } => self.charge(*round),
            Record::Cover { round, stated } => self.cover(*round, *stated),
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
            Record::Evidence { peer, proof } => {
                self.persist_evidence(peer, proof)?;
                Ok(Stored::Evidence { peer: *peer })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use kith_gossip::{Checkpoint, Intent};

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
            headers: Vec::new(),
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

    /// A promise that is too large for the record.
    pub(super) fn large(round: u64, same: bool) -> Intent {
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
