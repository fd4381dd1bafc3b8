//! Promises: the update of a round, stored before it is sent, so that a peer that restarts sends the
//! same bytes again and never another update for that round.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_consensus::Digest;
use kith_gossip::Intent;
use redb::ReadableDatabase;
use serde::{Deserialize, Serialize};

use super::Store;
use super::error::StoreError;
use super::tables::{INTENTS, META, SEQUENCE, read_intents};
use super::vectors::{self, Contents, Vectors};
use crate::checkpoint;

/// A promise as the table holds it.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredIntent {
    pub(super) sequence: u64,
    pub(super) state: Digest,
    #[serde(with = "serde_bytes")]
    pub(super) announcement: Vec<u8>,
    /// Large vectors are in a file; the three below are empty then.
    #[serde(default)]
    pub(super) vectors: Option<Contents>,
    #[serde(with = "serde_bytes")]
    pub(super) body: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub(super) own: Vec<u8>,
    /// Empty if nothing is carried, and in files from before that was possible.
    #[serde(default)]
    pub(super) carried: BTreeMap<String, serde_bytes::ByteBuf>,
}

impl Store {
    /// Rounds and records of promises, oldest first.
    pub(super) fn intents(&self) -> Result<Vec<(u64, StoredIntent)>, StoreError> {
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

    /// Only the newest promise is kept: an older one can no longer be sent, and says nothing more
    /// than this one.
    pub(super) fn persist_intent(&self, intent: &Intent) -> Result<(), StoreError> {
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

    pub(super) fn replace_intents(
        &self,
        round: u64,
        stored: &StoredIntent,
    ) -> Result<(), StoreError> {
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

    pub(super) fn remove_vectors(&self, round: u64) {
        // There may be none; if left behind, it only costs space.
        let _ = std::fs::remove_file(vectors::path(&self.folder, round));
    }
}

/// The vectors of a promise that is small enough for the record.
pub(super) fn inline_vectors(record: &StoredIntent) -> Vectors {
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
    use std::path::Path;

    use kith_gossip::Record;

    use super::super::folder;
    use super::super::tests::{checkpoint_record, large, open};

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
}
