//! Exit code, stdout and stderr of what people get wrong, and of the verbs that only answer.

mod common;

use common::{Federation, kith, one_document, run, told};

/// Arguments, exit code, what stderr must say.
fn refused(arguments: &[&str], code: i32, expected: &[&str]) {
    let output = run(arguments);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    // `check` says what it found before it came to what is wrong.
    assert!(
        output.stdout.is_empty() || arguments[0] == "check",
        "{arguments:?}: data on stdout though it failed"
    );
    for part in expected {
        assert!(
            text.contains(part),
            "{arguments:?}: expected {part:?} in: {text}"
        );
    }
}

#[test]
fn what_cannot_work_is_refused_with_a_reason() {
    refused(
        &["testnet", "--rule", "krun"],
        1,
        &[
            "unknown rule \"krun\"",
            "known: mean",
            "did you mean \"krum\"?",
        ],
    );
    refused(
        &[
            "testnet",
            "--rule",
            "krum",
            "--topology",
            "ring",
            "--adversaries",
            "0",
            "--byzantine",
            "1",
        ],
        1,
        &["rule \"krum\" with byzantine = 1 needs 5 models, this neighbourhood has 3"],
    );
    refused(
        &["testnet", "--topology", "random-regular:7", "--peers", "4"],
        1,
        &["random-regular", "degree 7"],
    );
    refused(
        &["testnet", "--dataset", "mnist"],
        1,
        &["unknown data set \"mnist\"", "fashion-mnist"],
    );
    refused(
        &["testnet", "--adversaries", "9"],
        1,
        &["--adversaries", "8 peers"],
    );
    refused(
        &["testnet", "--attack", "foo"],
        1,
        &["unknown attack \"foo\"", "sign-flip"],
    );
    refused(
        &["testnet", "--codec", "zip"],
        1,
        &["unknown codec \"zip\"", "top-k"],
    );
    refused(
        &["testnet", "--partition", "dirichlet:-1"],
        1,
        &["alpha", "found -1"],
    );
    refused(
        &["testnet", "--model", "transformer"],
        1,
        &["unknown model \"transformer\"", "mlp"],
    );
    refused(&["frobnicate"], 2, &["frobnicate"]);
    refused(
        &["run", "--dir", "nowhere"],
        1,
        &["nowhere/kith.toml", "kith init"],
    );
}

#[test]
fn unknown_keys_are_refused_at_any_depth_with_line_and_column() {
    let federation = Federation::new(2, &[]);
    let dir = federation.dir("ada").to_string_lossy().into_owned();
    federation.edit("ada", "charter.toml", "[codec]", "[codec]\nlevels = 3");
    refused(
        &["check", "--dir", &dir],
        1,
        &["codec.levels", "unknown key \"levels\"", "line"],
    );
    federation.edit("ada", "charter.toml", "levels = 3\n", "");
    federation.edit("ada", "kith.toml", "[network]", "[network]\nlisen = []");
    refused(
        &["check", "--dir", &dir],
        1,
        &["network.lisen", "did you mean \"listen\"?"],
    );
}

