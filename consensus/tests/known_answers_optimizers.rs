//! Reference results for the mathematics of training in rounds: `optimizers.json` of the known
//! answers.
//!
//! Every peer's objective is ½ c ‖x − o‖² with its own curvature c and optimum o, so that every
//! answer is a number. Local training is a loop here; averaging is the rule `mean` over a row of a
//! graph's mixing matrix; the rest is `optimization`. An unknown kind or expectation fails.

#![allow(clippy::unwrap_used)] // helpers of tests count as tests

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Index;
use std::path::PathBuf;

use kith_consensus::aggregate::{Context, Contribution, rule_from_text};
use kith_consensus::optimization::fednova::{self, LocalTraining, Normalised};
use kith_consensus::optimization::push_sum::{self, Part};
use kith_consensus::optimization::staleness::StalenessWeight;
use kith_consensus::optimization::{gradient_tracking, scaffold, server_momentum};
use kith_consensus::{Graph, PeerId};
use serde_json::Value;

type Vector = Vec<f32>;

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn vector(value: &Value) -> Vector {
    numbers(value).iter().map(|number| *number as f32).collect()
}

fn vectors(value: &Value) -> Vec<Vector> {
    value.as_array().unwrap().iter().map(vector).collect()
}

fn integers(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_u64().unwrap() as usize)
        .collect()
}

fn lists(value: &Value) -> Vec<Vec<usize>> {
    value.as_array().unwrap().iter().map(integers).collect()
}

/// Compares what was found with `expected[key]`, and remembers that it was.
struct Checker<'a> {
    id: &'a str,
    expected: &'a Value,
    tolerance: (f64, f64),
    checked: Vec<String>,
}

impl Checker<'_> {
    fn numbers(&mut self, key: &str, found: &[f64]) {
        let expected = if self.expected[key].is_array() {
            numbers(&self.expected[key])
        } else {
            vec![self.expected[key].as_f64().unwrap()]
        };
        self.same(key, found, &expected);
    }

    fn vectors(&mut self, key: &str, found: &[Vector]) {
        let expected: Vec<f64> = self.expected[key]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(numbers)
            .collect();
        let found: Vec<f64> = found
            .iter()
            .flatten()
            .map(|value| f64::from(*value))
            .collect();
        self.same(key, &found, &expected);
    }

    fn tells(&self, key: &str) -> bool {
        self.expected.get(key).is_some()
    }

    fn vectors_if_told(&mut self, key: &str, found: &[Vector]) {
        if self.tells(key) {
            self.vectors(key, found);
        }
    }

    fn vector(&mut self, key: &str, found: &[f32]) {
        self.numbers(
            key,
            &found
                .iter()
                .map(|value| f64::from(*value))
                .collect::<Vec<_>>(),
        );
    }

    fn same(&mut self, key: &str, found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len(), "{}: {key}", self.id);
        for (found, expected) in found.iter().zip(expected) {
            let allowed = self.tolerance.0 + self.tolerance.1 * expected.abs();
            assert!(
                (found - expected).abs() <= allowed,
                "{}: {key} is {found}, expected {expected}",
                self.id
            );
        }
        self.checked.push(key.to_owned());
    }

    /// Nothing that the reference tells was left unread.
    fn finish(mut self) {
        self.checked.sort_unstable();
        self.checked.dedup();
        let known: Vec<String> = self.expected.as_object().unwrap().keys().cloned().collect();
        assert_eq!(self.checked, known, "{}", self.id);
    }
}

/// A case's parameters, of which each must be read: one that is ignored is one that might as well
/// be another.
struct Params<'a> {
    given: &'a Value,
    read: RefCell<BTreeSet<String>>,
}

impl Index<&str> for Params<'_> {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        self.read.borrow_mut().insert(key.to_owned());
        &self.given[key]
    }
}

impl Params<'_> {
    fn finish(self, id: &str) {
        let given: BTreeSet<String> = self.given.as_object().unwrap().keys().cloned().collect();
        let read = self.read.into_inner();
        let ignored: Vec<&String> = given.difference(&read).collect();
        assert!(
            ignored.is_empty(),
            "{id}: parameters that nothing reads: {ignored:?}"
        );
    }
}

/// The peers' objectives.
struct Quadratics {
    curvature: Vec<f64>,
    optimum: Vec<Vector>,
}

impl Quadratics {
    fn of(params: &Params<'_>) -> Quadratics {
        if params["curvature"].is_array() {
            Quadratics {
                curvature: numbers(&params["curvature"]),
                optimum: vectors(&params["optimum"]),
            }
        } else {
            Quadratics {
                curvature: vec![params["curvature"].as_f64().unwrap()],
                optimum: vec![vector(&params["optimum"])],
            }
        }
    }

