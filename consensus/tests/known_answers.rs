//! Reference results from other implementations: `aggregators.json` and `topology.json` of the
//! known answers.
//!
//! The folder is named by `KITH_KNOWN_ANSWERS`, else it is the copy committed beside the
//! workspace's tests. Every case runs; an unknown kind or an empty file fails.

#![allow(clippy::unwrap_used)] // helpers of tests count as tests

use std::path::PathBuf;

use kith_consensus::aggregate::{
    Aggregate, AggregateError, Context, Contribution, PRE_AGGREGATORS, PreAggregator,
    rule_from_text,
};
use kith_consensus::section::Document;
use kith_consensus::topology::{Graph, PeriodAnalysis, TOPOLOGIES, Topology};
use kith_consensus::{PeerId, Seed};
use serde_json::Value;

fn file(name: &str) -> Value {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/known-answers");
    let folder = std::env::var("KITH_KNOWN_ANSWERS")
        .map_or_else(|_| PathBuf::from(committed), PathBuf::from);
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn cases(file: &Value) -> &Vec<Value> {
    let cases = file["cases"].as_array().unwrap();
    assert!(!cases.is_empty(), "no cases");
    cases
}

fn report(name: &str, ran: usize) {
    println!("{name}: {ran} cases");
    assert!(ran > 0, "{name}: no case ran");
}

fn numbers(value: &Value) -> Vec<f64> {
    let number = |value: &Value| {
        value
            .as_f64()
            .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
    };
    value.as_array().unwrap().iter().map(number).collect()
}

fn rows(value: &Value) -> Vec<Vec<f32>> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|row| numbers(row).iter().map(|number| *number as f32).collect())
        .collect()
}

fn indices(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|index| index.as_u64().unwrap() as usize)
        .collect()
}

fn sender(index: usize) -> PeerId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(index as u64).to_be_bytes());
    PeerId(key)
}

fn contributions(rows: &[Vec<f32>]) -> Vec<Contribution<'_>> {
    rows.iter()
        .enumerate()
        .map(|(index, row)| Contribution::of(sender(index), row))
        .collect()
}

/// How far from the file's numbers ours may be, as the file says.
#[derive(Clone, Copy)]
struct Tolerance {
    absolute: f64,
    relative: f64,
}

impl Tolerance {
    /// The file's for everything that has none of its own.
    fn of(file: &Value) -> Tolerance {
        let number = |key: &str| file["tolerance"][key].as_f64();
        Tolerance {
            absolute: number("abs").unwrap(),
            relative: number("rel").unwrap_or(0.0),
        }
    }

    fn check(self, what: &str, found: f64, expected: f64) {
        let off = (found - expected).abs();
        assert!(
            off <= self.absolute + self.relative * expected.abs(),
            "{what} is {found}, expected {expected}"
        );
    }
}

fn close(id: &str, found: &[f32], expected: &[f64], tolerance: Tolerance) {
    assert_eq!(found.len(), expected.len(), "{id}: length");
    found
        .iter()
        .zip(expected)
        .for_each(|(found, expected)| tolerance.check(id, f64::from(*found), *expected));
}

/// Our name of a reference rule; `None` where it is a name we do not know.
fn our_name(reference: &str) -> Option<String> {
    let part = |name: &str| {
        let name = match name {
            "mean" | "median" | "krum" | "nnm" | "meamed" | "bulyan" | "mda" | "cge"
            | "bucketing" | "nna" | "balance" | "fltrust" => name,
            "weighted_mean" => "weighted-mean",
            "coordinate_median" => "median",
            "trimmed_mean" => "trimmed-mean",
            "multi_krum" => "multi-krum",
            "geometric_median" | "geometric_median_converged" => "geometric-median",
            "centered_clipping" => "centered-clipping",
            "clipped_gossip" => "clipped-gossip",
            "static_clip" => "static-clip",
            "adaptive_clip_arc" => "arc",
            _ => return None,
        };
        Some(name.to_owned())
    };
    reference
        .split('+')
        .map(part)
        .collect::<Option<Vec<_>>>()
        .map(|parts| parts.join("+"))
}

