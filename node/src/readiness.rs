//! What a start would find: the state folder, the ports, and the peers to dial. For `kith check`,
//! which says the same as `kith run` and changes nothing.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use kith_consensus::{Charter, PeerId};

use crate::agreement::Agreement;
use crate::config::Config;
use crate::error::NodeError;
use crate::store::{Store, StoreError};
use crate::token::Token;

/// Longest wait for a peer that is dialled.
const DIAL_DEADLINE: Duration = Duration::from_secs(2);

/// What stands in the way of a start, and what a person should know besides.
#[derive(Debug, Default)]
pub struct Readiness {
    /// Each would end `kith run` at once.
    pub problems: Vec<NodeError>,
    /// What `kith run` would warn of, or only notice later.
    pub notes: Vec<String>,
}

/// Looks at state folder, ports and bootstrap addresses of a peer.
pub fn look(config: &Config, agreement: &Agreement, peer: Option<PeerId>) -> Readiness {
    let mut found = Readiness::default();
    match Store::look(
        &config.state,
        &config.checkpoints,
        agreement.shapes(),
        agreement.charter.genesis,
    ) {
        Ok(warnings) => found.notes.extend(warnings),
        Err(error @ StoreError::InUse { .. }) => {
            // The process that has the state has the ports as well.
            found.problems.push(error.into());
            return found;
        }
        Err(error) => found.problems.push(error.into()),
    }
    found
        .problems
        .extend(config.network.listen.iter().filter_map(|text| busy(text)));
    if let Err(source) = TcpListener::bind(config.status.listen) {
        found.problems.push(NodeError::Status {
            address: config.status.listen,
            source,
        });
    }
    if let Some(Err(error)) = config.status.token.as_deref().map(Token::read)
        && !error.is_absence()
    {
        found.problems.push(error.into());
    }
    for text in &config.network.bootstrap {
        let own = peer.is_some_and(|peer| {
            text.split('/')
                .next_back()
                .is_some_and(|last| last == peer.to_string())
        });
        if own {
            found
                .notes
                .push(format!("bootstrap {text} is this peer itself"));
        } else if let Some(why) = unreached(text) {
            found
                .notes
                .push(format!("bootstrap {text} cannot be reached now: {why}"));
        }
    }
    found
        .notes
        .extend(unseen_contradictions(&agreement.charter));
    found
}

/// In a graph without short cycles a peer that tells its neighbours different things is not found
/// out.
fn unseen_contradictions(charter: &Charter) -> Option<String> {
    let peers = charter.membership.peers;
    if charter.topology.changes() {
        return None;
    }
    let graph = charter.topology.graph(peers, 0).ok()?;
    let unseen = (0..peers)
        .filter(|peer| !graph.contradictions_show(*peer))
        .count();
    (unseen > 0).then(|| {
        format!(
            "{unseen} of {peers} peers could tell their neighbours different things unnoticed: not all of these exchange with each \
             other or with another peer in common; graphs with short cycles, such as \"complete\" or \"hypercube\", have such pairs"
        )
    })
}

/// Why nothing can listen at an address.
fn busy(text: &str) -> Option<NodeError> {
    let (place, kind) = place(text)?;
    let ip: IpAddr = place.0.parse().ok()?;
    let address = SocketAddr::new(ip, place.1);
    let bound = match kind {
        Kind::Tcp => TcpListener::bind(address).map(drop),
        Kind::Udp => UdpSocket::bind(address).map(drop),
    };
    let error = bound.err()?;
    let why = if error.kind() == ErrorKind::AddrInUse {
        "the address is in use by another program".to_owned()
    } else {
        error.to_string()
    };
    Some(NodeError::Unfit(format!(
        "[network] listen: cannot listen at {text}: {why}; choose another port, or end what has it"
    )))
}

/// Why nobody answers at an address; over QUIC this only checks whether its name resolves.
fn unreached(text: &str) -> Option<String> {
    let (place, kind) = place(text)?;
    let addresses: Vec<SocketAddr> = match place.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Some(format!("{} does not resolve: {error}", place.0)),
    };
    if kind == Kind::Udp {
        return None;
    }
    let mut why = Some(format!("{} has no address", place.0));
    for address in addresses {
        match TcpStream::connect_timeout(&address, DIAL_DEADLINE) {
            Ok(_) => return None,
            Err(error) => why = Some(error.to_string()),
        }
    }
    why
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
}

/// Host and port of a multiaddress that has both.
fn place(text: &str) -> Option<((String, u16), Kind)> {
    let parts: Vec<&str> = text.split('/').collect();
    let ["", _, host, kind, port, ..] = parts[..] else {
        return None;
    };
    let kind = if kind == "udp" { Kind::Udp } else { Kind::Tcp };
    Some(((host.to_owned(), port.parse().ok()?), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_in_which_contradictions_stay_unseen_is_told() {
        let charter = |topology: &str, members: usize| {
            let member = |number: usize| {
                let key = crate::Identity::from_secret([number as u8 + 1; 32]).peer();
                format!("[[membership.member]]\nname = \"p{number}\"\nkey = \"{key}\"\n")
            };
            let members: String = (0..members).map(member).collect();
            let text = format!(
                "[federation]\nname = \"t\"\nrounds = 2\n[data]\nshape = [64]\nclasses = 10\n[model]\nkind = \"softmax\"\n\
                 [topology]\nkind = \"{topology}\"\n{members}"
            );
            Agreement::parse(&text).expect("a good charter").charter
        };
        let told = |topology, members| unseen_contradictions(&charter(topology, members));
        assert!(told("ring", 6).is_some_and(|note| note.contains("6 of 6 peers")));
        assert_eq!(told("ring", 4), None);
        assert_eq!(told("complete", 6), None);
    }

    #[test]
    fn ports_that_are_taken_and_places_that_do_not_answer_are_told() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let text = format!("/ip4/127.0.0.1/tcp/{port}");
        assert!(busy(&text).is_some_and(|error| error.to_string().contains("in use")));
        assert_eq!(unreached(&text), None);
        drop(tcp);
        assert!(busy(&text).is_none());
        assert!(unreached(&text).is_some());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let text = format!(
            "/ip4/127.0.0.1/udp/{}/quic-v1",
            udp.local_addr().unwrap().port()
        );
        assert!(busy(&text).is_some());
        assert!(
            unreached("/dns4/nobody.invalid/tcp/1")
                .is_some_and(|why| why.contains("does not resolve"))
        );
    }
}
