//! Experiments, and the folders of which reports are made, from a corpus: see `tests/corpus.rs` at
//! the root. A folder's other files are those of a small run.

#[path = "../../tests/corpus.rs"]
mod harness;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use harness::{Files, Target, drive};
use kith_simulations::experiment::Experiment;
use kith_simulations::report;
use kith_simulations::sweep::Manifest;

const SMALL: &str = "\
[federation]
name = \"small\"
rounds = 2
[round]
deadline_seconds = 5
[world]
peers = 3
[world.trainer]
kind = \"quadratic\"
dimension = 2
learning_rate = 0.2
";

/// Holds what an experiment may ask for: a graph of 2²⁴ edge ends.
const GROWTH_MAX: u64 = 1 << 30;

/// A folder that one target changes a file of, with what a run left in it.
fn folder(name: &str) -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus-of-reports");
        let _ = std::fs::remove_dir_all(&folder);
        for name in ["outcome", "rounds", "resolved", "sweep/cells/one"] {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder).expect("a folder for files");
            let experiment = small();
            let outcome = experiment.run(1, &mut |_, _| {}).expect("a run");
            report::write(&folder, &experiment, &outcome, "kith sim run", true).expect("written");
        }
        folder
    });
    made.join(name)
}

fn small() -> Experiment {
    Experiment::parse(SMALL, &[]).expect("an experiment")
}

fn put(name: &str, file: &str, bytes: &[u8]) -> PathBuf {
    let folder = folder(name);
    std::fs::write(folder.join(file), bytes).expect("a file written");
    folder
}

