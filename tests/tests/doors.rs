//! What strangers, foreign pages and readers who go away can do to a real process, and what is
//! shown of its secrets.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use common::{Federation, Folder, kith, told};

fn address(dir: &Path) -> String {
    let path = dir.join("state/status.address");
    let deadline = std::time::Instant::now() + common::PATIENCE;
    loop {
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.is_empty() => return text.trim().to_owned(),
            _ => assert!(
                std::time::Instant::now() < deadline,
                "no {}",
                path.display()
            ),
        }
        std::thread::yield_now();
    }
}

fn asked(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(common::PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The status code of the answer to a request with these headers.
fn code(address: &str, what: &str, headers: &[(&str, &str)]) -> String {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let request = format!("{what} HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n");
    let answer = asked(address, &request).expect("an answer");
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn no_page_and_no_stranger_reads_or_orders_a_peer() {
    let federation = Federation::new(1, &["--rounds", "1000000"]);
    let dir = federation.dir("ada");
    let mut ada = federation.start("ada");
    let here = address(&dir);
    let read = |headers: &[_]| code(&here, "GET /status", headers);
    assert_eq!(read(&[("Host", &here)]), "200");
    for headers in [
        &[][..],
        &[("Host", "evil.example")],
        &[("Host", "127.0.0.1:1")],
        &[("Host", &here), ("Host", "evil.example")],
        &[("Host", &here), ("Origin", "http://evil.example")],
        &[("Host", &here), ("Sec-Fetch-Site", "cross-site")],
    ] {
        assert_eq!(read(headers), "403", "{headers:?}");
    }
    for path in ["GET /metrics", "GET /log", "GET /live", "GET /nothing"] {
        assert_eq!(code(&here, path, &[("Host", "evil.example")]), "403");
    }
    let token = common::text_of(&dir.join("state/owner.token"));
    let bearer = format!("Bearer {}", token.trim());
    let shown = ("Authorization", bearer.as_str());
    let leave = |headers: &[_]| code(&here, "POST /leave", headers);
    assert_eq!(leave(&[("Host", &here)]), "401");
    let foreign = ("Origin", "http://evil.example");
    assert_eq!(leave(&[("Host", &here), foreign, shown]), "403");
    assert_eq!(leave(&[("Host", "evil.example"), shown]), "403");
    assert_eq!(leave(&[("Host", &here), shown]), "202");
    assert_eq!(ada.end(), Some(0));
}

#[test]
fn a_peer_that_other_machines_may_ask_tells_nothing_without_its_secret() {
    use std::os::unix::fs::PermissionsExt;
    let federation = Federation::new(1, &["--rounds", "1000000"]);
    let dir = federation.dir("ada");
    federation.edit(
        "ada",
        "kith.toml",
        "listen = \"127.0.0.1:0\"",
        "listen = \"0.0.0.0:0\"\nallow_other_machines = true\nnames = [\"ada.example\"]\ntoken = \"scrape.token\"",
    );
    let token = federation.dir("ada").join("scrape.token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").expect("written");
    let mode = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&token, mode).expect("a file");
    };
    mode(0o644);
    for verb in ["run", "check"] {
        let output = kith()
            .args([verb, "--dir"])
            .arg(&dir)
            .output()
            .expect("starts");
        assert_eq!(output.status.code(), Some(1), "{verb}");
        assert!(told(&output).contains("chmod 600"), "{}", told(&output));
    }
    mode(0o600);
    let mut ada = federation.start("ada");
    let port = address(&dir).rsplit(':').next().expect("a port").to_owned();
    let here = format!("127.0.0.1:{port}");
    let host = ("Host", "ada.example");
    let shown = ("Authorization", "Bearer 0123456789abcdef0123456789abcdef");
    for path in ["GET /status", "GET /metrics", "GET /log"] {
        assert_eq!(code(&here, path, &[host]), "401", "{path}");
        assert_eq!(code(&here, path, &[host, shown]), "200", "{path}");
        assert_eq!(code(&here, path, &[("Host", "evil.example"), shown]), "403");
    }
    assert_eq!(code(&here, "GET /live", &[host]), "200");
    // The commands on this machine show the secret by themselves.
    for verb in ["status", "log"] {
        let output = kith()
            .args([verb, "--dir"])
            .arg(&dir)
            .output()
            .expect("starts");
        assert!(output.status.success(), "{verb}: {}", told(&output));
    }
    ada.kill();
}

#[test]
fn a_peer_serves_no_metrics_if_its_configuration_says_so() {
    let federation = Federation::new(1, &["--rounds", "1000000"]);
    let dir = federation.dir("ada");
    federation.edit(
        "ada",
        "kith.toml",
        "[status]",
        "[metrics]\nenabled = false\n\n[status]",
    );
    let mut ada = federation.start("ada");
    let here = address(&dir);
    let host = ("Host", here.as_str());
    assert_eq!(code(&here, "GET /metrics", &[host]), "404");
    assert_eq!(code(&here, "GET /status", &[host]), "200");
    ada.kill();
}

#[test]
fn many_half_open_requests_neither_stop_the_peer_nor_keep_others_from_asking() {
    let federation = Federation::new(2, &["--rounds", "100000", "--deadline", "5"]);
    let mut ada = federation.start("ada");
    let mut bob = federation.start("bob");
    ada.until_event("round-closed");
    let address = address(&federation.dir("ada"));
    let half: Vec<TcpStream> = (0..300)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(&address).ok()?;
            stream
                .write_all(b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
                .ok()?;
            Some(stream)
        })
        .collect();
    assert!(half.len() > 100);
    let open = std::fs::read_dir(format!("/proc/{}/fd", ada.child.id()))
        .expect("its descriptors")
        .count();
    assert!(open < 150, "{open} descriptors are open");
    let answer = asked(
        &address,
        &format!("GET /status HTTP/1.1\r\nHost: {address}\r\n\r\n"),
    )
    .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let round = ada.until_event("round-closed")["round"].as_u64();
    ada.until("later rounds", |value| {
        value["event"] == "round-closed" && value["round"].as_u64() > round
    });
    ada.kill();
    bob.kill();
}

