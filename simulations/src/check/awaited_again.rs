//! `awaited-again`: a neighbour that was on time in the last round is waited for in the next,
//! unless it has gone through all.
//!
//! If the charter selects, this holds for those that are mixed again. If it selects by deadline, a
//! late peer is not waited for. Then every neighbour that may still come is awaited or mixed at
//! least once in `fairness` rounds.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_consensus::mode::Mode;
use kith_gossip::Event;

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "awaited-again",
    help: "a neighbour that was on time is waited for in the next round, or, selected by deadline, every `fairness` rounds",
    source: "own",
    main_key: None,
    new: |scope| {
        let fairness = scope
            .charter
            .canonical
            .get("round")
            .and_then(|round| round.get("fairness"));
        Box::new(AwaitedAgain {
            seats: vec![Seat::default(); scope.ids.len()],
            finished: scope.lies.clone(),
            fairness: fairness
                .and_then(toml::Value::as_integer)
                .map(|rounds| rounds as u64),
        })
    },
};

#[derive(Clone, Debug, Default)]
struct Seat {
    /// The last round, and the peers combined in it.
    last: (u64, Vec<PeerId>),
    /// Those awaited when the newest round closed.
    awaited: usize,
    /// Those of them that were missing, or refused.
    missing: BTreeSet<PeerId>,
    /// (Round, peer) of each message that a peer has no update of a round: nobody waits for it
    /// there.
    silent: BTreeSet<(u64, PeerId)>,
    /// The last round in which each neighbour was awaited or mixed.
    seen: BTreeMap<PeerId, u64>,
    /// How often each neighbour was no longer waited for.
    lapses: BTreeMap<PeerId, u32>,
    /// Neighbours that are not waited for, and in how many rounds they were mixed since.
    lapsed: BTreeMap<PeerId, u64>,
    /// Those of them for which the newest round did not wait when it opened.
    unawaited: BTreeSet<PeerId>,
}

impl Seat {
    /// The neighbours that were mixed in a round. One that has lapsed for the n-th time has to be on
    /// time 2ⁿ⁻¹ times, at most 64.
    fn mixed(&mut self, now: &[PeerId]) -> Breach {
        /// A round in which it is mixed may have opened before it was waited for again.
        const SLACK: u64 = 1;
        let mut kept_out = None;
        for (peer, times) in &mut self.lapsed {
            if self.unawaited.contains(peer) && now.contains(peer) {
                *times += 1;
                let lapses = self.lapses.get(peer).copied().unwrap_or(1).min(7);
                if *times > (1 << (lapses - 1)) + SLACK {
                    kept_out = Some((*peer, *times));
                }
            }
        }
        kept_out.map(|(peer, times)| {
            format!(
                "it has not waited for {} though that was on time {times} times",
                peer.short()
            )
        })
    }
}

struct AwaitedAgain {
    seats: Vec<Seat>,
    /// Peers that may have said goodbye: nobody waits for them, though their earlier updates count.
    finished: Vec<bool>,
    /// Rounds after which everybody is awaited again, if the charter selects by deadline.
    fairness: Option<u64>,
}

impl AwaitedAgain {
    /// A round is over: `mixed` are those combined, `None` if mixing was skipped and nothing is
    /// known.
    fn over(
        &mut self,
        scope: &Scope,
        member: usize,
        round: u64,
        mixed: Option<&BTreeSet<PeerId>>,
    ) -> Breach {
        let fairness = self.fairness?;
        let seat = &mut self.seats[member];
        let mut missing = std::mem::take(&mut seat.missing);
        missing.extend(
            seat.silent
                .iter()
                .filter(|(of, _)| *of == round)
                .map(|(_, peer)| *peer),
        );
        seat.silent.retain(|(of, _)| *of > round);
        let graph = scope.charter.topology.graph(scope.ids.len(), round).ok()?;
        let mut forgotten = None;
        for number in graph.receives_from(member) {
            let peer = scope.ids[*number];
            if self.finished[*number]
                || missing.contains(&peer)
                || mixed.is_none_or(|mixed| mixed.contains(&peer))
            {
                seat.seen.insert(peer, round);
            } else if seat
                .seen
                .get(&peer)
                .is_none_or(|seen| round - seen >= fairness)
            {
                forgotten = Some(peer);
            }
        }
        forgotten.map(|peer| {
            format!(
                "in round {round} it has not waited for {} for {fairness} rounds",
                peer.short()
            )
        })
    }
}

impl Check for AwaitedAgain {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        if scope.charter.round.mode != Mode::Synchronous {
            return None; // nobody is waited for
        }
        let seat = &mut self.seats[moment.member];
        match event {
            Event::RoundClosed {
                awaited, missing, ..
            } => {
                seat.awaited = *awaited;
                seat.missing.extend(missing);
                None
            }
            Event::RoundOpened { .. } => {
                seat.unawaited = seat.lapsed.keys().copied().collect();
                None
            }
            Event::NoLongerAwaited { peer, .. } => {
                *seat.lapses.entry(*peer).or_default() += 1;
                seat.lapsed.insert(*peer, 0);
                None
            }
            // It takes as long as if it had been late once more until it is waited for again.
            Event::Dismissed { peer, .. } => {
                *seat.lapses.entry(*peer).or_default() += 1;
                seat.lapsed.insert(*peer, 0);
                None
            }
            Event::AwaitedAgain { peer } => {
                seat.lapsed.remove(peer);
                None
            }
            Event::Refused { peer, .. } => {
                seat.missing.insert(*peer); // it has spoken; nobody waits for it any more
                None
            }
            // Also if it comes all the same: in another life it may have an update.
            Event::Skipped { peer, round } => {
                seat.silent.insert((*round, *peer));
                None
            }
            Event::CaughtUp { round, .. } | Event::MixingSkipped { round, .. } => {
                self.over(scope, moment.member, *round, None)
            }
            Event::Aggregated { round, dropped, .. } if self.fairness.is_some() => {
                let mixed = dropped.iter().map(|dropped| dropped.peer).collect();
                self.over(scope, moment.member, *round, Some(&mixed))
            }
            Event::Aggregated { round, dropped, .. } => {
                let now: Vec<PeerId> = dropped.iter().map(|dropped| dropped.peer).collect();
                let kept_out = seat.mixed(&now);
                if kept_out.is_some() {
                    return kept_out;
                }
                let was = |peer: &&PeerId| seat.last.0 + 1 == *round && seat.last.1.contains(peer);
                let stays = |peer: &&PeerId| {
                    let finished = |number: usize| self.finished[number];
                    !seat.unawaited.contains(peer)
                        && !seat.silent.contains(&(*round, **peer))
                        && scope.number(peer).is_some_and(|number| !finished(number))
                };
                let awaited = seat.awaited;
                // Mostly no peer has to be looked up.
                let more = now.iter().filter(was).count() > awaited;
                let again = if more {
                    now.iter().filter(was).filter(stays).count()
                } else {
                    0
                };
                seat.last = (*round, now);
                seat.silent.retain(|(of, _)| *of > *round);
                (awaited < again).then(|| {
                    format!("it waited for {awaited} neighbours in round {round}; {again} of those that came were on time before")
                })
            }
            Event::Finished { .. } => {
                self.finished[moment.member] = true;
                None
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.seats[moment.member] = Seat::default();
    }
}
