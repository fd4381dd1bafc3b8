//! `kith privacy`: what it answers, and what it refuses; and federations under a guarantee, over real
//! processes.

mod common;

use common::{Federation, Folder, Running, kith, run, told};
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

// --- federations under a guarantee ---

const GUARDED: [&str; 6] = [
    "--privacy",
    "example-level",
    "--rows",
    "310",
    "--deadline",
    "5",
];

fn guarded(peers: usize, rounds: &str) -> Federation {
    let federation = Federation::new(peers, &[&GUARDED[..], &["--rounds", rounds]].concat());
    for name in &federation.names {
        federation.edit(name, "kith.toml", "holdout = 0.2", "holdout = 0.0");
    }
    federation
}

fn start_all(federation: &Federation) -> Vec<Running> {
    let names = federation.names.iter();
    names.map(|name| federation.start(name)).collect()
}

fn ledger(federation: &Federation, name: &str) -> Value {
    let dir = federation.dir(name);
    let folder = Folder::new();
    folder.json(&[
        "privacy",
        "ledger",
        "--json",
        "--dir",
        dir.to_str().expect("text"),
    ])
}

/// Beside the rows of a member.
fn beside_rows(federation: &Federation, name: &str, ending: &str) -> std::path::PathBuf {
    let entries = std::fs::read_dir(federation.folder.path()).expect("a folder");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let is_it = |path: &std::path::PathBuf| {
        let file = path
            .file_name()
            .and_then(|file| file.to_str())
            .unwrap_or_default();
        file.starts_with(name) && file.ends_with(ending)
    };
    paths
        .find(is_it)
        .unwrap_or_else(|| panic!("{name}: a file {ending}"))
}

/// Eight real processes, of which one is killed in the middle: each ends at its budget by itself, goes
/// on receiving to the last round, and can prove to others what it spent.
#[test]
fn peers_stop_releasing_at_their_budget_by_themselves_and_go_on_receiving() {
    const KILLED: usize = 3;
    let federation = guarded(8, "12");
    for name in &federation.names {
        federation.edit(
            name,
            "charter.toml",
            "epsilon_budget = 4.0",
            "epsilon_budget = 2.0",
        );
    }
    let mut peers = start_all(&federation);
    for _ in 0..2 {
        peers[KILLED].until_event("privacy-spent");
    }
    peers[KILLED].kill();
    peers[KILLED].read();
    let before = std::mem::take(&mut peers[KILLED].seen);
    peers[KILLED] = federation.start(federation.names[KILLED]);
    for (index, peer) in peers.iter_mut().enumerate() {
        peer.until_event("finished");
        assert_eq!(peer.end(), Some(0));
        let earlier = before.iter().filter(|_| index == KILLED);
        let seen: Vec<&Value> = earlier.chain(&peer.seen).collect();
        ends_at_its_budget(&federation, index, &seen, index == KILLED);
    }
}

/// What a peer has said from its first start to its end, beside its ledger.
fn ends_at_its_budget(federation: &Federation, index: usize, seen: &[&Value], was_killed: bool) {
    let name = federation.names[index];
    let of = |event: &str| -> Vec<&Value> {
        let lines = seen.iter().copied();
        lines.filter(|line| line["event"] == event).collect()
    };
    let (spent, refused) = (of("privacy-spent").len(), of("budget-exhausted").len());
    assert!(spent > 0 && refused > 0, "{name}: {spent} {refused}");
    assert!(
        was_killed || spent + refused == 12,
        "{name}: {spent} {refused}"
    );
    let trained = of("trained");
    let tells_nothing = |line: &&Value| line["loss"].is_null() && line["samples"] == 310;
    assert!(trained.iter().all(tells_nothing), "{trained:?}");
    let found = ledger(federation, name);
    let releases = found["privacy"]["releases"].as_u64().expect("a number") as usize;
    // One that was killed may have charged a release of which it could not tell.
    assert!(
        releases == spent || was_killed && releases > spent && releases <= spent + 1,
        "{name}: {spent} {found}"
    );
    let epsilon = number(&found["privacy"], "epsilon_rdp");
    assert!(epsilon <= 2.0 && epsilon > 1.0, "{found}");
    let tight = found["privacy"]["epsilon_pld"].as_f64();
    assert!(was_killed || tight < Some(epsilon), "{found}");
    report_verifies(federation, name, epsilon);
    another_run_is_refused(&federation.dir(name));
}

