//! `promised-first`: an update leaves only after the intent to send exactly that update is durable,
//! and a promise is kept over a crash: all messages of one round say the same. After a crash the
//! same payload is signed again, since a header names the life of its sender.

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::Sorted;
use kith_consensus::topology::LEAD_MAX;
use kith_gossip::{Effect, Event, Packet, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "promised-first",
    help: "an update leaves only after the promise to send it is on disk, and stays the same after a crash",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(PromisedFirst {
            promised: vec![Sorted::default(); scope.ids.len()],
            last: None,
        })
    },
};

/// Rounds whose promises are remembered: no older update is sent than the topology's lead requires.
const ROUNDS_KEPT: usize = LEAD_MAX as usize + 1;

struct PromisedFirst {
    /// Per peer, the announcement that its disk promises, by round.
    promised: Vec<Sorted<u64, Packet>>,
    /// The promised announcement found last: the same bytes go to many peers.
    last: Option<Packet>,
}

impl Check for PromisedFirst {
    fn event(&mut self, _: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        if let Event::Started { resumed: false, .. } = event {
            // A disk that is lost takes its promises with it.
            self.promised[moment.member] = Sorted::default();
        }
        None
    }

    fn effect(&mut self, _: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        let Effect::Send { bytes, .. } = effect else {
            return None;
        };
        if self.last.as_ref().is_some_and(|last| last.is(bytes)) {
            return None;
        }
        let round = moment.peer.announced_in(bytes)?;
        let promised = self.promised[moment.member].get(&round);
        if promised.is_some_and(|promised| say_the_same(promised, bytes)) {
            self.last = Some(bytes.clone());
            return None;
        }
        Some(match promised {
            None => format!("it sent its update of round {round}, which its disk does not promise"),
            Some(_) => format!("it sent another update of round {round} than its disk promises"),
        })
    }

    fn stored(&mut self, _: &Scope, moment: &Moment<'_>, record: &Record) -> Breach {
        let Record::Intent(intent) = record else {
            return None;
        };
        let promised = &mut self.promised[moment.member];
        let before = promised.insert(intent.round, intent.announcement.clone());
        while promised.len() > ROUNDS_KEPT {
            promised.pop_first();
        }
        match before {
            Some(before) if !say_the_same(&before, &intent.announcement) => Some(format!(
                "it promised two different updates of round {}",
                intent.round
            )),
            _ => None,
        }
    }
}

/// Whether two announcements are of one round and name the same state and payload.
fn say_the_same(a: &Packet, b: &Packet) -> bool {
    let said = |packet: &Packet| {
        let header = packet.claimed_header()?;
        Some((header.round, header.sequence, header.state, header.payload))
    };
    a == b || said(a).is_some_and(|a| Some(a) == said(b))
}
