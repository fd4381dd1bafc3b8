//! Vectors that the peers of one process have reconstructed, shared among them.
//!
//! An update reaches many peers, and each reconstructs and verifies the same vector. Where a thousand peers live in one process,
//! the first that has done so lends its result to the others: what comes out is named by the hash of the signed payload and by
//! the signed `state_hash`, so equal names are equal vectors. A node hosts one peer and has no library.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use kith_consensus::Digest;

use crate::effect::Parameters;

/// Hash of an update's payload, and the state that it leads to.
pub(crate) type Name = (Digest, Digest);

/// Entries below which nothing is swept out.
const SWEEP_MIN: usize = 1024;

/// A shelf of vectors that somebody still holds. Never a reason for a vector to stay.
#[derive(Debug, Default)]
pub struct Library {
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    vectors: BTreeMap<Name, Weak<Vec<f32>>>,
    sweep_at: usize,
}

impl Library {
    /// The vector of this name, where somebody still holds it.
    pub(crate) fn get(&self, name: &Name) -> Option<Parameters> {
        self.lock().vectors.get(name)?.upgrade()
    }

    /// Lends a vector to the others.
    pub(crate) fn lend(&self, name: Name, vector: &Parameters) {
        let mut shelf = self.lock();
        if shelf.vectors.len() >= shelf.sweep_at.max(SWEEP_MIN) {
            shelf.vectors.retain(|_, vector| vector.strong_count() > 0);
            shelf.sweep_at = 2 * shelf.vectors.len();
        }
        shelf.vectors.insert(name, Arc::downgrade(vector));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_lent_while_somebody_holds_it_and_the_shelf_does_not_grow_without_end() {
        let library = Library::default();
        let name = |index: u64| (Digest::of(&index.to_le_bytes()), Digest::default());
        let held = Arc::new(vec![1.0]);
        library.lend(name(0), &held);
        for index in 1..10 * SWEEP_MIN as u64 {
            library.lend(name(index), &Arc::new(vec![0.0]));
            assert!(library.get(&name(index)).is_none(), "nobody holds it");
        }
        assert!(Arc::ptr_eq(&library.get(&name(0)).unwrap(), &held));
        assert!(library.lock().vectors.len() <= SWEEP_MIN);
    }
}
