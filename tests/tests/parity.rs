//! Four peers over real sockets and the same four in memory end with the same bits.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Federation;
use kith_consensus::Digest;
use kith_gossip::codec::codec_from_section;
use kith_gossip::{Honest, Setup};
use kith_node::{Node, NodeSettings};
use kith_simulations::learner::Learner;
use kith_simulations::simulator::{Ended, Links, Meeting, Participant, Simulation};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_peers_over_sockets_and_four_in_memory_end_with_equal_parameters() {
    ends_alike("complete").await;
}

/// Clusters of two with a head and a deputy each, and a server: rounds in which nobody trains, and models that are adopted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_do_where_rounds_have_stages() {
    ends_alike("hierarchical").await;
    ends_alike("centralised").await;
}

async fn ends_alike(topology: &str) {
    let common = ["--rounds", "6", "--codec", "identity", "--rule", "mean", "--deadline", "600"];
    let federation = Federation::new(4, &[&common[..], &["--topology", topology]].concat());
    let load = |name: &str| NodeSettings::load(&federation.dir(name).join("kith.toml")).expect("good settings");

    let mut handles = Vec::new();
    for name in &federation.names {
        handles.push(Node::start(load(name)).await.expect("starts"));
    }
    let mut over_sockets = Vec::new();
    for handle in handles {
        let peer = handle.peer();
        let outcome = tokio::time::timeout(common::PATIENCE, handle.wait()).await.expect("ends").expect("ends well");
        assert!(outcome.finished, "{}", outcome.why);
        over_sockets.push((peer, Digest::of_values(&outcome.parameters.expect("rounds were completed"))));
    }

    let members = federation.names.iter().map(|name| {
        let NodeSettings { agreement, identity, data, .. } = load(name);
        let peer = identity.peer();
        let seed = agreement.peer_seed(&peer);
        let learner = Learner::new(&agreement.task, data, seed, None).expect("the rows fit");
        let setup = move || Setup {
            authenticator: identity.authenticator(),
            charter: agreement.charter.clone(),
            roster: agreement.roster(&peer),
            codec: kith_consensus::section::Document::parse("").expect("toml").section("codec", codec_from_section),
            layout: agreement.task.layout().digest(),
            initial: Arc::new(agreement.task.initial_parameters()),
            seed,
            conduct: Box::new(Honest),
            evaluate_every: 0,
            library: None,
        };
        Participant::new(setup, learner)
    });
    let mut in_memory = Simulation::new(members.collect(), Meeting::Everyone, Links::clear(), 0, ());
    assert_eq!(in_memory.run(Duration::from_secs(3600)), Ended::Stopped);
    let in_memory: Vec<_> =
        (0..4).map(|member| (in_memory.id(member), Digest::of_values(in_memory.parameters(member)))).collect();
    assert_eq!(over_sockets, in_memory);
    assert!(in_memory.iter().all(|(_, digest)| *digest == in_memory[0].1), "a mean over all leaves one model");
}
