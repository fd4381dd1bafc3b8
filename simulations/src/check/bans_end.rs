//! `bans-end`: a neighbour that was sent away is dialled again once its ban is over. It may have been
//! mistaken for a bad one, and a federation that loses a pair of peers for each mistake falls apart.
//!
//! Watched where the graph stays, for peers that have not come back by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use kith_consensus::PeerId;
use kith_gossip::limits::BAN;
use kith_gossip::{Effect, Event, Input, Timer};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "bans-end",
    help: "a neighbour that was sent away is dialled again once its ban is over",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(BansEnd {
            members: vec![Bans::default(); scope.ids.len()],
        })
    },
};

/// The time at which a ban that began at `at` is over, whatever the peer's clock does. The clock may
/// run at half the right speed or at twice it, and a change of its speed sets it back or forward.
fn over(at: Duration) -> Duration {
    4 * at + 2 * BAN
}

#[derive(Clone, Copy)]
enum Away {
    /// Sent away; the connection may still end.
    Dismissed,
    /// Since when it is not connected.
    Gone(Duration),
    /// It has said goodbye, and nobody needs it any more.
    Departed,
}

#[derive(Clone, Default)]
struct Bans {
    away: BTreeMap<PeerId, Away>,
    /// Peers that are to be dialled before the next input.
    due: Vec<PeerId>,
}

impl Bans {
    fn forget(&mut self, peer: &PeerId) {
        self.away
            .retain(|away, how| away != peer || matches!(how, Away::Departed));
    }
}

struct BansEnd {
    members: Vec<Bans>,
}

impl Check for BansEnd {
    fn input(&mut self, scope: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        let bans = &mut self.members[moment.member];
        if let Some(peer) = std::mem::take(&mut bans.due).pop() {
            let number = scope.number(&peer)?;
            bans.forget(&peer);
            return Some(format!(
                "it no longer dials its neighbour, peer {number}, whose ban is over"
            ));
        }
        match input {
            Input::PeerUp { peer, .. } => bans.forget(peer),
            Input::PeerDown { peer } => {
                if let Some(away @ Away::Dismissed) = bans.away.get_mut(peer) {
                    *away = Away::Gone(moment.now);
                }
            }
            Input::TimerExpired(Timer::Redial) if !bans.away.is_empty() => {
                let neighbours = moment.peer.neighbours();
                let is_over =
                    |away: &Away| matches!(away, Away::Gone(at) if over(*at) < moment.now);
                let away = bans.away.iter();
                let due = away.filter(|(peer, away)| is_over(away) && neighbours.contains(*peer));
                bans.due = due.map(|(peer, _)| *peer).collect();
            }
            _ => {}
        }
        None
    }

    fn effect(&mut self, _: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        if let Effect::Connect { peer, .. } = effect {
            let bans = &mut self.members[moment.member];
            bans.due.retain(|due| due != peer);
            bans.forget(peer);
        }
        None
    }

    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let bans = &mut self.members[moment.member];
        match event {
            Event::Dismissed { peer, .. } if !scope.charter.topology.changes() => {
                bans.away.entry(*peer).or_insert(Away::Dismissed);
            }
            Event::Departed { peer, .. } => {
                bans.away.insert(*peer, Away::Departed);
            }
            _ => {}
        }
        None
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.members[moment.member] = Bans::default();
    }
}
