//! The transactional file: made so that it exists whole or not at all, and begun anew only if
//! nothing can be lost.
//!
//! A new file is made next to its place and renamed. So a file that cannot be read was damaged
//! later, and it may have held a promise: it is never replaced silently. Two things have nothing to
//! lose and are begun anew with a warning: a file that an older program was making when the power
//! failed, and nothing at all.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::Database;

use super::error::StoreError;
use super::folder::{files, sync_folder};
use crate::{checkpoint, private};

/// Name of the file in the state folder.
pub(super) const FILE: &str = "kith.redb";
/// Its name while it is being made.
const UNFINISHED: &str = "kith.redb.new";
/// Memory for redb's pages; its own default is 1 GiB.
const CACHE_BYTES: usize = 4 << 20;
/// A larger file is compacted when it is opened: an older program kept whole models in it. Events
/// take some 20 MB.
const COMPACT_BYTES: u64 = 64 << 20;
/// The first bytes of a finished redb file.
const MAGIC: &[u8] = b"redb";

/// Opens the file in `folder`, or makes it; `begin` fills a new one. The texts are warnings.
///
/// # Errors
/// When it is damaged, or missing although files that belong to it exist; when the disk fails.
pub(super) fn open(
    folder: &Path,
    checkpoints: &Path,
    begin: impl Fn(&Database) -> Result<(), redb::Error>,
) -> Result<(Database, Vec<String>), StoreError> {
    let path = folder.join(FILE);
    let lost = |why: String| damaged(folder, checkpoints, why);
    let beside = what_belongs_to_it(folder, checkpoints)?;
    let io = |act, source| StoreError::Io {
        act,
        path: path.clone(),
        source,
    };
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            check_absent(folder, checkpoints)?;
            Ok((make(folder, begin)?, Vec::new()))
        }
        Err(error) => Err(io("read", error)),
        Ok(_) => match existing(folder)? {
            Ok(database) => Ok((database, Vec::new())),
            Err(why) => match beside {
                Some(beside) => Err(lost(format!("{why}; {beside} belongs to it"))),
                None if was_never_finished(&path).map_err(|source| io("read", source))? => {
                    let text = format!(
                        "{} was never finished and held nothing: begun anew",
                        path.display()
                    );
                    Ok((make(folder, begin)?, vec![text]))
                }
                None => Err(lost(why)),
            },
        },
    }
}

/// Whether a file that is not there may be made.
///
/// # Errors
/// When something belongs to it.
pub(super) fn check_absent(folder: &Path, checkpoints: &Path) -> Result<(), StoreError> {
    match what_belongs_to_it(folder, checkpoints)? {
        Some(beside) => Err(damaged(
            folder,
            checkpoints,
            format!("it is missing, although {beside} belongs to it"),
        )),
        None => Ok(()),
    }
}

pub(super) fn damaged(folder: &Path, checkpoints: &Path, why: String) -> StoreError {
    StoreError::Damaged {
        path: folder.join(FILE),
        state: folder.to_owned(),
        checkpoints: checkpoints.to_owned(),
        why,
    }
}

/// Opens a file that is there. The inner error is why its content cannot be used.
///
/// # Errors
/// When the disk fails, or the file may not be read.
pub(super) fn existing(folder: &Path) -> Result<Result<Database, String>, StoreError> {
    let path = folder.join(FILE);
    let io = |source| StoreError::Io {
        act: "open",
        path: path.clone(),
        source,
    };
    drop(private::open(&path).map_err(io)?);
    // If a file was changed from outside, redb may panic although it was asked to check.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut builder = Database::builder();
        builder
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true);
        let mut database = builder.open(&path)?;
        if std::fs::metadata(&path).is_ok_and(|file| file.len() > COMPACT_BYTES) {
            // If it does not succeed, the file only stays large.
            let _ = database.compact();
        }
        Ok::<_, redb::DatabaseError>(database)
    }));
    match opened {
        Ok(Ok(database)) => Ok(Ok(database)),
        Ok(Err(error)) => match redb::Error::from(error) {
            // A file that is too short says so as an I/O error of this kind.
            redb::Error::Io(source)
                if !matches!(
                    source.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::InvalidData
                ) =>
            {
                Err(io(source))
            }
            other => Ok(Err(other.to_string())),
        },
        Err(_) => Ok(Err("its content contradicts itself".to_owned())),
    }
}

/// Makes it next to its place, then renames it.
fn make(
    folder: &Path,
    begin: impl Fn(&Database) -> Result<(), redb::Error>,
) -> Result<Database, StoreError> {
    let (path, unfinished) = (folder.join(FILE), folder.join(UNFINISHED));
    let io = |source| StoreError::Io {
        act: "create",
        path: path.clone(),
        source,
    };
    let failed = |error: redb::Error| match error {
        redb::Error::Io(source) => io(source),
        other => StoreError::Database {
            path: folder.to_owned(),
            why: other.to_string(),
        },
    };
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    drop(private::open(&unfinished).map_err(io)?);
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(&unfinished);
    let database = database.map_err(|error| failed(error.into()))?;
    begin(&database).map_err(failed)?;
    database.close().map_err(|error| failed(error.into()))?;
    File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .map_err(io)?;
    std::fs::rename(&unfinished, &path).map_err(io)?;
    sync_folder(folder).map_err(io)?;
    existing(folder)?.map_err(|why| StoreError::Database {
        path: folder.to_owned(),
        why,
    })
}

/// A file that cannot be used without the transactional file, if there is one.
fn what_belongs_to_it(folder: &Path, checkpoints: &Path) -> Result<Option<String>, StoreError> {
    let found = files(checkpoints, checkpoint::is_file_name)?.pop();
    let found = match found {
        Some(found) => Some(found),
        None => files(&folder.join(super::vectors::FOLDER), |_| true)?.pop(),
    };
    Ok(found.map(|found| found.display().to_string()))
}

/// Whether a file stops before redb's mark, which redb writes last of all when it makes one.
fn was_never_finished(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?
        .take(MAGIC.len() as u64)
        .read_to_end(&mut start)?;
    Ok(start.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{checkpoint_record, open};
    use super::*;

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
}
