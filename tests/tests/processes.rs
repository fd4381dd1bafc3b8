//! Real processes that die, lie, collide and knock at the wrong door.

mod common;

use std::collections::BTreeSet;
use std::process::Stdio;

use common::{Federation, PATIENCE, fold, kith, run, told};
use kith_consensus::{Digest, Genesis};
use kith_gossip::net::{Network, NetworkEvent, NetworkSettings};
use kith_gossip::{Authenticator, Effect, Input};

#[test]
fn a_killed_peer_goes_on_from_its_last_completed_round_and_the_others_do_not_stop() {
    let federation = Federation::new(3, &["--rounds", "300", "--deadline", "2"]);
    let mut peers: Vec<_> = federation
        .names
        .iter()
        .map(|name| federation.start(name))
        .collect();
    let completed = |value: &serde_json::Value| {
        value["event"] == "round-closed" && value["round"].as_u64() >= Some(20)
    };
    peers[1].until("20 rounds", completed);
    peers[1].kill();
    let before = peers[1]
        .seen
        .iter()
        .filter(|value| value["event"] == "aggregated")
        .count() as u64;
    // The others go on without it: they miss it once, and later do not wait any more.
    let without = |value: &serde_json::Value| {
        value["event"] == "round-closed" && value["have"].as_u64() == Some(1)
    };
    peers[0].until("a round without the dead peer", without);
    peers[2].until("a round without the dead peer", without);
    let mut again = federation.start("bob");
    let started = again.until_event("started");
    assert_eq!(started["resumed"], true);
    let resumed = started["round"].as_u64().expect("a round");
    assert!(
        resumed >= 20 && resumed <= before + 1,
        "resumed at {resumed} after {before} completed rounds"
    );
    again.until_event("finished");
    assert_eq!(again.end(), Some(0));
    for peer in [0, 2] {
        peers[peer].until_event("finished");
        assert_eq!(peers[peer].end(), Some(0));
        assert!(
            !peers[peer].has("equivocated"),
            "an honest restart proves nobody a liar"
        );
    }
}

#[test]
fn another_charter_is_refused_with_the_section_named() {
    let federation = Federation::new(2, &["--rounds", "5"]);
    federation.edit(
        "bob",
        "charter.toml",
        "learning_rate = 0.05",
        "learning_rate = 0.5",
    );
    let mut ada = federation.start("ada");
    let mut bob = federation.start("bob");
    let dismissed = ada.until_event("dismissed");
    assert_eq!(dismissed["reason"]["refused"], "wrong-federation");
    assert_eq!(
        dismissed["reason"]["sections"],
        serde_json::json!(["training"])
    );
    assert_eq!(bob.end(), Some(3), "the one that is refused says so");
    let log = std::fs::read_to_string(federation.dir("bob").join("stderr.log")).expect("its log");
    assert!(fold(&log).contains("training"), "{log}");
}

#[test]
fn an_open_federation_takes_the_first_that_come_and_no_more() {
    let federation = Federation::new(4, &[]);
    let output = run(&[
        "charter",
        "new",
        "--name",
        "open",
        "--dataset",
        "heart",
        "--rounds",
        "60",
        "--open",
        "3",
    ]);
    assert!(output.status.success(), "{}", told(&output));
    for name in &federation.names {
        std::fs::write(federation.dir(name).join("charter.toml"), &output.stdout).expect("written");
    }
    let mut peers: Vec<_> = ["ada", "bob", "cyd"]
        .iter()
        .map(|name| federation.start(name))
        .collect();
    for peer in &mut peers {
        peer.until_event("roster-formed");
    }
    let mut dan = federation.start("dan");
    let dismissed = peers[0].until("the fourth to be sent away", |value| {
        value["event"] == "dismissed" || value["event"] == "finished"
    });
    for peer in &mut peers {
        assert_eq!(peer.end(), Some(0));
        assert!(peer.has("finished"));
    }
    if dismissed["event"] == "dismissed" {
        assert_eq!(dismissed["reason"]["refused"], "unknown-sender");
    }
    assert!(!dan.has("roster-formed"));
    dan.kill();
}

#[test]
fn a_second_start_on_the_same_state_is_refused() {
    let federation = Federation::new(2, &["--rounds", "5"]);
    let mut ada = federation.start("ada");
    ada.until_event("started");
    let output = kith()
        .args(["run", "--dir"])
        .arg(federation.dir("ada"))
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    assert!(told(&output).contains("in use"), "{}", told(&output));
}

#[test]
fn a_busy_port_is_named() {
    let federation = Federation::new(2, &["--rounds", "5"]);
    let _holder =
        std::net::TcpListener::bind(("127.0.0.1", federation.ports[0])).expect("free a moment ago");
    let output = kith()
        .args(["run", "--dir"])
        .arg(federation.dir("ada"))
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(1));
    let text = told(&output);
    assert!(
        text.contains(&format!("tcp/{}", federation.ports[0])) && text.contains("in use"),
        "{text}"
    );
}

