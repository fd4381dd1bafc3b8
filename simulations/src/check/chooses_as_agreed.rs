//! `chooses-as-agreed`: a round waits for and mixes only peers that its selection draws, no more of
//! them than the charter says, and, if that is agreed, those with the highest loss of the ones that
//! came.
//!
//! Anybody can repeat a draw: it follows from charter, round and the drawing peer. A `deadline`
//! selection follows from what only the peer itself has seen; `awaited-again` checks what can be
//! seen of it from outside.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_consensus::selection::{Candidate, stream};
use kith_gossip::{Effect, Event, Input, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "chooses-as-agreed",
    help: "a round waits for and mixes only peers that its selection chooses, and no more of them",
    source: "own",
    main_key: None,
    new: |scope| {
        Box::new(ChoosesAsAgreed {
            trained: vec![None; scope.ids.len()],
            losses: vec![BTreeMap::new(); scope.ids.len()],
            came: vec![BTreeSet::new(); scope.ids.len()],
        })
    },
};

/// Rounds whose losses are remembered: neighbours further apart no longer hear each other.
const ROUNDS_KEPT: usize = 16;

struct ChoosesAsAgreed {
    /// Per peer, the loss of its newest training.
    trained: Vec<Option<f64>>,
    /// Per peer and round, the loss that it promised; `None` if it promised two things (its disk
    /// was lost in between).
    losses: Vec<BTreeMap<u64, Option<f64>>>,
    /// Per peer, the senders whose update of its round came before that closed.
    came: Vec<BTreeSet<PeerId>>,
}

/// The neighbours that `member` draws in `round`; `None` if the selection draws nobody.
pub(super) fn drawn(scope: &Scope, member: usize, round: u64) -> Option<Vec<usize>> {
    let selection = &scope.charter.round.selection;
    if selection.is_everyone() || selection.takes_others() {
        return None;
    }
    let graph = scope.charter.topology.graph(scope.ids.len(), round).ok()?;
    let neighbours = graph.receives_from(member);
    let nothing_known = vec![Candidate::default(); neighbours.len()];
    let mut random = stream(scope.charter.seed, round, &scope.ids[member]);
    Some(
        selection
            .awaits(&nothing_known, 1, &mut random)
            .into_iter()
            .map(|place| neighbours[place])
            .collect(),
    )
}

impl ChoosesAsAgreed {
    /// What `of` promised as its loss, if it is honest and it is known.
    fn loss(&self, scope: &Scope, of: &PeerId, round: u64) -> Option<f64> {
        let number = scope.number(of).filter(|number| !scope.lies[*number])?;
        *self.losses[number].get(&round)?
    }

    fn mixed(&self, scope: &Scope, member: usize, round: u64, mixed: &BTreeSet<PeerId>) -> Breach {
        let selection = &scope.charter.round.selection;
        let drawn = drawn(scope, member, round)?;
        let ids: BTreeSet<PeerId> = drawn.iter().map(|number| scope.ids[*number]).collect();
        if let Some(stranger) = mixed.difference(&ids).next() {
            return Some(format!(
                "it mixed {} in round {round}, whom it did not draw",
                stranger.short()
            ));
        }
        let graph = scope.charter.topology.graph(scope.ids.len(), round).ok()?;
        let most = selection.mixed_of(graph.receives_from(member).len());
        if mixed.len() > most {
            return Some(format!(
                "it mixed {} neighbours in round {round}; {most} are agreed",
                mixed.len()
            ));
        }
        if !selection.needs_losses() {
            return None;
        }
        let least = mixed
            .iter()
            .filter_map(|peer| self.loss(scope, peer, round))
            .fold(f64::INFINITY, f64::min);
        let left_out = ids
            .intersection(&self.came[member])
            .filter(|peer| !mixed.contains(peer));
        left_out.filter_map(|peer| Some((peer, self.loss(scope, peer, round)?))).find(|(_, loss)| *loss > least).map(
            |(peer, loss)| {
                format!("in round {round} it left out {} with a loss of {loss} and mixed one of {least}", peer.short())
            },
        )
    }
}

impl Check for ChoosesAsAgreed {
    fn input(&mut self, scope: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        if let (true, Input::Trained { loss, .. }) =
            (scope.charter.round.selection.needs_losses(), input)
        {
            self.trained[moment.member] = Some(*loss);
        }
        None
    }

    fn effect(&mut self, scope: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        if let (true, Effect::Persist(Record::Intent(intent))) =
            (scope.charter.round.selection.needs_losses(), effect)
        {
            let promised = &mut self.losses[moment.member];
            let loss = self.trained[moment.member];
            promised
                .entry(intent.round)
                .and_modify(|before| *before = None)
                .or_insert(loss);
            while promised.len() > ROUNDS_KEPT {
                promised.pop_first();
            }
        }
        None
    }

    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let member = moment.member;
        match event {
            Event::RoundOpened { .. } if !scope.charter.round.selection.is_everyone() => {
                self.came[member].clear();
                None
            }
            Event::Accepted {
                round, peer, of, ..
            } if round == of && !scope.charter.round.selection.is_everyone() => {
                self.came[member].insert(*peer);
                None
            }
            Event::RoundClosed {
                round,
                awaited,
                missing,
                ..
            } => {
                let drawn = drawn(scope, member, *round)?;
                let stranger = missing.iter().find(|peer| {
                    scope
                        .number(peer)
                        .is_none_or(|number| !drawn.contains(&number))
                });
                if let Some(stranger) = stranger {
                    return Some(format!(
                        "it waited in round {round} for {}, whom it did not draw",
                        stranger.short()
                    ));
                }
                let drawn = drawn.len();
                (*awaited > drawn).then(|| {
                    format!("it waited for {awaited} neighbours in round {round} and drew {drawn}")
                })
            }
            Event::Aggregated { round, dropped, .. }
                if !scope.charter.round.selection.is_everyone() =>
            {
                let mixed = dropped.iter().map(|dropped| dropped.peer).collect();
                self.mixed(scope, member, *round, &mixed)
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.came[moment.member].clear();
    }
}