fn report_verifies(federation: &Federation, name: &str, epsilon: f64) {
    let (folder, dir) = (Folder::new(), federation.dir(name));
    let dir = dir.to_str().expect("text");
    let report = folder.json(&["privacy", "report", "--dir", dir, "--out", "out", "--json"]);
    assert_eq!(number(&report["privacy"], "epsilon_rdp"), epsilon);
    folder.json(&["privacy", "verify", "out", "--json"]);
}

/// Another run on rows whose budget is spent is refused before it begins.
fn another_run_is_refused(dir: &std::path::Path) {
    for part in ["state", "checkpoints"] {
        std::fs::remove_dir_all(dir.join(part)).expect("it was there");
    }
    for verb in ["check", "run"] {
        let output = kith()
            .args([verb, "--dir"])
            .arg(dir)
            .output()
            .expect("starts");
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(
            told(&output).contains("the privacy budget of these rows is spent"),
            "{}",
            told(&output)
        );
    }
}

#[test]
fn a_peer_that_is_killed_again_and_again_counts_every_release() {
    let federation = guarded(3, "40");
    let mut peers = start_all(&federation);
    let mut trained = 0;
    for after in 1..=4u64 {
        let spent = |line: &Value| line["event"] == "privacy-spent";
        (0..after).for_each(|_| _ = peers[1].until("a charge", spent));
        peers[1].kill();
        peers[1].read();
        trained += peers[1]
            .seen
            .iter()
            .filter(|line| line["event"] == "trained")
            .count() as u64;
        peers[1] = federation.start("bob");
    }
    for peer in &mut peers {
        peer.until_event("finished");
        assert_eq!(peer.end(), Some(0));
        assert!(!peer.has("equivocated"));
    }
    trained += peers[1]
        .seen
        .iter()
        .filter(|line| line["event"] == "trained")
        .count() as u64;
    let found = ledger(&federation, "bob");
    let releases = found["privacy"]["releases"].as_u64().expect("a number");
    assert!(releases >= trained, "{releases} {trained}");
    assert!(number(&found["privacy"], "epsilon_rdp") <= 4.0, "{found}");
}

#[test]
fn a_ledger_that_is_gone_older_or_damaged_ends_a_start_and_is_never_begun_anew() {
    let federation = guarded(2, "4");
    let mut peers = start_all(&federation);
    for peer in &mut peers {
        peer.until_event("finished");
        assert_eq!(peer.end(), Some(0));
    }
    let (path, dir) = (
        beside_rows(&federation, "ada", ".ledger"),
        federation.dir("ada"),
    );
    let whole = std::fs::read(&path).expect("a ledger");
    let refused = |words: &str| {
        for verb in [&["run"][..], &["privacy", "ledger"]] {
            let output = kith()
                .args(verb)
                .arg("--dir")
                .arg(&dir)
                .output()
                .expect("starts");
            assert_ne!(output.status.code(), Some(0), "{verb:?}");
            let told = told(&output);
            assert!(
                told.contains("privacy ledger") && told.contains(words),
                "{words}: {told}"
            );
        }
    };
    std::fs::remove_file(&path).expect("removed");
    refused("gone or empty");
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    std::fs::write(&path, &damaged).expect("written");
    refused("entry 0 is damaged");
    let other = beside_rows(&federation, "bob", ".ledger");
    std::fs::copy(&other, &path).expect("copied");
    refused("belongs to data set");
    // An older copy is whole, and only the peer's state knows better.
    let records = whole.len() - 48;
    std::fs::write(&path, &whole[..48 + records / 4 * 2]).expect("written");
    let output = kith()
        .arg("run")
        .arg("--dir")
        .arg(&dir)
        .output()
        .expect("starts");
    assert!(told(&output).contains("an older copy"), "{}", told(&output));
}

