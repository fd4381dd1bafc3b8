//! What a peer resumes with, and what it says about damage.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_consensus::Digest;
use kith_gossip::{Checkpoint, Intent};
use redb::ReadableDatabase;

use super::Store;
use super::error::StoreError;
use super::promise::{StoredIntent, inline_vectors};
use super::tables::{CHECKPOINTS, read_checkpoints};
use super::vectors::{self, Vectors};
use crate::checkpoint;

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

impl Store {
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

    /// What there is to resume with; with `begins` a peer whose checkpoints were taken away begins
    /// anew.
    pub(super) fn found(&self, begins: bool) -> Result<Resumed, StoreError> {
        let mut warnings = self.warnings.clone();
        let known = self.known_checkpoints(begins, &mut warnings)?;
        let found = self.newest_readable(&known, &mut warnings);
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

    /// Rounds and hashes of the checkpoints, oldest first; none if all files were taken away.
    fn known_checkpoints(
        &self,
        begins: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<(u64, Digest)>, StoreError> {
        let known = {
            let transaction = self
                .database
                .begin_read()
                .map_err(|error| self.failed(error))?;
            read_checkpoints(&transaction).map_err(|error| self.failed(error))?
        };
        let gone = |round: u64| !self.checkpoints.join(checkpoint::file_name(round)).exists();
        if known.is_empty() || !known.iter().all(|(round, _)| gone(*round)) {
            return Ok(known);
        }
        if begins {
            self.forget_checkpoints()?;
        }
        let rounds = known.last().map_or(0, |(round, _)| *round);
        warnings.push(format!(
            "the checkpoints of {rounds} completed rounds are no longer in {}: beginning anew",
            self.checkpoints.display()
        ));
        Ok(Vec::new())
    }

    /// The newest checkpoint that can be read; newer ones that cannot are warned of.
    fn newest_readable(
        &self,
        known: &[(u64, Digest)],
        warnings: &mut Vec<String>,
    ) -> Option<Checkpoint> {
        known.iter().rev().find_map(|(round, digest)| {
            let folder = &self.checkpoints;
            checkpoint::read(folder, &self.shapes, self.federation, *round, *digest)
                .map_err(|error| warnings.push(error.to_string()))
                .ok()
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
}

#[cfg(test)]
mod tests {
    use kith_gossip::{Record, Stored};

    use super::super::checkpoints::GENERATIONS;
    use super::super::tests::{checkpoint_record, intent, large, open};
    use super::*;

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
}
