//! `contradictions-convict`: if nothing is lost, liars that contradict themselves are convicted
//! before the end, wherever two receivers can compare.
//!
//! Two can compare if one of them is a neighbour of the other, or both have another neighbour than
//! the liar.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kith_consensus::mode::Mode;
use kith_consensus::{Digest, PeerId};
use kith_gossip::envelope::Kind;
use kith_gossip::{Event, Input};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

const NAME: &str = "contradictions-convict";

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: NAME,
    help: "if nothing is lost, a liar that contradicts itself is convicted",
    source: "own",
    main_key: None,
    new: |_| {
        Box::new(ContradictionsConvict {
            convicted: BTreeSet::new(),
            told: BTreeMap::new(),
            contradicts: BTreeMap::new(),
        })
    },
};

struct ContradictionsConvict {
    convicted: BTreeSet<PeerId>,
    /// By liar and round: by member, what it was told first.
    told: BTreeMap<(PeerId, u64), BTreeMap<usize, (Digest, Digest)>>,
    /// By liar, pairs of members that it has told different things.
    contradicts: BTreeMap<PeerId, BTreeSet<(usize, usize)>>,
}

/// Whether two honest receivers of a liar's updates can compare what they were told.
fn can_compare(scope: &Scope, liar: usize, a: usize, b: usize) -> Option<bool> {
    let graph = scope.charter.topology.graph(scope.ids.len(), 0).ok()?;
    let around = |peer: usize| -> BTreeSet<usize> {
        let both = graph.sends_to(peer).iter().chain(graph.receives_from(peer));
        both.copied().filter(|other| *other != liar).collect()
    };
    let of_a = around(a);
    let between = of_a.intersection(&around(b)).any(|peer| !scope.lies[*peer]);
    Some(of_a.contains(&b) || between)
}

impl Check for ContradictionsConvict {
    fn input(&mut self, scope: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        /// Rounds ahead that a peer keeps headers of where peers keep step.
        const KEPT: u64 = 3;
        let Input::Received { from, bytes } = input else {
            return None;
        };
        if !scope.is_attacked(NAME) || scope.is_honest(from) {
            return None;
        }
        let header = bytes.claimed_header().filter(|header| {
            let in_step = matches!(scope.charter.round.mode, Mode::Synchronous);
            let kept = !in_step || header.round.abs_diff(moment.peer.round()) <= KEPT;
            header.kind == Kind::Update && header.sender == *from && kept
        })?;
        let said = (header.state, header.payload);
        let told = self.told.entry((*from, header.round)).or_default();
        let differ = told.iter().filter(|(_, first)| **first != said);
        let pairs: Vec<(usize, usize)> = differ.map(|(other, _)| (*other, moment.member)).collect();
        told.entry(moment.member).or_insert(said);
        if !pairs.is_empty() {
            self.contradicts.entry(*from).or_default().extend(pairs);
        }
        None
    }

    fn event(&mut self, _: &Scope, _: &Moment<'_>, event: &Event) -> Breach {
        if let Event::Equivocated { peer, .. } = event {
            self.convicted.insert(*peer);
        }
        None
    }

    fn ended(&mut self, scope: &Scope, _: Duration, _: &[usize]) -> Breach {
        if !scope.clear || !scope.is_attacked(NAME) || scope.charter.topology.changes() {
            return None;
        }
        let liars = (0..scope.ids.len()).filter(|peer| scope.lies[*peer]);
        let mut free = liars.filter(|liar| {
            let id = &scope.ids[*liar];
            let pairs = self.contradicts.get(id).into_iter().flatten();
            let mut compared = pairs.map(|(a, b)| can_compare(scope, *liar, *a, *b));
            !self.convicted.contains(id) && compared.any(|can| can == Some(true))
        });
        let free = free.next()?;
        Some(format!(
            "nobody convicted peer {free}, which contradicts itself"
        ))
    }
}
