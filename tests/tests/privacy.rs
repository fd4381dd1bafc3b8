//! `kith privacy`: what it answers, and what it refuses.

mod common;

use common::{Folder, run, told};
use serde_json::Value;

const EPSILON: [&str; 11] = [
    "privacy",
    "epsilon",
    "--noise-multiplier",
    "1.0",
    "--sampling-rate",
    "0.01",
    "--steps",
    "1000",
    "--delta",
    "1e-5",
    "--json",
];

fn number(document: &Value, key: &str) -> f64 {
    document[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} is a number in {document}"))
}

/// Case eps-1 of the reference results.
#[test]
fn epsilon_says_what_both_accountants_find() {
    let folder = Folder::new();
    let found = folder.json(&EPSILON);
    assert!(
        (number(&found, "epsilon_rdp") - 2.1014).abs() < 1e-3,
        "{found}"
    );
    assert!(
        (number(&found, "epsilon_pld") - 1.8282).abs() < 6e-3,
        "{found}"
    );
    assert_eq!(number(&found, "optimal_order"), 7.8);
    assert_eq!(
        found.as_object().map(serde_json::Map::len),
        Some(3),
        "{found}"
    );
    let text = run(&EPSILON[..10]);
    let said = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in [
        "epsilon 2.1014 at delta 1e-5",
        "order 7.8",
        "Poisson sampling",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}

/// Case calib-0, and the way back.
#[test]
fn calibrate_finds_noise_that_stays_within_the_budget() {
    let folder = Folder::new();
    let budget = ["--epsilon", "1", "--delta", "1e-5"];
    let steps = ["--sampling-rate", "0.01", "--steps", "1000"];
    let found =
        folder.json(&[&["privacy", "calibrate"], &budget[..], &steps, &["--json"]].concat());
    assert!(
        (number(&found, "noise_multiplier") / 1.41538 - 1.0).abs() < 2e-3,
        "{found}"
    );
    assert!(
        (number(&found, "noise_multiplier_rdp") / 1.51312 - 1.0).abs() < 1e-3,
        "{found}"
    );
    assert!(number(&found, "epsilon_pld") <= 1.0 && number(&found, "epsilon_rdp") > 1.0);
    let sigma = number(&found, "noise_multiplier").to_string();
    let noise = [
        "privacy",
        "epsilon",
        "--noise-multiplier",
        &sigma,
        "--delta",
        "1e-5",
        "--json",
    ];
    let back = folder.json(&[&noise[..], &steps].concat());
    assert_eq!(back["epsilon_pld"], found["epsilon_pld"]);
}

/// The ring of sixteen peers of a second reading with other code.
#[test]
fn a_graph_tells_less_with_distance_and_is_no_guarantee_for_training() {
    let folder = Folder::new();
    let charter = |name: &str, options: &[&str]| {
        let new = [
            "charter", "new", "--name", "ring", "--open", "16", "--out", name,
        ];
        let made = folder.kith(&[&new[..], options].concat());
        assert!(made.status.success(), "{}", told(&made));
    };
    charter("ring.toml", &["--topology", "ring", "--rounds", "20"]);
    let found = folder.json(&["privacy", "graph", "ring.toml", "--json"]);
    let squares: Vec<f64> = found["distances"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| number(one, "mu_squared"))
        .collect();
    assert_eq!(squares.len(), 8, "{found}");
    for (distance, expected) in [(1, 12.03), (2, 4.86), (5, 0.263)] {
        let square = squares[distance - 1];
        assert!(
            (square / expected - 1.0).abs() < 2e-3,
            "{distance}: {square}"
        );
    }
    assert_eq!(found["guarantee"], Value::Bool(false));
    // μ² = 20: the Gaussian mechanism with σ = 1/√20.
    let local = number(&found, "epsilon_local");
    assert!(local > number(&found["distances"][0], "epsilon"), "{found}");
    assert!(told_all(&folder, "ring.toml").contains("linear estimate, no guarantee"));

    charter("once.toml", &["--topology", "ring", "--rounds", "1"]);
    let found = folder.json(&["privacy", "graph", "once.toml", "--json"]);
    assert_eq!(found["guarantee"], Value::Bool(true), "{found}");
    assert_eq!(found["distances"].as_array().map(Vec::len), Some(1));
    charter(
        "median.toml",
        &[
            "--topology",
            "complete",
            "--rounds",
            "1",
            "--rule",
            "median",
        ],
    );
    let found = folder.json(&["privacy", "graph", "median.toml", "--json"]);
    assert_eq!(found["guarantee"], Value::Bool(false), "{found}");
}

fn told_all(folder: &Folder, charter: &str) -> String {
    let output = folder.kith(&["privacy", "graph", charter]);
    assert!(output.status.success(), "{}", told(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn impossible_values_are_refused_with_one_line_each() {
    let folder = Folder::new();
    for (place, value, expected) in [
        (3, "0", "noise multiplier 0: expected from 0.01"),
        (3, "-1", "noise multiplier -1: expected from 0.01"),
        (3, "NaN", "noise multiplier NaN"),
        (5, "0", "sampling rate 0: expected above 0 and at most 1"),
        (5, "1.5", "sampling rate 1.5"),
        (7, "0", "0 steps: expected from 1"),
        (9, "0", "delta 0: expected above 0 and below 1"),
        (9, "1", "delta 1: expected above 0 and below 1"),
        (9, "1e-320", "delta"),
    ] {
        let mut arguments = EPSILON;
        arguments[place] = value;
        folder.refused(&arguments, &[expected]);
    }
    let calibrate = |epsilon: &str| {
        let budget = [
            "privacy",
            "calibrate",
            "--epsilon",
            epsilon,
            "--delta",
            "1e-5",
        ];
        let steps = ["--sampling-rate", "0.01", "--steps", "1000"];
        [&budget[..], &steps]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for (epsilon, expected) in [
        ("0", "epsilon 0: expected above 0"),
        ("-3", "epsilon -3: expected above 0"),
        ("1e12", "no noise multiplier from 0.01 to 1e6"),
    ] {
        let arguments = calibrate(epsilon);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        folder.refused(&arguments, &[expected]);
    }
    folder.refused(&["privacy", "graph", "nowhere.toml"], &["nowhere.toml"]);
}
