//! Partitions and poisoned rows against reference results made with numpy
//! (`tests/known-answers/partition.json`, `attacks.json`).
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::path::PathBuf;

use kith_consensus::Seed;
use kith_models::partition::{
    assign_shards, cut_classes, draw_proportions, largest_remainder, near_equal,
};
use kith_models::{Corner, Dataset, Patch, flip_labels};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect()
}

fn sizes(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_u64().unwrap() as usize)
        .collect()
}

fn counts_of(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_u64().unwrap())
        .collect()
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// The cases, each with its tolerance: its own where it has one, else the file's.
fn cases(file: &str) -> Vec<Value> {
    let folder = std::env::var_os("KITH_KNOWN_ANSWERS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/known-answers"),
        PathBuf::from,
    );
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let mut cases = file["cases"].as_array().unwrap().clone();
    for case in cases.iter_mut().filter(|case| case["tolerance"].is_null()) {
        case["tolerance"] = file["tolerance"].clone();
    }
    assert!(!cases.is_empty(), "the file has no case");
    cases
}

/// One row of these numbers, by way of a table.
fn one_row(features: &[f64], label: u64) -> Dataset {
    let task = common::task(&format!(
        "[data]\nshape = [{}]\nclasses = 10\n[model]\nkind = \"softmax\"\n",
        features.len()
    ));
    let mut file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    let names: Vec<String> = (0..features.len())
        .map(|index| format!("f{index}"))
        .collect();
    let numbers: Vec<String> = features.iter().map(ToString::to_string).collect();
    write!(
        file,
        "{},label\n{},{label}\n",
        names.join(","),
        numbers.join(",")
    )
    .unwrap();
    kith_models::open(file.path(), task.schema()).unwrap()
}

#[test]
fn known_answers_attacks_on_data() {
    let mut run = 0;
    for case in &cases("attacks.json") {
        let (id, params, expected) = (
            case["id"].as_str().unwrap(),
            &case["params"],
            &case["expected"],
        );
        match case["attack"].as_str().unwrap() {
            "label_flip" => {
                let labels = case["labels"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|label| label.as_u64().unwrap());
                let flipped = labels.map(|label| {
                    u64::from(
                        flip_labels(&one_row(&[0.0], label), size(&params["classes"])).labels()[0],
                    )
                });
                assert_eq!(
                    flipped.collect::<Vec<_>>(),
                    counts_of(&expected["labels"]),
                    "{id}"
                );
            }
            "backdoor_patch" => {
                let flat = |image: &Value| {
                    image
                        .as_array()
                        .unwrap()
                        .iter()
                        .flat_map(numbers)
                        .collect::<Vec<f64>>()
                };
                let rows = case["image"].as_array().unwrap();
                let shape = [1, rows.len(), rows[0].as_array().unwrap().len()];
                let patch = Patch {
                    size: size(&params["size"]),
                    value: params["value"].as_f64().unwrap() as f32,
                    target: size(&params["target_label"]) as u32,
                    corner: Corner::of_name(&params["corner"].as_str().unwrap().replace('_', "-"))
                        .unwrap(),
                };
                let data = one_row(&flat(&case["image"]), 7);
                let mut stream = Seed::from_number(7).stream("test poison");
                for poisoned in [
                    patch.poison(&data, &shape, 1.0, &mut stream).unwrap(),
                    patch.triggered(&data, &shape).unwrap(),
                ] {
                    let found: Vec<f64> = poisoned.row(0).into_iter().map(f64::from).collect();
                    assert_eq!(found, flat(&expected["image"]), "{id}");
                    assert_eq!(
                        u64::from(poisoned.labels()[0]),
                        expected["label"].as_u64().unwrap(),
                        "{id}"
                    );
                }
            }
            // On parameters, not on data: other crates' cases.
            "alie" | "alie_zmax" | "dissensus" | "ipm" | "mimic_fixed" | "mimic_heuristic"
            | "model_replacement" | "sign_flip" | "zero" => continue,
            attack => panic!("{id}: unknown attack {attack:?}"),
        }
        run += 1;
    }
    assert!(run >= 2, "{run} cases");
    println!("attacks.json, on data: {run} cases");
}

