//! Why a peer could not be reached, in words that show a person where to look.

use std::error::Error;
use std::io::ErrorKind;

use kith_consensus::PeerId;
use libp2p::Multiaddr;
use libp2p::swarm::DialError;

use super::from_libp2p;

/// Why this peer cannot reach another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The machine answers, and nothing listens at that port.
    Refused,
    /// Nothing answers at all.
    Silence,
    /// The name in the address has no address.
    NoSuchName,
    /// No network leads there.
    NoRoute,
    /// A peer with another key answers there.
    OtherKey(Option<PeerId>),
    /// Something answers that does not speak this protocol.
    NotKith,
    /// No address of the peer is known.
    NoAddress,
    /// No transport of this program can use the address.
    NoTransport,
    /// Anything else.
    Other,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Obstacle::Refused => "connection refused: nothing listens at that port",
            Obstacle::Silence => {
                "no answer: the machine is off, or a firewall drops what is sent there"
            }
            Obstacle::NoSuchName => "the name does not resolve to an address",
            Obstacle::NoRoute => "no network leads there",
            Obstacle::OtherKey(Some(peer)) => {
                return write!(formatter, "wrong peer id: {peer} answers there");
            }
            Obstacle::OtherKey(None) => "wrong peer id: a peer with another key answers there",
            Obstacle::NotKith => "what listens there does not speak Kith's protocol",
            Obstacle::NoAddress => "no address of it is known yet",
            Obstacle::NoTransport => "an address that no transport of this program can use",
            Obstacle::Other => "it cannot be reached",
        };
        formatter.write_str(text)
    }
}

/// What failed at each address of a dial: where, why, and the carrier's own words.
pub(super) fn explain(error: &DialError) -> Vec<(Option<Multiaddr>, Obstacle, String)> {
    let one = |address: Option<&Multiaddr>, obstacle| {
        vec![(address.cloned(), obstacle, error.to_string())]
    };
    match error {
        DialError::NoAddresses => one(None, Obstacle::NoAddress),
        DialError::WrongPeerId { obtained, address } => {
            one(Some(address), Obstacle::OtherKey(from_libp2p(obtained)))
        }
        DialError::Transport(attempts) => attempts
            .iter()
            .map(|(address, error)| match error {
                libp2p::TransportError::MultiaddrNotSupported(_) => (
                    Some(address.clone()),
                    Obstacle::NoTransport,
                    error.to_string(),
                ),
                libp2p::TransportError::Other(error) => {
                    (Some(address.clone()), of(error), innermost(error))
                }
            })
            .collect(),
        DialError::LocalPeerId { .. }
        | DialError::DialPeerConditionFalse(_)
        | DialError::Aborted
        | DialError::Denied { .. } => Vec::new(),
    }
}

/// The words of the error that all others are wrapped around.
fn innermost(error: &std::io::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn of(error: &std::io::Error) -> Obstacle {
    // Transports wrap each other; the operating system's error lies somewhere within.
    let mut chain: Option<&dyn Error> = Some(error);
    while let Some(error) = chain {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && let Some(obstacle) = of_kind(error.kind())
        {
            return obstacle;
        }
        chain = error.source();
    }
    of_text(&format!("{error} {}", innermost(error)).to_lowercase())
}

fn of_kind(kind: ErrorKind) -> Option<Obstacle> {
    match kind {
        ErrorKind::ConnectionRefused => Some(Obstacle::Refused),
        ErrorKind::TimedOut => Some(Obstacle::Silence),
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::AddrNotAvailable => Some(Obstacle::NoRoute),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::InvalidData => {
            Some(Obstacle::NotKith)
        }
        _ => None,
    }
}

/// If a transport hides its cause, its text is all there is.
fn of_text(text: &str) -> Obstacle {
    let known = [
        ("connection refused", Obstacle::Refused),
        ("network is unreachable", Obstacle::NoRoute),
        ("no route to host", Obstacle::NoRoute),
        ("resolve", Obstacle::NoSuchName),
        ("no records found", Obstacle::NoSuchName),
        ("no record found", Obstacle::NoSuchName),
        ("dns", Obstacle::NoSuchName),
        ("proto error", Obstacle::NoSuchName),
        ("timeout", Obstacle::Silence),
        ("timed out", Obstacle::Silence),
        ("negotiat", Obstacle::NotKith),
        ("multistream", Obstacle::NotKith),
        ("protocol", Obstacle::NotKith),
        ("handshake", Obstacle::NotKith),
        ("unexpected eof", Obstacle::NotKith),
        ("end of file", Obstacle::NotKith),
        ("invalid message", Obstacle::NotKith),
        ("invalid data", Obstacle::NotKith),
        ("invalid peer", Obstacle::OtherKey(None)),
    ];
    known
        .into_iter()
        .find(|(words, _)| text.contains(words))
        .map_or(Obstacle::Other, |(_, obstacle)| obstacle)
}