/// The reference's parameters in our keys; what reaches a rule through its context or contributions
/// is left to [`given`].
fn our_parameters(id: &str, rule: &str, params: &Value) -> Vec<(String, String)> {
    let mut ours = Vec::new();
    for (key, value) in params.as_object().unwrap() {
        let key = match (rule, key.as_str()) {
            (_, "f") => continue,
            ("geometric_median_converged", "tolerance") => key,
            ("nna" | "clipped_gossip" | "balance" | "fltrust", "own_index")
            | ("clipped_gossip", "weights") => continue,
            ("balance", "round" | "total_rounds")
            | ("centered_clipping", "center")
            | ("bucketing", "permutation") => continue,
            (_, "init") => "start",
            ("krum" | "multi_krum" | "nnm+krum", "variant") => "variant",
            ("multi_krum", "m") => "m",
            ("bucketing", "s") => "s",
            ("static_clip", "max_norm") => "clip_norm",
            ("weighted_mean", "weights") => "weights",
            ("centered_clipping", "tau" | "iterations") | ("clipped_gossip", "tau") => key,
            ("balance", "alpha" | "gamma" | "kappa") => key,
            ("geometric_median" | "nnm+geometric_median", "nu" | "iterations" | "tolerance") => key,
            _ => panic!("{id}: unknown parameter {key}"),
        };
        ours.push((
            key.to_owned(),
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        ));
    }
    // The published iteration has no tolerance: it takes so many steps.
    if rule.ends_with("geometric_median") && params.get("tolerance").is_none() {
        ours.push(("tolerance".to_owned(), "0".to_owned()));
    }
    ours
}

/// What a peer knows beside the models.
struct Given {
    center: Option<Vec<f32>>,
    weights: Option<Vec<f64>>,
}

fn given(params: &Value) -> Given {
    let list = |key: &str| params.get(key).map(numbers);
    let center = list("center").map(|center| center.iter().map(|value| *value as f32).collect());
    Given {
        center,
        weights: list("weights"),
    }
}

fn context<'a>(params: &Value, given: &'a Given) -> Context<'a> {
    let number = |key: &str| params[key].as_u64();
    Context {
        own: number("own_index").map(|own| own as usize),
        last_aggregate: given.center.as_deref(),
        round: number("round").unwrap_or(0),
        rounds: number("total_rounds").unwrap_or(1),
        ..Context::offline()
    }
}

fn aggregate(
    id: &str,
    rule: &str,
    params: &Value,
    rows: &[Vec<f32>],
) -> Result<Aggregate, AggregateError> {
    let name = our_name(rule).unwrap();
    let byzantine = params["f"].as_u64().unwrap_or(0) as usize;
    let built = rule_from_text(&name, byzantine, &our_parameters(id, rule, params))
        .unwrap_or_else(|problems| panic!("{id}: {problems:?}"));
    let given = given(params);
    let mut contributions = contributions(rows);
    if let (Some(weights), true) = (&given.weights, built.uses_weights()) {
        contributions
            .iter_mut()
            .zip(weights)
            .for_each(|(contribution, weight)| contribution.mixing_weight = *weight);
    }
    built.aggregate(&context(params, &given), &contributions)
}

/// The rows that a pre-aggregator makes.
fn prepare(id: &str, rule: &str, params: &Value, rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let name = our_name(rule).unwrap();
    let entry = PRE_AGGREGATORS
        .iter()
        .find(|entry| entry.name == name)
        .unwrap();
    let byzantine = params["f"].as_u64().unwrap_or(0) as usize;
    let build = |parameters: &[(String, String)]| {
        let lines: String = parameters
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect();
        let mut document = Document::parse(&format!("[aggregation]\n{lines}")).unwrap();
        let pre = document.section("aggregation", |section| (entry.new)(section, byzantine));
        document
            .finish()
            .unwrap_or_else(|problems| panic!("{id}: {problems:?}"));
        pre
    };
    let apply = |pre: &dyn PreAggregator, rows: &[Vec<f32>]| {
        pre.apply(&Context::offline(), &contributions(rows))
            .unwrap()
    };
    let pre = build(&our_parameters(id, rule, params));
    let Some(permutation) = params.get("permutation").map(indices) else {
        return apply(pre.as_ref(), rows);
    };
    // Buckets of one show the order that we draw; the rows are laid so that it becomes the
    // reference's.
    let numbered: Vec<Vec<f32>> = (0..rows.len()).map(|row| vec![row as f32]).collect();
    let drawn = apply(
        build(&[("s".to_owned(), "1".to_owned())]).as_ref(),
        &numbered,
    );
    let mut laid = vec![Vec::new(); rows.len()];
    drawn
        .iter()
        .zip(permutation)
        .for_each(|(place, row)| laid[place[0] as usize] = rows[row].clone());
    apply(pre.as_ref(), &laid)
}

