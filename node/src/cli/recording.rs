//! The header of a file of events, for a testnet and for a simulation.

use std::collections::BTreeSet;

use kith_consensus::topology::Graph;
use kith_consensus::{Charter, PeerId};
use kith_simulations::plot::graph::places;

use super::output::Failure;
use crate::page::recording::{Header, Member, Role};

/// Rounds whose graphs are looked at if they change.
const GRAPHS_MAX: u64 = 64;

/// A peer's name, its id and whether it lies.
pub(super) type Named = (String, PeerId, bool);

/// What is known before anything happens. `resolved` is the charter, or the experiment that holds
/// it, with every default written out; `peers` are in the order of their ids; `attack` is what liars
/// do.
///
/// # Errors
/// When the topology has no graph for so many peers.
pub(super) fn header(
    charter: &Charter,
    resolved: String,
    attack: &str,
    peers: &[Named],
) -> Result<Header, Failure> {
    let links = links(charter, peers.len())?;
    let graph = Graph::new_undirected(peers.len(), links.iter().copied())
        .map_err(|error| Failure::new(error.to_string()))?;
    let topology = charter.topology.kind.name();
    let members = peers.iter().zip(places(topology, &graph));
    let codec = resolved.parse::<toml::Table>().ok();
    let codec = codec.and_then(|table| Some(table.get("codec")?.get("kind")?.as_str()?.to_owned()));
    Ok(Header {
        kith_events: Header::VERSION,
        charter: resolved,
        name: charter.name.clone(),
        rounds: charter.rounds,
        rule: charter.aggregation.rule.name().to_owned(),
        topology: topology.to_owned(),
        codec: codec.unwrap_or_default(),
        attack: peers
            .iter()
            .any(|(_, _, lies)| *lies)
            .then(|| attack.to_owned()),
        peers: members
            .map(|((name, peer, lies), place)| Member {
                name: name.clone(),
                peer: *peer,
                role: if *lies { Role::Adversary } else { Role::Honest },
                place,
            })
            .collect(),
        links,
    })
}

/// The pairs that exchange updates in some round.
fn links(charter: &Charter, peers: usize) -> Result<Vec<(usize, usize)>, Failure> {
    let rounds = if charter.topology.changes() {
        charter.rounds.min(GRAPHS_MAX)
    } else {
        1
    };
    let mut links = BTreeSet::new();
    for round in 0..rounds {
        let graph = charter
            .topology
            .graph(peers, round)
            .map_err(|error| Failure::new(error.to_string()))?;
        links.extend(graph.edges().map(|(a, b)| (a.min(b), a.max(b))));
    }
    Ok(links.into_iter().collect())
}
