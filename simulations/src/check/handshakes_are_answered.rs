//! `handshakes-are-answered`: a handshake that says that its sender has heard none is answered,
//! also over a connection that has long stood. A peer that was restarted so fast that nobody has
//! noticed would hear nothing else of its neighbours.

use kith_consensus::PeerId;
use kith_gossip::envelope::Kind;
use kith_gossip::{Effect, Event, Input};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "handshakes-are-answered",
    help: "a handshake whose sender has heard none is answered, however long it is connected",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(HandshakesAreAnswered {
            asks: vec![None; scope.ids.len()],
        })
    },
};

struct HandshakesAreAnswered {
    /// By member, the honest peer whose handshake it handles and has not answered yet.
    asks: Vec<Option<PeerId>>,
}

impl Check for HandshakesAreAnswered {
    fn input(&mut self, scope: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        let asks = match input {
            Input::Received { from, bytes } if scope.is_honest(from) => {
                bytes.asks_for_answer().filter(|peer| peer == from)
            }
            _ => None,
        };
        let unanswered = std::mem::replace(&mut self.asks[moment.member], asks)?;
        let number = scope.number(&unanswered)?;
        Some(format!(
            "it did not answer the handshake of peer {number}, which had heard none"
        ))
    }

    fn effect(&mut self, _: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        let asks = &mut self.asks[moment.member];
        if let Effect::Send { to, bytes } = effect
            && asks.as_ref() == Some(to)
            && bytes.claimed_header()?.kind == Kind::Hello
        {
            *asks = None;
        }
        None
    }

    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        // The first handshake over a connection meets an answer that is on its way. One that is
        // refused gets none.
        if let Event::Connected { peer } | Event::Refused { peer, .. } = event {
            let asks = &mut self.asks[moment.member];
            asks.take_if(|asks| asks == peer);
        }
        None
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.asks[moment.member] = None;
    }
}
