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
            contradicts: BTreeSet::new(),
        })
    },
};

struct ContradictionsConvict {
    convicted: BTreeSet<PeerId>,
    /// What each liar told somebody first of each round.
    told: BTreeMap<(PeerId, u64), (Digest, Digest)>,
    /// Liars that have told two peers different things.
    contradicts: BTreeSet<PeerId>,
}

/// Whether two receivers of a liar's updates, one of them in an even place and one in an odd one,
/// can compare what they were told.
fn can_be_compared(scope: &Scope, liar: usize) -> Option<bool> {
    let graph = scope.charter.topology.graph(scope.ids.len(), 0).ok()?;
    let around = |peer: usize| -> BTreeSet<usize> {
        let both = graph.sends_to(peer).iter().chain(graph.receives_from(peer));
        both.copied().filter(|other| *other != liar).collect()
    };
    let receivers = graph.sends_to(liar);
    let pairs = receivers.iter().enumerate().flat_map(|(place, a)| {
        receivers
            .iter()
            .skip(place + 1)
            .step_by(2)
            .map(move |b| (*a, *b))
    });
    let mut honest = pairs.filter(|(a, b)| !scope.lies[*a] && !scope.lies[*b]);
    Some(honest.any(|(a, b)| {
        let of_a = around(a);
        let between = of_a.intersection(&around(b)).any(|peer| !scope.lies[*peer]);
        of_a.contains(&b) || between
    }))
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
        let first = self.told.entry((*from, header.round)).or_insert(said);
        if *first != said {
            self.contradicts.insert(*from);
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
            self.contradicts.contains(id) && !self.convicted.contains(id)
        });
        let free = free.find(|liar| can_be_compared(scope, *liar) == Some(true))?;
        Some(format!(
            "nobody convicted peer {free}, which contradicts itself"
        ))
    }
}
