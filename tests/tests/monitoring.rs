//! What operators watch a peer with: the reference page of metrics, alerts with their pages, the
//! dashboard, and a real Prometheus over real peers.
//!
//! The page's table is made from `METRICS`; `KITH_REFERENCE=write` writes it anew. Tests that need
//! Prometheus are skipped where it is not installed, and say so in one line.

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{Federation, Running, free_port, text_of};
use kith_node::telemetry::METRICS;
use kith_node::telemetry::anomaly::{ANOMALIES, Anomaly};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

fn monitoring(name: &str) -> PathBuf {
    root().join("deploy/monitoring").join(name)
}

#[test]
fn the_reference_page_has_the_table() {
    let page = root().join("docs/reference/metrics.md");
    let text = text_of(&page);
    let heading = "## The table\n\n";
    let (before, found) = text.split_once(heading).expect("the heading of the table");
    let mut table =
        String::from("| metric | kind | labels | meaning | from |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        table += &format!(
            "| `{}` | {} | {} | {} | {} |\n",
            metric.name,
            metric.kind.name(),
            metric.labels.join(", "),
            metric.help,
            metric.source
        );
    }
    if std::env::var("KITH_REFERENCE").is_ok_and(|what| what == "write") {
        std::fs::write(&page, format!("{before}{heading}{table}")).expect("written");
        return;
    }
    assert_eq!(
        found, table,
        "KITH_REFERENCE=write cargo test -p kith-tests --test monitoring"
    );
}

/// Names of metrics in a text, without what a histogram's samples add.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
    let ours = words.filter(|word| word.starts_with("kith_") || word.starts_with("process_"));
    ours.map(|word| {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| word.strip_suffix(suffix));
        base.unwrap_or(word).to_owned()
    })
    .collect()
}

#[test]
fn rules_dashboard_and_pages_name_metrics_that_exist() {
    let known: BTreeSet<String> = METRICS
        .iter()
        .map(|metric| metric.name.to_owned())
        .collect();
    let mut files: Vec<PathBuf> = [
        "alerts.yml",
        "alerts.test.yml",
        "prometheus.yml",
        "dashboard.json",
    ]
    .map(monitoring)
    .into();
    let runbooks = std::fs::read_dir(root().join("docs/runbooks")).expect("a folder");
    files.extend(runbooks.map(|entry| entry.expect("an entry").path()));
    let guides = ["README.md", "docs/guides/privacy-accounting.md"];
    files.extend(guides.map(|name| root().join(name)));
    for file in files {
        let unknown: Vec<String> = metrics_in(&text_of(&file))
            .difference(&known)
            .cloned()
            .collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", file.display());
    }
    let shown = metrics_in(&text_of(&monitoring("dashboard.json")));
    let missing: Vec<&String> = known.difference(&shown).collect();
    assert!(missing.is_empty(), "not on the dashboard: {missing:?}");
}

