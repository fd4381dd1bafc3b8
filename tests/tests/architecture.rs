//! What must not be there: each crate's tree of dependencies, and words that have no place in the
//! pure ones.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

/// Names of the packages that `package` needs to be built on its own, with its default features.
fn tree(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            package,
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("names are text");
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn assert_absent(package: &str, absent: &[&str]) {
    let tree = tree(package);
    assert!(
        tree.contains(&package.to_owned()),
        "{package} is in its own tree"
    );
    for name in absent {
        let found: Vec<&String> = tree
            .iter()
            .filter(|found| *found == name || found.starts_with(&format!("{name}-")))
            .collect();
        assert!(
            found.is_empty(),
            "{package} must do without {name}, found {found:?}"
        );
    }
}

#[test]
fn consensus_knows_nobody_and_waits_for_nothing() {
    assert_absent(
        "kith-consensus",
        &[
            "tokio",
            "libp2p",
            "candle",
            "rand",
            "kith-gossip",
            "kith-models",
            "futures",
        ],
    );
}

#[test]
fn the_core_of_gossip_has_no_carrier() {
    assert_absent(
        "kith-gossip",
        &[
            "tokio",
            "libp2p",
            "candle",
            "rand",
            "kith-models",
            "futures",
        ],
    );
}

#[test]
fn models_and_gossip_never_meet() {
    assert_absent("kith-models", &["kith-gossip", "tokio", "libp2p"]);
}

#[test]
fn simulations_need_no_tokio_and_no_libp2p() {
    assert_absent("kith-simulations", &["tokio", "libp2p", "kith-node"]);
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Lines of `folders` (without `except`) that hold one of `words`.
fn lines_with(folders: &[&str], except: &str, words: &[&str]) -> Vec<String> {
    let mut files = Vec::new();
    folders
        .iter()
        .for_each(|folder| sources(&root().join(folder), &mut files));
    assert!(!files.is_empty());
    let mut lines = Vec::new();
    for file in files
        .iter()
        .filter(|file| except.is_empty() || !file.to_string_lossy().contains(except))
    {
        let text = std::fs::read_to_string(file).expect("a source file");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                lines.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    lines
}

#[test]
fn the_pure_crates_have_no_clock_no_ambient_randomness_no_files_and_no_hash_order() {
    let words = [
        "Instant::now",
        "SystemTime",
        "thread_rng",
        "rand::rng(",
        "getrandom",
        "HashMap",
        "HashSet",
        "std::fs",
        "std::net",
        "std::env",
        "async fn",
        "async move",
        ".await;",
        ".await?",
        "thread::spawn",
        "println!",
    ];
    let found = lines_with(&["consensus/src", "gossip/src"], "gossip/src/net", &words);
    let outside_tests: Vec<&String> = found
        .iter()
        .filter(|line| !line.contains("known_answers.rs"))
        .collect();
    assert!(outside_tests.is_empty(), "{outside_tests:#?}");
}

#[test]
fn inside_the_node_only_the_command_line_knows_simulations() {
    assert_eq!(
        lines_with(&["node/src"], "node/src/cli", &["kith_simulations"]),
        [""; 0]
    );
}

#[test]
fn nothing_is_unsafe() {
    let found = lines_with(
        &["consensus", "gossip", "models", "simulations", "node"],
        "/target/",
        &["unsafe {", "unsafe fn", "(unsafe_code"],
    );
    assert_eq!(found, [""; 0]);
}

/// The table "Where is it decided?" names files that are there, and twenty-five of them.
#[test]
fn every_idea_has_its_file() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("a document");
    let table = text
        .split("## Where is it decided?")
        .nth(1)
        .expect("the table");
    let table = table.split("\n## ").next().expect("its end");
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'));
    let files: Vec<&str> = rows
        .map(|row| row.split('`').nth(1).expect("a file"))
        .collect();
    assert_eq!(files.len(), 26, "{files:?}");
    let missing: Vec<&&str> = files
        .iter()
        .filter(|file| !root().join(file).is_file())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// `peer.rs` asks for no mode by its name, and what a liar does stands in one file that an honest
/// peer enters in two places.
#[test]
fn the_peer_routes_and_the_honest_path_cannot_lie() {
    let peer = std::fs::read_to_string(root().join("gossip/src/peer.rs")).expect("a source file");
    let code: String = peer
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    for name in [
        "Synchronous",
        "Asynchronous",
        "Pairwise",
        "is_pairwise",
        "is_asynchronous",
    ] {
        assert!(!code.contains(name), "peer.rs asks for {name}");
    }
    let words = ["misconduct", "Conduct"];
    let entered = lines_with(&["gossip/src/peer"], "/misconduct.rs", &words);
    assert!(
        entered.len() <= 2,
        "an honest peer may turn into a liar in one place: {entered:#?}"
    );
    let forging = lines_with(
        &["gossip/src/peer"],
        "/misconduct.rs",
        &["sign_bytes", "Fraud"],
    );
    assert_eq!(forging, [""; 0]);
}
