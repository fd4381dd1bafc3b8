//! `adopts-as-agreed`: a peer that takes another's model takes, unchanged, the one that the
//! topology names and that came. It keeps its own if the round asks no rule and none came. Of
//! alternative senders only the best that came counts.

use std::collections::BTreeMap;

use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::topology::Graph;
use kith_consensus::{Digest, PeerId};
use kith_gossip::{Effect, Event, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "adopts-as-agreed",
    help: "a peer that takes another's model takes the best that the topology names and that came, unchanged",
    source: "own",
    main_key: None,
    new: |scope| {
        let peers = scope.ids.len();
        Box::new(AdoptsAsAgreed {
            may_adopt: scope.charter.topology.has_stages(peers),
            seats: vec![Seat::default(); peers],
            published: vec![BTreeMap::new(); peers],
        })
    },
};

/// Rounds whose updates are remembered: neighbours further apart no longer hear each other.
const ROUNDS_KEPT: usize = 16;

#[derive(Clone, Debug, Default)]
struct Seat {
    /// The peers whose update of this peer's round came in, since that round began.
    came: Vec<PeerId>,
    /// The reported result of the round that is being stored.
    adopted: Option<Digest>,
}

impl Seat {
    /// Of alternatives that came, the best must be the one that counts, and no other. Liars may
    /// have been taken out again.
    fn passed_over(
        &self,
        scope: &Scope,
        graph: &Graph,
        member: usize,
        counted: &[usize],
    ) -> Breach {
        for group in graph.alternatives(member) {
            let counts: Vec<usize> = group
                .iter()
                .copied()
                .filter(|peer| counted.contains(peer))
                .collect();
            if counts.len() > 1 {
                return Some(format!(
                    "{} and {} count, which are alternatives",
                    counts[0], counts[1]
                ));
            }
            let came =
                |peer: &&usize| !scope.lies[**peer] && self.came.contains(&scope.ids[**peer]);
            let best = group.iter().find(came);
            let worse = counts
                .first()
                .zip(best)
                .filter(|(counts, best)| graph.rank(member, **counts) > graph.rank(member, **best));
            if let Some((counts, best)) = worse {
                return Some(format!(
                    "{counts} counts, though {best} came, which is the better alternative"
                ));
            }
        }
        None
    }
}

struct AdoptsAsAgreed {
    /// Whether the topology lets any peer adopt a model. Otherwise nobody may, and nothing need be
    /// remembered.
    may_adopt: bool,
    seats: Vec<Seat>,
    /// Per peer, the state it promised by round; `None` if it promised two (its disk was lost in
    /// between).
    published: Vec<BTreeMap<u64, Option<Digest>>>,
}

impl Check for AdoptsAsAgreed {
    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        let seat = &mut self.seats[moment.member];
        match event {
            Event::RoundOpened { .. } if self.may_adopt => *seat = Seat::default(),
            Event::Accepted {
                round, of, peer, ..
            } if self.may_adopt && round == of => seat.came.push(*peer),
            Event::Adopted { round, peer, state } => {
                seat.adopted = Some(*state);
                let graph = scope.charter.topology.graph(scope.ids.len(), *round).ok()?;
                let number = scope.number(peer)?;
                if !graph.adopts(moment.member)
                    || !graph.receives_from(moment.member).contains(&number)
                {
                    return Some(format!(
                        "in round {round} it took the model of {number}, whom the topology does not name"
                    ));
                }
                if !seat.came.contains(peer) {
                    return Some(format!(
                        "in round {round} it took the model of {number}, which had not come"
                    ));
                }
                if let Some(breach) = seat.passed_over(scope, &graph, moment.member, &[number]) {
                    return Some(format!("in round {round} {breach}"));
                }
                let told = self.published[number]
                    .get(round)
                    .filter(|_| !scope.lies[number])?
                    .as_ref()?;
                return (told != state).then(|| {
                    format!("in round {round} it took the model of {number}, and it is another one")
                });
            }
            Event::Aggregated { round, dropped, .. } => {
                let graph = scope.charter.topology.graph(scope.ids.len(), *round).ok()?;
                if graph.has_alternatives() {
                    let counted: Vec<usize> = dropped
                        .iter()
                        .filter_map(|dropped| scope.number(&dropped.peer))
                        .collect();
                    let breach = seat.passed_over(scope, &graph, moment.member, &counted)?;
                    return Some(format!("in round {round} {breach}"));
                }
            }
            Event::Equivocated { peer, .. } => seat.came.retain(|came| came != peer),
            Event::Kept { round, expected } => {
                let graph = scope.charter.topology.graph(scope.ids.len(), *round).ok()?;
                let (named, adopts) = (
                    graph.receives_from(moment.member),
                    graph.adopts(moment.member),
                );
                if *expected != adopts || (!adopts && !named.is_empty()) {
                    return Some(format!(
                        "in round {round} it asked no rule, though {} peers send to it",
                        named.len()
                    ));
                }
            }
            _ => {}
        }
        None
    }

    fn effect(&mut self, _: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        match effect {
            Effect::Persist(Record::Intent(intent)) if self.may_adopt => {
                let published = &mut self.published[moment.member];
                let entry = published.entry(intent.round).or_insert(Some(intent.state));
                if entry.is_some_and(|before| before != intent.state) {
                    *entry = None;
                }
                while published.len() > ROUNDS_KEPT {
                    published.pop_first();
                }
                None
            }
            Effect::Persist(Record::Checkpoint(checkpoint)) if self.may_adopt => {
                let adopted = self.seats[moment.member].adopted.take()?;
                let stored = Digest::of_values(&checkpoint.parameters);
                (adopted != stored).then(|| {
                    format!(
                        "it stores another model after {} rounds than it took",
                        checkpoint.round
                    )
                })
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        self.seats[moment.member] = Seat::default();
    }
}
