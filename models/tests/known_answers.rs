//! Partitions against reference results made with numpy (`tests/known-answers/partition.json`).
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use kith_consensus::Seed;
use kith_models::partition::{cut_classes, deal_shards, draw_proportions, largest_remainder, near_equal};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn sizes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as usize).collect()
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

#[test]
fn known_answers_partition() {
    let folder = std::env::var_os("KITH_KNOWN_ANSWERS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/known-answers"), PathBuf::from);
    let text = std::fs::read_to_string(folder.join("partition.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(!cases.is_empty(), "the file has no case");
    for case in cases {
        let (id, params, expected) = (case["id"].as_str().unwrap(), &case["params"], &case["expected"]);
        match case["kind"].as_str().unwrap() {
            "label_dirichlet_split" => {
                let proportions: Vec<Vec<f64>> =
                    params["proportions_per_class"].as_array().unwrap().iter().map(numbers).collect();
                let cuts = cut_classes(&sizes(&params["class_counts"]), &proportions);
                let counts: Vec<Vec<usize>> = cuts.iter().map(|peer| peer.iter().map(std::ops::Range::len).collect()).collect();
                let wanted: Vec<Vec<usize>> = expected["counts_node_by_class"].as_array().unwrap().iter().map(sizes).collect();
                assert_eq!(counts, wanted, "{id}");
                let skews = kith_models::partition::label_skew(&counts);
                for (skew, wanted) in skews.iter().zip(expected["skew_per_node"].as_array().unwrap()) {
                    for (name, value) in [
                        ("l1", skew.l1),
                        ("tv", skew.l1 / 2.0),
                        ("hellinger", skew.hellinger),
                        ("js_divergence_nats", skew.js_divergence),
                        ("entropy_nats", skew.entropy),
                    ] {
                        let wanted = wanted[name].as_f64().unwrap();
                        assert!((value - wanted).abs() <= 1e-9, "{id}: {name} is {value}, expected {wanted}");
                    }
                }
            }
            "shards" => {
                let rows = params["sorted_labels"].as_array().unwrap().len();
                let per_peer = size(&params["shards_per_node"]);
                let order = sizes(&params["shard_permutation"]);
                let dealt = deal_shards(rows, per_peer, &order);
                let wanted: Vec<Vec<usize>> = expected["indices"].as_array().unwrap().iter().map(sizes).collect();
                assert_eq!(dealt, wanted, "{id}");
                assert_eq!(rows - dealt.iter().map(Vec::len).sum::<usize>(), sizes(&expected["unused_tail"]).len(), "{id}");
            }
            "quantity_split" => {
                let split = largest_remainder(size(&params["total"]), &numbers(&params["weights"]));
                assert_eq!(split, sizes(&expected["sizes"]), "{id}");
            }
            "iid_sizes" => {
                assert_eq!(near_equal(size(&params["total"]), size(&params["n"])), sizes(&expected["sizes"]), "{id}");
            }
            "dirichlet_moments" => moments(id, params["alpha"].as_f64().unwrap(), size(&params["n"]), expected),
            kind => panic!("{id}: unknown kind {kind:?}"),
        }
    }
    println!("partition.json: {} cases", cases.len());
}

/// Mean, variance and covariance over 20,000 draws, each within five standard errors estimated from the same draws.
fn moments(id: &str, alpha: f64, parts: usize, expected: &Value) {
    const DRAWS: usize = 20_000;
    let mut stream = Seed::from_number(7).stream("test moments");
    let draws: Vec<Vec<f64>> = (0..DRAWS).map(|_| draw_proportions(alpha, parts, &mut stream)).collect();
    assert!(draws.iter().all(|draw| (draw.iter().sum::<f64>() - 1.0).abs() < 1e-9), "{id}: a draw does not sum to 1");
    let check = |name: &str, values: &dyn Fn(&[f64]) -> f64| {
        let values: Vec<f64> = draws.iter().map(|draw| values(draw)).collect();
        let mean = values.iter().sum::<f64>() / DRAWS as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (DRAWS - 1) as f64;
        let error = (variance / DRAWS as f64).sqrt();
        let wanted = expected[name].as_f64().unwrap();
        assert!((mean - wanted).abs() <= 5.0 * error, "{id}: {name} is {mean} ± {error}, expected {wanted}");
    };
    let share = 1.0 / parts as f64;
    check("mean", &|draw| draw[0]);
    check("variance", &|draw| (draw[0] - share).powi(2));
    check("covariance", &|draw| (draw[0] - share) * (draw[1] - share));
}
