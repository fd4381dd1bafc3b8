//! `floods-are-cut`: a peer does not go on reading a liar that sends many times what rounds need.

use std::collections::BTreeMap;
use std::time::Duration;

use kith_consensus::PeerId;
use kith_gossip::Input;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

const NAME: &str = "floods-are-cut";

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: NAME,
    help: "a peer that floods another with requests is cut off",
    source: "own",
    main_key: None,
    new: |_| {
        Box::new(FloodsAreCut {
            read: BTreeMap::new(),
        })
    },
};

/// A flood is to be over so long after it has begun.
const WITHIN: Duration = Duration::from_secs(10);

/// Messages of one peer that may be read meanwhile: ten times what a peer may ask of one kind at
/// once, and for each participant ten times as much as that adds.
fn most(peers: usize) -> usize {
    640 + 80 * peers
}

struct FloodsAreCut {
    /// By member and liar: since when, and how many messages.
    read: BTreeMap<(usize, PeerId), (Duration, usize)>,
}

impl Check for FloodsAreCut {
    fn input(&mut self, scope: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        let Input::Received { from, .. } = input else {
            return None;
        };
        if !scope.is_attacked(NAME) || scope.is_honest(from) {
            return None;
        }
        let (since, count) = self
            .read
            .entry((moment.member, *from))
            .or_insert((moment.now, 0));
        if moment.now > *since + WITHIN {
            (*since, *count) = (moment.now, 0);
        }
        *count += 1;
        let most = most(scope.ids.len());
        (*count > most).then(|| {
            format!(
                "it has read {count} messages of {} since {since:?}; expected at most {most}",
                from.short()
            )
        })
    }
}
