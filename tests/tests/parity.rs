//! Four peers over real sockets and the same four in memory end with the same bits.

mod common;

use std::time::Duration;

use common::Federation;
use kith_consensus::Digest;
use kith_consensus::optimization::METHODS;
use kith_node::{Node, NodeSettings};
use kith_simulations::learner::Learner;
use kith_simulations::simulator::{Ended, Links, Meeting, Participant, Simulation};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_peers_over_sockets_and_four_in_memory_end_with_equal_parameters() {
    let in_memory = both("complete", "plain").await;
    assert!(
        in_memory.iter().all(|digest| *digest == in_memory[0]),
        "a complete graph and a mean leave one model"
    );
}

/// Clusters of two with a head and a deputy each, and a server: rounds in which nobody trains, and
/// models that are adopted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_do_where_rounds_have_stages() {
    for topology in ["hierarchical", "centralised"] {
        let in_memory = both(topology, "plain").await;
        assert!(
            in_memory.iter().all(|digest| *digest == in_memory[0]),
            "{topology}: a mean over all leaves one model"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_do_under_every_method() {
    for entry in METHODS.iter().filter(|entry| entry.name != "plain") {
        both("complete", entry.name).await;
    }
}

/// Runs a federation over this graph under this method both ways, compares them, and returns where
/// everybody ends.
async fn both(topology: &str, method: &str) -> Vec<Digest> {
    let common = [
        "--rounds",
        "6",
        "--codec",
        "identity",
        "--rule",
        "mean",
        "--deadline",
        "600",
    ];
    let federation = Federation::new(4, &[&common[..], &["--topology", topology]].concat());
    for name in &federation.names {
        let path = federation.dir(name).join("charter.toml");
        let text = std::fs::read_to_string(&path).expect("a charter");
        assert!(text.contains("method = \"plain\""), "{text}");
        std::fs::write(
            &path,
            text.replace("method = \"plain\"", &format!("method = \"{method}\"")),
        )
        .expect("written");
    }
    let load = |name: &str| {
        NodeSettings::load(&federation.dir(name).join("kith.toml")).expect("good settings")
    };

    let mut handles = Vec::new();
    for name in &federation.names {
        handles.push(Node::start(load(name)).await.expect("starts"));
    }
    let mut over_sockets = Vec::new();
    for handle in handles {
        let peer = handle.peer();
        let outcome = tokio::time::timeout(common::PATIENCE, handle.wait())
            .await
            .expect("ends")
            .expect("ends well");
        assert!(outcome.finished, "{}", outcome.why);
        over_sockets.push((
            peer,
            Digest::of_values(&outcome.parameters.expect("rounds were completed")),
        ));
    }

    let members = federation.names.iter().map(|name| {
        let NodeSettings {
            agreement,
            identity,
            data,
            ..
        } = load(name);
        let peer = identity.peer();
        let seed = agreement.charter.peer_seed(&peer);
        let learner = Learner::new(&agreement.task, data, seed, None).expect("the rows fit");
        let federation = agreement.federation();
        let setup = move || federation.peer(identity.authenticator());
        Participant::new(setup, learner)
    });
    let mut in_memory =
        Simulation::new(members.collect(), Meeting::Everyone, Links::clear(), 0, ());
    assert_eq!(in_memory.run(Duration::from_secs(3600)), Ended::Stopped);
    let in_memory: Vec<_> = (0..4)
        .map(|member| {
            (
                in_memory.id(member),
                Digest::of_values(in_memory.parameters(member)),
            )
        })
        .collect();
    assert_eq!(over_sockets, in_memory, "{topology}, {method}");
    in_memory.into_iter().map(|(_, digest)| digest).collect()
}
