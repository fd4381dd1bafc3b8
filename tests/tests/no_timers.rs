//! Where nobody fails and nobody is slow, no timer has to help: over real sockets every round
//! closes because everything is in.

mod common;

use std::path::Path;

use common::{Folder, run, told};
use serde_json::Value;

/// What a timer has helped with in the logs of a testnet's peers: rounds that waited, closed by the
/// deadline, or had to be caught up.
fn helped(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for peer in std::fs::read_dir(folder)
        .expect("a testnet's folder")
        .map(|entry| entry.expect("an entry").path())
    {
        if !peer.join("kith.toml").is_file() {
            continue;
        }
        let dir = peer.to_str().expect("a name");
        let output = run(&["log", "--dir", dir, "--count", "100000", "--json"]);
        assert!(output.status.success(), "{}", told(&output));
        for line in output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let line: Value = serde_json::from_slice(line).expect("a line is JSON");
            let event = line["event"].as_str().unwrap_or_default();
            let by_timer = [
                "stalled",
                "too-few",
                "jumped",
                "catching-up",
                "no-longer-awaited",
            ]
            .contains(&event)
                || (event == "round-closed" && line["why"] == "deadline")
                || (event == "refused" && line["reason"]["refused"] == "future-round");
            if by_timer {
                found.push(format!("{}: {line}", peer.display()));
            }
        }
    }
    found
}

#[test]
fn no_timer_fires_where_nobody_fails_whatever_the_topology() {
    let topologies = [
        "ring",
        "complete",
        "star",
        "centralised",
        "hierarchical",
        "hierarchical:clusters=3",
        "base-k:k=2",
        "one-peer-exponential",
        "random-regular:degree=4",
        "epidemic-local:3",
    ];
    for topology in topologies {
        let folder = Folder::new();
        let dir = folder.path("testnet");
        let output = folder.kith(&[
            "testnet",
            "--peers",
            "9",
            "--topology",
            topology,
            "--adversaries",
            "0",
            "--rule",
            "mean",
            "--rounds",
            "30",
            "--no-baselines",
            "--json",
            "--dir",
            dir.to_str().expect("a name"),
        ]);
        assert!(output.status.success(), "{topology}: {}", told(&output));
        let helped = helped(&dir);
        assert!(
            helped.is_empty(),
            "{topology}: {} times, first {}",
            helped.len(),
            helped[0]
        );
    }
}

#[test]
fn no_timer_fires_where_nobody_fails_whatever_the_mode_and_the_method() {
    let synchronous =
        |method: &str| format!("[aggregation]\nrule = \"mean\"\nmethod = \"{method}\"");
    let charters = [
        ("ring", "[round]\nmode = \"asynchronous\"".to_owned()),
        ("complete", "[round]\nmode = \"pairwise\"".to_owned()),
        ("exponential", synchronous("push-sum")),
        ("complete", synchronous("scaffold")),
        ("ring", synchronous("gradient-tracking")),
        ("ring", synchronous("fednova")),
    ];
    for (topology, sections) in charters {
        let folder = Folder::new();
        let charter = format!(
            "[federation]\nname = \"modes\"\nrounds = 30\n[topology]\nkind = \"{topology}\"\n{sections}\n[model]\nkind = \
             \"softmax\"\n[data]\nshape = [1, 8, 8]\nclasses = 10\n[membership]\nmode = \"open\"\npeers = 6\n"
        );
        let charter = folder.write("charter.toml", &charter);
        let dir = folder.path("testnet");
        let (charter, place) = (
            charter.to_str().expect("a name"),
            dir.to_str().expect("a name"),
        );
        let output = folder.kith(&[
            "testnet",
            "--charter",
            charter,
            "--no-baselines",
            "--json",
            "--dir",
            place,
        ]);
        assert!(
            output.status.success(),
            "{topology}, {sections}: {}",
            told(&output)
        );
        let mut helped = helped(&dir);
        // A process that starts late takes the others' models before it publishes: in a round of
        // its own, without a timer.
        helped.retain(|line| !line.contains("catching-up"));
        assert!(
            helped.is_empty(),
            "{topology}, {sections}: {} times, first {}",
            helped.len(),
            helped[0]
        );
    }
}

#[test]
fn every_body_that_is_pulled_is_mixed_by_everyone_it_was_for_in_the_last_round_too() {
    let folder = Folder::new();
    let mut accuracies = Vec::new();
    for attempt in 0..3 {
        let dir = folder.path(&format!("testnet-{attempt}"));
        let document = folder.json(&[
            "testnet",
            "--peers",
            "6",
            "--topology",
            "complete",
            "--adversaries",
            "0",
            "--rule",
            "mean",
            "--codec",
            "identity",
            "--model",
            "mlp:512,64",
            "--rounds",
            "4",
            "--no-baselines",
            "--json",
            "--dir",
            dir.to_str().expect("a name"),
        ]);
        let nodes = document["nodes"].as_array().expect("nodes");
        let accepted: Vec<u64> = nodes
            .iter()
            .map(|node| node["updates_accepted"].as_u64().expect("a number"))
            .collect();
        assert_eq!(
            accepted,
            [4 * 5; 6],
            "every peer mixes five updates in each of four rounds"
        );
        accuracies.push(
            document["accuracy"]["mean"]
                .as_f64()
                .expect("a number")
                .to_bits(),
        );
        let helped = helped(&dir);
        assert!(
            helped.is_empty(),
            "{} times, first {}",
            helped.len(),
            helped[0]
        );
    }
    assert_eq!(accuracies, [accuracies[0]; 3], "equal seeds end equally");
}
