//! The event log: the newest lines of a peer.

use std::path::Path;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::error::StoreError;
use super::tables::EVENTS;
use super::{Store, database};

/// Events kept; the oldest go first. About 20 MB (guess: a year of a round an hour).
const EVENTS_MAX: u64 = 100_000;

impl Store {
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

#[cfg(test)]
mod tests {
    use super::super::tests::open;
    use super::*;

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
}
