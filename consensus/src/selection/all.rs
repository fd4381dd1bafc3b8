//! `all`: every neighbour in every round.

use std::sync::Arc;

use super::{Candidate, Selection, SelectionEntry};
use crate::random::Stream;

pub(super) const ENTRY: SelectionEntry = SelectionEntry {
    name: "all",
    help: "every neighbour, in every round",
    source: "Lian et al. 2017, arXiv 1705.09056",
    main_key: None,
    new: |_| Arc::new(All),
};

#[derive(Debug)]
struct All;

impl Selection for All {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn awaits(&self, candidates: &[Candidate], _least: usize, _random: &mut Stream) -> Vec<usize> {
        (0..candidates.len()).collect()
    }

    fn is_everyone(&self) -> bool {
        true
    }
}