#[test]
fn every_alert_has_its_page_and_every_page_its_alert() {
    let rules = text_of(&monitoring("alerts.yml"));
    let cases = text_of(&monitoring("alerts.test.yml"));
    let mut pages = BTreeSet::new();
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert_eq!(alerts.len(), 13);
    for alert in alerts {
        let name = alert.lines().next().expect("a name");
        let page = alert
            .lines()
            .find_map(|line| line.trim().strip_prefix("runbook: "))
            .unwrap_or_else(|| panic!("{name} names no page"));
        let text = text_of(&root().join(page));
        assert!(
            text.starts_with(&format!("# {name}\n")),
            "{page} is {name}'s"
        );
        for part in [
            "## What it means",
            "## Where to look",
            "## What to do",
            "## When to ignore it",
        ] {
            assert!(text.contains(part), "{page}: {part}");
        }
        for case in ["fires", "is silent"] {
            assert!(
                cases.contains(&format!("- name: {name} {case}\n")),
                "no case in which {name} {case}"
            );
        }
        assert!(pages.insert(root().join(page)), "{page} is of two alerts");
    }
    let found: BTreeSet<PathBuf> = std::fs::read_dir(root().join("docs/runbooks"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(found, pages);
}

#[test]
fn every_anomaly_has_a_metric_and_an_alert_on_it() {
    let rules = text_of(&monitoring("alerts.yml"));
    let reference = text_of(&root().join("docs/reference/metrics.md"));
    for anomaly in ANOMALIES {
        let Anomaly {
            event,
            metric,
            alert,
            ..
        } = anomaly;
        let known = METRICS.iter().any(|known| known.name == *metric);
        assert!(known, "{event}: {metric}");
        let mut alerts = rules.split("- alert: ");
        let rule = alerts.find(|rule| rule.lines().next() == Some(alert));
        let rule = rule.unwrap_or_else(|| panic!("{event}: no {alert}"));
        assert!(rule.contains(metric), "{alert} is on {metric}");
        let page = rule
            .split("runbook: ")
            .nth(1)
            .and_then(|rest| rest.lines().next());
        let page = text_of(&root().join(page.expect("a page")));
        assert!(page.contains(&format!("`{event}`")), "{event}: {page}");
        let row = format!(
            "| `{event}` | {} | {} | `{metric}` | `{alert}` |\n",
            anomaly.threshold, anomaly.source
        );
        assert!(
            reference.contains(&row),
            "expected in docs/reference/metrics.md: {row}"
        );
    }
}

#[test]
fn the_commands_on_the_pages_exist() {
    let runbooks = std::fs::read_dir(root().join("docs/runbooks")).expect("a folder");
    let mut pages: Vec<PathBuf> = runbooks
        .map(|entry| entry.expect("an entry").path())
        .collect();
    pages.push(root().join("docs/reference/metrics.md"));
    let mut commands = BTreeSet::new();
    for page in &pages {
        let spans = text_of(page);
        let spans = spans.split('`').skip(1).step_by(2);
        commands.extend(
            spans
                .filter_map(|span| span.strip_prefix("kith "))
                .map(str::to_owned),
        );
    }
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        // Verbs come first; then options, and what they stand for in capitals.
        let verbs = command
            .split(' ')
            .take_while(|word| word.chars().all(|sign| sign.is_ascii_lowercase()));
        let verbs: Vec<&str> = verbs.collect();
        let output = common::run(&[&verbs[..], &["--help"]].concat());
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}");
        for option in command.split(' ').filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{command}: {option}");
        }
    }
}

/// Whether a program of Prometheus is there; if not, says that a test is skipped.
fn is_installed(program: &str) -> bool {
    let there = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if there.is_err() {
        // Written past the test's capture of output, so that it is seen.
        let _ = writeln!(
            std::io::stderr(),
            "!! SKIPPED: {program} is not installed: apt-get install prometheus"
        );
    }
    there.is_ok()
}

#[test]
fn promtool_accepts_the_rules_and_their_cases() {
    if !is_installed("promtool") {
        return;
    }
    for arguments in [
        &["check", "rules", "alerts.yml"][..],
        &["test", "rules", "alerts.test.yml"],
        &["check", "config", "prometheus.yml"],
    ] {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(root().join("deploy/monitoring"))
            .output()
            .expect("it starts");
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// A Prometheus of a test's own; killed when dropped.
struct Prometheus {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes these addresses every second and evaluates the alerts, without the time that they
    /// wait.
    fn start(targets: &[String]) -> Prometheus {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at_once = |line: &str| match line.trim_start().starts_with("for: ") {
            true => String::new(),
            false => line.to_owned() + "\n",
        };
        let rules: String = text_of(&monitoring("alerts.yml"))
            .lines()
            .map(at_once)
            .collect();
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [alerts.yml]\nscrape_configs:\n  \
             - job_name: kith\n    static_configs:\n      - targets: {targets:?}\n"
        );
        for (name, text) in [("alerts.yml", rules), ("prometheus.yml", config)] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let address = format!("127.0.0.1:{}", free_port());
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new("prometheus")
            .arg(format!("--web.listen-address={address}"))
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg("--log.level=warn")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        Prometheus {
            child,
            address,
            folder,
        }
    }

    /// The `data` of the answer; `None` while it does not answer.
    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let host = &self.address;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let answer: Value = serde_json::from_str(body).ok()?;
        // It answers 503 without JSON while it starts; an error with JSON is the test's.
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        Some(answer["data"].clone())
    }

    /// The series of an expression.
    fn series(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let found = self.get(&format!("/api/v1/query?query={encoded}"));
        found
            .and_then(|found| found["result"].as_array().cloned())
            .unwrap_or_default()
    }

    /// Waits until each expression has had a series, at whatever time.
    fn until_each_has_had_a_series(&self, expressions: &[String]) {
        let deadline = Instant::now() + common::PATIENCE;
        let mut pending: Vec<&String> = expressions.iter().collect();
        while !pending.is_empty() {
            pending.retain(|expression| self.series(expression).is_empty());
            assert!(
                Instant::now() < deadline,
                "no series for {pending:#?}; {}",
                text_of(&self.folder.path().join("log"))
            );
            std::thread::yield_now();
        }
    }
}

