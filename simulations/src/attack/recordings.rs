//! `recordings`: plays what the honest peers signed in an earlier run: headers of late rounds, and
//! their goodbyes.
//!
//! A receiver that takes them for news believes that others are far ahead or gone, or that they
//! contradict themselves; the signer, that it has spoken already.

use kith_consensus::Section;
use kith_gossip::Effect;

use super::messages::{Speaker, Truthful, to_all};
use super::{AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "recordings",
    help: "plays headers and goodbyes that the others signed in an earlier run",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Messages {
            speak: |speaker| {
                Box::new(Recorded {
                    speaker,
                    next: 0,
                    played: 0,
                })
            },
            fails: "departures-are-true",
        },
        build: |_: &mut Section<'_>| Box::new(Truthful),
    },
};

#[derive(Debug)]
struct Recorded {
    speaker: Speaker,
    /// The round whose recordings come next.
    next: u64,
    /// Ticks in which it has played some.
    played: u64,
}

impl Adversary for Recorded {
    fn act(&mut self, scene: &Scene<'_>, cue: Cue<'_>, acts: &mut Acts) {
        /// Ticks between two rounds that are played: each is for everybody.
        const EVERY: u64 = 3;
        if !matches!(cue, Cue::Tick) {
            return;
        }
        self.played += 1;
        if !self.played.is_multiple_of(EVERY) {
            return;
        }
        let rounds = self.speaker.charter.rounds;
        let round = (scene.peer.round() + self.next % 8).min(rounds.saturating_sub(1));
        self.next += 3; // not in their order
        for bytes in self.speaker.recorded_updates(round) {
            acts.effects.extend(to_all(scene, &bytes));
        }
        for bytes in self.speaker.recorded_goodbyes(rounds) {
            acts.effects.extend(to_all(scene, &bytes));
            acts.effects.push(Effect::Announce { bytes });
        }
    }
}