fn objective(rows: &[Vec<f32>], point: &[f32]) -> f64 {
    let distance = |row: &Vec<f32>| -> f64 {
        row.iter()
            .zip(point)
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    rows.iter().map(distance).sum()
}

#[test]
fn known_answers_aggregators() {
    let file = file("aggregators.json");
    let tolerance = Tolerance::of(&file);
    let converged = Tolerance {
        absolute: file["tolerance"]["geometric_median_converged_abs"]
            .as_f64()
            .unwrap(),
        relative: 0.0,
    };
    let mut ran = 0;
    for case in cases(&file) {
        let (id, rule, params) = (
            case["id"].as_str().unwrap(),
            case["rule"].as_str().unwrap(),
            &case["params"],
        );
        let rows = rows(
            case["vectors"]
                .as_str()
                .map_or(&case["inline_vectors"], |name| &file["inputs"][name]),
        );
        let expected = &case["expected"];
        if rule == "*" {
            for entry in kith_consensus::aggregate::RULES
                .iter()
                .filter(|entry| entry.name != "weighted-mean")
            {
                let result = rule_from_text(entry.name, 0, &[])
                    .unwrap()
                    .aggregate(&Context::offline(), &contributions(&rows));
                assert_eq!(
                    result.unwrap_err().code(),
                    expected["error"].as_str().unwrap(),
                    "{id} for {}",
                    entry.name
                );
            }
            ran += 1;
            continue;
        }
        assert!(our_name(rule).is_some(), "{id}: unknown rule {rule}");
        ran += 1;
        if PRE_AGGREGATORS
            .iter()
            .any(|entry| our_name(rule).as_deref() == Some(entry.name))
        {
            let made = prepare(id, rule, params, &rows);
            let vectors = expected["vectors"].as_array().unwrap();
            assert_eq!(made.len(), vectors.len(), "{id}");
            made.iter()
                .zip(vectors)
                .for_each(|(made, expected)| close(id, made, &numbers(expected), tolerance));
            continue;
        }
        let result = aggregate(id, rule, params, &rows);
        if let Some(code) = expected["error"].as_str() {
            assert_eq!(result.unwrap_err().code(), code, "{id}");
            continue;
        }
        let result = result.unwrap_or_else(|error| panic!("{id}: {error}"));
        let of_vector = if rule == "geometric_median_converged" {
            converged
        } else {
            tolerance
        };
        check_aggregate(
            id, rule, params, &rows, &result, expected, of_vector, tolerance,
        );
    }
    report("aggregators.json", ran);
}

#[allow(clippy::too_many_arguments)] // all that a case tells
fn check_aggregate(
    id: &str,
    rule: &str,
    params: &Value,
    rows: &[Vec<f32>],
    result: &Aggregate,
    expected: &Value,
    of_vector: Tolerance,
    tolerance: Tolerance,
) {
    for key in expected.as_object().unwrap().keys() {
        let known = [
            "vector",
            "selected",
            "scores",
            "objective",
            "rejected",
            "f_after",
            "diameter",
            "selection_order",
            "accepted",
            "trust_scores",
        ];
        assert!(
            known.contains(&key.as_str()),
            "{id}: unknown expectation {key}"
        );
    }
    // Two rows have no unique geometric median.
    if rule != "geometric_median_converged" || rows.len() >= 3 {
        close(
            id,
            &result.parameters,
            &numbers(&expected["vector"]),
            of_vector,
        );
    }
    if let Some(objective_expected) = expected["objective"].as_f64() {
        tolerance.check(
            &format!("{id}: objective"),
            objective(rows, &result.parameters),
            objective_expected,
        );
    }
    if expected.get("selected").is_some() {
        let selected: Vec<usize> = (0..rows.len())
            .filter(|row| result.influence[*row] > 0.0)
            .collect();
        assert_eq!(selected, indices(&expected["selected"]), "{id}: selected");
    }
    if let Some(diameter) = expected["diameter"].as_f64() {
        let selected: Vec<&Vec<f32>> = (0..rows.len())
            .filter(|row| result.influence[*row] > 0.0)
            .map(|row| &rows[row])
            .collect();
        let distance = |a: &Vec<f32>, b: &Vec<f32>| objective(std::slice::from_ref(a), b);
        let found = selected
            .iter()
            .flat_map(|a| selected.iter().map(|b| distance(a, b)))
            .fold(0.0, f64::max);
        tolerance.check(&format!("{id}: diameter"), found, diameter);
    }
    if expected.get("selection_order").is_some() {
        let order = indices(&expected["selection_order"]);
        let mut found: Vec<usize> = (0..rows.len()).collect();
        found.sort_by(|a, b| result.scores[*a].total_cmp(&result.scores[*b]));
        assert_eq!(found[..order.len()], order, "{id}: selection order");
    }
    let own = params["own_index"].as_u64().map(|own| own as usize);
    if expected.get("accepted").is_some() {
        let accepted: Vec<usize> = (0..rows.len())
            .filter(|row| Some(*row) != own && result.influence[*row] > 0.0)
            .collect();
        assert_eq!(accepted, indices(&expected["accepted"]), "{id}: accepted");
    }
    if expected.get("trust_scores").is_some() {
        let trusts = (0..rows.len())
            .filter(|row| Some(*row) != own)
            .map(|row| 1.0 - result.scores[row]);
        trusts
            .zip(numbers(&expected["trust_scores"]))
            .for_each(|(found, expected)| {
                tolerance.check(&format!("{id}: trust"), found, expected);
            });
    }
    if expected.get("scores").is_some() {
        // byzfl's scores are means over the neighbours, ours sums: the file gives sums.
        for (found, expected) in result.scores.iter().zip(numbers(&expected["scores"])) {
            tolerance.check(&format!("{id}: score"), *found, expected);
        }
    }
    if expected.get("rejected").is_some() {
        indices(&expected["rejected"])
            .iter()
            .for_each(|row| assert_eq!(result.influence[*row], 0.0, "{id}: row {row}"));
    }
}

fn near(id: &str, key: &str, found: Option<f64>, expected: &Value, tolerance: Tolerance) {
    match (found, expected.as_f64()) {
        (None, None) => {}
        (Some(found), Some(expected)) => tolerance.check(&format!("{id}: {key}"), found, expected),
        _ => panic!("{id}: {key} is {found:?}, expected {expected}"),
    }
}

fn topology(name: &str, keys: &str) -> Box<dyn Topology> {
    let entry = TOPOLOGIES.iter().find(|entry| entry.name == name).unwrap();
    Document::parse(&format!("[topology]\n{keys}"))
        .unwrap()
        .section("topology", |section| (entry.new)(section))
}

/// The graph of a kind that a few numbers fix; `None` for drawn ones and for kinds that only the
/// reference has, which need their edges.
fn graph_of_kind(id: &str, kind: &str, peers: usize, params: &Value) -> Option<Graph> {
    let (kind, keys) = match kind {
        "torus" => {
            let keys = format!("rows = {}\ncolumns = {}", params["rows"], params["cols"]);
            (kind, keys)
        }
        "chain" => ("tree", "branching = 1".to_owned()),
        "binary_tree" => ("tree", "branching = 2".to_owned()),
        kind => (kind, String::new()),
    };
    match kind {
        "ring" | "complete" | "star" | "torus" | "hypercube" | "dumbbell" | "tree" => Some(
            topology(kind, &keys)
                .graph(peers, 0, &Seed::from_number(0))
                .unwrap(),
        ),
        "exponential_undirected" => {
            let hops = |peer: usize| {
                (0..)
                    .map(|k| 1 << k)
                    .take_while(move |hop| *hop < peers)
                    .map(move |hop| (peer, (peer + hop) % peers))
            };
            Some(Graph::new_undirected(peers, (0..peers).flat_map(hops)).unwrap())
        }
        "random_regular" | "erdos_renyi" | "barabasi_albert" | "small_world" => None,
        kind => panic!("{id}: unknown graph {kind}"),
    }
}

fn check_analysis(id: &str, graph: &Graph, expected: &Value, tolerance: Tolerance) {
    let analysis = serde_json::to_value(graph.analyse()).unwrap();
    for (key, expected) in expected.as_object().unwrap() {
        let found = match key.as_str() {
            "out_degree" => &analysis["max_degree"],
            "metropolis_hastings" => {
                let found = graph.mixing_matrix();
                for (row, expected) in found.iter().zip(expected.as_array().unwrap()) {
                    let pairs = row.iter().zip(numbers(expected));
                    pairs.for_each(|(found, expected)| {
                        tolerance.check(&format!("{id}: {key}"), *found, expected)
                    });
                }
                continue;
            }
            key => analysis
                .get(key)
                .unwrap_or_else(|| panic!("{id}: unknown expectation {key}")),
        };
        if expected.is_boolean() {
            assert_eq!(found, expected, "{id}: {key}");
        } else {
            near(id, key, found.as_f64(), expected, tolerance);
        }
    }
}

fn check_one_peer(id: &str, peers: usize, expected: &Value, tolerance: Tolerance) {
    let kind = topology("one-peer-exponential", "");
    let graphs = (0..kind.period(peers))
        .map(|round| kind.graph(peers, round, &Seed::from_number(0)).unwrap());
    let found = serde_json::to_value(PeriodAnalysis::of(&graphs.collect::<Vec<_>>())).unwrap();
    for (key, expected) in expected.as_object().unwrap() {
        if key == "residual_two_norm_after_each_round" {
            let (found, expected) = (found[key].as_array().unwrap(), expected.as_array().unwrap());
            assert_eq!(found.len(), expected.len(), "{id}: {key}");
            found
                .iter()
                .zip(expected)
                .for_each(|(found, expected)| near(id, key, found.as_f64(), expected, tolerance));
        } else {
            assert_eq!(&found[key], expected, "{id}: {key}");
        }
    }
}

#[test]
fn known_answers_topology() {
    let file = file("topology.json");
    let tolerance = Tolerance::of(&file);
    let mut ran = 0;
    for case in cases(&file) {
        let (id, params, expected) = (
            case["id"].as_str().unwrap(),
            &case["params"],
            &case["expected"],
        );
        let size = |key: &str| params[key].as_u64().map(|size| size as usize);
        match case["kind"].as_str().unwrap() {
            "metropolis" => {
                let peers = expected["n"].as_u64().unwrap() as usize;
                let made = graph_of_kind(id, case["graph"].as_str().unwrap(), peers, params);
                // Large graphs of a fixed kind come without their edges.
                let listed = case.get("edges").map(|edges| {
                    let edges = edges
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|edge| (indices(edge)[0], indices(edge)[1]));
                    let listed = format!(
                        "edges = {:?}",
                        edges.map(|(a, b)| [a, b]).collect::<Vec<_>>()
                    );
                    topology("edges", &listed)
                        .graph(peers, 0, &Seed::from_number(0))
                        .unwrap()
                });
                if let (Some(made), Some(listed)) = (&made, &listed) {
                    assert_eq!(made, listed, "{id}: our graph of this kind");
                }
                check_analysis(
                    id,
                    &made.or(listed).unwrap_or_else(|| panic!("{id}: no edges")),
                    expected,
                    tolerance,
                );
            }
            "static_exponential" => {
                let graph = topology("exponential", "")
                    .graph(size("n").unwrap(), 0, &Seed::from_number(0))
                    .unwrap();
                check_analysis(id, &graph, expected, tolerance);
            }
            "one_peer_exponential" => check_one_peer(id, size("n").unwrap(), expected, tolerance),
            kind => panic!("{id}: unknown kind {kind}"),
        }
        ran += 1;
    }
    report("topology.json", ran);
}
