//! What a node reads from its folder, from a corpus: `kith.toml`, the key, checkpoints, lines of
//! the event log. See `tests/corpus.rs` at the root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../../tests/corpus.rs"]
mod harness;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use harness::{Files, LITTLE, Target, drive};
use kith_consensus::{Digest, Genesis, PeerId};
use kith_gossip::{Checkpoint, History, Roster};
use kith_node::checkpoint::{self, Shapes};
use kith_node::telemetry::{Known, Line};
use kith_node::{Config, Identity};

/// A folder for the files of this process.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    // A new file: some file systems sync one that is cut and written again.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

// --- kith.toml ---

fn config(bytes: &[u8]) -> bool {
    let loaded = Config::load(&file("kith.toml", bytes));
    // The error quotes the file.
    loaded
        .inspect_err(|error| drop(format!("{error} {error:?}")))
        .is_ok()
}

fn configs() -> Files {
    let good = "[peer]\nname = \"ada\"\n[data]\npath = \"rows.csv\"\n[network]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n";
    let with = |more: &str| format!("{good}{more}").into_bytes();
    vec![
        ("valid-small.toml", good.into()),
        ("valid-resources.toml", with("[resources]\nthreads = 2\n")),
        (
            "refused-unknown-key.toml",
            with("[resources]\nthreds = 2\n"),
        ),
        (
            "refused-threads.toml",
            with("[resources]\nthreads = 9223372036854775807\n"),
        ),
        (
            "refused-address.toml",
            good.replace("127.0.0.1", "127.0.0.1.1").into(),
        ),
        (
            "refused-long-address.toml",
            good.replace("/tcp/0", &"/tcp/0".repeat(100)).into(),
        ),
        (
            "refused-not-an-address.toml",
            good.replace("/ip4", "\\u001b[2J/ip4").into(),
        ),
        ("refused-empty-name.toml", good.replace("ada", " ").into()),
        ("refused-not-text.toml", vec![0xff, 0xfe, b'[']),
        (
            "refused-deep.toml",
            with(&format!("[evaluation]\nevery = {}\n", "[".repeat(1000))),
        ),
        (
            "refused-wide-signs.toml",
            "[peer]\nname = \"\u{1f9d1}\u{200d}\u{1f33e}\" \u{301}\n".into(),
        ),
        ("refused-last-line.toml", with("x = \"")),
    ]
}

// --- the key ---

fn key(bytes: &[u8]) -> bool {
    let loaded = Identity::load(&file("identity.key", bytes));
    loaded.inspect_err(|error| drop(error.to_string())).is_ok()
}

fn keys() -> Files {
    let digits = "0123456789abcdef".repeat(4);
    vec![
        ("valid-with-line-end", format!("{digits}\n").into()),
        ("valid-capitals", digits.to_uppercase().into()),
        ("valid-blanks", format!(" \n{digits}\r\n").into()),
        ("refused-63-digits", digits.as_bytes()[1..].to_vec()),
        ("refused-65-digits", format!("{digits}0").into()),
        ("refused-no-digit", digits.replace('f', "g").into()),
        ("refused-wide-digits", "\u{ff11}".repeat(22).into_bytes()),
        ("refused-signs", "+1".repeat(32).into()),
        ("refused-bytes", vec![7; 32]),
        ("refused-long", digits.repeat(20).into()),
    ]
}

// --- checkpoints ---

const ROUND: u64 = 7;

fn shapes() -> Shapes {
    let shapes = [("a.weight", vec![2, 3]), ("b.bias", vec![2])];
    Shapes::new(shapes.map(|(name, shape)| (name.to_owned(), shape)))
}

fn federation() -> Genesis {
    Genesis(Digest([3; 32]))
}

/// Of a file whose hash is the one that the store knows: what is in it must be looked at too.
fn checkpoint(bytes: &[u8]) -> bool {
    file(&checkpoint::file_name(ROUND), bytes);
    let read = checkpoint::read(folder(), &shapes(), federation(), ROUND, Digest::of(bytes));
    read.inspect_err(|error| drop(error.to_string())).is_ok()
}