#[test]
fn known_answers_partition() {
    let cases = cases("partition.json");
    for case in &cases {
        let (id, params, expected) = (
            case["id"].as_str().unwrap(),
            &case["params"],
            &case["expected"],
        );
        match case["kind"].as_str().unwrap() {
            "label_dirichlet_split" => {
                let proportions: Vec<Vec<f64>> = params["proportions_per_class"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(numbers)
                    .collect();
                let cuts = cut_classes(&sizes(&params["class_counts"]), &proportions);
                let counts: Vec<Vec<u64>> = cuts
                    .iter()
                    .map(|peer| peer.iter().map(|range| range.len() as u64).collect())
                    .collect();
                let wanted: Vec<Vec<u64>> = expected["counts_node_by_class"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(counts_of)
                    .collect();
                assert_eq!(counts, wanted, "{id}");
                let skews = kith_models::skew::label_skew(&counts);
                for (skew, wanted) in skews
                    .iter()
                    .zip(expected["skew_per_node"].as_array().unwrap())
                {
                    for (name, value) in [
                        ("l1", skew.l1),
                        ("tv", skew.l1 / 2.0),
                        ("hellinger", skew.hellinger),
                        ("js_divergence_nats", skew.js_divergence),
                        ("entropy_nats", skew.entropy),
                    ] {
                        let wanted = wanted[name].as_f64().unwrap();
                        let tolerance =
                            |kind: &str| case["tolerance"][kind].as_f64().unwrap_or(0.0);
                        let allowed = tolerance("abs") + tolerance("rel") * wanted.abs();
                        assert!(
                            (value - wanted).abs() <= allowed,
                            "{id}: {name} is {value}, expected {wanted}"
                        );
                    }
                }
            }
            "shards" => {
                let rows = params["sorted_labels"].as_array().unwrap().len();
                let per_peer = size(&params["shards_per_node"]);
                let order = sizes(&params["shard_permutation"]);
                let dealt = assign_shards(rows, per_peer, &order);
                let wanted: Vec<Vec<usize>> = expected["indices"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(sizes)
                    .collect();
                assert_eq!(dealt, wanted, "{id}");
                assert_eq!(
                    rows - dealt.iter().map(Vec::len).sum::<usize>(),
                    sizes(&expected["unused_tail"]).len(),
                    "{id}"
                );
            }
            "quantity_split" => {
                let split = largest_remainder(size(&params["total"]), &numbers(&params["weights"]));
                assert_eq!(split, sizes(&expected["sizes"]), "{id}");
            }
            "iid_sizes" => {
                assert_eq!(
                    near_equal(size(&params["total"]), size(&params["n"])),
                    sizes(&expected["sizes"]),
                    "{id}"
                );
            }
            "dirichlet_moments" => moments(
                id,
                params["alpha"].as_f64().unwrap(),
                size(&params["n"]),
                expected,
            ),
            kind => panic!("{id}: unknown kind {kind:?}"),
        }
    }
    println!("partition.json: {} cases", cases.len());
}

/// Mean, variance and covariance over 20,000 draws, each within five standard errors estimated from
/// the same draws.
fn moments(id: &str, alpha: f64, parts: usize, expected: &Value) {
    const DRAWS: usize = 20_000;
    let mut stream = Seed::from_number(7).stream("test moments");
    let draws: Vec<Vec<f64>> = (0..DRAWS)
        .map(|_| draw_proportions(alpha, parts, &mut stream))
        .collect();
    assert!(
        draws
            .iter()
            .all(|draw| (draw.iter().sum::<f64>() - 1.0).abs() < 1e-9),
        "{id}: a draw does not sum to 1"
    );
    let check = |name: &str, values: &dyn Fn(&[f64]) -> f64| {
        let values: Vec<f64> = draws.iter().map(|draw| values(draw)).collect();
        let mean = values.iter().sum::<f64>() / DRAWS as f64;
        let variance = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / (DRAWS - 1) as f64;
        let error = (variance / DRAWS as f64).sqrt();
        let wanted = expected[name].as_f64().unwrap();
        assert!(
            (mean - wanted).abs() <= 5.0 * error,
            "{id}: {name} is {mean} ± {error}, expected {wanted}"
        );
    };
    let share = 1.0 / parts as f64;
    check("mean", &|draw| draw[0]);
    check("variance", &|draw| (draw[0] - share).powi(2));
    check("covariance", &|draw| (draw[0] - share) * (draw[1] - share));
}