#[test]
fn settings_that_show_rows_outside_a_guarantee_and_budgets_that_are_none_are_refused() {
    let federation = guarded(2, "4");
    federation.edit("ada", "kith.toml", "holdout = 0.0", "holdout = 0.2");
    let dir = federation.dir("ada");
    let output = kith()
        .arg("check")
        .arg("--dir")
        .arg(&dir)
        .output()
        .expect("starts");
    assert!(
        told(&output).contains("evaluated outside the guarantee"),
        "{}",
        told(&output)
    );
    let output = kith()
        .arg("check")
        .arg("--dir")
        .arg(federation.dir("bob"))
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "each row, epsilon 4 at delta 1e-5",
        "the budget pays for 4 more",
        "on every coordinate",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let folder = Folder::new();
    let new = [
        "charter",
        "new",
        "--name",
        "x",
        "--open",
        "4",
        "--privacy",
        "example-level",
    ];
    for (options, words) in [
        (["--epsilon", "0"], "a budget of 0 permits no release"),
        (["--delta", "1"], "delta 1: expected above 0 and below 1"),
        (["--epsilon", "1e-9"], "is too small for a filter"),
    ] {
        folder.refused(&[&new[..], &options].concat(), &[words]);
    }
}

#[test]
fn a_report_is_signed_in_all_its_forms_and_a_change_to_any_is_noticed() {
    let federation = guarded(2, "4");
    let (dir, folder) = (federation.dir("ada"), Folder::new());
    let dir = dir.to_str().expect("text");
    let report = folder.json(&["privacy", "report", "--dir", dir, "--out", "out", "--json"]);
    for key in [
        "statement",
        "setting",
        "released",
        "unit",
        "adjacency",
        "assumptions",
        "accesses",
        "layers",
        "origin",
    ] {
        assert!(!report[key].is_null(), "{key}: {report}");
    }
    assert_eq!(report["privacy"]["releases"].as_u64(), Some(0), "{report}");
    let signed = folder.json(&["privacy", "verify", "out", "--json"]);
    assert_eq!(
        signed["signed_by"],
        report["origin"]["peer"].as_str().expect("text")[4..]
    );
    for ending in ["md", "html", "json"] {
        let path = folder.path(&format!("out/privacy-report.{ending}"));
        let text = std::fs::read_to_string(&path).expect("written");
        assert!(
            text.contains("differentially private for each row"),
            "{ending}"
        );
        std::fs::write(
            &path,
            text.replace("not covered", "covered")
                .replace("false", "true"),
        )
        .expect("written");
        folder.refused(&["privacy", "verify", "out"], &["is not as it was signed"]);
        std::fs::write(&path, text).expect("written");
    }
    let other = folder.json(&[
        "privacy",
        "report",
        "--dir",
        federation.dir("bob").to_str().expect("text"),
        "--out",
        "other",
        "--json",
    ]);
    assert_ne!(other["origin"]["peer"], report["origin"]["peer"]);
    let name = "privacy-report.signature.json";
    let text = std::fs::read_to_string(folder.path(&format!("out/{name}"))).expect("written");
    let (bob, ada) = (
        other["origin"]["peer"].as_str().expect("text"),
        report["origin"]["peer"].as_str().expect("text"),
    );
    folder.write(&format!("out/{name}"), &text.replace(&ada[4..], &bob[4..]));
    folder.refused(&["privacy", "verify", "out"], &["was not signed by"]);
    let record = folder.json(&["privacy", "processing-record", "--dir", dir, "--json"]);
    assert!(
        record["d"].as_str().expect("text").contains("bob")
            && record["a"].as_str().expect("text").contains("operator")
    );
}

/// The main job: its answer names what is spent and by which accountant, beside the run without.
#[test]
fn a_testnet_under_a_guarantee_tells_what_it_spends_and_what_that_costs() {
    let folder = Folder::new();
    let found = folder.json(&[
        "testnet",
        "--privacy",
        "example-level",
        "--epsilon",
        "4",
        "--delta",
        "1e-5",
        "--json",
    ]);
    let privacy = &found["privacy"];
    assert_eq!(
        (privacy["mechanism"].as_str(), privacy["unit"].as_str()),
        (Some("example-level"), Some("row"))
    );
    assert_eq!(
        (privacy["releases"].as_u64(), number(privacy, "delta")),
        (Some(30), 1e-5)
    );
    let (rdp, pld) = (
        number(privacy, "epsilon_rdp"),
        number(privacy, "epsilon_pld"),
    );
    assert!(
        pld < rdp && rdp <= number(privacy, "budget") && rdp > 3.9,
        "{privacy}"
    );
    let (with, without) = (
        number(&found["accuracy"], "mean"),
        number(&found, "accuracy_without_privacy"),
    );
    assert!(with > 0.75 && without > with, "{with} {without}");
}

