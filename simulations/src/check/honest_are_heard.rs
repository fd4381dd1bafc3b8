//! `honest-are-heard`: an honest peer's message is refused only for being early, late or a
//! repetition, never for its content.
//!
//! A peer that has lost its disk cannot always know what it signed before: the headers that would
//! show it may be lost too. Then it may publish a second update of a round, under another sequence,
//! which others leave out. That alone is excused; a proof against it is not (`no-contradiction`).

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_gossip::{Event, Refusal};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "honest-are-heard",
    help: "honest messages are refused only for being early, late, or repeated",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(HonestAreHeard {
            forgot: vec![false; scope.ids.len()],
        })
    },
};

struct HonestAreHeard {
    /// By member, whether it has come back without its disk.
    forgot: Vec<bool>,
}

impl Check for HonestAreHeard {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        if let Event::Started { resumed: false, .. } = event {
            self.forgot[moment.member] |= moment.life > 0;
        }
        let Event::Refused { peer, reason, .. } = event else {
            return None;
        };
        let excusable = matches!(
            reason,
            Refusal::StaleRound { .. }
                | Refusal::FutureRound { .. }
                | Refusal::Duplicate
                | Refusal::Replayed
                | Refusal::NotAPartner { .. }
                | Refusal::Unavailable { .. }
        );
        let forgot = scope.number(peer).is_some_and(|number| self.forgot[number]);
        let excusable = excusable || (forgot && matches!(reason, Refusal::Announcement { .. }));
        (!excusable && scope.is_honest(peer))
            .then(|| format!("it refused the honest {}: {reason}", peer.short()))
    }
}
