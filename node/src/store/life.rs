//! What outlives every run of a peer: the number of its last life, and proofs against others.
//!
//! Both stand in the database and not in the log, which is bounded and can be full of other things.

use std::time::{SystemTime, UNIX_EPOCH};

use kith_consensus::PeerId;
use redb::{ReadableDatabase, ReadableTable, TableError};

use super::tables::{EVIDENCE, META};
use super::{Store, StoreError};

const INCARNATION: &str = "incarnation";

impl Store {
    /// Begins a new life of the peer: a number greater than in any earlier one, durable before it
    /// is used. It is the time in milliseconds since 1970, so that a peer that has lost its disk
    /// still gets a greater one; a clock that was set back is made up for by what the store knows.
    ///
    /// # Errors
    /// When the disk or the database fails.
    pub(crate) fn begin_life(&self) -> Result<u64, StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(1, |since| u64::try_from(since.as_millis()).unwrap_or(1));
        self.transact(|transaction| {
            transaction.open_table(EVIDENCE)?; // states of earlier programs have none
            let mut meta = transaction.open_table(META)?;
            let last = meta.get(INCARNATION)?.and_then(|bytes| {
                let bytes = bytes.value().try_into().ok()?;
                Some(u64::from_le_bytes(bytes))
            });
            let incarnation = now.max(last.unwrap_or(0).saturating_add(1));
            meta.insert(INCARNATION, incarnation.to_le_bytes().as_slice())?;
            Ok(incarnation)
        })
    }

    /// Keeps a proof against a peer.
    pub(super) fn persist_evidence(&self, peer: &PeerId, proof: &[u8]) -> Result<(), StoreError> {
        self.transact(|transaction| {
            let mut table = transaction.open_table(EVIDENCE)?;
            table.insert(peer.0.as_slice(), proof)?;
            Ok(())
        })
    }

    /// The proofs that are kept; none in a state of an earlier program.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn evidence(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let read = || -> Result<Vec<Vec<u8>>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = match transaction.open_table(EVIDENCE) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let proofs = table.iter()?.map(|entry| Ok(entry?.1.value().to_vec()));
            proofs.collect()
        };
        read().map_err(|error| self.failed(error))
    }
}
