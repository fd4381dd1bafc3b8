//! The trace of a run, the hash over all inputs and effects, is the same for any number of threads:
//! in every mode of rounds, with every method, on topologies of every kind.

mod running;

use std::collections::BTreeSet;

use kith_consensus::mode::MODES;
use kith_consensus::optimization::METHODS;
use running::{run, run_on};

/// Devices are unlike each other and themselves, so that results come in an order that threads
/// would not keep by chance.
const BASE: &str = r#"
[federation]
name = "threads"
rounds = 12
[round]
deadline_seconds = 2
[aggregation]
rule = "mean"
[world]
peers = 8
[world.trainer]
kind = "logistic"
local_steps = 3
noise = 0.1
[world.devices]
step_ms = 100
spread = 0.5
jitter = 0.3
"#;

const WEATHER: &[&str] = &[
    "world.links.loss=0.1",
    "world.links.duplication=0.1",
    "world.links.jitter=exponential",
    "world.links.jitter_ms=60",
    "world.links.reordering=true",
    "world.churn.crashes_per_hour=600",
    "world.churn.absence_seconds=2",
    "world.churn.until_seconds=10",
];

/// A topology on which the method works.
fn topology_for(method: &str) -> &'static str {
    match method {
        "push-sum" => "topology.kind=exponential",
        "scaffold" => "topology.kind=complete",
        _ => "topology.kind=ring",
    }
}

#[test]
fn the_trace_is_the_same_for_any_number_of_threads() {
    let modes = MODES.iter().map(|mode| {
        vec![
            format!("round.mode={}", mode.name),
            "topology.kind=torus".to_owned(),
        ]
    });
    let methods = METHODS.iter().map(|method| {
        vec![
            format!("aggregation.method={}", method.name),
            topology_for(method.name).to_owned(),
        ]
    });
    let topologies = [
        "{ kind = \"hierarchical\" }",
        "{ kind = \"centralised\" }",
        "{ kind = \"one-peer-exponential\" }",
        "{ kind = \"random-regular\", degree = 3, redraw_every = 2 }",
    ];
    let cases: Vec<Vec<String>> = modes
        .chain(methods)
        .chain(topologies.map(|topology| vec![format!("topology={topology}")]))
        .collect();
    let mut traces = BTreeSet::new();
    for weather in [&[][..], WEATHER] {
        for case in &cases {
            let settings: Vec<&str> = case
                .iter()
                .map(String::as_str)
                .chain(weather.iter().copied())
                .collect();
            let alone = run(BASE, &settings);
            for threads in [1, 3] {
                let again = run_on(threads, BASE, &settings);
                assert_eq!(again.trace, alone.trace, "{threads} threads, {settings:?}");
                assert_eq!(
                    again.optimum_distance.map(|distance| distance.mean),
                    alone.optimum_distance.map(|distance| distance.mean)
                );
            }
            // What is compared is not two times the same: each case is a run of its own.
            assert!(traces.insert(alone.trace.to_string()), "{settings:?}");
        }
    }
}
