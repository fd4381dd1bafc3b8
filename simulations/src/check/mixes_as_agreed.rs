//! `mixes-as-agreed`: a round's result is what the rule makes of the models that went in.
//!
//! Watched if it can be seen from outside: every combined model is an honest peer's, and the codec
//! is exact. Then the plain mean must be W's row. The peer's own model gets the weight of absent
//! peers, and the chosen peers get the weight of those not chosen. Any other rule must stay between
//! the least and the greatest value of each coordinate.

use std::collections::BTreeMap;

use super::chooses_as_agreed::drawn;
use super::{Breach, Check, CheckEntry, Scope};
use crate::simulator::Moment;
use kith_consensus::PeerId;
use kith_consensus::charter::{Space, Weighting};
use kith_consensus::mode::Mode;
use kith_consensus::optimization::Method;
use kith_gossip::{Effect, Event, Input, Parameters, Record};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    name: "mixes-as-agreed",
    help: "a round's model is what the rule makes of the models that came in",
    source: "own",
    main_key: None,
    new: |scope| {
        let kind = scope
            .charter
            .canonical
            .get("codec")
            .and_then(|codec| codec.get("kind"))
            .and_then(|kind| kind.as_str());
        let aggregation = &scope.charter.aggregation;
        // Larger models would be kept for many rounds of many peers. With momentum, values sent
        // besides the models, or weights by age, the result is no plain mean.
        let plain = aggregation.momentum == 0.0
            && aggregation.method == Method::Plain
            && scope.charter.round.mode == Mode::Synchronous;
        let watches = plain
            && kind == Some("identity")
            && aggregation.on == Space::Models
            && scope.ids.len() <= PEERS_MAX;
        let exact =
            aggregation.rule.name() == "mean" && matches!(aggregation.weighting, Weighting::Mixing);
        Box::new(MixesAsAgreed {
            watches,
            exact,
            published: vec![BTreeMap::new(); scope.ids.len()],
            own: vec![None; scope.ids.len()],
            combined: vec![None; scope.ids.len()],
        })
    },
};

/// In larger worlds this is not watched (guess: 64 peers show enough).
const PEERS_MAX: usize = 64;

/// Rounds whose models are remembered: neighbours further apart no longer hear each other.
const ROUNDS_KEPT: usize = 16;

struct MixesAsAgreed {
    watches: bool,
    exact: bool,
    /// Per peer, the vector that it promised, by round; `None` if it promised two things (its disk
    /// was lost in between).
    published: Vec<BTreeMap<u64, Option<Parameters>>>,
    /// Per peer, the result of its own training.
    own: Vec<Option<Parameters>>,
    /// Per peer, the round combined last and the senders of its models; its checkpoint takes this
    /// out.
    combined: Vec<Option<(u64, Vec<PeerId>)>>,
}

impl Check for MixesAsAgreed {
    fn input(&mut self, _: &Scope, moment: &Moment<'_>, input: &Input) -> Breach {
        match input {
            _ if !self.watches => {}
            Input::Trained {
                round, parameters, ..
            } if *round == moment.peer.round() => {
                self.own[moment.member] = Some(Parameters::clone(parameters));
            }
            Input::TrainingFailed { .. } => self.own[moment.member] = None,
            Input::Start { intent, .. } => {
                self.own[moment.member] =
                    intent.as_ref().map(|intent| Parameters::clone(&intent.own));
            }
            _ => {}
        }
        None
    }

    fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) -> Breach {
        match event {
            _ if !self.watches => {}
            Event::Aggregated { round, dropped, .. } => {
                self.combined[moment.member] =
                    Some((*round, dropped.iter().map(|dropped| dropped.peer).collect()));
            }
            Event::TrainingFailed { .. }
            | Event::BudgetExhausted { .. }
            | Event::Unanswered { .. } => self.own[moment.member] = None,
            // In a round without training, the peer's own model is the one that it promises.
            Event::RoundOpened { round, .. } if !scope.charter.topology.trains(*round) => {
                self.own[moment.member] = None
            }
            _ => {}
        }
        None
    }

    fn effect(&mut self, scope: &Scope, moment: &Moment<'_>, effect: &Effect) -> Breach {
        match effect {
            Effect::Persist(Record::Intent(intent)) if self.watches => {
                self.own[moment.member] = Some(Parameters::clone(&intent.own));
                let published = &mut self.published[moment.member];
                let entry = published
                    .entry(intent.round)
                    .or_insert_with(|| Some(Parameters::clone(&intent.own)));
                if entry.as_ref().is_some_and(|before| *before != intent.own) {
                    *entry = None;
                }
                while published.len() > ROUNDS_KEPT {
                    published.pop_first();
                }
                None
            }
            Effect::Persist(Record::Checkpoint(checkpoint)) if self.watches => {
                let (round, peers) = self.combined[moment.member].take()?;
                let own = self.own[moment.member].as_ref()?;
                let graph = scope.charter.topology.graph(scope.ids.len(), round).ok()?;
                let mut rows: Vec<(f64, &[f32])> = Vec::with_capacity(peers.len() + 1);
                for peer in &peers {
                    let number = scope.number(peer).filter(|number| !scope.lies[*number])?;
                    let model = self.published[number].get(&round)?.as_ref()?;
                    rows.push((graph.mixing_weight(moment.member, number), model));
                }
                if let Some(drawn) = drawn(scope, moment.member, round) {
                    let weight = |number: &usize| graph.mixing_weight(moment.member, *number);
                    let all: Vec<f64> = graph
                        .receives_from(moment.member)
                        .iter()
                        .map(weight)
                        .collect();
                    let drawn: Vec<f64> = drawn.iter().map(weight).collect();
                    let mixed: Vec<f64> = rows.iter().map(|(weight, _)| *weight).collect();
                    let factor = scope.charter.round.selection.factor(&all, &drawn, &mixed);
                    rows.iter_mut().for_each(|(weight, _)| *weight *= factor);
                }
                rows.push((
                    1.0 - rows.iter().map(|(weight, _)| weight).sum::<f64>(),
                    own,
                ));
                compare(&rows, &checkpoint.parameters, self.exact).map(|what| {
                    format!(
                        "in round {round} it made of {} honest models one whose {what}",
                        rows.len()
                    )
                })
            }
            _ => None,
        }
    }

    fn crashed(&mut self, _: &Scope, moment: &Moment<'_>) {
        (self.own[moment.member], self.combined[moment.member]) = (None, None);
    }
}

fn compare(rows: &[(f64, &[f32])], result: &[f32], exact: bool) -> Option<String> {
    result.iter().enumerate().find_map(|(column, value)| {
        let values = || rows.iter().map(|(_, row)| f64::from(row[column]));
        let (low, high) = values()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let slack = 1e-5 * (1.0 + low.abs().max(high.abs())); // rounding to f32
        let value = f64::from(*value);
        if value < low - slack || value > high + slack {
            return Some(format!(
                "coordinate {column} is {value}, they lie between {low} and {high}"
            ));
        }
        let mean: f64 = rows
            .iter()
            .map(|(weight, row)| weight * f64::from(row[column]))
            .sum();
        let off = exact && (value - mean).abs() > slack;
        off.then(|| format!("coordinate {column} is {value}, their mean by weight is {mean}"))
    })
}
