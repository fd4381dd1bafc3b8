//! Real processes of which one is alone, away, done, doubled or has nothing to say.

mod common;

use common::{Federation, Running, free_port, text_of};

fn end_politely(peer: &mut Running) -> Option<i32> {
    let id = i32::try_from(peer.child.id()).expect("a process id");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(id),
        nix::sys::signal::Signal::SIGINT,
    )
    .expect("its process runs");
    peer.end()
}

/// A federation that asks again every second whether somebody is there.
fn hurried(peers: usize, options: &[&str]) -> Federation {
    let federation = Federation::new(peers, options);
    for name in &federation.names {
        federation.edit(
            name,
            "charter.toml",
            "start_deadline_seconds = 60.0",
            "start_deadline_seconds = 1.0",
        );
    }
    federation
}

#[test]
fn a_peer_that_meets_nobody_does_not_train_and_says_what_it_cannot_reach() {
    let federation = hurried(2, &["--rounds", "3"]);
    let wrong = format!("bootstrap = [\"/ip4/127.0.0.1/tcp/{}\"]", free_port());
    federation.edit(
        "bob",
        "kith.toml",
        &format!(
            "bootstrap = [\"/ip4/127.0.0.1/tcp/{}\"]",
            federation.ports[0]
        ),
        &wrong,
    );
    let mut bob = federation.start("bob");
    let failed = bob.until_event("dial-failed");
    assert!(
        failed["why"]
            .as_str()
            .expect("a reason")
            .contains("refused"),
        "{failed}"
    );
    for _ in 0..3 {
        bob.until_event("waiting");
    }
    assert!(!bob.has("trained"), "alone it does not train");
    assert_eq!(end_politely(&mut bob), Some(0));
    let report = bob
        .seen
        .iter()
        .find(|line| line["event"] == "report")
        .expect("a report");
    assert_eq!(
        (&report["finished"], &report["rounds"]),
        (&serde_json::json!(false), &serde_json::json!(0))
    );
}

#[test]
fn two_peers_that_start_far_apart_meet_whatever_came_first() {
    let federation = hurried(2, &["--rounds", "3"]);
    let mut first = federation.start("bob"); // its bootstrap address is ada's, who is not there yet
    for _ in 0..3 {
        first.until_event("waiting");
    }
    let mut second = federation.start("ada");
    for peer in [&mut first, &mut second] {
        peer.until_event("finished");
        assert_eq!(peer.end(), Some(0));
        let report = peer
            .seen
            .iter()
            .find(|line| line["event"] == "report")
            .expect("a report");
        assert_eq!(
            report["history"]["mixed"],
            serde_json::json!({"2": 3}),
            "three rounds of two models"
        );
    }
}

#[test]
fn a_copy_of_a_running_peer_ends_and_says_where_the_other_is() {
    let federation = hurried(2, &["--rounds", "100000", "--deadline", "2"]);
    let mut ada = federation.start("ada");
    let mut bob = federation.start("bob");
    bob.until_event("aggregated");
    let copy = federation.folder.path().join("copy");
    std::fs::create_dir(&copy).expect("a folder");
    for file in ["kith.toml", "charter.toml", "identity.key"] {
        std::fs::copy(federation.dir("ada").join(file), copy.join(file)).expect("a copy");
    }
    // It knows bob alone, and learns from bob where its key is in use.
    let config = text_of(&copy.join("kith.toml"));
    let config = config.replace(
        &format!("tcp/{}", federation.ports[0]),
        &format!("tcp/{}", free_port()),
    );
    let bob_at = format!(
        "bootstrap = [\"/ip4/127.0.0.1/tcp/{}\"]",
        federation.ports[1]
    );
    std::fs::write(
        copy.join("kith.toml"),
        config.replace("bootstrap = []", &bob_at),
    )
    .expect("written");
    let mut double = Running::start(&copy);
    double.until_event("own-key-elsewhere");
    assert_eq!(double.end(), Some(6));
    // Ada was at work before, and goes on.
    ada.until_event("aggregated");
}

#[test]
fn a_peer_that_stops_to_come_back_is_waited_for() {
    let federation = hurried(2, &["--rounds", "100000", "--deadline", "60"]);
    let mut ada = federation.start("ada");
    let mut bob = federation.start("bob");
    bob.until_event("aggregated");
    assert_eq!(end_politely(&mut ada), Some(0));
    bob.until("the goodbye", |line| {
        line["event"] == "departed" && line["finished"] == false
    });
    let mut ada = federation.start("ada");
    ada.until_event("aggregated");
    bob.until("a round with ada again", |line| {
        line["event"] == "connected"
    });
    bob.until("a round with ada again", |line| {
        line["event"] == "aggregated" && line["models"] == 2
    });
    let alone = |line: &&serde_json::Value| line["event"] == "aggregated" && line["models"] == 1;
    assert_eq!(
        bob.seen.iter().filter(alone).count(),
        0,
        "bob trained no round without her"
    );
}

#[test]
fn two_programs_do_not_share_a_port() {
    let federation = hurried(2, &["--rounds", "100000"]);
    let mut ada = federation.start("ada");
    ada.until_event("listening");
    federation.edit(
        "bob",
        "kith.toml",
        &federation.ports[1].to_string(),
        &federation.ports[0].to_string(),
    );
    let mut bob = federation.start("bob");
    assert_eq!(bob.end(), Some(1));
    let log = common::fold(&text_of(&federation.dir("bob").join("stderr.log")));
    assert!(log.contains("in use"), "{log}");
}
