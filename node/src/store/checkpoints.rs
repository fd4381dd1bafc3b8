//! Checkpoints: one file each, named with its hash in the transactional file.

use kith_gossip::Checkpoint;
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::Store;
use super::error::StoreError;
use super::tables::{CHECKPOINTS, INTENTS, read_checkpoints};
use crate::checkpoint;

/// Checkpoints kept. The newest may be damaged, so its predecessor stays.
pub(super) const GENERATIONS: usize = 2;

impl Store {
    /// The oldest checkpoint makes room before the one of `round` is written, so that with the
    /// promise there are never more than three models on disk.
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

    /// File first, then its hash: a crash between the two leaves an unused file. The promise of the
    /// round that led here has been mixed: its record stays, so that it is not contradicted, and
    /// its vectors are removed.
    pub(super) fn persist_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
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
}
