//! `evidence-spreads`: if nothing is lost and nobody fails, a peer that one honest peer convicts is
//! convicted by all that have not left by then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "evidence-spreads",
    help: "if nothing is lost, a peer that one honest peer convicts is convicted by all",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(EvidenceSpreads {
            convicted: BTreeMap::new(),
            left: vec![None; scope.ids.len()],
        })
    },
};

struct EvidenceSpreads {
    /// Convicted peers: by which peers, and when last.
    convicted: BTreeMap<PeerId, (BTreeSet<usize>, Duration)>,
    /// When each peer left.
    left: Vec<Option<Duration>>,
}

impl Check for EvidenceSpreads {
    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            Event::Equivocated { peer, .. } => {
                let (by, last) = self.convicted.entry(*peer).or_default();
                by.insert(moment.member);
                *last = moment.now;
            }
            Event::Left { .. } => self.left[moment.member] = Some(moment.now),
            _ => {}
        }
        None
    }

    fn ended(&mut self, scope: &Scope, _: Duration, _: &[usize]) -> Breach {
        self.convicted
            .iter()
            .filter(|_| scope.clear)
            .find_map(|(peer, (by, last))| {
                let there = |member: &usize| {
                    !scope.lies[*member] && self.left[*member].is_none_or(|left| left > *last)
                };
                let unaware = (0..scope.ids.len())
                    .filter(there)
                    .find(|member| !by.contains(member))?;
                Some(format!(
                    "{} peers convicted {}, peer {unaware} did not",
                    by.len(),
                    peer.short()
                ))
            })
    }
}
