//! Limits half-open connections: a behaviour that refuses more of them from one host than its
//! share.
//!
//! An idle socket costs a descriptor until the handshake's time is up. Without a share for each
//! host, one host that opens many keeps everybody else out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dummy;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};

/// Half-open inbound connections of all hosts together, and of one: each is a descriptor for as
/// long as [`crate::limits::HANDSHAKE_MAX`] (guess).
const HALF_OPEN_MAX: usize = 512;
const HALF_OPEN_PER_HOST_MAX: usize = 256;

/// Too many connections are half open.
#[derive(Debug, thiserror::Error)]
#[error(
    "{half_open} connections of this host, or {HALF_OPEN_MAX} of all hosts, have begun a handshake and not ended it"
)]
struct Crowded {
    half_open: usize,
}

/// Counts the connections whose handshake is under way.
#[derive(Debug, Default)]
pub(super) struct Door {
    half_open: BTreeMap<ConnectionId, Option<IpAddr>>,
}

impl Door {
    fn of_host(&self, host: Option<IpAddr>) -> usize {
        self.half_open
            .values()
            .filter(|other| **other == host)
            .count()
    }
}

fn host(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    })
}

impl NetworkBehaviour for Door {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let host = host(from);
        let half_open = self.of_host(host);
        if half_open >= HALF_OPEN_PER_HOST_MAX || self.half_open.len() >= HALF_OPEN_MAX {
            return Err(ConnectionDenied::new(Crowded { half_open }));
        }
        self.half_open.insert(id, host);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.half_open.remove(&id);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ListenFailure(failure) = event {
            self.half_open.remove(&failure.connection_id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_cannot_take_every_place() {
        let mut door = Door::default();
        let here: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let knock = |door: &mut Door, number: usize, from: &str| {
            door.handle_pending_inbound_connection(
                ConnectionId::new_unchecked(number),
                &here,
                &from.parse().unwrap(),
            )
            .is_ok()
        };
        let admitted = (0..2 * HALF_OPEN_PER_HOST_MAX)
            .filter(|number| knock(&mut door, *number, "/ip4/10.0.0.1/tcp/9"))
            .count();
        assert_eq!(admitted, HALF_OPEN_PER_HOST_MAX);
        assert!(
            knock(&mut door, 100_000, "/ip4/10.0.0.2/tcp/9"),
            "another host gets in"
        );
        let failed = ConnectionId::new_unchecked(0);
        let (error, local) = (libp2p::swarm::ListenError::Aborted, here.clone());
        let send_back_addr: Multiaddr = "/ip4/10.0.0.1/tcp/9".parse().unwrap();
        door.on_swarm_event(FromSwarm::ListenFailure(
            libp2p::swarm::behaviour::ListenFailure {
                local_addr: &local,
                send_back_addr: &send_back_addr,
                error: &error,
                connection_id: failed,
                peer_id: None,
            },
        ));
        assert!(
            knock(&mut door, 100_001, "/ip4/10.0.0.1/tcp/9"),
            "one has given up"
        );
    }
}
