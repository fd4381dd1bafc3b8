//! `push-sum`: averaging over edges that carry updates one way (Kempe, Dobra and Gehrke 2003), with
//! training in between (SGP, Assran et al. 2019, arXiv 1811.10792). Peers send sums over all
//! rounds, so the next message brings what a lost one carried.
//!
//! A peer holds a model z and a mass w, 1 at first. Training moves the numerator x = w z by its
//! change: x ← w z + (z′ − z). It keeps one share 1 / (receivers + 1) of x and w and gives one to
//! each receiver. It publishes σ, all that it gave to one receiver so far. A receiver of σ takes
//! what is new in it, σ − ρ, where ρ is the σ of last time, and z ← Σ x / Σ w. So a message that is
//! lost, late or repeated changes nothing: the mass in all peers and on its way always equals the
//! number of peers. Any strongly connected graph that does not change will do, however unbalanced,
//! with the rule `mean` over z weighed by mass.
//!
//! *Bits.* σ grows by the round, so in 32 bits the increment that a receiver sees is off by up to σ
//! 2⁻²⁵. Measured over four peers that only average: 4·10⁻⁵ of the model after a thousand rounds,
//! 7·10⁻³ after a hundred thousand. The sender debits what σ really grew by, so such errors move
//! shares between peers and lose nothing. Masses are two 32-bit floats each, 48 bits. Codecs that
//! lose bits of σ are refused.
//!
//! *Absence.* A peer that has heard nothing new since it last gave gives nothing and repeats σ, so
//! a peer that is cut off keeps what it has. Shares for a peer that stays away stay on their way,
//! and everybody's mass falls by as much. So the change of a training is divided by at least half
//! the mass that the graph settles at; otherwise steps would grow as masses fall. A peer that has
//! almost no mass left takes its settled mass anew: only then is mass made. A peer that comes back
//! late with its disk brings back old models with all that it was given. One that comes back
//! without its disk has lost what it held. It begins with no mass and gives nothing until it has
//! been given some. It opens a new account, which its receivers recognise by the round in which it
//! was opened. What senders gave before counts as given to the lost account.
//!
//! One liar moves the result anywhere, by mass as well. Bytes: three values more than `plain`.
//! Memory: one vector for each sender.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_consensus::aggregate::{Aggregate, AggregateError, Context, Contribution};
use kith_consensus::optimization::push_sum::{estimate, settled_masses, share};
use kith_consensus::topology::Graph;
use kith_consensus::{PeerId, Rule};

use super::{Algorithm, Training};
use crate::Parameters;
use crate::effect::Carried;
use crate::peer::window::Arrived;

/// Rounds that masses are followed to find where they settle; fewer if the graph has more than
/// [`EDGE_ENDS_MAX`] / this many edge ends. Fewer rounds affect a bound, not the result.
const SETTLING_ROUNDS: usize = 1000;
/// Most edge ends looked at, in all rounds, to find where masses settle.
const EDGE_ENDS_MAX: usize = 1_000_000;
/// The share of its settled mass below which a peer takes that mass anew (guess: 2⁻¹⁰ leaves an
/// increment of σ its leading digits, and a run of losses does not reach it).
const MASS_MIN: f64 = 1.0 / 1024.0;
/// Prefix of the names of taken sums; the sender follows.
const TAKEN_PREFIX: &str = "taken.";

pub(super) struct PushSum {
    dimension: usize,
    mass: f64,
    /// σ, as published; `None` before anything was given.
    given: Option<Parameters>,
    /// ρ by sender.
    taken: BTreeMap<PeerId, Parameters>,
    /// Whether something new came since the last giving.
    heard: bool,
    /// Whether it resumes from stored state.
    resumed: bool,
    /// The part of model and mass for each receiver, and how many those are.
    share: f64,
    receivers: f64,
    /// The mass at which the graph settles for this peer.
    settled: Option<f64>,
}

