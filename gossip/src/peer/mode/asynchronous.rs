//! `asynchronous`: nobody waits. A peer trains, tells its neighbours, merges the updates that came
//! meanwhile, weighed by their staleness, and opens its next round (after FedAsync, Xie, Koyejo and
//! Gupta 2019, arXiv 1903.03934, among neighbours instead of with a server).

use kith_consensus::PeerId;
use kith_consensus::optimization::staleness::StalenessWeight;

use super::{Pace, RoundMode, Scene, Wait};
use crate::peer::window::Window;

pub(super) struct Asynchronous {
    /// How much an old update counts.
    pub(super) staleness: StalenessWeight,
}

impl RoundMode for Asynchronous {
    fn pace(&self) -> Pace {
        Pace::Free
    }

    fn wait(&mut self, _scene: &Scene<'_>) -> Wait {
        Wait::For(None)
    }

    fn expects(&self, _window: &Window, _peer: &PeerId) -> bool {
        false
    }

    fn weight(&self, scene: &Scene<'_>, peer: &PeerId, age: u64, _models: usize) -> f64 {
        scene.overlay.mixing_weight(peer, scene.round) * self.staleness.factor(age)
    }
}