fn checkpoints() -> Files {
    let (one, other) = (PeerId([1; 32]), PeerId([2; 32]));
    let with = |replicas: BTreeMap<PeerId, Arc<Vec<f32>>>,
                carried: BTreeMap<String, Arc<Vec<f32>>>| {
        let written = Checkpoint {
            round: ROUND,
            sequence: 6,
            roster: Roster::new(vec![one, other]),
            parameters: Arc::new(vec![0.5; 8]),
            replicas,
            carried,
            history: History::default(),
            headers: Vec::new(),
        };
        checkpoint::write(folder(), &shapes(), federation(), &written).unwrap();
        std::fs::read(folder().join(checkpoint::file_name(ROUND))).unwrap()
    };
    let plain = with(BTreeMap::new(), BTreeMap::new());
    let replicas = [one, other].map(|peer| (peer, Arc::new(vec![1.0; 8])));
    let carried = ("momentum".to_owned(), Arc::new(vec![2.0; 8]));
    let whole = with(replicas.into(), [carried].into());
    let changed = |from: &str, to: &str| {
        let mut bytes = plain.clone();
        assert_eq!(from.len(), to.len(), "offsets stay");
        let place = bytes
            .windows(from.len())
            .position(|part| part == from.as_bytes());
        let place = place.unwrap_or_else(|| panic!("no {from}"));
        bytes[place..place + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    vec![
        ("valid-plain.safetensors", plain.clone()),
        ("valid-replicas.safetensors", whole),
        (
            "refused-round.safetensors",
            changed("\"kith.round\":\"7\"", "\"kith.round\":\"8\""),
        ),
        (
            "refused-round-words.safetensors",
            changed("\"kith.round\":\"7\"", "\"kith.round\":\"x\""),
        ),
        (
            "refused-tensor.safetensors",
            changed("a.weight", "c.weight"),
        ),
        ("shape-turned.safetensors", changed("[2,3]", "[3,2]")),
        ("refused-type.safetensors", changed("\"F32\"", "\"I32\"")),
        ("refused-header-length.safetensors", vec![0xff; 16]),
        ("refused-no-tensor.safetensors", header("{}")),
        ("refused-deep.safetensors", header(&"[".repeat(1000))),
    ]
}

// --- lines of the event log ---

fn line(bytes: &[u8]) -> bool {
    let Ok(line) = serde_json::from_slice::<Line>(bytes) else {
        return false;
    };
    let mut known = Known::default();
    known.apply(&line);
    serde_json::to_string(&line).unwrap();
    true
}

fn lines() -> Files {
    let node = PeerId([1; 32]);
    let of = |what: &str| {
        format!("{{\"time\":\"2026-01-02T03:04:05.006Z\",\"at_seconds\":1.5,\"node\":\"{node}\",{what}}}").into_bytes()
    };
    vec![
        (
            "valid-round-closed.json",
            of(
                "\"event\":\"round-closed\",\"round\":3,\"why\":\"quorum\",\"have\":1,\"awaited\":1,\"missing\":[]",
            ),
        ),
        (
            "valid-trained.json",
            of("\"event\":\"trained\",\"round\":0,\"loss\":0.5,\"samples\":3,\"local_steps\":4"),
        ),
        (
            "valid-refused.json",
            of(&format!(
                "\"event\":\"refused\",\"peer\":\"{node}\",\"kind\":\"update\",\"round\":1,\"reason\":{{\"refused\":\"duplicate\"}}"
            )),
        ),
        (
            "valid-run-started.json",
            of("\"event\":\"run-started\",\"version\":\"0.1.0\",\"process\":7"),
        ),
        (
            "valid-denied.json",
            of("\"event\":\"denied\",\"peer\":null,\"why\":\"a stranger\""),
        ),
        (
            "valid-unknown-event.json",
            of("\"event\":\"of-a-later-version\",\"deep\":[[[{\"a\":1}]]]"),
        ),
        (
            "valid-without-time.json",
            format!("{{\"at_seconds\":0,\"node\":\"{node}\",\"event\":\"left\"}}").into(),
        ),
        (
            "refused-no-node.json",
            b"{\"at_seconds\":0,\"event\":\"left\"}".to_vec(),
        ),
        (
            "refused-other-node.json",
            b"{\"at_seconds\":0,\"node\":\"12D3KooW\",\"event\":\"left\"}".to_vec(),
        ),
        ("refused-time.json", of("\"event\":\"left\"").repeat(2)),
        (
            "refused-deep.json",
            of(&format!("\"event\":{}", "[".repeat(1000))),
        ),
        (
            "refused-beyond-numbers.json",
            of("\"event\":\"left\",\"at_seconds\":1e999"),
        ),
        (
            "extreme-counts.json",
            of(
                "\"event\":\"round-closed\",\"round\":18446744073709551615,\"why\":\"quorum\",\"have\":18446744073709551615,\"awaited\":0,\"missing\":[]",
            ),
        ),
        ("refused-not-text.json", vec![b'{', b'"', 0xff, b'"', b'}']),
    ]
}

#[test]
fn no_bytes_harm_a_decoder() {
    let targets = [
        (
            "config",
            config as fn(&[u8]) -> bool,
            configs as fn() -> Files,
        ),
        ("key", key, keys),
        ("checkpoint", checkpoint, checkpoints),
        ("line", line, lines),
    ]
    .map(|(name, decode, files)| Target {
        name,
        decode,
        files,
        mutations: 300,
        growth_max: LITTLE,
    });
    drive(&targets);
}
