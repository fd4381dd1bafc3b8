//! The peer: see [`Peer`].

use std::sync::Arc;

use kith_consensus::{PeerId, Seed};

use crate::conduct::Conduct;
use crate::effect::{Effect, Input, Parameters};
use crate::envelope::Authenticator;
use kith_consensus::Digest;

/// What a peer is made of.
pub struct Setup {
    /// Signs and verifies.
    pub authenticator: Authenticator,
    /// What the federation agreed on.
    pub charter: Arc<kith_consensus::charter::Charter>,
    /// Participants, sorted; contains this peer.
    pub roster: Vec<PeerId>,
    /// Codec of updates, from the charter's `[codec]`.
    pub codec: Box<dyn crate::codec::Codec>,
    /// Digest of the parameters' layout.
    pub layout: Digest,
    /// Parameters that everyone starts from.
    pub initial: Parameters,
    /// Own seed, for the codec's and the conduct's streams.
    pub seed: Seed,
    /// How it behaves.
    pub conduct: Box<dyn Conduct>,
    /// Evaluate after every so many rounds; 0 evaluates after the last one only.
    pub evaluate_every: u64,
}

/// A participant of the protocol as a state machine.
pub struct Peer {
    setup: Setup,
}

impl Peer {
    /// A peer that has not started.
    pub fn new(setup: Setup) -> Peer {
        Peer { setup }
    }

    /// Who it is.
    pub fn id(&self) -> PeerId {
        self.setup.authenticator.peer()
    }

    /// Takes one input at time `now` (since the driver's start) and appends what has to be done to `out`.
    pub fn handle(&mut self, _input: Input, _now: std::time::Duration, _out: &mut Vec<Effect>) {}
}