#[test]
fn bad_rows_are_named_with_line_and_column() {
    let federation = Federation::new(2, &[]);
    let dir = federation.dir("ada").to_string_lossy().into_owned();
    let rows = federation.folder.path().join("ada.csv");
    let good = std::fs::read_to_string(&rows).expect("rows");
    let lines: Vec<&str> = good.lines().collect();
    let with = |line: &str| {
        std::fs::write(&rows, format!("{}\n{}\n{line}\n", lines[0], lines[1])).expect("written");
    };
    let age = lines[0]
        .split(',')
        .position(|name| name == "age")
        .expect("a column");
    let replaced = |value: &str| {
        let mut cells: Vec<&str> = lines[2].split(',').collect();
        cells[age] = value;
        cells.join(",")
    };
    with(&replaced("old"));
    refused(
        &["check", "--dir", &dir],
        1,
        &["ada.csv", "line 3", "age", "old"],
    );
    with(&replaced("NaN"));
    refused(&["check", "--dir", &dir], 1, &["line 3", "age", "NaN"]);
    with("1,2,3");
    refused(&["check", "--dir", &dir], 1, &["ada.csv", "line 3"]);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let federation = Federation::new(2, &[]);
    let key = federation.dir("ada").join("identity.key");
    assert_eq!(
        std::fs::metadata(&key).expect("a key").permissions().mode() & 0o777,
        0o600
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let dir = federation.dir("ada").to_string_lossy().into_owned();
    refused(&["check", "--dir", &dir], 1, &["identity.key", "chmod 600"]);
}

#[test]
fn check_tells_what_would_run() {
    let federation = Federation::new(3, &["--rounds", "7"]);
    let output = kith()
        .args(["check", "--json", "--dir"])
        .arg(federation.dir("ada"))
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", told(&output));
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert!(told.to_string().contains("ada"), "{told}");
}

#[test]
fn check_counts_what_a_method_sends_beside_the_model() {
    let federation = Federation::new(4, &["--codec", "identity", "--rule", "mean"]);
    let path = federation.dir("ada").join("charter.toml");
    let charter = std::fs::read_to_string(&path).expect("a charter");
    let dense = |method: &str| {
        std::fs::write(
            &path,
            charter.replace("method = \"plain\"", &format!("method = \"{method}\"")),
        )
        .expect("written");
        let output = kith()
            .args(["check", "--json", "--dir"])
            .arg(federation.dir("ada"))
            .output()
            .expect("starts");
        assert!(output.status.success(), "{}", told(&output));
        let facts: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("one document");
        let expected = &facts["expected"];
        let number = |key: &str| {
            expected[key]
                .as_u64()
                .unwrap_or_else(|| panic!("{key} in {facts}"))
        };
        (number("dense_bytes_per_round"), number("memory_bytes"))
    };
    let (plain, plain_memory) = dense("plain");
    assert_eq!(dense("fednova"), (plain, plain_memory));
    for method in ["gradient-tracking", "scaffold"] {
        let (bytes, memory) = dense(method);
        assert!(
            bytes == 2 * plain && memory > plain_memory,
            "{method}: {bytes} and {memory}"
        );
    }
    assert_eq!(
        dense("push-sum").0,
        plain + 3 * 3 * 4,
        "three values more from each of three neighbours"
    );
}

#[test]
fn a_charter_of_every_data_set_reads_back_to_the_same_id() {
    let federation = Federation::new(2, &[]);
    for dataset in ["digits", "fashion-mnist", "heart"] {
        let path = federation.folder.path().join(format!("{dataset}.toml"));
        let mut command = kith();
        command
            .args([
                "charter",
                "new",
                "--name",
                "x",
                "--dataset",
                dataset,
                "--out",
            ])
            .arg(&path);
        for name in ["ada", "bob"] {
            command
                .arg("--member-file")
                .arg(federation.folder.path().join(format!("{name}.member")));
        }
        let output = command.output().expect("starts");
        assert!(output.status.success(), "{dataset}: {}", told(&output));
        let hash = kith()
            .args(["charter", "hash"])
            .arg(&path)
            .output()
            .expect("starts");
        assert!(hash.status.success(), "{dataset}: {}", told(&hash));
        let shown = kith()
            .args(["charter", "show"])
            .arg(&path)
            .output()
            .expect("starts");
        let again = federation.folder.path().join("again.toml");
        std::fs::write(&again, &shown.stdout).expect("written");
        let second = kith()
            .args(["charter", "hash"])
            .arg(&again)
            .output()
            .expect("starts");
        assert_eq!(hash.stdout, second.stdout, "{dataset}");
    }
}

#[test]
fn models_are_combined_offline_and_what_is_no_model_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let model = |name: &str, values: &[f32], tensor: &str| {
        let layout = kith_models::Layout::new([(tensor.to_owned(), vec![values.len()])]);
        std::fs::write(
            path(name),
            kith_models::write_model(&layout, values, &Default::default()),
        )
        .expect("written");
    };
    for (index, values) in [
        [1.0f32, 2.0],
        [1.1, 2.1],
        [0.9, 1.9],
        [1.0, 2.0],
        [900.0, -900.0],
    ]
    .iter()
    .enumerate()
    {
        model(&format!("{index}.safetensors"), values, "w");
    }
    let files: Vec<String> = (0..5)
        .map(|index| path(&format!("{index}.safetensors")))
        .collect();
    let out = path("out.safetensors");
    let mut arguments = vec![
        "aggregate",
        "--rule",
        "krum",
        "--byzantine",
        "1",
        "--json",
        "--out",
        &out,
    ];
    arguments.extend(files.iter().map(String::as_str));
    let output = run(&arguments);
    assert!(output.status.success(), "{}", told(&output));
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert!(
        answer["dropped"].to_string().contains("4.safetensors")
            || answer["dropped"].to_string().contains('4'),
        "{answer}"
    );
    let combined = kith_models::read_tensors(&std::fs::read(&out).expect("written"))
        .expect("a model")
        .1;
    assert_eq!(combined, [1.0, 2.0]);

    std::fs::write(path("junk.safetensors"), b"junk").expect("written");
    refused(
        &[
            "aggregate",
            "--rule",
            "mean",
            &path("junk.safetensors"),
            "--out",
            &out,
        ],
        1,
        &["junk.safetensors", "safetensors"],
    );
    model("other.safetensors", &[1.0, 2.0, 3.0], "w");
    let other = path("other.safetensors");
    refused(
        &[
            "aggregate",
            "--rule",
            "mean",
            &files[0],
            &other,
            "--out",
            &out,
        ],
        1,
        &["other.safetensors"],
    );
    refused(
        &[
            "aggregate",
            "--rule",
            "krum",
            "--byzantine",
            "2",
            &files[0],
            &files[1],
            "--out",
            &out,
        ],
        1,
        &["needs 7"],
    );
}

