//! The page of a testnet, in a real browser and without one.
//!
//! The browser is driven by `playwright-core` from npm, which is no part of the repository:
//! `KITH_PLAYWRIGHT` names a folder whose `node_modules` hold it. Without it, or without a browser,
//! those tests say loudly that they are skipped. If `axe-core` is there as well, it looks for what
//! keeps people out.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{Federation, Folder, free_port, kith};
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

/// The snapshots of a page, as its script gets them.
struct Snapshots(BufReader<std::net::TcpStream>);

impl Snapshots {
    fn of(link: &str) -> Snapshots {
        use std::io::Write;
        let host = link.trim_start_matches("http://");
        let host = host.split('/').next().expect("a host");
        let mut stream = std::net::TcpStream::connect(host).expect("it listens");
        stream
            .set_read_timeout(Some(common::PATIENCE))
            .expect("a time");
        let request = format!("GET /stream HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("written");
        Snapshots(BufReader::new(stream))
    }

    /// The first snapshot from here on of which `wanted` holds.
    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + common::PATIENCE;
        let mut line = String::new();
        while Instant::now() < deadline {
            line.clear();
            let read = self.0.read_line(&mut line);
            assert!(read.is_ok_and(|bytes| bytes > 0), "it ends before {what}");
            let snapshot = line.strip_prefix("data: ");
            let snapshot = snapshot.map(|text| serde_json::from_str(text).expect("JSON"));
            if let Some(snapshot) = snapshot.filter(&wanted) {
                return snapshot;
            }
        }
        panic!("waited in vain for {what}")
    }
}

/// Pairs of positions whose link is missing.
fn missing(snapshot: &Value) -> Vec<(u64, u64)> {
    let links = snapshot["links"].as_array().expect("links").iter();
    links
        .filter(|link| link["missing"] == true)
        .map(|link| serde_json::from_value(link["ends"].clone()).expect("a pair"))
        .collect()
}

/// Rounds from the order to lie to the first one in which the other peers dropped more than half of
/// that peer's contributions, on average, as a testnet's file of events has it.
fn rounds_until_dropped(events: &Path) -> u64 {
    let text = common::text_of(events);
    let entries = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let entries: Vec<Value> = entries.collect();
    let order = entries
        .iter()
        .position(|entry| entry["conduct"]["attack"].is_string())
        .expect("an order to lie");
    let liar = entries[order]["conduct"]["peer"].as_u64().expect("a place") as usize;
    let liar = &entries[0]["peers"][liar]["peer"];
    let lines = |entries: &[Value], event: &str| -> Vec<Value> {
        let lines = entries.iter().map(|entry| entry["line"].clone());
        lines.filter(|line| line["event"] == *event).collect()
    };
    let mut opened = lines(&entries[..order], "round-opened");
    opened.retain(|line| line["node"] == *liar);
    let then = opened.last().expect("a round")["round"].as_u64();
    let then = then.expect("a number");
    let mut shares: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for line in lines(&entries[order..], "aggregated") {
        let dropped = line["dropped"].as_array().expect("shares").iter();
        let share = dropped.filter(|share| share["peer"] == *liar);
        let round = shares
            .entry(line["round"].as_u64().expect("a number"))
            .or_default();
        round.extend(share.filter_map(|share| share["share"].as_f64()));
    }
    let mean = |shares: &[f64]| shares.iter().sum::<f64>() / shares.len() as f64;
    let found = shares
        .iter()
        .find(|(round, shares)| **round >= then && mean(shares) > 0.5);
    found.expect("it is dropped").0 - then
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that something is not tested, past the test's capture of output, so that it is seen.
fn skip(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "!! SKIPPED: {what}");
}