/// Series of these are there once a message was refused, which in a calm federation is never: only
/// that they are valid is checked.
fn may_have_no_series(expression: &str) -> bool {
    expression.contains("kith_refusals_total")
}

/// The expressions of the alerts, with comparisons that answer 0 or 1 instead of leaving series
/// out, and of the dashboard, for every instance.
fn expressions() -> Vec<String> {
    let rules = text_of(&monitoring("alerts.yml"));
    let mut found = Vec::new();
    for alert in rules.split("- alert: ").skip(1) {
        let (_, from) = alert.split_once("expr: ").expect("an expression");
        // It ends before the next key, which starts a line of the same depth.
        let end = ["\n        for: ", "\n        labels:"]
            .iter()
            .filter_map(|key| from.find(key))
            .min()
            .expect("keys after it");
        let text = from[..end].trim_start_matches(">-");
        let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for sign in [">", "<", "=="] {
            text = text.replace(&format!(" {sign} "), &format!(" {sign} bool "));
        }
        found.push(text);
    }
    let dashboard: Value =
        serde_json::from_str(&text_of(&monitoring("dashboard.json"))).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let text = target["expr"].as_str().expect("an expression");
            let text = text.replace("$instance", ".*");
            found.push(text.replace("$__rate_interval", "20s"));
        }
    }
    found
}

/// Where a peer serves its metrics, once it does.
fn serving(peer: &mut Running) -> String {
    let line = peer.until_event("serving");
    line["address"].as_str().expect("an address").to_owned()
}

#[test]
fn a_real_prometheus_shows_every_expression_and_a_killed_peer() {
    if !is_installed("prometheus") {
        return;
    }
    let plain = Federation::new(3, &["--rounds", "10000000"]);
    let privacy = [
        "--rounds",
        "100000",
        "--privacy",
        "example-level",
        "--epsilon",
        "4",
        "--delta",
        "1e-5",
        "--rows",
        "1000",
    ];
    // Under a guarantee there is a budget, and no loss.
    let private = Federation::new(2, &privacy);
    let evaluated = "holdout = 0.2\n[evaluation]\nevery = 1";
    let mut peers = Vec::new();
    for (federation, holdout) in [(&plain, evaluated), (&private, "holdout = 0.0")] {
        for name in &federation.names {
            federation.edit(name, "kith.toml", "holdout = 0.2", holdout);
            peers.push(federation.start(name));
        }
    }
    let targets: Vec<String> = peers.iter_mut().map(serving).collect();
    let prometheus = Prometheus::start(&targets);
    let (may, must): (Vec<String>, Vec<String>) = expressions()
        .into_iter()
        .partition(|expression| may_have_no_series(expression));
    prometheus.until_each_has_had_a_series(&must);
    for expression in &may {
        prometheus.series(expression);
        println!("valid, without a series unless a message is refused: {expression}");
    }
    println!("{} expressions have had a series", must.len());
    let firing = |alert: &str, of: &str| {
        format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\", {of}}}")
    };
    let down = |target: &str| firing("KithDown", &format!("instance=\"{target}\""));
    let missed = firing("KithNeighbourMissing", "name=\"ada\"");
    assert!(prometheus.series(&down(&targets[0])).is_empty());
    peers[0].kill();
    prometheus.until_each_has_had_a_series(&[down(&targets[0]), missed]);
    assert!(prometheus.series(&down(&targets[1])).is_empty());
}
