//! `junk-gossip`: signs goodbyes and proofs that nobody can decode, and lets everybody pass them on.
//!
//! If a receiver blames the peer that it has a message from, the honest ones send each other away.
//! Once it has been sent away it dials nobody: the others must find back to each peer that they have
//! sent away.

use kith_consensus::Section;
use kith_gossip::envelope::Kind;
use kith_gossip::{Effect, Input};

use super::messages::{Said, Speaker, Truthful};
use super::{AttackEntry, AttackKind, Knowledge, Means};
use crate::simulator::{Acts, Adversary, Cue, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "junk-gossip",
    help: "signs goodbyes and proofs that do not decode, for others to pass on",
    source: "fault injection",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Messages {
            speak: |speaker| {
                Box::new(JunkGossip {
                    speaker,
                    sent: 0,
                    was_sent_away: false,
                })
            },
            fails: "no-dismissal",
        },
        build: |_: &mut Section<'_>| Box::new(Truthful),
    },
};

#[derive(Debug)]
struct JunkGossip {
    speaker: Speaker,
    sent: u64,
    was_sent_away: bool,
}

impl Adversary for JunkGossip {
    fn act(&mut self, scene: &Scene<'_>, cue: Cue<'_>, acts: &mut Acts) {
        if let Cue::Input(input) = cue {
            self.was_sent_away |= matches!(input, Input::PeerDown { .. });
            let is_kept = |effect: &Effect| !matches!(effect, Effect::Connect { .. });
            acts.effects
                .retain(|effect| is_kept(effect) || !self.was_sent_away);
            return;
        }
        self.sent += 1;
        let said = Said {
            incarnation: scene.incarnation,
            payload: b"junk",
        };
        for kind in [Kind::Goodbye, Kind::Proof] {
            let round = scene.peer.round().min(self.speaker.charter.rounds);
            let bytes = self.speaker.says(kind, round, self.sent, said);
            acts.effects.push(Effect::Announce { bytes });
        }
    }
}
