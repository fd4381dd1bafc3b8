//! Real processes whose disk fails, whose state is damaged, copied and put back.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Federation, kith, told};

/// Whether a copy that was put back lets a peer go on, and whether its neighbours take it for
/// honest.
#[test]
fn a_backup_of_a_running_peer_is_put_back_without_a_contradiction() {
    let federation = Federation::new(3, &["--rounds", "400", "--deadline", "2"]);
    let mut peers: Vec<_> = federation
        .names
        .iter()
        .map(|name| federation.start(name))
        .collect();
    let completed = |round: u64| {
        move |value: &serde_json::Value| {
            value["event"] == "round-closed" && value["round"].as_u64() >= Some(round)
        }
    };
    let copy = federation.folder.path().join("copy");
    let backup = |out: &Path| {
        kith()
            .args(["backup", "--json", "--dir"])
            .arg(federation.dir("bob"))
            .arg("--out")
            .arg(out)
            .output()
            .expect("starts")
    };
    for (number, round) in [3, 8, 15].into_iter().enumerate() {
        peers[1].until("some rounds", completed(round));
        let out = federation.folder.path().join(format!("copy-{number}"));
        let output = backup(&out);
        assert!(output.status.success(), "{}", told(&output));
        std::fs::rename(&out, &copy).expect("the newest one is put back");
        if number < 2 {
            std::fs::remove_dir_all(&copy).expect("removed");
        }
    }
    assert_eq!(
        std::fs::metadata(copy.join("identity.key"))
            .expect("a key")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    // It goes on for a while, so that what is put back is older than what the others have heard.
    peers[1].until("more rounds", completed(40));
    peers[1].kill();
    let output = kith()
        .args(["restore", "--from"])
        .arg(&copy)
        .arg("--dir")
        .arg(federation.dir("bob"))
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", told(&output));
    assert!(
        told(&output).contains("moved"),
        "what was there is kept: {}",
        told(&output)
    );
    let mut again = federation.start("bob");
    let started = again.until_event("started");
    assert!(
        started["resumed"] == true && started["round"].as_u64() < Some(40),
        "{started}"
    );
    again.until_event("finished");
    for peer in [0, 2] {
        peers[peer].until_event("finished");
        assert!(
            !peers[peer].has("equivocated"),
            "a state that was put back proves nobody a liar"
        );
    }
}

#[test]
fn what_is_no_backup_or_of_another_peer_changes_nothing() {
    let federation = Federation::new(2, &["--rounds", "3"]);
    let empty = federation.folder.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    let restore = |from: &Path| {
        kith()
            .args(["restore", "--from"])
            .arg(from)
            .arg("--dir")
            .arg(federation.dir("ada"))
            .output()
            .expect("starts")
    };
    let output = restore(&empty);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("not a finished backup"),
        "{}",
        told(&output)
    );
    let mut peers = [federation.start("ada"), federation.start("bob")];
    assert_eq!((peers[0].end(), peers[1].end()), (Some(0), Some(0)));
    let out = federation.folder.path().join("of-bob");
    let output = kith()
        .args(["backup", "--dir"])
        .arg(federation.dir("bob"))
        .arg("--out")
        .arg(&out)
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", told(&output));
    let before = std::fs::read_dir(federation.dir("ada"))
        .expect("a folder")
        .count();
    let output = restore(&out);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("key of another peer"),
        "{}",
        told(&output)
    );
    assert_eq!(
        std::fs::read_dir(federation.dir("ada"))
            .expect("a folder")
            .count(),
        before
    );
}

#[test]
fn check_finds_what_run_would_stumble_over() {
    let federation = Federation::new(2, &["--rounds", "3"]);
    let mut peers = [federation.start("ada"), federation.start("bob")];
    assert_eq!((peers[0].end(), peers[1].end()), (Some(0), Some(0)));
    let check = || {
        kith()
            .args(["check", "--dir"])
            .arg(federation.dir("ada"))
            .output()
            .expect("starts")
    };
    assert!(check().status.success(), "{}", told(&check()));
    federation.edit("ada", "charter.toml", "rounds = 3", "rounds = 6");
    let output = check();
    assert!(
        !output.status.success() && told(&output).contains("belongs to federation"),
        "{}",
        told(&output)
    );
    federation.edit("ada", "charter.toml", "rounds = 6", "rounds = 3");
    let held =
        std::net::TcpListener::bind(("127.0.0.1", federation.ports[0])).expect("free by now");
    let output = check();
    assert!(
        !output.status.success() && told(&output).contains("in use"),
        "{}",
        told(&output)
    );
    drop(held);
    let database = federation.dir("ada").join("state/kith.redb");
    let whole = std::fs::read(&database).expect("a store");
    std::fs::write(&database, &whole[..whole.len() / 2]).expect("written");
    let output = check();
    assert!(
        !output.status.success() && told(&output).contains("kith restore"),
        "{}",
        told(&output)
    );
    assert_eq!(
        std::fs::read(&database).expect("a store").len(),
        whole.len() / 2,
        "check leaves it as it is"
    );
}
