//! `far-claims`: says that it is rounds ahead of where it is.
//!
//! A receiver that believes a single claim leaves out the rounds in between.

use kith_consensus::Section;
use kith_gossip::envelope::Kind;

use super::messages::{Said, Speaker, Truthful, of_round, to_all};
use super::{AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "far-claims",
    help: "says that it is far ahead of where it is",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Messages {
            speak: |speaker| Box::new(FarClaims { speaker, ticks: 0 }),
            fails: "jumps-are-credible",
        },
        build: |_: &mut Section<'_>| Box::new(Truthful),
    },
};

#[derive(Debug)]
struct FarClaims {
    speaker: Speaker,
    ticks: u64,
}

impl Adversary for FarClaims {
    fn act(&mut self, scene: &Scene<'_>, cue: Cue<'_>, acts: &mut Acts) {
        /// Rounds ahead of its own at the first tick; one more at each further one.
        const AHEAD: u64 = 8;
        if !matches!(cue, Cue::Tick) {
            return;
        }
        self.ticks += 1;
        let ahead = scene.peer.round() + AHEAD + self.ticks;
        let round = ahead.min(self.speaker.charter.rounds.saturating_sub(1));
        let payload = of_round(round);
        let said = Said {
            incarnation: scene.incarnation,
            payload: &payload,
        };
        let bytes = self.speaker.says(Kind::Skip, round, self.ticks, said);
        acts.effects.extend(to_all(scene, &bytes));
    }
}
