//! `flood`: asks everybody for updates without end, each request well-formed and signed.
//!
//! A receiver that answers them all has no time for others.

use kith_consensus::Section;
use kith_gossip::envelope::Kind;

use super::messages::{Said, Speaker, Truthful, of_round, to_all};
use super::{AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "flood",
    help: "asks everybody for updates a thousand times a second",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Messages {
            speak: |speaker| Box::new(Flood { speaker, sent: 0 }),
            fails: "floods-are-cut",
        },
        build: |_: &mut Section<'_>| Box::new(Truthful),
    },
};

#[derive(Debug)]
struct Flood {
    speaker: Speaker,
    sent: u64,
}

impl Adversary for Flood {
    fn act(&mut self, scene: &Scene<'_>, cue: Cue<'_>, acts: &mut Acts) {
        /// Requests in each tick, a tenth of a second.
        const REQUESTS: u64 = 100;
        if !matches!(cue, Cue::Tick) {
            return;
        }
        let round = scene.peer.round().min(self.speaker.charter.rounds);
        let payload = of_round(round);
        let said = Said {
            incarnation: scene.incarnation,
            payload: &payload,
        };
        for _ in 0..REQUESTS {
            self.sent += 1;
            let bytes = self.speaker.says(Kind::Want, round, self.sent, said);
            acts.effects.extend(to_all(scene, &bytes));
        }
    }
}
