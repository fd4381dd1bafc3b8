//! Nodes in one process over real sockets: what the library promises to whoever hosts one.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use kith_gossip::Event;
use kith_node::telemetry::{NodeEvent, What};
use kith_node::{Identity, Node, NodeHandle, NodeSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest that anything here may take.
const DEADLINE: Duration = Duration::from_secs(120);

const CHARTER: &str = r#"
[federation]
name = "three"
rounds = ROUNDS
seed = 7

[data]
shape = [2]
classes = 2

[model]
kind = "softmax"

[training]
batch_size = 4
local_epochs = 1

[topology]
kind = "complete"

[round]
deadline_seconds = 60

[aggregation]
rule = "mean"

[codec]
kind = "identity"

[membership]
mode = "members"
"#;

/// A folder per peer, with key, rows, charter and configuration; all dial the first one.
fn folders(root: &Path, peers: usize, rounds: u64) -> Vec<PathBuf> {
    let identities: Vec<Identity> = (0..peers)
        .map(|peer| Identity::from_secret([peer as u8 + 1; 32]))
        .collect();
    let mut charter = CHARTER.replace("ROUNDS", &rounds.to_string());
    for (peer, identity) in identities.iter().enumerate() {
        charter.push_str(&format!(
            "[[membership.member]]\nname = \"peer-{peer}\"\nkey = \"{}\"\n",
            identity.peer()
        ));
    }
    let folders: Vec<PathBuf> = (0..peers)
        .map(|peer| root.join(format!("peer-{peer}")))
        .collect();
    for (peer, folder) in folders.iter().enumerate() {
        std::fs::create_dir_all(folder).unwrap();
        identities[peer]
            .create(&folder.join("identity.key"))
            .unwrap();
        std::fs::write(folder.join("charter.toml"), &charter).unwrap();
        let row = |index: usize| format!("{}.5,{},{}\n", index % 5, (index + peer) % 3, index % 2);
        let rows: String = (0..16 + peer).map(row).collect();
        std::fs::write(folder.join("rows.csv"), format!("x,y,label\n{rows}")).unwrap();
        // The last peer holds nothing out: it must end as well.
        let holdout = if peer + 1 == peers { 0.0 } else { 0.25 };
        let config = format!(
            "[peer]\nname = \"peer-{peer}\"\n[data]\npath = \"rows.csv\"\nholdout = {holdout}\n\
             [network]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n"
        );
        std::fs::write(folder.join("kith.toml"), config).unwrap();
    }
    folders
}

async fn start(folder: &Path, bootstrap: Option<&str>) -> NodeHandle {
    let mut settings = NodeSettings::load(&folder.join("kith.toml")).unwrap();
    settings.config.network.bootstrap = bootstrap.map(str::to_owned).into_iter().collect();
    Node::start(settings).await.unwrap()
}

async fn start_all(folders: &[PathBuf]) -> Vec<NodeHandle> {
    let first = start(&folders[0], None).await;
    let address = first.listening().await.unwrap();
    let mut nodes = vec![first];
    for folder in &folders[1..] {
        nodes.push(start(folder, Some(&address)).await);
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_all_hear_each_other_end_with_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let nodes = start_all(&folders(root.path(), 3, 4)).await;
    let mut parameters = Vec::new();
    for mut node in nodes {
        let mut lines = node.lines();
        let outcome = tokio::time::timeout(DEADLINE, node.wait())
            .await
            .unwrap()
            .unwrap();
        assert!(outcome.finished, "{}", outcome.why);
        let (mut payload, mut wire) = (0, None);
        while let Ok(line) = lines.try_recv() {
            match line.what {
                What::Peer(Event::Accepted { payload_bytes, .. }) => {
                    payload += payload_bytes as u64
                }
                What::Node(NodeEvent::Report { wire_in_bytes, .. }) => wire = Some(wire_in_bytes),
                _ => {}
            }
        }
        assert!(
            payload > 0 && wire >= Some(payload),
            "{payload} bytes of updates, {wire:?} on the wire"
        );
        assert_eq!(outcome.rounds, 4);
        parameters.push(outcome.parameters.unwrap());
    }
    assert!(
        parameters.windows(2).all(|pair| pair[0] == pair[1]),
        "a complete graph averages to one model"
    );
    assert!(parameters[0].iter().any(|value| *value != 0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_served_and_leaving_keeps_the_state_for_a_resume() {
    let root = tempfile::tempdir().unwrap();
    let folders = folders(root.path(), 2, 1_000_000);
    let nodes = start_all(&folders).await;
    let mut lines = nodes[0].subscribe();
    let waited = tokio::time::timeout(DEADLINE, async {
        while !matches!(
            lines.recv().await.unwrap().what,
            What::Peer(Event::Aggregated { round: 2, .. })
        ) {}
    });
    waited.await.unwrap();
    let address = std::fs::read_to_string(folders[0].join("state/status.address")).unwrap();
    let status: serde_json::Value =
        serde_json::from_str(&get(&address, "GET", "/status", "").await).unwrap();
    assert!(status["completed"].as_u64().unwrap() >= 3, "{status}");
    assert!(
        get(&address, "GET", "/metrics", "")
            .await
            .contains("kith_rounds_closed_total")
    );
    assert_eq!(get(&address, "GET", "/ready", "").await, "ready\n");
    assert!(
        get(&address, "POST", "/leave", "")
            .await
            .contains("only this machine"),
        "a browser's page cannot make it leave"
    );
    assert!(
        get(&address, "POST", "/leave", "Authorization: Bearer 00\r\n")
            .await
            .contains("only this machine")
    );
    let foreign = raw(
        &address,
        "GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    )
    .await;
    assert!(
        foreign.starts_with("HTTP/1.1 403") && !foreign.contains("federation"),
        "{foreign}"
    );
    let token = std::fs::read_to_string(folders[0].join("state/owner.token")).unwrap();
    get(
        &address,
        "POST",
        "/leave",
        &format!("Authorization: Bearer {}\r\n", token.trim()),
    )
    .await;
    let mut nodes = nodes.into_iter();
    let left = tokio::time::timeout(DEADLINE, nodes.next().unwrap().wait())
        .await
        .unwrap()
        .unwrap();
    assert!(!left.finished && left.rounds >= 3);
    assert!(
        !folders[0].join("state/owner.token").exists()
            && !folders[0].join("state/status.address").exists()
    );

    let mut again = start(&folders[0], None).await;
    let mut lines = again.lines();
    let resumed = tokio::time::timeout(DEADLINE, async {
        loop {
            if let What::Peer(Event::Started { round, .. }) = lines.recv().await.unwrap().what {
                return round;
            }
        }
    });
    assert_eq!(resumed.await.unwrap(), left.rounds);
    again.leave().await;
    tokio::time::timeout(DEADLINE, again.wait())
        .await
        .unwrap()
        .unwrap();
    let other = nodes.next().unwrap();
    other.leave().await;
    tokio::time::timeout(DEADLINE, other.wait())
        .await
        .unwrap()
        .unwrap();
}

/// The body of an answer.
async fn get(address: &str, method: &str, path: &str, headers: &str) -> String {
    let host = address.trim();
    let answer = raw(
        address,
        &format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"),
    )
    .await;
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The whole answer to a request.
async fn raw(address: &str, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address.trim())
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