    fn gradient(&self, peer: usize, at: &[f32]) -> Vector {
        let partial =
            |(x, o): (&f32, &f32)| (self.curvature[peer] * (f64::from(*x) - f64::from(*o))) as f32;
        at.iter().zip(&self.optimum[peer]).map(partial).collect()
    }

    fn gradients(&self, at: &[Vector]) -> Vec<Vector> {
        at.iter()
            .enumerate()
            .map(|(peer, at)| self.gradient(peer, at))
            .collect()
    }
}

fn descend(from: &[f32], gradient: &[f32], learning_rate: f64) -> Vector {
    gradient_tracking::model_half_step(from, gradient, learning_rate)
}

/// The rule `mean`: Σ weightᵢ xᵢ / Σ weightᵢ.
fn mean(models: &[&Vector], weights: &[f64]) -> Vector {
    let contribution = |(index, (model, weight)): (usize, (&&'_ Vector, &f64))| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(index as u64).to_be_bytes());
        (PeerId(key), (*model).clone(), *weight)
    };
    let rows: Vec<(PeerId, Vector, f64)> = models
        .iter()
        .zip(weights)
        .enumerate()
        .map(contribution)
        .collect();
    let contributions: Vec<Contribution<'_>> = rows
        .iter()
        .map(|(sender, row, weight)| Contribution {
            mixing_weight: *weight,
            ..Contribution::of(*sender, row)
        })
        .collect();
    rule_from_text("mean", 0, &[])
        .unwrap()
        .aggregate(&Context::offline(), &contributions)
        .unwrap()
        .parameters
}

/// W X: every peer's mean by its row of the mixing matrix.
fn mix(graph: &Graph, models: &[Vector]) -> Vec<Vector> {
    let all: Vec<&Vector> = models.iter().collect();
    (0..models.len())
        .map(|peer| mean(&all, &graph.mixing_matrix()[peer]))
        .collect()
}

/// A number that counts something.
fn whole(number: f64) -> u64 {
    assert!(
        number >= 0.0 && number.fract() == 0.0,
        "{number} counts nothing"
    );
    number as u64
}

fn graph_of(params: &Params<'_>) -> Graph {
    let edges = lists(&params["edges"]);
    Graph::new_undirected(
        params["n"].as_u64().unwrap() as usize,
        edges.iter().map(|edge| (edge[0], edge[1])),
    )
    .unwrap()
}

fn shares(samples: &Value) -> Vec<f64> {
    let samples = numbers(samples);
    let all: f64 = samples.iter().sum();
    samples.iter().map(|samples| samples / all).collect()
}

fn check_fednova_round(params: &Params<'_>, start: &Vector, check: &mut Checker<'_>) {
    let objectives = Quadratics::of(params);
    let (rate, momentum) = (
        params["lr"].as_f64().unwrap(),
        params["momentum"].as_f64().unwrap(),
    );
    let trainings: Vec<LocalTraining> = integers(&params["local_steps"])
        .iter()
        .map(|steps| LocalTraining {
            steps: *steps as u64,
            learning_rate: rate,
            learning_rate_decay: 1.0,
            momentum,
            prox: 0.0,
        })
        .collect();
    let train = |(peer, training): (usize, &LocalTraining)| {
        let (mut model, mut velocity) = (start.clone(), vec![0.0; start.len()]);
        for _ in 0..training.steps {
            let downhill: Vector = objectives
                .gradient(peer, &model)
                .iter()
                .map(|partial| -partial)
                .collect();
            server_momentum::step(&mut model, &mut velocity, &downhill, momentum, rate);
        }
        model
    };
    let models: Vec<Vector> = trainings.iter().enumerate().map(train).collect();
    let shares = shares(&params["samples"]);
    let peers: Vec<Normalised> = trainings
        .iter()
        .zip(&shares)
        .map(|(training, share)| Normalised {
            share: *share,
            effective_steps: training.effective_steps(),
        })
        .collect();
    let all: Vec<&[f32]> = models.iter().map(Vec::as_slice).collect();
    check.vectors("local_models", &models);
    check.numbers(
        "a_norm1",
        &peers
            .iter()
            .map(|peer| peer.effective_steps)
            .collect::<Vec<_>>(),
    );
    check.numbers("tau_eff", &[fednova::effective_steps(&peers)]);
    check.vector(
        "model",
        &fednova::average(start, &all, &fednova::weights(&peers)),
    );
    check.vector(
        "fedavg_model",
        &mean(&models.iter().collect::<Vec<_>>(), &shares),
    );
}

fn check_scaffold(params: &Params<'_>, start: &Vector, check: &mut Checker<'_>) {
    let objectives = Quadratics::of(params);
    let count = |key: &str| params[key].as_u64().unwrap();
    let (rate, steps, peers) = (
        params["lr"].as_f64().unwrap(),
        count("local_steps"),
        objectives.curvature.len(),
    );
    let global = params["global_lr"].as_f64().unwrap();
    let equal = vec![1.0; peers];
    let mut model = start.clone();
    let mut controls = vec![vec![0.0; start.len()]; peers];
    let mut control = vec![0.0; start.len()];
    let mut models = Vec::new();
    for _ in 0..count("rounds") {
        let train = |peer: usize| {
            (0..steps).fold(model.clone(), |at, _| {
                let gradient = scaffold::corrected_gradient(
                    &objectives.gradient(peer, &at),
                    &controls[peer],
                    &control,
                );
                descend(&at, &gradient, rate)
            })
        };
        let ends: Vec<Vector> = (0..peers).map(train).collect();
        for (own, end) in controls.iter_mut().zip(&ends) {
            *own = scaffold::updated_control(own, &control, &model, end, steps, rate);
        }
        control = mean(&controls.iter().collect::<Vec<_>>(), &equal);
        let ends: Vec<Vector> = ends
            .iter()
            .map(|end| scaffold::scaled_end(&model, end, global))
            .collect();
        model = mean(&ends.iter().collect::<Vec<_>>(), &equal);
        models.push(model.clone());
    }
    check.vectors("models", &models);
    check.vector("control", &control);
}

fn check_gradient_tracking(params: &Params<'_>, start: &[Vector], check: &mut Checker<'_>) {
    let (objectives, graph, rate) = (
        Quadratics::of(params),
        graph_of(params),
        params["lr"].as_f64().unwrap(),
    );
    let mut models = start.to_vec();
    let mut gradients = objectives.gradients(&models);
    let mut tracked = gradients.clone();
    let sum = |vectors: &[Vector]| {
        vectors
            .iter()
            .map(|vector| f64::from(vector[0]))
            .sum::<f64>()
    };
    for round in 1..=params["rounds"].as_u64().unwrap() {
        let steps: Vec<Vector> = models
            .iter()
            .zip(&tracked)
            .map(|(x, y)| gradient_tracking::model_half_step(x, y, rate))
            .collect();
        models = mix(&graph, &steps);
        let new = objectives.gradients(&models);
        let steps = tracked.iter().zip(&new).zip(&gradients);
        let steps: Vec<Vector> = steps
            .map(|((y, new), old)| gradient_tracking::tracked_half_step(y, new, old))
            .collect();
        tracked = mix(&graph, &steps);
        gradients = new;
        assert!(
            (sum(&tracked) - sum(&gradients)).abs() < 1e-5,
            "{}: the tracked mean is lost in round {round}",
            check.id
        );
        check.vectors_if_told(&format!("after_{round}_rounds"), &models);
    }
    check.vectors("final", &models);
    models
        .iter()
        .for_each(|model| check.vector("exact_optimum", model));
}

fn check_push_sum(params: &Params<'_>, start: &[Vector], check: &mut Checker<'_>) {
    let receivers = lists(&params["out_neighbours"]);
    // Push-sum needs to know only who sends to whom; the weights are small enough for any number of
    // senders.
    let out_edges: Vec<Vec<(usize, f64)>> = receivers
        .iter()
        .map(|receivers| receivers.iter().map(|to| (*to, 0.1)).collect())
        .collect();
    let graph = Graph::new_directed(&out_edges).unwrap();
    let mut state: Vec<(Vector, f64)> = start.iter().map(|values| (values.clone(), 1.0)).collect();
    for round in 1..=params["rounds"].as_u64().unwrap() {
        let gather = |peer: usize| {
            let senders = graph.receives_from(peer).iter().copied().chain([peer]);
            let part = |from: usize| Part {
                values: &state[from].0,
                mass: state[from].1,
                share: push_sum::share(&graph, from),
            };
            push_sum::gather(&senders.map(part).collect::<Vec<_>>())
        };
        state = (0..start.len()).map(gather).collect();
        let mass: f64 = state.iter().map(|(_, mass)| mass).sum();
        assert!(
            (mass - start.len() as f64).abs() < 1e-9,
            "{}: mass is lost",
            check.id
        );
        check.vectors_if_told(
            &format!("after_{round}_x"),
            &state
                .iter()
                .map(|(values, _)| values.clone())
                .collect::<Vec<_>>(),
        );
        let masses = format!("after_{round}_w");
        if check.tells(&masses) {
            check.numbers(
                &masses,
                &state.iter().map(|(_, mass)| *mass).collect::<Vec<_>>(),
            );
        }
    }
    let estimates: Vec<Vector> = state
        .iter()
        .map(|(values, mass)| push_sum::estimate(values, *mass))
        .collect();
    check.vectors("ratio_final", &estimates);
    estimates
        .iter()
        .for_each(|estimate| check.vector("true_average", estimate));
}

fn check_epidemic(params: &Params<'_>, start: &[Vector], check: &mut Checker<'_>) {
    let (objectives, sent_to, rate) = (
        Quadratics::of(params),
        lists(&params["sent_to"]),
        params["lr"].as_f64().unwrap(),
    );
    let received = |peer: usize| {
        sent_to
            .iter()
            .filter(|receivers| receivers.contains(&peer))
            .count()
    };
    let edge = |to: &usize| (*to, 1.0 / (1 + received(*to)) as f64);
    let graph = Graph::new_directed(
        &sent_to
            .iter()
            .map(|to| to.iter().map(edge).collect())
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let step = |(x, gradient): (&Vector, &Vector)| descend(x, gradient, rate);
    let half: Vec<Vector> = start
        .iter()
        .zip(&objectives.gradients(start))
        .map(step)
        .collect();
    check.vectors("half_step", &half);
    check.numbers(
        "received_count",
        &(0..start.len())
            .map(|peer| graph.receives_from(peer).len() as f64)
            .collect::<Vec<_>>(),
    );
    check.vectors("models", &mix(&graph, &half));
}

fn check_asynchronous(params: &Params<'_>, start: &[Vector], check: &mut Checker<'_>) {
    let (objectives, rate) = (Quadratics::of(params), params["lr"].as_f64().unwrap());
    let mut models = start.to_vec();
    for event in lists(&params["events"]) {
        let (a, b) = (event[0], event[1]);
        let gradient = objectives.gradient(a, &models[a]);
        let both = mean(&[&models[a], &models[b]], &[1.0, 1.0]);
        models[b] = both.clone();
        models[a] = descend(&both, &gradient, rate);
    }
    check.vectors("models", &models);
}

fn check_hierarchical(params: &Params<'_>, start: &Vector, check: &mut Checker<'_>) {
    let (objectives, groups, samples) = (
        Quadratics::of(params),
        lists(&params["groups"]),
        numbers(&params["samples"]),
    );
    let (rate, count) = (params["lr"].as_f64().unwrap(), |key: &str| {
        params[key].as_u64().unwrap()
    });
    let mut models = vec![start.clone(); samples.len()];
    let average = |models: &mut [Vector], members: &[usize]| {
        let weights: Vec<f64> = members.iter().map(|member| samples[*member]).collect();
        let average = mean(
            &members
                .iter()
                .map(|member| &models[*member])
                .collect::<Vec<_>>(),
            &weights,
        );
        members
            .iter()
            .for_each(|member| models[*member] = average.clone());
    };
    let mut after = Vec::new();
    for _ in 0..count("cloud_rounds") {
        for _ in 0..count("kappa2") {
            for (peer, model) in models.iter_mut().enumerate() {
                *model = (0..count("kappa1")).fold(model.clone(), |at, _| {
                    descend(&at, &objectives.gradient(peer, &at), rate)
                });
            }
            groups.iter().for_each(|group| average(&mut models, group));
        }
        let everyone: Vec<usize> = (0..samples.len()).collect();
        average(&mut models, &everyone);
        after.push(models[0].clone());
    }
    check.vectors("models", &after);
}

fn run(kind: &str, case: &Value, check: &mut Checker<'_>) {
    let params = Params {
        given: &case["params"],
        read: RefCell::default(),
    };
    run_with(kind, case, &params, check);
    params.finish(check.id);
}

fn run_with(kind: &str, case: &Value, params: &Params<'_>, check: &mut Checker<'_>) {
    let number = |key: &str| params[key].as_f64().unwrap();
    match kind {
        "fedavg" => {
            let models = vectors(&case["models"]);
            check.vector(
                "model",
                &mean(
                    &models.iter().collect::<Vec<_>>(),
                    &numbers(&params["samples"]),
                ),
            );
        }
        "fednova_coefficients" => {
            let training = LocalTraining {
                steps: params["local_steps"].as_u64().unwrap(),
                learning_rate: number("lr"),
                learning_rate_decay: number("lr_decay"),
                momentum: number("momentum"),
                prox: number("prox_mu"),
            };
            check.numbers("a", &training.coefficients());
            check.numbers("a_norm1", &[training.effective_steps()]);
        }
        "fednova_round" => check_fednova_round(params, &vector(&case["x0"]), check),
        "fedprox_local" => {
            // Where the pull towards the start leads is what the coefficients say about the plain
            // gradients.
            let (objectives, start) = (Quadratics::of(params), vector(&case["x0"]));
            let (mut gradients, mut trajectory, mut at) = (Vec::new(), Vec::new(), start.clone());
            for steps in 1..=params["steps"].as_u64().unwrap() {
                gradients.push(objectives.gradient(0, &at));
                let training = LocalTraining {
                    steps,
                    learning_rate: number("lr"),
                    learning_rate_decay: 1.0,
                    momentum: 0.0,
                    prox: number("mu"),
                };
                let step = |at: Vector, (a, gradient): (&f64, &Vector)| {
                    descend(&at, gradient, number("lr") * a)
                };
                at = training
                    .coefficients()
                    .iter()
                    .zip(&gradients)
                    .fold(start.clone(), step);
                trajectory.push(at.clone());
            }
            check.vectors("trajectory", &trajectory);
        }
        "scaffold" => check_scaffold(params, &vector(&case["x0"]), check),
        "server_momentum" => {
            let mut model = vector(&case["x0"]);
            let mut velocity = vec![0.0; model.len()];
            let step = |change: &Vector| {
                server_momentum::step(
                    &mut model,
                    &mut velocity,
                    change,
                    number("beta"),
                    number("lr"),
                );
                model.clone()
            };
            let models: Vec<Vector> = vectors(&case["deltas"]).iter().map(step).collect();
            check.vectors("models", &models);
        }
        "dpsgd_atc" | "dpsgd_cta" => {
            let (objectives, graph) = (Quadratics::of(params), graph_of(params));
            let mut models = vectors(&case["x0"]);
            for round in 0..params["rounds"].as_u64().unwrap() {
                let gradients = objectives.gradients(&models);
                let step = |from: Vec<Vector>| -> Vec<Vector> {
                    from.iter()
                        .zip(&gradients)
                        .map(|(x, gradient)| descend(x, gradient, number("lr")))
                        .collect()
                };
                models = if kind == "dpsgd_atc" {
                    mix(&graph, &step(models))
                } else {
                    step(mix(&graph, &models))
                };
                if round == 0 {
                    check.vectors_if_told("first", &models);
                }
            }
            check.vectors("final", &models);
        }
        "gradient_tracking_atc" => check_gradient_tracking(params, &vectors(&case["x0"]), check),
        "push_sum" => check_push_sum(params, &vectors(&case["x0"]), check),
        "epidemic_local" => check_epidemic(params, &vectors(&case["x0"]), check),
        "ad_psgd" => check_asynchronous(params, &vectors(&case["x0"]), check),
        "hier_favg" => check_hierarchical(params, &vector(&case["x0"]), check),
        "staleness_weight" => {
            let staleness = integers(&params["staleness"]);
            let mut of = |key: &str, weight: StalenessWeight| {
                let found = staleness
                    .iter()
                    .map(|staleness| number("alpha") * weight.factor(*staleness as u64));
                check.numbers(key, &found.collect::<Vec<_>>());
            };
            of("constant", StalenessWeight::Constant);
            of(
                "polynomial",
                StalenessWeight::Polynomial {
                    exponent: number("a_poly"),
                },
            );
            of(
                "hinge",
                StalenessWeight::Hinge {
                    slope: number("hinge_a"),
                    threshold: whole(number("hinge_b")),
                },
            );
        }
        kind => panic!("{}: unknown kind {kind}", check.id),
    }
}

#[test]
fn known_answers_optimizers() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/known-answers");
    let folder = std::env::var("KITH_KNOWN_ANSWERS")
        .map_or_else(|_| PathBuf::from(committed), PathBuf::from);
    let path = folder.join("optimizers.json");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: Value = serde_json::from_str(&text).unwrap();
    let tolerance = (
        file["tolerance"]["abs"].as_f64().unwrap(),
        file["tolerance"]["rel"].as_f64().unwrap(),
    );
    let cases = file["cases"].as_array().unwrap();
    assert!(!cases.is_empty(), "no cases");
    for case in cases {
        let (id, kind) = (case["id"].as_str().unwrap(), case["kind"].as_str().unwrap());
        let mut check = Checker {
            id,
            expected: &case["expected"],
            tolerance,
            checked: Vec::new(),
        };
        run(kind, case, &mut check);
        check.finish();
    }
    println!("optimizers: {} cases", cases.len());
}