impl PushSum {
    pub(super) fn new(dimension: usize) -> PushSum {
        let (given, taken, settled) = (None, BTreeMap::new(), None);
        PushSum {
            dimension,
            mass: 1.0,
            given,
            taken,
            heard: true,
            resumed: false,
            share: 1.0,
            receivers: 0.0,
            settled,
        }
    }

    /// The mass of a row, or of a sum of them.
    fn mass_of(&self, row: &[f32]) -> f64 {
        joined(&row[self.dimension..])
    }
}

/// A number as two 32-bit floats.
fn parted(value: f64) -> [f32; 2] {
    let high = value as f32;
    [high, (value - f64::from(high)) as f32]
}

fn joined(parts: &[f32]) -> f64 {
    f64::from(parts[0]) + f64::from(parts[1])
}

impl Algorithm for PushSum {
    fn open(&mut self, graph: &Graph, place: usize) {
        (self.share, self.receivers) = (share(graph, place), graph.sends_to(place).len() as f64);
        let rounds = SETTLING_ROUNDS.min(EDGE_ENDS_MAX / graph.edge_ends().max(1));
        self.settled
            .get_or_insert_with(|| settled_masses(graph, rounds)[place]);
    }

    /// x / w where x = w z + (z′ − z).
    fn model(&self, training: &Training<'_>) -> Parameters {
        let divisor = self.mass.max(0.5 * self.settled.unwrap_or(0.0));
        let moved = |(start, end): (&f32, &f32)| {
            (f64::from(*start) + (f64::from(*end) - f64::from(*start)) / divisor) as f32
        };
        Arc::new(
            training
                .start
                .iter()
                .zip(training.end.iter())
                .map(moved)
                .collect(),
        )
    }

    fn added(&self, _: &Training<'_>) -> Vec<f32> {
        let [high, low] = parted(self.mass);
        vec![high, low, 0.0]
    }

    fn share(&self, row: &Parameters, round: u64) -> (Parameters, Parameters) {
        let nothing;
        let before: &[f32] = match &self.given {
            Some(given) => given,
            None => {
                nothing = self.nothing_since(round as f32);
                &nothing
            }
        };
        if !self.heard && self.given.is_some() {
            return (Arc::new(before.to_vec()), Arc::clone(row));
        }
        let (settled, mut mass) = (self.settled.unwrap_or(0.0), self.mass_of(row));
        if mass < MASS_MIN * settled {
            mass = settled;
        }
        let (given_mass, opened) = (self.mass_of(before), before[self.dimension + 2]);
        let [high, low] = parted(given_mass + self.share * mass);
        let kept_mass = mass - self.receivers * (joined(&[high, low]) - given_mass);
        let (mut told, mut kept) = (Vec::with_capacity(row.len()), Vec::with_capacity(row.len()));
        for (value, before) in row[..self.dimension].iter().zip(before) {
            let (numerator, before) = (mass * f64::from(*value), f64::from(*before));
            let sum = (before + self.share * numerator) as f32;
            told.push(sum);
            kept.push(
                ((numerator - self.receivers * (f64::from(sum) - before)) / kept_mass) as f32,
            );
        }
        told.extend([high, low, opened]);
        kept.extend(parted(kept_mass));
        kept.push(0.0);
        (Arc::new(told), Arc::new(kept))
    }

    fn lose_all(&mut self) {
        self.mass = 0.0;
    }

    fn shared(&mut self, told: &Parameters) {
        self.given = Some(Arc::clone(told));
    }