#[test]
fn a_peer_whose_log_and_events_nobody_reads_finishes() {
    let federation = Federation::new(2, &["--rounds", "30"]);
    let mut bob = federation.start("bob");
    let mut ada = kith()
        .args(["run", "--json", "--dir"])
        .arg(federation.dir("ada"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    for pipe in [
        Box::new(ada.stdout.take().expect("piped")) as Box<dyn Read>,
        Box::new(ada.stderr.take().expect("piped")) as Box<dyn Read>,
    ] {
        let mut line = String::new();
        BufReader::new(pipe).read_line(&mut line).expect("a line");
        assert!(!line.is_empty());
    }
    assert_eq!(ada.wait().expect("ends").code(), Some(0));
    assert_eq!(bob.end(), Some(0));
}

#[test]
fn status_of_a_peer_that_does_not_run_is_not_anothers() {
    let federation = Federation::new(2, &["--rounds", "100000"]);
    let mut ada = federation.start("ada");
    let address = address(&federation.dir("ada"));
    let status = || {
        kith()
            .args(["status", "--dir"])
            .arg(federation.dir("bob"))
            .output()
            .expect("starts")
    };
    std::fs::create_dir_all(federation.dir("bob").join("state")).expect("made");
    std::fs::write(federation.dir("bob").join("state/status.address"), &address)
        .expect("left behind by a killed run");
    let output = status();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("another peer answers, ada"),
        "{}",
        told(&output)
    );
    let output = kith()
        .args(["status", "--dir"])
        .arg(federation.dir("ada"))
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", told(&output));
    ada.kill();
}

#[test]
fn no_verb_quotes_a_key_whatever_file_it_is_taken_for() {
    let federation = Federation::new(2, &[]);
    let folder = Folder(federation.folder);
    let key = std::fs::read_to_string(folder.path("ada/identity.key")).expect("a key");
    let part = &key[..24];
    let pasted = folder.path("pasted.toml");
    let charter = std::fs::read_to_string(folder.path("ada/charter.toml")).expect("a charter");
    let id = charter
        .lines()
        .find(|line| line.trim_start().starts_with("key = "))
        .expect("a member")
        .to_owned();
    std::fs::write(
        &pasted,
        charter.replace(&id, &format!("key = \"{}\"", key.trim())),
    )
    .expect("written");
    let pasted = pasted.to_string_lossy().into_owned();
    let member = format!("ada={}", key.trim());
    for arguments in [
        vec![
            "charter",
            "new",
            "--name",
            "x",
            "--member-file",
            "ada/identity.key",
        ],
        vec!["charter", "show", "ada/identity.key"],
        vec!["charter", "hash", "ada/identity.key"],
        vec!["charter", "diff", "ada/identity.key", "bob/charter.toml"],
        vec!["check", "--config", "ada/identity.key"],
        vec!["check", "--config", "ada/identity.key", "--json"],
        vec!["run", "--config", "ada/identity.key"],
        vec!["sim", "run", "ada/identity.key"],
        vec!["sim", "sweep", "ada/identity.key"],
        vec!["testnet", "--charter", "ada/identity.key"],
        vec!["charter", "new", "--name", "x", "--member", key.trim()],
        vec!["charter", "new", "--name", "x", "--member", &member],
        vec!["topology", "explain", "--edges", "ada/identity.key"],
        vec!["charter", "show", &pasted],
        vec!["charter", "new", "--name", "x", "--member-file", &pasted],
    ] {
        let output = folder.kith(&arguments);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}: {shown}");
        assert!(!shown.contains(part), "{arguments:?}: {shown}");
    }
}

