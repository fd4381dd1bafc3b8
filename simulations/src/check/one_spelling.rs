//! `one-spelling`: a message in another spelling than the one that envelopes have is refused, and
//! nothing that it says is believed.

use kith_gossip::{Event, Input};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "one-spelling",
    help: "a message in another spelling than the one of envelopes is refused",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(OneSpelling {
            odd: vec![false; scope.ids.len()],
        })
    },
};

/// Whether bytes begin otherwise than an array of three byte strings, the first of them between 24
/// and 255 bytes long.
fn is_odd(bytes: &[u8]) -> bool {
    !matches!(bytes, [0x83, 0x58, ..])
}

struct OneSpelling {
    /// By member, whether it handles such a message.
    odd: Vec<bool>,
}

impl Check for OneSpelling {
    fn input(&mut self, _: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        self.odd[moment.member] = matches!(input, Input::Received { bytes, .. } if is_odd(bytes));
        None
    }

    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let believes = matches!(
            event,
            Event::Accepted { .. }
                | Event::Connected { .. }
                | Event::Departed { .. }
                | Event::Equivocated { .. }
                | Event::Jumped { .. }
                | Event::KeyframeWanted { .. }
                | Event::Skipped { .. }
        );
        (self.odd[moment.member] && believes)
            .then(|| format!("a message in an odd spelling led to {event:?}"))
    }
}
