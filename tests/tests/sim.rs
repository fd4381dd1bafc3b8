//! `kith sim` and `kith topology explain` as a person meets them: files in, folders and one JSON
//! document out.

mod common;

use std::path::{Path, PathBuf};
use std::time::Instant;

use common::{Folder, PATIENCE, kith, one_document, text_of, told};
use serde_json::Value;

/// Six peers that learn at once: each descends its own parabola.
const TINY: &str = "\
[federation]
name = \"tiny\"
rounds = 6

[topology]
kind = \"complete\"

[aggregation]
rule = \"trimmed-mean\"
byzantine = 1

[world]
peers = 6
adversaries = 1
seed = 4
evaluate_every = 1

[world.trainer]
kind = \"quadratic\"
dimension = 4
";

const GRID: &str = "
[sweep]
seeds = 2

[sweep.grid]
\"aggregation.rule\" = [\"mean\", \"median\"]
codec = [{ kind = \"identity\" }, { kind = \"top-k\", share = 0.5 }]
";

/// A page or plot is well formed as far as tags and numbers go, and asks for nothing from
/// elsewhere.
fn stands_alone(text: &str) {
    for absent in [
        "<script", "<link", "src=", "@import", "url(", "NaN", "inf\"",
    ] {
        assert!(
            !text.contains(absent),
            "{absent} in {}",
            &text[..text.len().min(400)]
        );
    }
    assert!(
        !text
            .replace("http://www.w3.org/2000/svg", "")
            .contains("http"),
        "an address in the page"
    );
    assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
}

#[test]
fn a_run_leaves_a_report_that_stands_alone_and_can_be_made_again() {
    let folder = Folder::new();
    folder.write("tiny.toml", TINY);
    let outcome = folder.json(&["sim", "run", "tiny.toml", "--json"]);
    assert_eq!(
        (&outcome["peers"], &outcome["checks"]["failed"]),
        (&6.into(), &Value::Array(vec![]))
    );
    let results = folder.path("tiny-results");
    let page = text_of(&results.join("report.html"));
    stands_alone(&page);
    for part in [
        "<pre>kith sim run tiny.toml --seed 4</pre>",
        "<details>",
        "Invariants: ",
        ", 0 broken",
        "lies",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(
        page.matches("prefers-color-scheme:dark").count(),
        2,
        "the page's colours and the plots'"
    );
    for plot in [
        "consensus-distance",
        "optimum-distance",
        "bytes",
        "filtered",
        "closing-time",
        "loss",
        "graph",
    ] {
        stands_alone(&text_of(&results.join(format!("plots/{plot}.svg"))));
    }
    assert!(
        !results.join("plots/accuracy.svg").exists(),
        "a parabola has no accuracy"
    );
    std::fs::remove_file(results.join("report.html")).expect("removed");
    let again = folder.json(&["sim", "report", "tiny-results", "--json"]);
    assert_eq!(again["trace"], outcome["trace"]);
    assert_eq!(text_of(&results.join("report.html")), page);
    // The resolved experiment is an experiment, and the same one.
    let resolved = folder.json(&[
        "sim",
        "run",
        "tiny-results/experiment.toml",
        "--no-files",
        "--json",
    ]);
    assert_eq!(
        (&resolved["trace"], &resolved["experiment"]),
        (&outcome["trace"], &outcome["experiment"])
    );
}

#[test]
fn tables_are_written_as_parquet_or_the_answer_is_how_to_build_that() {
    let folder = Folder::new();
    folder.write("tiny.toml", &format!("{TINY}{GRID}"));
    if !kith_simulations::report::PARQUET {
        for command in [["sim", "run"], ["sim", "sweep"], ["sim", "report"]] {
            folder.refused(
                &[command[0], command[1], "tiny.toml", "--parquet"],
                &["without Parquet", "--features parquet"],
            );
        }
        assert!(
            !folder.path("tiny-results").exists() && !folder.path("tiny-sweep").exists(),
            "before anything runs"
        );
        return;
    }
    folder.json(&["sim", "run", "tiny.toml", "--parquet", "--json"]);
    folder.json(&["sim", "sweep", "tiny.toml", "--parquet", "--json"]);
    for file in [
        "tiny-results/rounds",
        "tiny-results/peers",
        "tiny-sweep/sweep",
        "tiny-sweep/summary",
    ] {
        assert!(
            folder.path(&format!("{file}.csv")).exists()
                && folder.path(&format!("{file}.parquet")).exists(),
            "{file}"
        );
    }
}

#[test]
fn a_world_of_one_round_without_liars_is_reported_as_well() {
    let folder = Folder::new();
    folder.write("one.toml", TINY);
    let set = [
        "--set",
        "federation.rounds=1",
        "--set",
        "world.adversaries=0",
    ];
    folder.json(&[&["sim", "run", "one.toml", "--json"][..], &set].concat());
    let page = text_of(&folder.path("one-results/report.html"));
    stands_alone(&page);
    assert!(page.contains("<svg") && !page.contains("of liars"));
    // A run that was cut short in the middle of a round is one with a broken invariant, and has its
    // plots.
    let broken = folder.kith(&[
        "sim",
        "run",
        "one.toml",
        "--set",
        "world.limit_seconds=0.0045",
        "--out",
        "broken",
    ]);
    assert_eq!(broken.status.code(), Some(5), "{}", told(&broken));
    let page = text_of(&folder.path("broken/report.html"));
    stands_alone(&page);
    assert!(page.contains("broken invariant") && page.contains("heals"));
}

#[test]
fn one_seed_has_one_trace_on_any_number_of_threads() {
    let folder = Folder::new();
    let rows =
        "[federation]\nname = \"rows\"\nrounds = 2\n[world]\npeers = 4\ndataset = \"digits\"\n";
    for (file, text) in [("tiny.toml", TINY), ("rows.toml", rows)] {
        folder.write(file, text);
        let trace = |threads: &str| {
            folder.json(&[
                "sim",
                "run",
                file,
                "--threads",
                threads,
                "--no-files",
                "--json",
            ])["trace"]
                .clone()
        };
        let alone = trace("0");
        assert_eq!(
            [trace("1"), trace("3")],
            [alone.clone(), alone.clone()],
            "{file}"
        );
        let other =
            folder.json(&["sim", "run", file, "--seed", "5", "--no-files", "--json"])["trace"]
                .clone();
        assert_ne!(other, alone, "another seed is another run");
    }
}

#[test]
fn a_sweep_makes_tables_and_goes_on_where_it_stopped() {
    let folder = Folder::new();
    folder.write("tiny.toml", &format!("{TINY}{GRID}"));
    let first = folder.json(&["sim", "sweep", "tiny.toml", "--jobs", "2", "--json"]);
    assert_eq!(
        (&first["cells"], &first["runs"], &first["kept"]),
        (&4.into(), &8.into(), &0.into())
    );
    assert_eq!(first["summary"].as_array().map(Vec::len), Some(4));
    assert!(
        first["summary"][0]["optimum_distance"]["sd"].is_number(),
        "{first}"
    );
    let out = folder.path("tiny-sweep");
    let page = text_of(&out.join("report.html"));
    stands_alone(&page);
    assert!(page.contains("<strong>") && page.contains("aggregation.rule"));
    assert!(out.join("plots/pareto.svg").exists(), "codecs vary");
    assert_eq!(text_of(&out.join("sweep.csv")).lines().count(), 9);
    assert_eq!(text_of(&out.join("summary.csv")).lines().count(), 5);
    // Of two runs the results are spoilt; only they are run again, and come out the same.
    let cells = out.join("cells");
    let mut slugs: Vec<PathBuf> = std::fs::read_dir(&cells)
        .expect("cells")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    slugs.sort();
    let trace = |slug: &Path| -> Value {
        serde_json::from_str::<Value>(&text_of(&slug.join("outcome.json"))).expect("JSON")["trace"]
            .clone()
    };
    let before = trace(&slugs[0]);
    std::fs::write(slugs[0].join("outcome.json"), "{\"half\":").expect("written");
    std::fs::remove_dir_all(&slugs[1]).expect("removed");
    let second = folder.json(&["sim", "sweep", "tiny.toml", "--json"]);
    assert_eq!(
        (&second["kept"], &second["summary"]),
        (&6.into(), &first["summary"])
    );
    assert_eq!(trace(&slugs[0]), before);
    let report = folder.json(&["sim", "report", "tiny-sweep", "--json"]);
    assert_eq!(report, first["summary"]);
    assert_eq!(
        folder.json(&[
            "sim",
            "sweep",
            "tiny.toml",
            "--set",
            "federation.rounds=3",
            "--json"
        ])["kept"],
        0
    );
}

#[test]
fn a_killed_sweep_keeps_what_was_finished() {
    let folder = Folder::new();
    folder.write("tiny.toml", &TINY.replace("rounds = 6", "rounds = 60"));
    let arguments = [
        "sim",
        "sweep",
        "tiny.toml",
        "--seeds",
        "400",
        "--jobs",
        "1",
        "--json",
    ];
    let mut child = kith()
        .current_dir(folder.0.path())
        .args(arguments)
        .spawn()
        .expect("starts");
    let cells = folder.path("tiny-sweep/cells");
    let finished = || {
        let entries = std::fs::read_dir(&cells).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().join("outcome.json").exists())
            .count() as u64
    };
    let deadline = Instant::now() + PATIENCE;
    while finished() < 3 {
        assert!(Instant::now() < deadline, "no run ends");
        std::thread::yield_now();
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("gone");
    let kept = finished();
    let report = folder.kith(&["sim", "report", "tiny-sweep"]);
    assert!(
        report.status.success(),
        "what there is can be reported: {}",
        told(&report)
    );
    if kept < 400 {
        // As many as were finished, and one more for what the kill came too late for.
        let count = (kept + 1).min(400).to_string();
        let again = folder.json(&[
            "sim",
            "sweep",
            "tiny.toml",
            "--seeds",
            &count,
            "--jobs",
            "1",
            "--json",
        ]);
        assert_eq!(
            (&again["kept"], &again["failed"]),
            (&kept.into(), &Value::Array(vec![]))
        );
    }
}

#[test]
fn three_shards_give_the_tables_of_one_run() {
    let folder = Folder::new();
    folder.write("tiny.toml", &format!("{TINY}{GRID}"));
    folder.json(&["sim", "sweep", "tiny.toml", "--out", "whole", "--json"]);
    // In any order, and at the same time.
    let children: Vec<_> = ["3/3", "1/3", "2/3"]
        .map(|shard| {
            kith()
                .current_dir(folder.0.path())
                .args(["sim", "sweep", "tiny.toml", "--out", "parts", "--jobs", "1"])
                .args(["--shard", shard])
                .spawn()
                .expect("starts")
        })
        .into_iter()
        .collect();
    for mut child in children {
        assert!(child.wait().expect("ends").success());
    }
    let report = folder.kith(&["sim", "report", "parts"]);
    assert!(report.status.success(), "{}", told(&report));
    assert!(!told(&report).contains("not complete"), "{}", told(&report));
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path(name));
    for table in ["summary.csv", "sweep.csv", "sweep.toml"] {
        assert_eq!(
            text_of(&whole.join(table)),
            text_of(&parts.join(table)),
            "{table}"
        );
    }
    assert_eq!(text_of(&parts.join("sweep.csv")).lines().count(), 9);
    // A shard resumes as a sweep does.
    let again = [
        "sim",
        "sweep",
        "tiny.toml",
        "--out",
        "parts",
        "--shard",
        "2/3",
        "--json",
    ];
    let again = folder.json(&again);
    assert_eq!((&again["runs"], &again["kept"]), (&3.into(), &3.into()));
    assert_eq!(again["shard"], "2/3");
}

#[test]
fn shards_that_are_missing_or_of_another_sweep_are_named() {
    let folder = Folder::new();
    folder.write("tiny.toml", &format!("{TINY}{GRID}"));
    let shard = |shard: &'static str, out: &'static str, more: &[&'static str]| {
        let sweep = ["sim", "sweep", "tiny.toml", "--shard", shard, "--out", out];
        [&sweep[..], more].concat()
    };
    folder.json(&shard("1/3", "parts", &["--json"]));
    let report = folder.kith(&["sim", "report", "parts"]);
    assert!(report.status.success(), "{}", told(&report));
    assert!(
        told(&report).contains("nothing is there of shard 2/3, 3/3"),
        "{}",
        told(&report)
    );
    assert_eq!(text_of(&folder.path("parts/sweep.csv")).lines().count(), 4);
    folder.refused(
        &shard("2/4", "parts", &[]),
        &["1-of-3.json", "number of shards"],
    );
    folder.refused(
        &shard("2/3", "parts", &["--seeds", "3"]),
        &["command differs"],
    );
    // A whole sweep in the folder takes the place of the shards.
    folder.json(&["sim", "sweep", "tiny.toml", "--out", "parts", "--json"]);
    let report = folder.kith(&["sim", "report", "parts"]);
    assert!(!told(&report).contains("not complete"), "{}", told(&report));
    assert_eq!(text_of(&folder.path("parts/sweep.csv")).lines().count(), 9);
    // The number of a Kubernetes job's pod counts from 0.
    let pod = |index: &str| {
        let mut command = kith();
        command
            .current_dir(folder.0.path())
            .env("JOB_COMPLETION_INDEX", index)
            .args(shard("job/8", "job", &["--json"]));
        command.output().expect("the program starts")
    };
    assert_eq!(one_document(&pod("7"))["shard"], "8/8");
    assert_eq!(pod("8").status.code(), Some(2));
    for wrong in ["0/3", "4/3", "1/0", "three", "job/8"] {
        let output = folder.kith(&shard(wrong, "parts", &[]));
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert!(told(&output).contains("expected K/N"), "{}", told(&output));
    }
}

#[test]
fn what_fails_in_a_sweep_is_listed_and_the_rest_goes_on() {
    let folder = Folder::new();
    folder.write("tiny.toml", TINY);
    let grid = [
        "--grid",
        "aggregation.rule=krum,mean",
        "--grid",
        "aggregation.byzantine=1,4",
        "--set",
        "world.adversaries=0",
    ];
    let output = folder.kith(&[&["sim", "sweep", "tiny.toml", "--json"][..], &grid].concat());
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    let document = one_document(&output);
    let failed = document["failed"].as_array().expect("a list");
    assert_eq!(failed.len(), 1, "{document}");
    assert!(
        failed[0]["why"]
            .as_str()
            .expect("a reason")
            .contains("needs 11 models"),
        "{document}"
    );
    let command = failed[0]["command"].as_str().expect("a command");
    assert!(told(&output).contains(command), "{}", told(&output));
    let alone = folder.kith(&[
        "sim",
        "run",
        "tiny.toml",
        "--seed",
        "4",
        "--set",
        "aggregation.byzantine=4",
        "--set",
        "aggregation.rule=krum",
    ]);
    assert_eq!(alone.status.code(), Some(1));
    assert_eq!(document["summary"].as_array().map(Vec::len), Some(4));
}

#[test]
fn a_campaign_counts_seeds_and_goes_on() {
    let folder = Folder::new();
    folder.write("tiny.toml", TINY);
    let run = |range: &str, more: &[&str]| {
        folder.kith(
            &[
                &[
                    "sim",
                    "sweep",
                    "tiny.toml",
                    "--seed-range",
                    range,
                    "--out",
                    "campaign",
                    "--json",
                ][..],
                more,
            ]
            .concat(),
        )
    };
    let first = one_document(&run("0..40", &["--commit", "one"]));
    assert_eq!(
        (
            &first["seeds"],
            &first["failed"],
            &first["failure_rate_upper_95"]
        ),
        (&40.into(), &0.into(), &0.075.into())
    );
    let second = one_document(&run("0..50", &["--commit", "one"]));
    assert_eq!(
        (&second["seeds"], &second["next"]),
        (&50.into(), &50.into())
    );
    assert!(
        !folder.path("campaign/cells").exists(),
        "nothing is kept of a seed"
    );
    let other = run("0..50", &["--commit", "two"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(
        told(&other).contains("of commit one, not two"),
        "{}",
        told(&other)
    );
    let broken = folder.kith(&[
        "sim",
        "sweep",
        "tiny.toml",
        "--seed-range",
        "3..5",
        "--set",
        "world.limit_seconds=0.0001",
        "--out",
        "broken",
    ]);
    assert_eq!(broken.status.code(), Some(5), "{}", told(&broken));
    assert!(
        told(&broken).contains("seed 3: heals")
            && told(&broken).contains("kith sim run tiny.toml --seed 3"),
        "{}",
        told(&broken)
    );
}

#[test]
fn a_file_that_is_wrong_is_refused_with_line_and_value() {
    let folder = Folder::new();
    let refused = |from: &str, to: &str, expected: &[&str]| {
        assert!(from.is_empty() || TINY.contains(from), "{from}");
        folder.write("bad.toml", &TINY.replace(from, to));
        folder.refused(
            &["sim", "run", "bad.toml", "--json"],
            &[&["bad.toml"], expected].concat(),
        );
        folder.refused(
            &["sim", "sweep", "bad.toml", "--json"],
            &[&["bad.toml"], expected].concat(),
        );
    };
    refused(
        "peers = 6",
        "pears = 6\npeers = 6",
        &[
            "line 13",
            "unknown key \"pears\"",
            "did you mean \"peers\"?",
        ],
    );
    refused(
        "peers = 6",
        "kaos = 6\npeers = 6",
        &[
            "unknown key \"kaos\"",
            "chaos, churn",
            "trainer",
            "did you mean \"chaos\"?",
        ],
    );
    refused(
        "trimmed-mean",
        "trimed-mean",
        &[
            "line 9",
            "unknown rule \"trimed-mean\"",
            "known: mean",
            "did you mean",
        ],
    );
    refused(
        "byzantine = 1",
        "byzantine = 3",
        &["trimmed-mean", "byzantine = 3", "needs 7 models"],
    );
    refused(
        "adversaries = 1",
        "adversaries = 7",
        &["line 14", "world.adversaries: 7 of 6 peers lie"],
    );
    refused(
        "byzantine = 1",
        "byzantine = 1\nmethod = \"gradient-tracking\"\n[round]\nmode = \"asynchronous\"",
        &[
            "line 11",
            "aggregation.method: gradient tracking keeps the mean",
        ],
    );
    refused(
        "\"trimmed-mean\"",
        "\"multi-krum\"\nm = 7",
        &[
            "line 10",
            "aggregation.m",
            "7 of 6 models",
            "expected at most 5",
        ],
    );
    refused(
        "\"trimmed-mean\"",
        "\"weighted-mean\"\nweights = [1.0]",
        &["line 10", "aggregation.weights", "1 weights for 6 models"],
    );
    folder.write("edges.txt", "0 1\n1 two\n");
    let list = "kind = \"edges\"\nfile = \"edges.txt\"";
    refused(
        "kind = \"complete\"",
        list,
        &[
            "line 7",
            "topology.file",
            "line 2 of edges.txt",
            "\"two\" is not a peer's number",
        ],
    );
    refused(
        "kind = \"complete\"",
        &list.replace("edges.txt", "none.txt"),
        &["topology.file", "cannot read none.txt"],
    );
    refused(
        "kind = \"quadratic\"",
        "kind = \"cubic\"",
        &["unknown trainer \"cubic\"", "quadratic"],
    );
    refused(
        "seed = 4",
        "seed = \"four\"",
        &["line 15", "expected an integer", "found \"four\""],
    );
    refused("[world]", "[world", &["line 12", "not TOML"]);
    folder.write("bad.toml", &format!("{TINY}[sweep]\nseed = 3\n"));
    folder.refused(
        &["sim", "sweep", "bad.toml"],
        &[
            "bad.toml",
            "line 22",
            "unknown key \"seed\"",
            "known: grid, seeds",
        ],
    );
    folder.write("bad.toml", TINY);
    folder.refused(
        &["sim", "sweep", "bad.toml", "--grid", "world.seed=1,2"],
        &["world.seed is no axis", "sweep.seeds"],
    );
    // Half a data set, and none: whether the machine has another copy makes no difference.
    std::fs::create_dir(folder.path("half")).expect("made");
    folder.write("half/train-images-idx3-ubyte", "no images");
    let rows = "[federation]\nname = \"rows\"\n[world]\npeers = 4\ndataset = \"fashion-mnist\"\ndata_dir = \"half\"\n";
    folder.write("rows.toml", rows);
    folder.refused(
        &["sim", "run", "rows.toml"],
        &[
            "rows.toml: line 6",
            "world.data_dir: half",
            "train-labels-idx1-ubyte",
        ],
    );
    folder.write("rows.toml", &rows.replace("half", "nowhere"));
    folder.refused(
        &["sim", "run", "rows.toml"],
        &[
            "rows.toml: line 6",
            "world.data_dir: nowhere",
            "train-images-idx3-ubyte",
        ],
    );
    folder.write("rows.toml", &rows.replace("fashion-mnist", "mnist"));
    let output = folder.kith(&["sim", "run", "rows.toml"]);
    assert!(
        told(&output)
            .contains("rows.toml: line 5, column 11: world.dataset: unknown dataset \"mnist\""),
        "{}",
        told(&output)
    );
    assert!(
        !told(&output).contains("data.shape"),
        "one error: {}",
        told(&output)
    );
    folder.refused(&["sim", "run", "missing.toml"], &["missing.toml"]);
    folder.refused(&["sim", "report", "."], &["outcome.json", "sweep.json"]);
}

#[test]
fn a_graph_can_be_read_from_a_file_and_the_resolved_experiment_stands_alone() {
    let folder = Folder::new();
    folder.write("ring.txt", "# a ring\n0 1\n1,2\n2 3\n3 4\n4 5\n5 0\n");
    folder.write(
        "list.toml",
        &TINY.replace("\"complete\"", "\"edges\"\nfile = \"ring.txt\""),
    );
    folder.write("ring.toml", &TINY.replace("\"complete\"", "\"ring\""));
    let run = |file: &str| {
        let output = folder.kith(&["sim", "run", file, "--json"]);
        assert!(output.status.success(), "{file}: {}", told(&output));
        one_document(&output)["loss"].clone()
    };
    let loss = run("list.toml");
    assert_eq!(loss, run("ring.toml"));
    std::fs::remove_file(folder.path("ring.txt")).expect("removed");
    assert_eq!(loss, run("list-results/experiment.toml"));
}

#[test]
fn a_run_tells_how_unlike_the_rows_are() {
    let folder = Folder::new();
    let text = "[federation]\nname = \"rows\"\nrounds = 1\n[world]\npeers = 4\npartition = \"pathological:2\"\n";
    folder.write("rows.toml", text);
    let output = folder.kith(&["sim", "run", "rows.toml", "--json"]);
    let skew = &one_document(&output)["skew"];
    let far = skew["l1"].as_f64().expect("a number");
    assert!(far > 1.0 && far <= 2.0, "two classes of ten each: {skew}");
    assert_eq!(skew["class_counts"].as_array().map(Vec::len), Some(4));
    let table = text_of(&folder.path("rows-results/skew.csv"));
    assert!(
        table.starts_with("peer,rows,l1,hellinger,js_divergence,entropy,class_0,class_1"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 5);
    assert!(text_of(&folder.path("rows-results/report.html")).contains("Rows by peer and class"));
    let even = folder.kith(&[
        "sim",
        "run",
        "rows.toml",
        "--set",
        "world.partition=iid",
        "--json",
    ]);
    assert!(
        one_document(&even)["skew"]["l1"]
            .as_f64()
            .expect("a number")
            < 0.2,
        "{}",
        told(&even)
    );
}

#[test]
fn a_fault_after_the_end_of_the_run_is_told_on_the_screen_and_in_the_report() {
    let folder = Folder::new();
    let fault = |at: &str| {
        format!(
            "[[world.fault]]\nat_seconds = {at}\nkind = \"crash\"\npeer = 1\nlasts_seconds = 0.001\n"
        )
    };
    folder.write(
        "late.toml",
        &format!("{TINY}{}{}", fault("0.002"), fault("500")),
    );
    let output = folder.kith(&["sim", "run", "late.toml", "--json"]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(
        told(&output).contains("never felt") && told(&output).contains("crash at 500 s"),
        "{}",
        told(&output)
    );
    assert_eq!(
        one_document(&output)["faults_not_felt"],
        serde_json::json!(["crash at 500 s"])
    );
    assert!(
        text_of(&folder.path("late-results/report.html")).contains("over before: crash at 500 s.")
    );
    folder.write("felt.toml", &format!("{TINY}{}", fault("0.002")));
    let output = folder.kith(&["sim", "run", "felt.toml", "--json"]);
    assert!(!told(&output).contains("never felt"), "{}", told(&output));
    assert!(!text_of(&folder.path("felt-results/report.html")).contains("over before"));
}

#[test]
fn a_run_leaves_the_sweep_out_and_says_so() {
    let folder = Folder::new();
    folder.write("tiny.toml", &format!("{TINY}{GRID}"));
    let output = folder.kith(&["sim", "run", "tiny.toml", "--no-files", "--json"]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(
        told(&output).contains("kith sim sweep tiny.toml"),
        "{}",
        told(&output)
    );
    one_document(&output);
}

#[test]
fn graphs_are_compared_drawn_and_read_from_a_list() {
    let folder = Folder::new();
    let both = folder.json(&[
        "topology",
        "explain",
        "ring",
        "--peers",
        "16",
        "--compare",
        "torus",
        "--compare",
        "complete",
        "--json",
    ]);
    assert_eq!(
        (&both["kind"], &both["diameter"]),
        (&"ring".into(), &8.into())
    );
    assert_eq!(
        (
            &both["compared"][1]["kind"],
            &both["compared"][1]["diameter"]
        ),
        (&"complete".into(), &1.into())
    );
    assert_eq!(
        both["header_bytes_per_peer_and_round"], 256.0,
        "each update has two receivers, one of whom shows the other its header"
    );
    let rows = folder.json(&[
        "topology",
        "explain",
        "torus",
        "--peers",
        "12",
        "--param",
        "rows=2",
        "--compare",
        "ring",
        "--json",
    ]);
    assert_eq!(
        (&rows["diameter"], &rows["compared"][0]["diameter"]),
        (&4.into(), &6.into()),
        "a parameter is the first kind's"
    );
    let table = folder.kith(&[
        "topology",
        "explain",
        "ring",
        "--peers",
        "16",
        "--compare",
        "torus",
    ]);
    let text = String::from_utf8(table.stdout).expect("text");
    assert!(
        text.contains("ring") && text.contains("torus") && text.contains("spectral gap"),
        "{text}"
    );
    for kind in [
        "ring",
        "torus",
        "dumbbell",
        "hierarchical",
        "exponential",
        "random-regular:4",
        "star",
        "centralised",
        "erdos-renyi",
    ] {
        let output = folder.kith(&[
            "topology",
            "explain",
            kind,
            "--peers",
            "16",
            "--svg",
            "graph.svg",
            "--json",
        ]);
        assert!(output.status.success(), "{kind}: {}", told(&output));
        let drawing = text_of(&folder.path("graph.svg"));
        stands_alone(&drawing);
        assert!(drawing.contains("prefers-color-scheme:dark"), "{kind}");
        assert_eq!(drawing.matches("<circle").count(), 16, "{kind}");
    }
    let central = folder.json(&[
        "topology",
        "explain",
        "centralised",
        "--peers",
        "8",
        "--json",
    ]);
    assert_eq!(
        (
            &central["rounds_to_consensus_over_periods"],
            &central["byzantine_max"]
        ),
        (&2.into(), &3.into())
    );
    assert_eq!(
        (
            &central["stages"][0]["combining"],
            &central["stages"][1]["adopting"]
        ),
        (&1.into(), &7.into())
    );
    let clusters = folder.json(&[
        "topology",
        "explain",
        "hierarchical",
        "--peers",
        "16",
        "--json",
    ]);
    assert_eq!(
        (
            &clusters["stages"][1]["combining"],
            &clusters["stages"][1]["smallest"]
        ),
        (&8.into(), &3.into())
    );
    assert_eq!(
        (
            &clusters["stages"][2]["trains"],
            &clusters["stages"][2]["alternatives"]
        ),
        (&false.into(), &2.into())
    );
    folder.write("good.txt", "# a path\n0 1\n1,2\n");
    let path = folder.json(&["topology", "explain", "--edges", "good.txt", "--json"]);
    assert_eq!(
        (&path["n"], &path["diameter"], &path["kind"]),
        (&3.into(), &2.into(), &"edges".into())
    );
    folder.write("bad.txt", "0 1\n1 two\n");
    folder.refused(
        &["topology", "explain", "--edges", "bad.txt"],
        &["bad.txt", "line 2", "\"two\"", "an integer from 0"],
    );
    folder.refused(
        &["topology", "explain", "--edges", "good.txt", "--peers", "2"],
        &["good.txt", "0..2"],
    );
    // A list has the parameters of the kind `edges`, and no others.
    folder.refused(
        &[
            "topology",
            "explain",
            "--edges",
            "good.txt",
            "--param",
            "nonsense=3",
        ],
        &["nonsense"],
    );
    folder.write("circle.txt", "0 1\n1 2\n2 0\n");
    let circle = folder.json(&[
        "topology",
        "explain",
        "--edges",
        "circle.txt",
        "--param",
        "directed=true",
        "--json",
    ]);
    assert_eq!(
        (&circle["directed"], &circle["diameter"]),
        (&true.into(), &2.into())
    );
}

/// What a run left is replaced by the same run and by nothing else.
#[test]
fn results_are_not_overwritten_by_another_run_nor_files_of_others_by_any() {
    let folder = Folder::new();
    folder.write("tiny.toml", TINY);
    let seed_of = |results: &str| {
        let outcome: Value =
            serde_json::from_str(&text_of(&folder.path(&format!("{results}/outcome.json"))))
                .expect("JSON");
        outcome["seed"].as_u64()
    };
    for _ in 0..2 {
        folder.json(&["sim", "run", "tiny.toml", "--json"]);
    }
    folder.json(&["sim", "run", "tiny.toml", "--seed", "5", "--json"]);
    folder.json(&[
        "sim",
        "run",
        "tiny.toml",
        "--set",
        "aggregation.rule=median",
        "--json",
    ]);
    assert_eq!(
        ["tiny-results", "tiny-results-2", "tiny-results-3"].map(seed_of),
        [Some(4), Some(5), Some(4)]
    );
    folder.refused(
        &[
            "sim",
            "run",
            "tiny.toml",
            "--seed",
            "6",
            "--out",
            "tiny-results",
        ],
        &["seed 4", "--again"],
    );
    folder.json(&[
        "sim",
        "run",
        "tiny.toml",
        "--seed",
        "6",
        "--out",
        "tiny-results",
        "--again",
        "--json",
    ]);
    assert_eq!(seed_of("tiny-results"), Some(6));
    std::fs::create_dir(folder.path("mine")).expect("made");
    folder.write("mine/report.html", "my own page");
    for verb in ["run", "sweep"] {
        folder.refused(
            &["sim", verb, "tiny.toml", "--out", "mine"],
            &["mine", "report.html"],
        );
    }
    assert_eq!(text_of(&folder.path("mine/report.html")), "my own page");
}

/// A graph that is drawn again and again has no period; what is told of it comes from a few draws,
/// and says so.
#[test]
fn of_a_graph_that_never_begins_again_a_sample_is_explained() {
    let folder = Folder::new();
    let explain = |kind: &[&str], more: &[&str]| {
        let output =
            folder.kith(&[&["topology", "explain"], kind, &["--peers", "16"], more].concat());
        assert!(output.status.success(), "{}", told(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    let epidemic = ["epidemic-local"];
    let oracle = ["random-regular:4", "--param", "redraw_every=1"];
    for (kind, draws) in [
        (&epidemic[..], 4),
        (&oracle[..], 4),
        (&["random-regular:4", "--param", "redraw_every=5"], 2),
    ] {
        let text = explain(kind, &[]);
        assert!(
            text.contains(&format!("{draws} draws in")) && text.contains("never the same again"),
            "{text}"
        );
        assert!(!text.contains("rounds of a period"), "{text}");
        let json: Value =
            serde_json::from_str(&explain(kind, &["--json"])).expect("one JSON document");
        assert_eq!(
            (&json["sample"]["draws"], &json["period"]),
            (&draws.into(), &Value::Null),
            "{json}"
        );
        assert!(
            json["rounds_to_consensus_over_periods"]
                .as_u64()
                .is_some_and(|rounds| rounds > 0),
            "{json}"
        );
    }
    assert!(explain(&epidemic, &["--compare", "base-k"]).contains("none: 4 draws"));
    let once = explain(&["random-regular:4"], &[]);
    assert!(!once.contains("draw"), "{once}");
    assert!(explain(&["base-k"], &[]).contains("rounds of a period"));
}

/// What a person is told to run can be copied into a shell, and means the run that it is about.
#[test]
fn a_command_that_replays_can_be_copied() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("two words")).expect("made");
    folder.write("two words/it's.toml", &format!("{TINY}{GRID}"));
    let output = folder.kith(&["sim", "run", "two words/it's.toml", "--no-files", "--json"]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(
        told(&output).contains("`kith sim sweep 'two words/it'\\''s.toml'`"),
        "{}",
        told(&output)
    );
    // A seed that no file can hold is refused, not replaced by another one.
    folder.write("tiny.toml", TINY);
    let largest = i64::MAX.to_string();
    let ran = folder.json(&[
        "sim",
        "run",
        "tiny.toml",
        "--no-files",
        "--json",
        "--seed",
        &largest,
    ]);
    assert_eq!(ran["seed"], i64::MAX);
    let output = folder.kith(&[
        "sim",
        "run",
        "tiny.toml",
        "--no-files",
        "--seed",
        "9223372036854775808",
    ]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("expected an integer from 0 to 9223372036854775807"),
        "{}",
        told(&output)
    );
}

/// The examples of the page are complete. `references.rs` looks at its keys.
#[test]
fn the_documented_examples_run() {
    let folder = Folder::new();
    let documented = text_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/experiments.md"));
    let examples: Vec<&str> = documented
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a block"))
        .collect();
    assert_eq!(examples.len(), 2);
    folder.write("parabolas.toml", examples[0]);
    folder.write("rules.toml", examples[1]);
    folder.json(&["sim", "run", "parabolas.toml", "--json"]);
    let sweep = folder.json(&["sim", "sweep", "rules.toml", "--json"]);
    assert_eq!(sweep["runs"], 18);
}
