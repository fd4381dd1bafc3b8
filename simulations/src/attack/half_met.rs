//! `half-met`: only half of the others meet it. The rest hear nothing of it, no handshake either.
//!
//! Those that have met it begin. The others wait for it, and if they wait longer than a round does,
//! they miss the first one.

use kith_consensus::{PeerId, Section};
use kith_gossip::Effect;

use super::messages::{Speaker, Truthful};
use super::{AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "half-met",
    help: "keeps everything from half of the others, its handshake too",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Messages {
            speak: |speaker| Box::new(HalfMet { speaker }),
            fails: "honest-keep-step",
        },
        build: |_: &mut Section<'_>| Box::new(Truthful),
    },
};

#[derive(Debug)]
struct HalfMet {
    speaker: Speaker,
}

impl HalfMet {
    /// Whether it keeps away from this peer: every second one on the roster.
    fn shuns(&self, peer: &PeerId) -> bool {
        let place = self.speaker.roster.index(peer);
        place.is_some_and(|place| place % 2 == 0)
    }
}

impl Adversary for HalfMet {
    fn act(&mut self, _: &Scene<'_>, _: Cue<'_>, acts: &mut Acts) {
        acts.effects.retain(
            |effect| !matches!(effect, Effect::Connect { peer: to, .. } | Effect::Send { to, .. } if self.shuns(to)),
        );
    }
}
