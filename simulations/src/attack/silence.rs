//! `silence`: publishes what it trained, but not to a share of the participants, chosen once.
//!
//! To those it looks like a peer that is up and says nothing: they wait for it until the round's
//! deadline, and continue without it. That proves nothing, since a message may be lost. After a
//! restart it may choose others.

use std::collections::BTreeSet;

use kith_consensus::{PeerId, Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "silence",
    help: "keeps its updates from a `share` of the participants, chosen once",
    source: "fault injection",
    main_key: Some("share"),
    // Half: neither mute nor honest (guess).
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(Silence {
                share: section.number("share", Some(0.5), 0.0..=1.0),
                shunned: None,
            })
        },
    },
};

#[derive(Debug)]
struct Silence {
    share: f64,
    shunned: Option<BTreeSet<PeerId>>,
}

impl Attack for Silence {
    fn publish(&mut self, scene: &Scene<'_>, random: &mut Stream) -> Publication {
        if self.shunned.is_none() {
            let mut others: Vec<PeerId> = scene
                .view
                .roster
                .iter()
                .filter(|peer| **peer != scene.view.own)
                .copied()
                .collect();
            random.shuffle(&mut others);
            others.truncate((self.share * others.len() as f64).round() as usize);
            self.shunned = Some(others.into_iter().collect());
        }
        Publication::Same(scene.view.trained.to_vec())
    }

    fn withholds(&mut self, _round: u64, receiver: &PeerId) -> bool {
        self.shunned
            .as_ref()
            .is_some_and(|shunned| shunned.contains(receiver))
    }
}