    fn models(
        &mut self,
        rows: &[(PeerId, Arrived)],
        own: usize,
        lost: bool,
        weights: &mut [f64],
    ) -> Vec<Vec<f32>> {
        let (dimension, own_row) = (self.dimension, &rows[own].1.values);
        let own_model = own_row[..dimension].to_vec();
        let mut models = vec![Vec::new(); rows.len()];
        for (index, (peer, arrived)) in rows.iter().enumerate() {
            let row = &arrived.values;
            (models[index], weights[index]) = (own_model.clone(), 0.0);
            if index == own {
                weights[index] = self.mass_of(row);
                continue;
            }
            let opened = row[dimension + 2];
            let before = match self
                .taken
                .get(peer)
                .filter(|before| before[dimension + 2] == opened)
            {
                Some(before) => Arc::clone(before),
                None if lost && !self.resumed && !self.taken.contains_key(peer) => {
                    // Mass given to this peer before it lost its disk was lost with the disk.
                    self.taken.insert(*peer, Arc::clone(row));
                    continue;
                }
                None => Arc::new(self.nothing_since(opened)),
            };
            // A sender that went back to an older checkpoint gives again what it gave before:
            // nothing is new until it is past that.
            let mass = self.mass_of(row) - self.mass_of(&before);
            if mass >= f64::from(f32::MIN_POSITIVE) {
                let fresh: Vec<f32> = row[..dimension]
                    .iter()
                    .zip(before.iter())
                    .map(|(now, before)| now - before)
                    .collect();
                let model = estimate(&fresh, mass);
                if model.iter().all(|value| value.is_finite()) {
                    (models[index], weights[index]) = (model, mass);
                    self.taken.insert(*peer, Arc::clone(row));
                }
            }
        }
        self.heard = weights
            .iter()
            .enumerate()
            .any(|(index, weight)| index != own && *weight > 0.0);
        self.mass = weights.iter().sum();
        if self.mass == 0.0 {
            weights[own] = 1.0; // nothing is held and nothing came
        } else {
            weights.iter_mut().for_each(|weight| *weight /= self.mass);
        }
        models
    }

    fn combine(
        &mut self,
        rule: &dyn Rule,
        context: &Context<'_>,
        models: &[Contribution<'_>],
        _beside: &[&[f32]],
    ) -> Result<Aggregate, AggregateError> {
        let mut aggregate = rule.aggregate(context, models)?;
        // Masses follow from the graph: a peer that brings little mass is not left out.
        let taken = models
            .iter()
            .filter(|model| model.mixing_weight > 0.0)
            .count() as f64;
        let equal = |model: &Contribution<'_>| {
            if model.mixing_weight > 0.0 {
                1.0 / taken
            } else {
                0.0
            }
        };
        aggregate.influence = models.iter().map(equal).collect();
        Ok(aggregate)
    }

    fn carried(&self) -> Carried {
        let [high, low] = parted(self.mass);
        let mass = (
            "mass".to_owned(),
            Arc::new(vec![high, low, f32::from(u8::from(self.heard))]),
        );
        let given = self
            .given
            .iter()
            .map(|given| ("given".to_owned(), Arc::clone(given)));
        let taken = self
            .taken
            .iter()
            .map(|(peer, taken)| (format!("{TAKEN_PREFIX}{peer}"), Arc::clone(taken)));
        given.chain(taken).chain([mass]).collect()
    }

    fn restore(&mut self, carried: &mut Carried) {
        let Some(mass) = carried.remove("mass") else {
            return;
        };
        (self.mass, self.heard, self.resumed) = (joined(&mass), mass.get(2) != Some(&0.0), true);
        self.given = carried.remove("given");
        let taken = |(name, vector): (&String, &Parameters)| {
            let peer = name.strip_prefix(TAKEN_PREFIX)?.parse::<PeerId>().ok()?;
            Some((peer, Arc::clone(vector)))
        };
        self.taken = carried.iter().filter_map(taken).collect();
    }
}