fn made(name: &str, file: &str) -> Vec<u8> {
    // From a folder of its own: the targets' folders hold what was tried last.
    let folder = folder("sweep/cells/one");
    std::fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn experiment(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    match Experiment::parse(text, &[]) {
        Ok(experiment) => {
            let _ = experiment.digest();
            true
        }
        Err(problems) => {
            problems
                .iter()
                .for_each(|problem| drop(problem.to_string()));
            false
        }
    }
}

fn experiments() -> Files {
    let with = |more: &str| format!("{SMALL}{more}").into_bytes();
    let changed = |from: &str, to: &str| SMALL.replace(from, to).into_bytes();
    vec![
        ("valid-small.toml", SMALL.into()),
        ("valid-rows.toml", b"[federation]\nname = \"rows\"\nrounds = 2\n[world]\npeers = 3\ndataset = \"digits\"\n".to_vec()),
        ("valid-liars.toml", changed("peers = 3", "peers = 3\nadversaries = 1")),
        ("refused-not-text", vec![0xff, 0, 1]),
        ("refused-no-peers.toml", changed("peers = 3", "peers = 0")),
        ("refused-many-peers.toml", changed("peers = 3", "peers = 9223372036854775807")),
        ("refused-dimension.toml", changed("dimension = 2", "dimension = 9223372036854775807")),
        ("refused-unknown-trainer.toml", changed("quadratic", "cubic")),
        ("refused-unknown-attack.toml", changed("peers = 3", "peers = 3\nattack = \"x\"")),
        ("refused-not-a-number.toml", changed("0.2", "nan")),
        ("refused-deep.toml", with(&format!("[world.links]\nlatency_ms = {}\n", "[".repeat(1000)))),
        ("refused-missing-file.toml", with("[topology]\nkind = \"edges\"\nfile = \"no such file\"\n")),
        ("refused-file-twice.toml", with("[topology]\nkind = \"edges\"\nfile = [[1]]\n")),
    ]
}

fn outcome(bytes: &[u8]) -> bool {
    let folder = put("outcome", "outcome.json", bytes);
    let _ = report::contents(&folder);
    report::read(&folder).is_ok() & report::run::page(&folder).is_ok()
}

fn outcomes() -> Files {
    let good = made("outcome", "outcome.json");
    let text = String::from_utf8(good.clone()).expect("JSON is text");
    let compact: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut strange = compact.clone();
    strange["ended"] = serde_json::json!(7);
    let mut extreme = compact.clone();
    if let Some(map) = extreme.as_object_mut() {
        let numbers = map.values_mut().filter(|value| value.is_f64());
        numbers.for_each(|value| *value = serde_json::json!(1e308));
    }
    vec![
        ("valid-small.json", compact.to_string().into()),
        ("extreme-numbers.json", extreme.to_string().into()),
        ("refused-other-type.json", strange.to_string().into()),
        ("no-fields.json", b"{}".to_vec()),
        ("list.json", b"[]".to_vec()),
        ("refused-deep.json", vec![b'['; 1000]),
        (
            "refused-beyond-numbers.json",
            text.replacen(": 3", ": 1e999", 1).into(),
        ),
        ("refused-not-text.json", vec![0xff; 64]),
    ]
}

fn rounds(bytes: &[u8]) -> bool {
    report::run::page(&put("rounds", "rounds.csv", bytes)).is_ok()
}

fn tables() -> Files {
    let good = made("rounds", "rounds.csv");
    let text = String::from_utf8(good.clone()).expect("CSV is text");
    let header = text.lines().next().expect("a header").to_owned();
    let cells = header.split(',').count();
    let filled = |cell: &str| format!("{header}\n{}\n", vec![cell; cells].join(",")).into_bytes();
    vec![
        ("valid-small.csv", good),
        ("valid-header-alone.csv", format!("{header}\n").into()),
        ("not-a-number.csv", filled("nan")),
        ("infinite.csv", filled("-inf")),
        ("extreme.csv", filled("1e308")),
        ("negative.csv", filled("-1")),
        ("refused-other-cells.csv", format!("{header}\n1,2\n").into()),
        (
            "refused-not-text.csv",
            [header.as_bytes(), b"\n\xff\xfe"].concat(),
        ),
        ("quotes.csv", vec![b'"'; 2001]),
    ]
}

fn resolved(bytes: &[u8]) -> bool {
    let folder = put("resolved", "experiment.toml", bytes);
    let _ = report::contents(&folder);
    report::run::page(&folder).is_ok()
}

fn resolved_files() -> Files {
    vec![
        ("valid-small.toml", made("resolved", "experiment.toml")),
        ("valid-without-command.toml", SMALL.into()),
        (
            "markup.toml",
            b"# <script>alert(1)</script> & \"\n".to_vec(),
        ),
        ("deep.toml", format!("# kith\n{}", "[".repeat(1000)).into()),
        ("refused-not-text.toml", vec![b'#', b' ', 0xff, b'\n']),
    ]
}

fn sweep(bytes: &[u8]) -> bool {
    let folder = put("sweep", "sweep.json", bytes);
    let _ = report::sweep::summary(&folder);
    Manifest::read(&folder).is_ok() & report::sweep::page(&folder).is_ok()
}

fn manifest(slug: &str, cell: u64, values: &[&str]) -> Vec<u8> {
    let run = serde_json::json!({
        "slug": slug, "cell": cell, "values": values, "seed": 0, "failure": null, "command": "kith sim run"
    });
    let manifest = serde_json::json!({
        "name": "small", "command": "kith sim sweep", "axes": ["world.peers"], "values": [["3"]],
        "seeds": [0], "runs": [run]
    });
    manifest.to_string().into()
}

fn manifests() -> Files {
    let good = manifest("one", 0, &["3"]);
    let changed = |from: &str, to: &str| {
        let text = String::from_utf8(good.clone()).expect("JSON is text");
        assert!(text.contains(from), "{text} has no {from}");
        text.replace(from, to).into_bytes()
    };
    vec![
        ("valid-small.json", good.clone()),
        ("no-such-run.json", manifest("two", 0, &["3"])),
        ("cell-beyond.json", manifest("one", u64::MAX, &["3"])),
        ("no-value.json", manifest("one", 0, &[])),
        ("many-values.json", manifest("one", 0, &["3"; 50])),
        ("no-axis.json", changed("[\"world.peers\"]", "[]")),
        ("no-values-of-axis.json", changed("[[\"3\"]]", "[]")),
        ("no-seed.json", changed("\"seeds\":[0]", "\"seeds\":[]")),
        (
            "refused-negative-seed.json",
            changed("\"seed\":0", "\"seed\":-1"),
        ),
        ("no-fields.json", b"{}".to_vec()),
        ("refused-deep.json", vec![b'['; 1000]),
    ]
}

#[test]
fn no_bytes_harm_a_decoder() {
    let targets = [
        (
            "experiment",
            experiment as fn(&[u8]) -> bool,
            experiments as fn() -> Files,
            150,
        ),
        ("outcome", outcome, outcomes, 25),
        ("rounds", rounds, tables, 25),
        ("resolved", resolved, resolved_files, 25),
        ("sweep", sweep, manifests, 25),
    ]
    .map(|(name, decode, files, mutations)| Target {
        name,
        decode,
        files,
        mutations,
        growth_max: GROWTH_MAX,
    });
    drive(&targets);
}
