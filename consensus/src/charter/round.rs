//! `[round]`: when a round opens and closes.

use std::sync::Arc;
use std::time::Duration;

use crate::mode::{MODES, Mode};
use crate::section::Section;
use crate::selection::{self, Selection};

/// When a round opens and closes.
#[derive(Clone, Debug)]
pub struct RoundSection {
    /// How peers keep step.
    pub mode: Mode,
    /// Share of the awaited neighbours, in (0, 1], whose updates close the round before its
    /// deadline.
    pub quorum: f64,
    /// How long a round waits for updates; now and then half as long again for a neighbour that waits
    /// for another.
    pub deadline: Duration,
    /// How long a peer waits for connections before round 0; half a deadline once a neighbour has
    /// begun.
    pub start_deadline: Duration,
    /// Deadlines a neighbour may miss in a row before it is no longer awaited.
    pub patience: u64,
    /// Other peers that have to be connected, or heard, for a round to begin and to close: a peer
    /// that meets nobody waits instead of training alone. 0 lets a peer continue alone.
    pub neighbours_min: usize,
    /// An update this many rounds old still advances its sender's replica; an older one is refused.
    pub staleness: u64,
    /// Whose updates a round waits for and mixes.
    pub selection: Arc<dyn Selection>,
}

impl RoundSection {
    pub(super) fn read(section: &mut Section<'_>) -> RoundSection {
        let mode = MODES
            .choose(section, "mode", Some(MODES[0].name))
            .unwrap_or(&MODES[0]);
        let mode = (mode.new)(section);
        RoundSection {
            mode,
            // All awaited peers: nobody's update is wasted.
            quorum: section.number("quorum", Some(1.0), 0.01..=1.0),
            deadline: Duration::from_secs_f64(section.number(
                "deadline_seconds",
                Some(30.0),
                0.01..=604_800.0,
            )), // guess
            start_deadline: Duration::from_secs_f64(section.number(
                "start_deadline_seconds",
                Some(60.0),
                0.01..=604_800.0,
            )), // guess
            patience: section.integer("patience", Some(2), 1..=1_000_000), // guess
            // Written out only if the charter gives it, so that older charters keep their ids. 1:
            // one peer alone is no federation.
            neighbours_min: match section.has("neighbours_min") {
                true => section.integer("neighbours_min", Some(1), 0..=1_000_000) as usize,
                false => 1,
            },
            staleness: section.integer("staleness", Some(8), 0..=1_000_000), // guess
            selection: selection::selection(section),
        }
    }
}
