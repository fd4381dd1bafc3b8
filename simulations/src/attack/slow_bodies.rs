//! `slow-bodies`: announces its updates in time, and serves their bodies only when the round is
//! over.
//!
//! A receiver that goes on pulling what it cannot use any more has no time for what it can.

use kith_consensus::Section;
use kith_gossip::Effect;

use super::messages::{Speaker, Truthful};
use super::{AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "slow-bodies",
    help: "announces updates in time and serves their bodies when the round is over",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Messages {
            speak: |speaker| Box::new(SlowBodies { speaker }),
            fails: "no-stall",
        },
        build: |_: &mut Section<'_>| Box::new(Truthful),
    },
};

#[derive(Debug)]
struct SlowBodies {
    speaker: Speaker,
}

impl Adversary for SlowBodies {
    fn act(&mut self, _: &Scene<'_>, _: Cue<'_>, acts: &mut Acts) {
        let after = self.speaker.charter.round.deadline.mul_f64(1.1);
        let is_body = |effect: &Effect| matches!(effect, Effect::Provide { body: Some(_), .. });
        let (bodies, others): (Vec<Effect>, Vec<Effect>) = std::mem::take(&mut acts.effects)
            .into_iter()
            .partition(is_body);
        acts.effects = others;
        acts.later
            .extend(bodies.into_iter().map(|effect| (after, effect)));
    }
}
