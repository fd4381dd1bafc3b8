//! How testnets end, and how large they may be.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{kith, told};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn stopping_a_testnet_in_the_background_is_answered_well_every_time() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..4 {
        let dir = folder.path().join(format!("net-{number}"));
        let start = [
            "testnet",
            "--peers",
            "3",
            "--adversaries",
            "0",
            "--rounds",
            "100000",
            "--detach",
            "--dir",
        ];
        let output = kith().args(start).arg(&dir).output().expect("starts");
        assert!(output.status.success(), "{}", told(&output));
        let output = kith()
            .args(["testnet", "down", "--dir"])
            .arg(&dir)
            .output()
            .expect("starts");
        assert!(output.status.success(), "{number}: {}", told(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("every peer has stopped"));
    }
}

/// Whether whoever started these tests has SIGHUP ignored (`nohup`): then the program ignores it
/// too, as it should.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .expect("a mask")
        .trim();
    u64::from_str_radix(ignored, 16).expect("hexadecimal") & 1 != 0
}

#[test]
fn a_lost_terminal_leaves_no_temporary_folder() {
    for (signal, peers) in [(Signal::SIGHUP, "3"), (Signal::SIGTERM, "3")] {
        if signal == Signal::SIGHUP && hangup_is_ignored() {
            println!("SKIPPED: SIGHUP is ignored here, so nothing can be seen of it");
            continue;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut testnet = kith()
            .env("TMPDIR", folder.path())
            .args([
                "testnet",
                "--peers",
                peers,
                "--adversaries",
                "0",
                "--rounds",
                "100000",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(testnet.stderr.take().expect("piped")).lines();
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line.starts_with("round 1/")))
            .expect("rounds")
            .expect("text");
        assert!(
            std::fs::read_dir(folder.path()).expect("a folder").count() > 0,
            "it has a temporary folder"
        );
        kill(Pid::from_raw(testnet.id() as i32), signal).expect("a signal");
        lines.for_each(drop);
        assert_eq!(testnet.wait().expect("ends").code(), Some(130));
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("a folder").count(),
            0,
            "{signal}"
        );
    }
}

#[test]
fn more_peers_than_the_suggested_partition_can_serve_are_dealt_evenly() {
    let output = kith()
        .args([
            "testnet",
            "--peers",
            "60",
            "--adversaries",
            "0",
            "--rounds",
            "1",
            "--rule",
            "mean",
            "--topology",
            "ring",
        ])
        .args(["--no-baselines", "--json"])
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", told(&output));
    let report = common::one_document(&output);
    assert_eq!(report["finished"], true);
}
