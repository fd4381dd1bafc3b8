//! `true-addresses`: nobody dials an honest peer at an address that a liar made up.

use kith_gossip::Effect;

use super::{Breach, Check, CheckEntry, Scope};
use crate::attack::false_addresses::ADDRESS;
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "true-addresses",
    help: "nobody dials an honest peer at an address that a liar made up",
    source: "own",
    main_key: None,
    new: |_| Box::new(TrueAddresses),
};

struct TrueAddresses;

impl Check for TrueAddresses {
    fn effect(&mut self, scope: &Scope, _: &Moment<'_>, effect: &Effect) -> Breach {
        let Effect::Connect { peer, addresses } = effect else {
            return None;
        };
        let false_one = addresses.iter().any(|address| address.starts_with(ADDRESS));
        (false_one && scope.is_honest(peer))
            .then(|| format!("it dials the honest {} where a liar said", peer.short()))
    }
}
