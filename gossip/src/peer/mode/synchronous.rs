//! `synchronous`: each round waits for the neighbourhood, up to its deadline (D-PSGD, Lian et al.
//! 2017, arXiv 1705.09056; deadline and quorum are our own).

use kith_consensus::PeerId;

use super::{Pace, RoundMode};
use crate::peer::window::Window;

pub(super) struct Synchronous;

impl RoundMode for Synchronous {
    fn pace(&self) -> Pace {
        Pace::InStep
    }

    fn expects(&self, _window: &Window, _peer: &PeerId) -> bool {
        true
    }
}