#[test]
fn state_and_checkpoints_are_for_their_owner_alone_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let federation = Federation::new(1, &["--rounds", "2"]);
    let mut command = std::process::Command::new("sh");
    let program = kith().get_program().to_owned();
    command
        .args(["-c", "umask 000; exec \"$0\" run --dir \"$1\""])
        .arg(program)
        .arg(federation.dir("ada"));
    let output = command.output().expect("a shell");
    assert!(
        federation.dir("ada").join("state").exists(),
        "{}",
        told(&output)
    );
    let mut open = Vec::new();
    let mut folders = vec![
        federation.dir("ada").join("state"),
        federation.dir("ada").join("checkpoints"),
    ];
    while let Some(folder) = folders.pop() {
        for path in std::iter::once(folder.clone()).chain(
            std::fs::read_dir(&folder)
                .expect("a folder")
                .flatten()
                .map(|e| e.path()),
        ) {
            if std::fs::metadata(&path)
                .expect("it is there")
                .permissions()
                .mode()
                & 0o077
                != 0
            {
                open.push(path.clone());
            }
            if path.is_dir() && path != folder {
                folders.push(path);
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// Longest wait for a peer to say that it does not do what it is told.
const REFUSED_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn a_peer_of_no_testnet_takes_no_orders_on_stdin() {
    let federation = Federation::new(2, &["--rounds", "1000000"]);
    let mut bob = federation.start("bob");
    let mut ada = kith()
        .args(["run", "--end-with-parent", "--dir"])
        .arg(federation.dir("ada"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let id = bob.until_event("connected")["node"].clone();
    let mut orders = ada.stdin.take().expect("piped");
    let given = format!(
        "{{\"order\":\"behave\",\"attack\":\"sign-flip:10\"}}\n{{\"order\":\"keep-apart\",\"peers\":[{id}]}}\nnonsense\n"
    );
    orders.write_all(given.as_bytes()).expect("written");
    let log = BufReader::new(ada.stderr.take().expect("piped")).lines();
    let (sender, told) = std::sync::mpsc::sync_channel(16);
    std::thread::spawn(move || {
        let orders = log.map_while(Result::ok);
        let orders = orders.filter(|line| line.contains("an order on stdin was not carried out"));
        orders.into_iter().try_for_each(|line| sender.send(line))
    });
    for _ in 0..3 {
        let line = told.recv_timeout(REFUSED_WITHIN).expect("a refusal");
        assert!(
            line.contains("only the peers of a testnet take orders"),
            "{line}"
        );
    }
    // They still mix each other's models.
    let round = bob.until_event("round-opened")["round"].as_u64();
    bob.until("a later round of two", |value| {
        value["event"] == "aggregated" && value["models"] == 2 && value["round"].as_u64() > round
    });
    drop(orders);
    assert_eq!(ada.wait().expect("ends").code(), Some(0));
    bob.kill();
}