/// The same for all rows of each peer together.
#[test]
fn a_testnet_protects_whole_peers() {
    let folder = Folder::new();
    let found = folder.json(&[
        "testnet",
        "--privacy",
        "update-level",
        "--epsilon",
        "8",
        "--rounds",
        "3",
        "--json",
    ]);
    let privacy = &found["privacy"];
    assert_eq!(
        (privacy["mechanism"].as_str(), privacy["unit"].as_str()),
        (Some("update-level"), Some("peer"))
    );
    assert_eq!(privacy["releases"].as_u64(), Some(3));
    let spent = number(privacy, "epsilon_rdp");
    assert!(spent > 7.9 && spent <= 8.0, "{privacy}");
}

/// Attacks succeed without the guarantee and fail with it; the table says so too.
#[test]
fn an_audit_attacks_a_charter_s_own_training() {
    let folder = Folder::new();
    let made = folder.kith(&[
        "charter",
        "new",
        "--name",
        "clinic",
        "--dataset",
        "heart",
        "--open",
        "4",
        "--privacy",
        "example-level",
        "--epsilon",
        "2",
        "--rows",
        "310",
        "--out",
        "charter.toml",
    ]);
    assert!(made.status.success(), "{}", told(&made));
    let rows = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/data/heart_disease_uci.csv"
    );
    let audit = |options: &[&str]| {
        let asked = [
            "privacy",
            "audit",
            "--charter",
            "charter.toml",
            "--data",
            rows,
        ];
        folder.kith(&[&asked[..], options].concat())
    };
    let answer = audit(&["--shadows", "8", "--rows", "200", "--json"]);
    assert!(answer.status.success(), "{}", told(&answer));
    let found: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    let (without, with) = (&found["without"], &found["with"]);
    // A few rows are classified so well that their gradients are mostly rounding.
    let recovered = |of: &Value| of["inversion"]["recovered"].as_u64();
    assert!(
        recovered(without) >= Some(45) && recovered(with) == Some(0),
        "{found}"
    );
    let stated = number(&found, "epsilon");
    assert!(stated > 1.5 && stated <= 2.0, "{found}");
    assert!(number(&with["one_run"], "epsilon_low") <= stated, "{found}");
    assert!(number(&with["membership"], "auc") < 0.65, "{found}");
    let said = audit(&["--shadows", "4", "--rows", "60", "--rounds", "2"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    for part in ["without a guarantee", "with it", " 0 of 50", "AUC"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    for (options, words) in [
        (&["--shadows", "5"][..], "an even number from 4 on"),
        (&["--rows", "10"], "too few for an audit"),
        (&["--rounds", "0"], "expected 1 or more"),
    ] {
        let refused = told(&audit(options));
        assert!(refused.contains(words), "{refused}");
    }
}

/// Rows with one value in the group column count as one.
#[test]
fn groups_of_rows_are_protected_together() {
    let federation = guarded(3, "2");
    for name in &federation.names {
        federation.edit(
            name,
            "charter.toml",
            "[data]\n",
            "[data]\ngroup = \"id\"\ngroup_rows = 2\n",
        );
    }
    let dir = federation.dir(federation.names[0]);
    let checked = run(&["check", "--dir", dir.to_str().expect("text")]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("each group, epsilon 4"), "{said}");
    let mut peers = start_all(&federation);
    for peer in &mut peers {
        peer.until_event("finished");
        assert_eq!(peer.end(), Some(0));
    }
    let found = ledger(&federation, federation.names[0]);
    assert_eq!(found["privacy"]["unit"].as_str(), Some("group"), "{found}");
    assert_eq!(found["entries"][0]["unit"].as_str(), Some("group"));
}
