//! What a peer is made of, and the one place that assembles it, for nodes, testnets, the simulator
//! and tests alike.

use std::sync::Arc;

use kith_consensus::charter::{Admission, Charter};
use kith_consensus::section::Document;
use kith_consensus::{Digest, Seed};

use crate::Parameters;
use crate::codec::{Codec, TensorShape, codec_from_section};
use crate::conduct::{Conduct, Honest};
use crate::envelope::Authenticator;
use crate::roster::Roster;

/// What a peer is made of.
pub struct Setup {
    /// Signs this peer's messages and verifies those of others.
    pub authenticator: Authenticator,
    /// What the federation agreed on.
    pub charter: Arc<Charter>,
    /// Participants; contains this peer. In open membership it is this peer alone: the roster forms
    /// from the peers that come first.
    pub roster: Roster,
    /// Codec of updates, from the charter's `[codec]`.
    pub codec: Box<dyn Codec>,
    /// Digest of the parameters' layout.
    pub layout: Digest,
    /// Parameters that everyone starts from.
    pub initial: Parameters,
    /// This peer's seed, for the codec's and the conduct's streams.
    pub seed: Seed,
    /// How it behaves: honest, except for liars in simulations and testnets.
    pub conduct: Box<dyn Conduct>,
    /// Evaluate after every this many rounds; 0 evaluates after the last one only.
    pub evaluate_every: u64,
    /// Which life of the peer this is: greater than in every earlier one, with or without its
    /// state. A node takes the milliseconds from 1970 to its start, and more than its store
    /// remembers. What a peer signed in an earlier life never contradicts what it signs in this
    /// one, and is not believed any more once others have met this one.
    pub incarnation: u64,
    /// Proofs that peers contradicted themselves, from the store: those peers stay expelled.
    pub evidence: Vec<Vec<u8>>,
}

/// What all peers of a federation have in common. With a key it determines a peer.
#[derive(Clone, Debug)]
pub struct Federation {
    charter: Arc<Charter>,
    layout: Digest,
    initial: Parameters,
    matrices: Arc<[TensorShape]>,
    /// The charter's `[codec]`, for each peer's codec.
    codec: Arc<str>,
}

impl Federation {
    /// A federation under `charter` that learns `initial.len()` values: `layout` is the digest of
    /// their layout, `matrices` are the matrices among them.
    pub fn new(
        charter: Arc<Charter>,
        layout: Digest,
        initial: Vec<f32>,
        matrices: impl IntoIterator<Item = TensorShape>,
    ) -> Federation {
        let codec = charter.section_toml("codec").into();
        Federation {
            charter,
            layout,
            initial: Arc::new(initial),
            matrices: matrices.into_iter().collect(),
            codec,
        }
    }

    /// The charter's codec, which knows the model's matrices.
    pub fn codec(&self) -> Box<dyn Codec> {
        let mut document = Document::parse(&self.codec).expect("a charter's section is TOML");
        let mut codec = document.section("codec", codec_from_section);
        codec.shape(&self.matrices);
        codec
    }

    /// An honest peer with this key. The roster is the charter's; in open membership it is this
    /// peer alone, and grows by the peers that come first. The seed follows from charter and key,
    /// so that a run repeats. Secrets never come from it.
    pub fn peer(&self, authenticator: Authenticator) -> Setup {
        let peer = authenticator.peer();
        let roster = match self.charter.membership.mode {
            Admission::Members => self.charter.roster(),
            Admission::Open => vec![peer],
        };
        Setup {
            authenticator,
            charter: Arc::clone(&self.charter),
            roster: Roster::new(roster),
            codec: self.codec(),
            layout: self.layout,
            initial: Arc::clone(&self.initial),
            seed: self.charter.peer_seed(&peer),
            conduct: Box::new(Honest),
            evaluate_every: 0,
            incarnation: 1,
            evidence: Vec::new(),
        }
    }
}
