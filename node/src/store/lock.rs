//! One program at a time on a state folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::error::StoreError;
use crate::private;

/// Locks the folder until the file is dropped or the process ends.
///
/// # Errors
/// When another program holds the lock, or the disk fails.
pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
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
