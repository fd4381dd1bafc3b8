//! `charged-first`: under a privacy guarantee a peer trains only after the training of this very round
//! was charged, each charge pays for one training, and all charges of a peer together stay within the
//! budget, whatever its process and its disk go through.

use kith_consensus::privacy::filter::RdpFilter;
use kith_gossip::{Effect, Event};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "charged-first",
    help: "under a privacy guarantee no training without its charge, and no charge beyond the budget",
    source: "own",
    main_key: None,
    new: |scope| {
        let filter = scope.charter.privacy.as_ref();
        let filter = filter.map(|terms| terms.filter().clone());
        Box::new(ChargedFirst {
            seats: filter.map_or(Vec::new(), |filter| {
                vec![Seat { filter, paid: None }; scope.ids.len()]
            }),
        })
    },
};

#[derive(Clone)]
struct Seat {
    /// All that the peer has ever charged.
    filter: RdpFilter,
    /// The round that is charged and in which it has not trained yet.
    paid: Option<u64>,
}

struct ChargedFirst {
    /// By peer; empty without a guarantee.
    seats: Vec<Seat>,
}

impl Check for ChargedFirst {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let Event::PrivacySpent { round, .. } = event else {
            return None;
        };
        let (seat, terms) = (
            self.seats.get_mut(moment.member)?,
            scope.charter.privacy.as_ref()?,
        );
        seat.paid = Some(*round);
        let error = seat.filter.charge(&terms.release()).err()?;
        Some(format!("it was charged round {round}, though {error}"))
    }

    fn effect(&mut self, _: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        let Effect::Train { round, .. } = effect else {
            return None;
        };
        let paid = self.seats.get_mut(moment.member)?.paid.take();
        (paid != Some(*round)).then(|| {
            format!("it trains in round {round} on rows whose ledger was not charged for that")
        })
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        if let Some(seat) = self.seats.get_mut(moment.member) {
            seat.paid = None;
        }
    }
}
