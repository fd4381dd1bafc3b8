//! Python's own reader understands what `kith log --tensorboard` writes. Skipped, and said so, where
//! Python or its package `tensorboard` is missing; `KITH_PYTHON` names another interpreter.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Federation, Folder, kith, one_document, told};
use serde_json::Value;

/// Prints each tag of a folder with its steps and values.
const READER: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
found.Reload()
scalars = {tag: [[e.step, e.value, e.wall_time] for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
print(json.dumps(scalars))
"#;

fn python(arguments: &[&str]) -> Option<Output> {
    let program = std::env::var("KITH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    Command::new(program).args(arguments).output().ok()
}

fn is_installed() -> bool {
    let found = python(&["-c", "import tensorboard"]).is_some_and(|found| found.status.success());
    if !found {
        // Written past the test's capture of output, so that it is seen.
        let _ = writeln!(
            std::io::stderr(),
            "!! SKIPPED: Python's tensorboard is not installed: pip install tensorboard"
        );
    }
    found
}

/// The scalars that Python finds in a folder.
fn scalars(folder: &Path) -> Value {
    let folder = folder.to_string_lossy().into_owned();
    let output = python(&["-c", READER, &folder]).expect("Python starts");
    assert!(output.status.success(), "{}", told(&output));
    one_document(&output)
}

fn steps(scalars: &Value, tag: &str) -> Vec<u64> {
    let points = scalars[tag]
        .as_array()
        .unwrap_or_else(|| panic!("no {tag}: {scalars}"));
    points
        .iter()
        .map(|point| point[0].as_u64().expect("a step"))
        .collect()
}

/// Round and training loss of each point, in single precision.
fn losses(scalars: &Value) -> Vec<(u64, f32)> {
    let points = scalars["kith_training_loss"].as_array().expect("points");
    points
        .iter()
        .map(|point| (point[0].as_u64().expect("a step"), value(&point[1])))
        .collect()
}

/// The same from the log's own lines.
fn logged(dir: &Path) -> Vec<(u64, f32)> {
    let mut command = kith();
    command.args(["log", "--json", "--count", "100000", "--dir"]);
    let output = command.arg(dir).output().expect("it starts");
    let lines = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let lines = lines.map(|line| line.expect("JSON"));
    lines
        .filter(|line| line["event"] == "trained")
        .map(|line| {
            (
                line["round"].as_u64().expect("a round"),
                value(&line["loss"]),
            )
        })
        .collect()
}

fn value(number: &Value) -> f32 {
    number.as_f64().expect("a number") as f32
}

/// Exports the log of a peer, or of all in a folder, and returns where it was written.
fn exported(dir: &Path, out: &Path) -> Vec<PathBuf> {
    let mut command = kith();
    command.args(["log", "--json", "--dir"]).arg(dir);
    let output = command
        .arg("--tensorboard")
        .arg(out)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", told(&output));
    let written = one_document(&output)["written"].clone();
    serde_json::from_value(written).expect("paths")
}

#[test]
fn python_reads_every_round_and_a_restart_appends() {
    if !is_installed() {
        return;
    }
    let federation = Federation::new(2, &["--rounds", "1000000", "--deadline", "2"]);
    for name in &federation.names {
        let evaluated = "holdout = 0.2\n[evaluation]\nevery = 1";
        federation.edit(name, "kith.toml", "holdout = 0.2", evaluated);
    }
    let out = Folder::new();
    let mut bob = federation.start("bob");
    let mut before = Vec::new();
    for _ in 0..2 {
        let mut ada = federation.start("ada");
        let first = ada.until_event("round-closed")["round"]
            .as_u64()
            .expect("a round");
        ada.until("three more rounds", |line| {
            line["event"] == "aggregated" && line["round"].as_u64() > Some(first + 2)
        });
        ada.kill();
        let written = exported(&federation.dir("ada"), out.0.path());
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].parent(), Some(out.path("ada").as_path()));
        let found = scalars(&out.path("ada"));
        let trained = steps(&found, "kith_training_loss");
        assert!(
            trained.len() > before.len() && trained.starts_with(&before),
            "{before:?}, then {trained:?}"
        );
        assert!(
            trained.is_sorted() && trained.first() == Some(&0),
            "{trained:?}"
        );
        for tag in [
            "kith_round_duration_seconds",
            "kith_consensus_distance",
            "kith_held_out_loss",
            "kith_held_out_accuracy_ratio",
            "kith_dropped_share_ratio/bob",
        ] {
            assert!(!steps(&found, tag).is_empty(), "{tag}");
        }
        assert_eq!(losses(&found), logged(&federation.dir("ada")));
        for point in found["kith_training_loss"].as_array().expect("points") {
            assert!(point[2].as_f64() > Some(1.7e9), "the time of day: {point}");
        }
        before = trained;
    }
    bob.kill();
    let all = exported(federation.folder.path(), &out.path("all"));
    assert_eq!(all.len(), 2, "one file for each peer: {all:?}");
}
