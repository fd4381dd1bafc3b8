//! The header of a file of events, for a testnet and for a simulation.

use std::collections::BTreeSet;

use kith_consensus::topology::Graph;
use kith_consensus::{Charter, PeerId};
use kith_simulations::plot::graph::places;

use super::output::Failure;
use crate::page::recording::{Header, Member, PEERS_MAX, Role};

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
        seen_by: None,
    })
}

/// The same for one peer's log: roles are not known, and only the links of that peer are seen.
///
/// # Errors
/// When the charter has no list of members, more of them than a page shows, or no graph for them.
pub(super) fn header_of_peer(charter: &Charter, own: &PeerId) -> Result<Header, Failure> {
    let members = charter.membership.members.iter();
    let mut peers: Vec<Named> = members
        .map(|member| (member.name.clone(), member.key, false))
        .collect();
    peers.sort_by_key(|(_, peer, _)| *peer);
    let count = peers.len();
    if count > PEERS_MAX {
        return Err(Failure::new(format!(
            "{count} peers, and a page shows {PEERS_MAX}"
        )));
    }
    let Some(place) = peers.iter().position(|(_, peer, _)| peer == own) else {
        return Err(Failure::new(
            "a page needs to know who exchanges updates with whom; expected a charter that lists its members, this peer among them",
        ));
    };
    let mut header = header(charter, charter.to_toml(), "", &peers)?;
    let of_own = |(a, b): &(usize, usize)| *a == place || *b == place;
    header.links.retain(of_own);
    let peers = header.peers.iter_mut();
    peers.for_each(|member| member.role = Role::Unknown);
    header.seen_by = Some(place);
    Ok(header)
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
