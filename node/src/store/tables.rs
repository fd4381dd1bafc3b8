//! The tables of the transactional file.

use kith_consensus::{Digest, Genesis};
use redb::{Database, ReadableTable, TableDefinition};

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Round to hash of its checkpoint's file.
pub(super) const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
pub(super) const INTENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("intents");
pub(super) const EVENTS: TableDefinition<'_, u64, &str> = TableDefinition::new("events");

/// Peer to the proof that it contradicted itself.
pub(super) const EVIDENCE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("evidence");

pub(super) const FEDERATION: &str = "federation";
pub(super) const SEQUENCE: &str = "sequence";
/// Identity of the rows whose privacy ledger this peer has charged, and hash of its newest entry then.
pub(super) const LEDGER: &str = "privacy-ledger";

/// What a new file holds.
pub(super) fn begin(database: &Database, federation: Genesis) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(CHECKPOINTS)?;
    transaction.open_table(INTENTS)?;
    transaction.open_table(EVENTS)?;
    transaction.open_table(EVIDENCE)?;
    transaction
        .open_table(META)?
        .insert(FEDERATION, federation.0.0.as_slice())?;
    transaction.commit()?;
    Ok(())
}

/// Rounds of the checkpoints and the hashes of their files, oldest first.
pub(super) fn read_checkpoints(
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

/// Rounds of the promises and their records, oldest first.
pub(super) fn read_intents(
    transaction: &redb::ReadTransaction,
) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
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