#[test]
fn a_topology_is_explained_with_the_keys_of_the_reference_results() {
    let output = run(&["topology", "explain", "ring", "--peers", "6", "--json"]);
    assert!(output.status.success(), "{}", told(&output));
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert!(
        (told["spectral_gap"].as_f64().expect("a number") - 1.0 / 3.0).abs() < 1e-9,
        "{told}"
    );
    assert_eq!(
        (&told["vertex_connectivity"], &told["diameter"]),
        (&2.into(), &3.into())
    );
}

#[test]
fn every_table_is_listed_with_its_sources() {
    for (table, name) in [
        ("rules", "krum"),
        ("topologies", "torus"),
        ("modes", "pairwise"),
        ("staleness", "hinge"),
        ("selections", "power-of-choice"),
        ("methods", "gradient-tracking"),
        ("momentum", "quasi-global"),
        ("objectives", "prox"),
        ("codecs", "top-k"),
        ("models", "cnn"),
        ("datasets", "heart"),
        ("partitions", "dirichlet"),
        ("attacks", "sign-flip"),
        ("trainers", "quadratic"),
        ("checks", "heals"),
    ] {
        let output = run(&["list", table]);
        assert!(output.status.success(), "{table}: {}", told(&output));
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(
            text.lines().any(|line| line.starts_with(name)),
            "{table}: {text}"
        );
        // The invariants are Kith's own; all else names a paper, a standard, its authors, or says
        // that it is our own.
        assert!(
            text.lines()
                .all(|line| line.ends_with(']') == (table != "checks")),
            "{table}: {text}"
        );
        let output = run(&["list", table, "--json"]);
        let rows: Vec<serde_json::Value> =
            serde_json::from_slice(&output.stdout).expect("one JSON document");
        assert_eq!(rows.len(), text.lines().count(), "{table}");
        let is_said = |row: &serde_json::Value| {
            row["source"]
                .as_str()
                .is_some_and(|source| !source.is_empty())
        };
        assert!(
            rows.iter().all(|row| is_said(row) == (table != "checks")),
            "{table}: {rows:?}"
        );
    }
}

#[test]
fn check_says_that_the_mean_moves_under_replicas_and_what_keeps_it() {
    for (rule, codec, told) in [
        ("mean", "top-k:0.1", true),
        ("choco", "top-k:0.1", false),
        ("mean", "int8", false),
    ] {
        let federation = Federation::new(2, &["--rule", rule, "--codec", codec]);
        let output = kith()
            .args(["check", "--json", "--dir"])
            .arg(federation.dir("ada"))
            .output()
            .expect("starts");
        let document = one_document(&output);
        let notes = document["notes"].as_array().expect("notes");
        let choco = notes.iter().any(|note| {
            note.as_str()
                .is_some_and(|note| note.contains("\"choco\" keeps it"))
        });
        assert_eq!(choco, told, "{rule} under {codec}: {notes:?}");
    }
}
