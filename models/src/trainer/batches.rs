//! Which rows each local step uses.

use kith_consensus::{Seed, Stream};

use crate::training::TrainingSection;

/// The rows of each step: passes over all rows, each pass in its own order, cut into batches.
pub(super) struct Batches {
    order: Vec<usize>,
    next: usize,
    size: usize,
    pass: u64,
    seed: Seed,
    round: u64,
}

impl Batches {
    pub(super) fn new(rows: usize, training: &TrainingSection, seed: Seed, round: u64) -> Batches {
        Batches {
            order: (0..rows).collect(),
            next: rows,
            size: training.batch_size,
            pass: 0,
            seed,
            round,
        }
    }

    pub(super) fn next_batch(&mut self) -> &[usize] {
        if self.next == self.order.len() {
            Stream::derive("kith.v1 batches", &self.seed, self.round, self.pass, 0)
                .shuffle(&mut self.order);
            self.pass += 1;
            self.next = 0;
        }
        let start = self.next;
        self.next = (start + self.size).min(self.order.len());
        &self.order[start..self.next]
    }
}