/// What a browser sees; `None` if there is none here.
fn browsed(link: &str, arguments: &[&str]) -> Option<Value> {
    let Some(playwright) = std::env::var_os("KITH_PLAYWRIGHT") else {
        skip("KITH_PLAYWRIGHT names no folder with playwright-core, so no browser looks");
        return None;
    };
    if !Path::new(CHROMIUM).exists() {
        skip(&format!("there is no {CHROMIUM}, so no browser looks"));
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

/// The page says that it is over, nothing but this program was asked, nothing was refused by the
/// policy, nothing went wrong, and axe finds nothing.
fn assert_clean(seen: &Value) {
    assert_eq!(seen["status"], "It is over.", "{seen}");
    match seen["axe"].is_null() {
        true => skip("KITH_PLAYWRIGHT has no axe-core, so accessibility is not looked at"),
        false => assert_eq!(seen["axe"], serde_json::json!([]), "{seen}"),
    }
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
    let start = ["testnet", "--page=0", "--dir", "net", "--no-baselines"];
    let start = [&start[..], &["--rounds", "300"]].concat();
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
    let facts = seen["cut_off"].as_str().expect("text");
    assert!(facts.contains("peer-2 cut off from the others"), "{seen}");
    assert_clean(&seen);
    live.hears("the page stays until Ctrl-C");
    assert_eq!(live.end().0, Some(0));
    let rounds = rounds_until_dropped(&folder.path("net/events.jsonl"));
    assert!(rounds <= 5, "{rounds} rounds");
}

#[test]
fn a_ring_that_is_cut_in_two_heals_and_goes_on_to_its_last_round() {
    let folder = Folder::new();
    let start = ["testnet", "--page=0", "--dir", "net", "--no-baselines"];
    let ring = [
        "--peers",
        "6",
        "--topology",
        "ring",
        "--adversaries",
        "0",
        "--rule",
        "mean",
    ];
    let pace = ["--rounds", "300", "--deadline", "1"];
    let mut live = Serving::start(&[&start[..], &ring, &pace].concat(), &folder);
    let mut snapshots = Snapshots::of(&live.link);
    let whole = snapshots.until("a round", |now| now["completed"].as_u64() > Some(1));
    assert_eq!(missing(&whole), []);
    // Three peers in a row, along the ring: two links lead out of them.
    let ends = |link: &Value| serde_json::from_value::<(u64, u64)>(link["ends"].clone());
    let links = whole["links"].as_array().expect("links").iter();
    let links: Vec<(u64, u64)> = links.map(|link| ends(link).expect("a pair")).collect();
    let beside = |peer: u64| {
        let others = links.iter().filter_map(move |(a, b)| match peer {
            peer if peer == *a => Some(*b),
            peer if peer == *b => Some(*a),
            _ => None,
        });
        others.collect::<Vec<u64>>()
    };
    let side = [vec![0], beside(0)].concat();
    let mut cut: Vec<(u64, u64)> = links.clone();
    cut.retain(|(a, b)| side.contains(a) != side.contains(b));
    assert_eq!((links.len(), side.len(), cut.len()), (6, 3, 2));
    let name = |peer: &u64| {
        whole["peers"][*peer as usize]["name"]
            .as_str()
            .expect("text")
    };
    let named: Vec<&str> = side.iter().map(name).collect();
    let order = |verb: &str, names: &[&str]| {
        let order = [&["testnet", verb], names, &["--dir", "net"]].concat();
        let output = folder.kith(&order);
        assert!(output.status.success(), "{}", common::told(&output));
    };

    order("partition", &named);
    let parted = snapshots.until("both links to be missing", |now| missing(now) == cut);
    assert_eq!(parted["apart"].as_array().map(Vec::len), Some(3));
    let rounds = parted["completed"].as_u64().expect("a number") + 4;
    let later = snapshots.until("rounds of both parts", |now| {
        now["completed"].as_u64() >= Some(rounds)
    });
    assert_eq!(missing(&later), cut, "it holds");
    order("heal", &[]);
    let healed = snapshots.until("every link", |now| missing(now).is_empty());
    assert_eq!(healed["apart"], serde_json::json!([]));
    assert_ne!(healed["over"], true, "while it runs");
    let end = snapshots.until("the end", |now| now["over"] == true);
    assert_eq!(end["completed"], 300);
    live.hears("the page stays until Ctrl-C");
    assert_eq!(live.end().0, Some(0));
    folder.refused(
        &["testnet", "heal", "--dir", "net"],
        &["no testnet runs in net"],
    );
}

#[test]
fn a_peer_that_is_told_to_lie_is_dropped_within_five_rounds_and_without_a_restart() {
    let folder = Folder::new();
    let start = ["testnet", "--page=0", "--dir", "net", "--no-baselines"];
    let honest = [
        "--peers",
        "8",
        "--adversaries",
        "0",
        "--byzantine",
        "2",
        "--partition",
        "iid",
    ];
    let live = Serving::start(
        &[&start[..], &honest, &["--rounds", "1000000"]].concat(),
        &folder,
    );
    let mut snapshots = Snapshots::of(&live.link);
    let dropped = |now: &Value| now["peers"][1]["dropped_last"].as_f64();
    let begun = snapshots.until("some rounds", |now| now["completed"].as_u64() > Some(5));
    let name = begun["peers"][1]["name"].as_str().expect("text").to_owned();
    let order = |words: &[&str]| {
        let words = [&["testnet"], words, &["--dir", "net"]].concat();
        let output = folder.kith(&words);
        assert!(output.status.success(), "{}", common::told(&output));
    };
    snapshots.until("an honest peer", |now| dropped(now) < Some(0.5));
    order(&["attack", &name, "--attack", "sign-flip:10"]);
    let after = snapshots.until("a dropped liar", |now| dropped(now) > Some(0.5));
    assert_eq!(after["peers"][1]["role"], "adversary");
    // An attack that looks at what the neighbours sent, of which nothing was kept so far.
    order(&["attack", &name, "--attack", "alie:1"]);
    order(&["honest", &name]);
    let honest = snapshots.until("an honest peer", |now| dropped(now) < Some(0.5));
    assert_eq!(honest["peers"][1]["role"], "honest");
    let log = common::text_of(&folder.path(&format!("net/{name}/node.log")));
    assert_eq!(log.matches("ERROR").count(), 0, "{log}");
    assert_eq!(live.end().0, Some(130), "it was interrupted");
    let rounds = rounds_until_dropped(&folder.path("net/events.jsonl"));
    println!("dropped after {rounds} rounds");
    assert!(rounds <= 5, "{rounds} rounds");
    let events = common::text_of(&folder.path("net/events.jsonl"));
    assert_eq!(
        events.matches("\"gone\"").count(),
        8,
        "nobody was restarted"
    );
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

/// The status line of the answer to a request with these headers and a JSON body.
fn posted(host: &str, path: &str, headers: &str, body: &str) -> String {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(host).expect("it listens");
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_peers_page_shows_what_that_peer_saw_and_its_log_shows_it_again() {
    let federation = Federation::new(3, &["--rounds", "1000000"]);
    federation.edit("ada", "kith.toml", "# page = true", "page = true #");
    let mut ada = federation.start("ada");
    let _others = ["bob", "cyd"].map(|name| federation.start(name));
    ada.until_event("aggregated");
    let log = federation.dir("ada").join("stderr.log");
    let link = common::text_of(&log);
    let link = link.split("its page: ").nth(1).expect("it is named");
    let link = link.split(' ').next().expect("a link").to_owned();
    let mut snapshots = Snapshots::of(&link);
    let now = snapshots.until("some rounds", |now| {
        let running = now["peers"].as_array().expect("peers").iter();
        now["completed"].as_u64() > Some(3)
            && running.clone().all(|peer| peer["state"] == "running")
    });
    let peers = now["peers"].as_array().expect("peers");
    assert_eq!(peers.len(), 3);
    assert!(peers.iter().all(|peer| peer["role"] == "unknown"), "{now}");
    let own = now["seen_by"].as_u64().expect("a place") as usize;
    assert_eq!(peers[own]["name"], "ada");
    // Of three links only the two that this peer has a part in.
    assert_eq!(now["links"].as_array().map(Vec::len), Some(2), "{now}");

    let host = link.trim_start_matches("http://").trim_end_matches('/');
    let token = common::text_of(&federation.dir("ada").join("state/owner.token"));
    let shown = format!("Authorization: Bearer {}\r\n", token.trim());
    let leave = "{\"command\":\"leave\"}";
    assert!(posted(host, "/order", "", leave).contains("401"));
    let foreign = format!("{shown}Origin: http://evil.example\r\n");
    assert!(posted(host, "/order", &foreign, leave).contains("403"));
    let kill = "{\"command\":\"kill\",\"node\":\"bob\"}";
    assert!(posted(host, "/order", &shown, kill).contains("409"));
    assert!(posted(host, "/order", &shown, leave).contains("200"));
    assert_eq!(ada.end(), Some(0));

    let folder = Folder::new();
    let dir = federation.dir("ada").display().to_string();
    let export = ["log", "--dir", &dir, "--export", "ada.jsonl", "--json"];
    let written = folder.json(&export);
    assert!(written["events"].as_u64() > Some(20), "{written}");
    let mut view = Serving::start(&["view", "ada.jsonl", "--port", "0"], &folder);
    view.hears("shown to its end");
    let mut again = Snapshots::of(&view.link);
    let again = again.until("its end", |now| now["over"] == true);
    let mut rounds = ada.seen.iter().rev();
    let last = rounds.find(|line| line["event"] == "aggregated");
    let last = last.expect("a round")["round"].as_u64().expect("a number");
    assert_eq!(again["completed"], last + 1);
    assert_eq!(again["seen_by"], now["seen_by"]);
    assert_eq!(view.end().0, Some(0));
}

#[test]
fn a_page_that_nobody_can_draw_is_refused_before_the_peer_starts() {
    let federation = Federation::new(1, &[]);
    federation.edit("ada", "kith.toml", "# page = true", "page = true #");
    let charter = common::text_of(&federation.dir("ada").join("charter.toml"));
    let (before, _) = charter.split_once("[membership]").expect("members");
    let open = format!("{before}[membership]\nmode = \"open\"\npeers = 2\n");
    std::fs::write(federation.dir("ada").join("charter.toml"), open).expect("written");
    let dir = federation.dir("ada").display().to_string();
    let output = common::run(&["run", "--dir", &dir]);
    let told = common::told(&output);
    assert!(
        !output.status.success() && told.contains("a charter that lists its members"),
        "{told}"
    );
}

#[test]
fn a_page_follows_a_file_that_grows() {
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
    ];
    assert!(folder.kith(&run).status.success());
    let whole = common::text_of(&folder.path("world.jsonl"));
    // In the middle of a line.
    let half = whole.len() / 2;
    let path = folder.write("half.jsonl", &whole[..half]);
    let mut view = Serving::start(&["view", "half.jsonl", "--port", "0"], &folder);
    view.hears("events are shown up to there");
    let mut snapshots = Snapshots::of(&view.link);
    let now = snapshots.until("the remark", |now| now["remark"].is_string());
    assert_eq!(now["over"], false);
    let mut file = std::fs::File::options()
        .append(true)
        .open(path)
        .expect("a file");
    std::io::Write::write_all(&mut file, &whole.as_bytes()[half..]).expect("written");
    view.hears("shown to its end");
    let now = snapshots.until("the end", |now| now["over"] == true);
    assert_eq!(
        (&now["completed"], now["remark"].is_null()),
        (&6.into(), true)
    );
    assert_eq!(view.end().0, Some(0));
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