fn secret_of(federation: &Federation, name: &str) -> [u8; 32] {
    let text = std::fs::read_to_string(federation.dir(name).join("identity.key")).expect("a key");
    let digits = text.trim().as_bytes();
    let mut secret = [0; 32];
    for (byte, pair) in secret.iter_mut().zip(digits.chunks(2)) {
        *byte =
            u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hexadecimal");
    }
    secret
}

fn network(federation: &Federation, secret: [u8; 32]) -> Network {
    Network::new(NetworkSettings {
        secret,
        federation: Genesis(Digest::of(b"whatever")),
        listen: vec![],
        bootstrap: vec![
            format!("/ip4/127.0.0.1/tcp/{}", federation.ports[0])
                .parse()
                .expect("an address"),
        ],
        allowed: None,
        mdns: false,
        body_bytes_max: 1000,
        connections_max: 4,
    })
    .expect("a network")
}

#[test]
fn a_stranger_is_denied_and_a_tampering_member_is_refused_by_name_and_sent_away() {
    let federation = Federation::new(2, &["--rounds", "5"]);
    let mut ada = federation.start("ada");
    ada.until_event("listening");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");

    let mut stranger = {
        let _guard = runtime.enter();
        network(&federation, [77; 32])
    };
    let stranger = runtime.spawn(async move {
        loop {
            stranger.next().await;
        }
    });
    let denied = ada.until_event("denied");
    let expected = Authenticator::from_secret(&[77; 32]).peer();
    assert_eq!(
        denied["peer"],
        serde_json::to_value(expected).expect("a peer"),
        "{denied}"
    );
    stranger.abort();

    let ada_id = Authenticator::from_secret(&secret_of(&federation, "ada")).peer();
    let mut member = {
        let _guard = runtime.enter();
        network(&federation, secret_of(&federation, "bob"))
    };
    let tamper = runtime.spawn(async move {
        loop {
            if let NetworkEvent::Input(Input::PeerUp { .. }) = member.next().await {
                for bytes in [
                    b"junk".to_vec(),
                    vec![0x9f; 5000],
                    vec![1; 30],
                    vec![0xff; 40],
                    vec![0; 1],
                ] {
                    member.execute(Effect::Send {
                        to: ada_id,
                        bytes: bytes.into(),
                    });
                }
            }
        }
    });
    let refused = ada.until("a refusal", |value| value["event"] == "refused");
    assert_eq!(refused["reason"]["refused"], "junk");
    let dismissed = ada.until_event("dismissed");
    assert_eq!(dismissed["reason"]["refused"], "too-many");
    tamper.abort();
    assert!(
        ada.child.try_wait().expect("a child").is_none(),
        "the peer lives"
    );
}

/// Processes whose command line names `folder`.
fn alive(folder: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc")
        .expect("a process table")
        .flatten()
    {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Ok(line) = std::fs::read_to_string(entry.path().join("cmdline")) else {
            continue;
        };
        if line.contains(folder) {
            found.insert(pid);
        }
    }
    found
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            std::time::Instant::now() < deadline,
            "waited in vain for {what}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn neither_an_interrupt_nor_a_killed_testnet_leaves_a_peer_behind() {
    for (signal, code) in [
        (nix::sys::signal::Signal::SIGINT, Some(130)),
        (nix::sys::signal::Signal::SIGKILL, None),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let net = folder.path().join("net");
        let name = net.to_string_lossy().into_owned();
        let mut testnet = kith()
            .args([
                "testnet",
                "--peers",
                "4",
                "--adversaries",
                "0",
                "--topology",
                "complete",
                "--rounds",
                "5000",
                "--dir",
                &name,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        wait_until("four peers", || alive(&name).len() >= 5);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(testnet.id() as i32), signal)
            .expect("a signal");
        assert_eq!(testnet.wait().expect("ends").code(), code);
        wait_until("every peer to end", || alive(&name).is_empty());
    }
}

#[test]
fn the_main_job_ends_well_and_the_plain_mean_under_the_same_liars_does_not_learn() {
    let json = |arguments: &[&str]| -> serde_json::Value {
        let output = run(arguments);
        assert!(output.status.success(), "{}", told(&output));
        serde_json::from_slice(&output.stdout).expect("one JSON document")
    };
    let defended = json(&["testnet", "--json"]);
    assert_eq!(
        (
            &defended["peers"],
            &defended["honest"],
            &defended["adversaries"]
        ),
        (&8.into(), &6.into(), &2.into())
    );
    assert!(
        defended["accuracy"]["mean"].as_f64() >= Some(0.9),
        "{}",
        defended["accuracy"]
    );
    assert!(
        defended["accuracy"]["min"].as_f64() >= Some(0.88),
        "{}",
        defended["accuracy"]
    );
    let bytes = &defended["bytes"];
    let number = |key: &str| bytes[key].as_f64().expect("bytes");
    assert!(
        (number("payload") + number("keyframes")) * 10.0 <= number("dense_equivalent"),
        "{bytes}"
    );
    for node in defended["nodes"].as_array().expect("nodes") {
        assert!(node["pss_bytes"].as_u64() < Some(100_000_000), "{node}");
    }
    let undefended = json(&["testnet", "--rule", "mean", "--json"]);
    assert!(
        undefended["accuracy"]["mean"].as_f64() < Some(0.5),
        "{}",
        undefended["accuracy"]
    );
}