impl PushSum {
    /// The sum of nothing, in an account opened in that round.
    fn nothing_since(&self, opened: f32) -> Vec<f32> {
        let mut nothing = vec![0.0; self.dimension + 3];
        nothing[self.dimension + 2] = opened;
        nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::Seed;
    use kith_consensus::optimization::push_sum::{Part, gather};

    const DIMENSION: usize = 3;

    /// 0 → 1, 2, 3; 1 → 2; 2 → 3; 3 → 0: nobody receives what it sends.
    fn graph() -> Graph {
        Graph::new_directed(&[
            vec![(1, 0.5), (2, 0.3), (3, 0.3)],
            vec![(2, 0.3)],
            vec![(3, 0.3)],
            vec![(0, 0.5)],
        ])
        .unwrap()
    }

    fn id(place: usize) -> PeerId {
        PeerId([place as u8; 32])
    }

    fn arrived(values: &Parameters) -> Arrived {
        Arrived {
            values: Arc::clone(values),
            state: None,
            age: 0,
            samples: 1,
        }
    }

    /// Peers that average without training, as the peer drives the algorithm.
    struct Peers {
        graph: Graph,
        algorithms: Vec<PushSum>,
        models: Vec<Parameters>,
    }

    impl Peers {
        fn new() -> Peers {
            let models = (0..4)
                .map(|place| {
                    Arc::new(
                        (0..DIMENSION)
                            .map(|column| (place * 53 + column * 7) as f32 / 10.0)
                            .collect(),
                    )
                })
                .collect();
            Peers {
                graph: graph(),
                algorithms: (0..4).map(|_| PushSum::new(DIMENSION)).collect(),
                models,
            }
        }

        /// One round; `heard` says whether a message from one to another gets through.
        fn round(&mut self, round: u64, mut heard: impl FnMut(usize, usize) -> bool) {
            let mut told = Vec::new();
            let mut kept = Vec::new();
            for (place, algorithm) in self.algorithms.iter_mut().enumerate() {
                algorithm.open(&self.graph, place);
                let training = Training {
                    start: &self.models[place],
                    end: &self.models[place],
                    reach: 0.0,
                    rate: 0.0,
                };
                let row = algorithm
                    .model(&training)
                    .iter()
                    .copied()
                    .chain(algorithm.added(&training))
                    .collect();
                let (gives, keeps) = algorithm.share(&Arc::new(row), round);
                algorithm.shared(&gives);
                told.push(gives);
                kept.push(keeps);
            }
            for (place, algorithm) in self.algorithms.iter_mut().enumerate() {
                let senders = self
                    .graph
                    .receives_from(place)
                    .iter()
                    .filter(|from| heard(**from, place));
                let mut rows: Vec<(PeerId, Arrived)> = senders
                    .map(|from| (id(*from), arrived(&told[*from])))
                    .collect();
                rows.push((id(place), arrived(&kept[place])));
                rows.sort_by_key(|(peer, _)| *peer);
                let own = rows
                    .iter()
                    .position(|(peer, _)| *peer == id(place))
                    .unwrap();
                let mut weights = vec![0.0; rows.len()];
                let models = algorithm.models(&rows, own, false, &mut weights);
                let value = |column: usize| {
                    models
                        .iter()
                        .zip(&weights)
                        .map(|(model, weight)| weight * f64::from(model[column]))
                        .sum::<f64>()
                };
                self.models[place] =
                    Arc::new((0..DIMENSION).map(|column| value(column) as f32).collect());
            }
        }

        /// Mass in all peers and on its way; and of each numerator.
        fn sums(&self) -> Vec<f64> {
            let mut sums = vec![0.0; DIMENSION + 1];
            let mut add = |factor: f64, row: &[f32]| {
                (0..DIMENSION).for_each(|column| sums[column] += factor * f64::from(row[column]));
                sums[DIMENSION] += factor * joined(&row[DIMENSION..]);
            };
            for (place, algorithm) in self.algorithms.iter().enumerate() {
                let numerator = |value: &f32| (algorithm.mass * f64::from(*value)) as f32;
                let held: Vec<f32> = self.models[place]
                    .iter()
                    .map(numerator)
                    .chain(parted(algorithm.mass))
                    .collect();
                add(1.0, &held);
                algorithm
                    .given
                    .iter()
                    .for_each(|given| add(algorithm.receivers, given));
                algorithm.taken.values().for_each(|taken| add(-1.0, taken));
            }
            sums
        }
    }

    #[test]
    fn without_losses_it_is_the_formula() {
        let mut peers = Peers::new();
        let mut state: Vec<(Vec<f32>, f64)> = peers
            .models
            .iter()
            .map(|model| (model.to_vec(), 1.0))
            .collect();
        for round in 0..60 {
            peers.round(round, |_, _| true);
            let next = |place: usize| {
                let part = |from: usize| Part {
                    values: &state[from].0,
                    mass: state[from].1,
                    share: share(&peers.graph, from),
                };
                let senders = peers
                    .graph
                    .receives_from(place)
                    .iter()
                    .copied()
                    .chain([place]);
                gather(&senders.map(part).collect::<Vec<_>>())
            };
            state = (0..4).map(next).collect();
            for (place, (values, mass)) in state.iter().enumerate() {
                assert!(
                    (peers.algorithms[place].mass - mass).abs() < 1e-9,
                    "round {round}"
                );
                for (found, expected) in peers.models[place].iter().zip(estimate(values, *mass)) {
                    assert!(
                        (found - expected).abs() < 1e-3,
                        "round {round}: {found}, expected {expected}"
                    );
                }
            }
        }
        assert!(
            peers
                .models
                .iter()
                .all(|model| (model[0] - 7.95).abs() < 1e-3),
            "{:?}",
            peers.models
        );
    }

    #[test]
    fn nothing_is_lost_with_messages_and_everybody_comes_to_the_mean() {
        for seed in 0..10 {
            let mut random = Seed::from_number(seed).stream("losses");
            let mut peers = Peers::new();
            let sums = peers.sums();
            for round in 0..200 {
                let lossy = round < 100;
                peers.round(round, |_, _| !lossy || random.unit() < 0.5);
                for (found, expected) in peers.sums().iter().zip(&sums) {
                    assert!(
                        (found - expected).abs() < 2e-3,
                        "seed {seed}, round {round}: {:?}, at first {sums:?}",
                        peers.sums()
                    );
                }
                assert!(
                    (peers.sums()[DIMENSION] - 4.0).abs() < 1e-9,
                    "seed {seed}, round {round}: the mass"
                );
                // A restart from what was stored changes nothing.
                let carried = peers.algorithms[2].carried();
                peers.algorithms[2] = PushSum::new(DIMENSION);
                peers.algorithms[2].restore(&mut carried.clone());
                peers.algorithms[2].open(&peers.graph, 2);
                assert_eq!(peers.algorithms[2].carried(), carried);
            }
            assert!(
                peers
                    .models
                    .iter()
                    .all(|model| (model[0] - 7.95).abs() < 2e-3),
                "seed {seed}: {:?}",
                peers.models
            );
        }
    }

    /// The error of 32-bit sums after very many rounds, as the head of this file states.
    #[test]
    fn sums_over_a_hundred_thousand_rounds_still_tell_a_model() {
        let mut peers = Peers::new();
        let mut worst = [0f32; 2];
        for round in 0..100_000 {
            peers.round(round, |_, _| true);
            let off = peers
                .models
                .iter()
                .map(|model| (model[0] - 7.95).abs())
                .fold(0.0, f32::max);
            if round >= 900 {
                worst[usize::from(round >= 1000)] = worst[usize::from(round >= 1000)].max(off);
            }
        }
        assert!(worst[0] < 1e-3 && worst[1] < 0.1, "{worst:?}");
    }

    #[test]
    fn who_comes_back_without_its_disk_neither_takes_twice_nor_gives_what_is_less() {
        let mut peers = Peers::new();
        (0..20).for_each(|round| peers.round(round, |_, _| true));
        // Peer 2 lost its disk: peer 1 knows it by the account, peer 2 takes nothing from before.
        let mut anew = PushSum::new(DIMENSION);
        anew.open(&peers.graph, 2);
        let told = peers.algorithms[1].given.clone().unwrap();
        let own: Parameters = Arc::new(vec![0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        let mut weights = vec![0.0; 2];
        anew.models(
            &[(id(1), arrived(&told)), (id(2), arrived(&own))],
            1,
            true,
            &mut weights,
        );
        assert_eq!((weights, anew.mass), (vec![0.0, 1.0], 1.0));
        let (told, kept) = anew.share(&own, 20);
        anew.shared(&told);
        assert_eq!(told.as_slice(), [0.0, 0.0, 0.0, 0.5, 0.0, 20.0]);
        let mut weights = vec![0.0; 2];
        let before = peers.algorithms[3].mass;
        let held: Parameters = Arc::new(
            peers.models[3]
                .iter()
                .copied()
                .chain(parted(before))
                .chain([0.0])
                .collect(),
        );
        peers.algorithms[3].models(
            &[(id(2), arrived(&told)), (id(3), arrived(&held))],
            1,
            false,
            &mut weights,
        );
        assert!(
            (peers.algorithms[3].mass - before - 0.5).abs() < 1e-9,
            "what was given anew is taken, and no more"
        );
        assert_eq!(kept[DIMENSION], 0.5);
    }

    #[test]
    fn whoever_has_lost_all_holds_what_it_is_given_and_nothing_else() {
        let mut algorithm = PushSum::new(1);
        algorithm.open(&graph(), 0);
        algorithm.lose_all();
        let start: Parameters = Arc::new(vec![9.0]);
        let training = Training {
            start: &start,
            end: &start,
            reach: 0.0,
            rate: 0.0,
        };
        let own: Parameters = Arc::new(
            start
                .iter()
                .copied()
                .chain(algorithm.added(&training))
                .collect(),
        );
        let told =
            |value: f32, mass: f32| -> Parameters { Arc::new(vec![mass * value, mass, 0.0, 0.0]) };
        let mut hear = |row: Parameters| {
            let mut weights = vec![0.0; 2];
            let models = algorithm.models(
                &[(id(0), arrived(&own)), (id(3), arrived(&row))],
                0,
                true,
                &mut weights,
            );
            (models[1].clone(), weights, algorithm.mass)
        };
        // Mass given to it before is lost, and its own model stays as long as there is no other.
        assert_eq!(hear(told(5.0, 1.0)).1, [1.0, 0.0]);
        let (model, weights, mass) = hear(told(5.0, 1.5));
        assert_eq!((model, weights, mass), (vec![5.0], vec![0.0, 1.0], 0.5));
    }

    #[test]
    fn steps_do_not_grow_as_masses_fall_and_who_has_next_to_nothing_takes_its_mass_anew() {
        let mut algorithm = PushSum::new(1);
        algorithm.open(&graph(), 0);
        let settled = algorithm.settled.unwrap();
        algorithm.mass = settled / 4096.0;
        let (start, end) = (Arc::new(vec![1.0f32]), Arc::new(vec![2.0f32]));
        let training = Training {
            start: &start,
            end: &end,
            reach: 1.0,
            rate: 1.0,
        };
        let model = algorithm.model(&training);
        assert!(
            f64::from(model[0]) <= 1.0 + 2.0 / settled + 1e-6,
            "{model:?} with a settled mass of {settled}"
        );
        let row: Parameters = Arc::new(
            model
                .iter()
                .copied()
                .chain(algorithm.added(&training))
                .collect(),
        );
        let (told, kept) = algorithm.share(&row, 7);
        assert!(
            (algorithm.mass_of(&told) - settled / 4.0).abs() < 1e-6 && told[3] == 7.0,
            "{told:?}"
        );
        assert!(
            (algorithm.mass_of(&kept) - settled / 4.0).abs() < 1e-6,
            "{kept:?}"
        );
        // And a peer that has heard nothing keeps it all.
        algorithm.shared(&told);
        algorithm.heard = false;
        assert_eq!(algorithm.share(&row, 8), (told, row));
    }
}
