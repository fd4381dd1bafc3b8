//! Synchronous rounds of several kinds: for topologies with rounds in which nobody trains
//! (`hierarchical`, `centralised`).
//!
//! Such a round begins with the model that the peer has. Its result is decided where models are
//! mixed: a peer whose own model has no weight adopts its sender's model.

use kith_consensus::PeerId;
use kith_consensus::charter::Charter;

use super::{Pace, RoundMode};
use crate::peer::window::Window;

pub(super) struct Staged;

impl RoundMode for Staged {
    fn pace(&self) -> Pace {
        Pace::InStep
    }

    fn trains(&self, charter: &Charter, round: u64) -> bool {
        charter.topology.trains(round)
    }

    /// No training paces such a round, so a sender may come as late as the earlier rounds delayed
    /// it. Each exchange may have taken up to a deadline. In training it may have waited for a peer
    /// that is gone, as often as its patience lasts.
    fn deadlines(&self, charter: &Charter, round: u64) -> u32 {
        let topology = &charter.topology;
        if topology.trains(round) {
            return 1;
        }
        let before = (0..round).rev();
        let exchanges = before
            .clone()
            .take_while(|round| !topology.trains(*round))
            .count();
        let patience = usize::try_from(charter.round.patience).unwrap_or(usize::MAX);
        let training = before.skip(exchanges).take(patience);
        let training = training.take_while(|round| topology.trains(*round)).count();
        u32::try_from(1 + exchanges + training).unwrap_or(u32::MAX)
    }

    fn expects(&self, _window: &Window, _peer: &PeerId) -> bool {
        true
    }
}
