//! The page of a testnet, in a real browser and without one.
//!
//! The browser is driven by `playwright-core` from npm, which is no part of the repository:
//! `KITH_PLAYWRIGHT` names a folder whose `node_modules` hold it. Without it, or without a browser,
//! those tests say loudly that they are skipped.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Folder, free_port, kith};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const CHROMIUM: &str = "/usr/bin/chromium";

/// A program that serves a page, and what it said on stderr before.
struct Serving {
    child: Child,
    link: String,
    said: Vec<String>,
    /// Kept open: the program writes to it.
    stderr: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Serving {
    fn start(arguments: &[&str], folder: &Folder) -> Serving {
        let mut child = kith()
            .current_dir(folder.0.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = Vec::new();
        let link = loop {
            let line = stderr.next().unwrap_or_else(|| panic!("a link: {said:?}"));
            let line = line.expect("text");
            said.push(line.clone());
            if let Some(rest) = line.strip_prefix("the page is at ") {
                break rest.split(';').next().unwrap_or_default().to_owned();
            }
        };
        Serving {
            child,
            link,
            said,
            stderr,
        }
    }

    /// Everything on stderr up to a line that holds `words`.
    fn hears(&mut self, words: &str) {
        let mut lines = self.stderr.by_ref().map(|line| line.expect("text"));
        assert!(lines.any(|line| line.contains(words)), "{words}");
    }

    /// Ctrl-C; the exit code and stdout.
    fn end(mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("a signal");
        self.stderr.by_ref().for_each(drop);
        let mut text = String::new();
        let mut stdout = self.child.stdout.take().expect("piped");
        stdout.read_to_string(&mut text).expect("text");
        (self.child.wait().expect("ends").code(), text)
    }

    /// The answer to `GET path`.
    fn get(&self, path: &str) -> String {
        use std::io::Write;
        let host = self.link.trim_start_matches("http://");
        let host = host.split('/').next().expect("a host");
        let mut stream = std::net::TcpStream::connect(host).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        text
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a browser sees; `None` if there is none here.
fn browsed(link: &str, arguments: &[&str]) -> Option<Value> {
    let Some(playwright) = std::env::var_os("KITH_PLAYWRIGHT") else {
        println!(
            "SKIPPED: KITH_PLAYWRIGHT names no folder with playwright-core, so no browser looks"
        );
        return None;
    };
    if !Path::new(CHROMIUM).exists() {
        println!("SKIPPED: there is no {CHROMIUM}, so no browser looks");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("page/page.mjs");
    let output = Command::new("node")
        .arg(script)
        .arg(link)
        .args(arguments)
        .env("KITH_PLAYWRIGHT", playwright)
        .env("CHROMIUM", CHROMIUM)
        .output()
        .expect("node starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// Nothing but this program was asked, nothing was refused by the policy, and nothing went wrong.
fn assert_clean(seen: &Value) {
    assert_eq!(seen["foreign"], serde_json::json!([]), "{seen}");
    assert_eq!(seen["errors"], serde_json::json!([]), "{seen}");
    assert_eq!(seen["wider"], false, "no sideways scrolling: {seen}");
}

#[test]
fn a_page_shows_a_testnet_and_a_replay_shows_the_same_numbers() {
    let folder = Folder::new();
    let port = format!("--page={}", free_port());
    let start = ["testnet", &port, "--rounds", "4", "--dir", "net", "--json"];
    let mut live = Serving::start(&start, &folder);
    assert!(live.link.contains("/#t="), "{}", live.link);
    let Some(seen) = browsed(&live.link, &[]) else {
        return;
    };
    assert_eq!((&seen["peers"], &seen["squares"]), (&8.into(), &2.into()));
    assert_eq!(seen["circles"], 6, "{seen}");
    assert_eq!(seen["completed"], 4, "{seen}");
    assert!(
        seen["files"].as_u64().expect("a number") <= 8 + 1,
        "files and stream: {seen}"
    );
    assert_clean(&seen);
    live.hears("the page stays until Ctrl-C");
    let (code, stdout) = live.end();
    assert_eq!(code, Some(0));
    let report: Value = serde_json::from_str(&stdout).expect("one document");
    assert_eq!(report["accuracy"]["mean"], seen["accuracy"], "{report}");

    let again = Serving::start(&["view", "net", "--port", "0"], &folder);
    let replayed = browsed(&again.link, &[]).expect("a browser");
    for key in ["accuracy", "completed", "rows", "peers", "squares"] {
        assert_eq!(replayed[key], seen[key], "{key}");
    }
    assert_clean(&replayed);
    assert_eq!(again.end().0, Some(0));
}

#[test]
fn orders_from_the_page_are_carried_out_and_seen() {
    let folder = Folder::new();
    let start = ["testnet", "--page=0", "--rounds", "150", "--no-baselines"];
    let start = [&start[..], &["--adversaries", "1", "--partition", "iid"]].concat();
    let mut live = Serving::start(&start, &folder);
    let Some(seen) = browsed(&live.link, &["order", "peer-2"]) else {
        return;
    };
    assert!(
        seen["killed_seconds"].as_f64().expect("seconds") < 2.0,
        "{seen}"
    );
    assert!(seen["dashed"].as_u64().expect("a number") >= 5, "{seen}");
    assert!(
        seen["paused_seconds"].as_f64().expect("seconds") < 2.0,
        "{seen}"
    );
    assert_eq!(
        (&seen["squares"], &seen["squares_then"]),
        (&1.into(), &2.into())
    );
    // It is started again for it, and the others go on meanwhile.
    let rounds = seen["lied_rounds"].as_u64().expect("a number");
    assert!(rounds <= 20, "{seen}");
    assert_clean(&seen);
    live.hears("the page stays until Ctrl-C");
    assert_eq!(live.end().0, Some(0));
}

#[test]
fn a_simulation_is_shown_with_the_numbers_that_it_ended_with() {
    let folder = Folder::new();
    let text = "[federation]\nname = \"world\"\nrounds = 6\n[topology]\nkind = \"complete\"\n[aggregation]\nrule = \"median\"\nbyzantine = 1\n\
                [world]\npeers = 5\nadversaries = 1\nattack = \"sign-flip:10\"\n";
    folder.write("world.toml", text);
    let run = [
        "sim",
        "run",
        "world.toml",
        "--no-files",
        "--events",
        "world.jsonl",
        "--json",
    ];
    let outcome = folder.json(&run);
    let mut view = Serving::start(&["view", "world.jsonl", "--port", "0"], &folder);
    let mean = outcome["accuracy"]["mean"].as_f64().expect("a mean");
    view.hears("shown to its end");
    let page = view.get("/");
    assert!(page.contains("6 of 6 rounds"), "{page}");
    assert!(
        page.contains(&format!("mean accuracy {mean:.4}")),
        "{mean}: {page}"
    );
    assert_eq!(page.matches("<td>adversary</td>").count(), 1, "{page}");
    if let Some(seen) = browsed(&view.link, &[]) {
        assert_eq!(seen["accuracy"], outcome["accuracy"]["mean"]);
        assert_clean(&seen);
    }
    let many = [
        "sim",
        "run",
        "world.toml",
        "--no-files",
        "--events",
        "many.jsonl",
    ];
    let many = [&many[..], &["--set", "world.peers=300"]].concat();
    folder.refused(&many, &["300 peers, and a page shows 256"]);
}

#[test]
fn what_cannot_be_shown_is_said_in_one_line() {
    let folder = Folder::new();
    folder.refused(&["view", "."], &["is not the folder of a testnet"]);
    folder.refused(&["view", "none.jsonl"], &["cannot read none.jsonl"]);
    folder.write("other.jsonl", "{}\n");
    folder.refused(
        &["view", "other.jsonl"],
        &["does not begin with the header"],
    );
    let start = [
        "testnet",
        "--peers",
        "3",
        "--adversaries",
        "0",
        "--rounds",
        "2",
    ];
    let start = [&start[..], &["--no-baselines", "--dir", "net"]].concat();
    assert!(folder.kith(&start).status.success());
    let text = common::text_of(&folder.path("net/events.jsonl"));
    folder.write("cut.jsonl", &text[..text.len() - 20]);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let mut view = Serving::start(&["view", "cut.jsonl", "--port", &port], &folder);
    assert!(
        view.said[0].contains(&format!("port {port} is in use")),
        "{:?}",
        view.said
    );
    view.hears("events are shown up to there");
    let page = view.get("/");
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("shown up to there"),
        "{page}"
    );
    // The tables are there without a script.
    assert!(
        page.contains("<td>peer-3</td>") && page.contains("2 of 2 rounds"),
        "{page}"
    );
    assert!(view.get("/none").starts_with("HTTP/1.1 404"));
    assert_eq!(view.end().0, Some(0));
}
