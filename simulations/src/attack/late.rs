//! `late`: sends the updates of every second round after the round's deadline, and the others in
//! time.
//!
//! If one update in time makes up for all that were missed, every second round lasts until its
//! deadline.

use kith_consensus::Section;
use kith_gossip::Effect;
use kith_gossip::envelope::Kind;

use super::messages::{Speaker, Truthful};
use super::{AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "late",
    help: "is late in every second round, and in time in the others",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Messages {
            speak: |speaker| Box::new(Late { speaker }),
            fails: "lateness-is-bounded",
        },
        build: |_: &mut Section<'_>| Box::new(Truthful),
    },
};

#[derive(Debug)]
struct Late {
    speaker: Speaker,
}

impl Adversary for Late {
    fn act(&mut self, _: &Scene<'_>, _: Cue<'_>, acts: &mut Acts) {
        let after = self.speaker.charter.round.deadline.mul_f64(1.1);
        let is_late = |effect: &Effect| match effect {
            Effect::Send { bytes, .. } => {
                let own = self.speaker.own(bytes, Kind::Update);
                own.is_some_and(|update| update.header.round % 2 == 1)
            }
            _ => false,
        };
        let (late, in_time): (Vec<Effect>, Vec<Effect>) = std::mem::take(&mut acts.effects)
            .into_iter()
            .partition(is_late);
        acts.effects = in_time;
        acts.later
            .extend(late.into_iter().map(|effect| (after, effect)));
    }
}
