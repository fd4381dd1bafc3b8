//! `forgery`: besides its own honest update it shows every receiver a header in the name of a third
//! peer, which never signed it.
//!
//! If it were believed, the third peer would have said two things in one round and be expelled: a
//! liar would have convicted an honest peer. It is refused as `signature`, and a peer that keeps
//! sending such headers is sent away.

use kith_consensus::Stream;
use kith_gossip::Publication;
use kith_gossip::conduct::Fraud;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "forgery",
    help: "shows headers that others never signed, to have them convicted: refused, and it is sent away",
    source: "our own: what signatures are for",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Own,
        means: Means::Updates,
        build: |_| Box::new(Forgery),
    },
};

#[derive(Debug)]
struct Forgery;

impl Attack for Forgery {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        Publication::Same(scene.view.trained.to_vec())
    }

    fn fraud(&self, _round: u64) -> Option<Fraud> {
        Some(Fraud::Signature)
    }
}
