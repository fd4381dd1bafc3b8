//! Where a peer can be dialled, as it says itself and signs.
//!
//! Only a peer's own word counts for where it is. Others pass its record on unchanged, so nobody
//! can send peers to addresses that are not theirs, and the newest record of a peer replaces the
//! older ones wherever both arrive.
//!
//! An address of a private network says something about it, and is of no use outside. So a peer
//! signs its addresses of each [`Scope`] apart, and a record is told only to peers that are
//! connected from within that scope. (go-libp2p's identify filters addresses in the same three
//! steps.)

use core::net::{Ipv4Addr, Ipv6Addr};

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Genesis, PeerId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::envelope::{Authenticator, SIGNATURE_BYTES};
use crate::refusal::Refusal;
use crate::wire;

/// Most addresses of one peer.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// Longest address, in bytes of its text.
pub(crate) const ADDRESS_BYTES_MAX: usize = 256;

/// A signature covers this text, then the record without its signature.
const DOMAIN: &[u8] = b"kith.v1 addresses";

/// From where an address leads to its peer.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::EnumIter,
)]
pub enum Scope {
    /// From the same machine: loopback addresses.
    Machine,
    /// From the same private network: addresses that many networks use alike (RFC 1918, RFC 4193,
    /// link-local, and those between a provider and its customers, RFC 6598).
    Site,
    /// From everywhere: all others, and names.
    #[default]
    World,
}

impl Scope {
    /// The scope of a multiaddress, by its first part.
    pub fn of(address: &str) -> Scope {
        let mut parts = address.split('/').skip(1);
        let (kind, value) = (parts.next(), parts.next().unwrap_or_default());
        match kind {
            Some("ip4") => value.parse().map_or(Scope::World, Scope::of_v4),
            Some("ip6") => value.parse().map_or(Scope::World, Scope::of_v6),
            _ => Scope::World,
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Scope {
        let [first, second, ..] = ip.octets();
        let is_shared = first == 100 && second & 0xc0 == 64;
        match () {
            () if ip.is_loopback() => Scope::Machine,
            () if ip.is_private() || ip.is_link_local() || is_shared => Scope::Site,
            () => Scope::World,
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Scope {
        if let Some(ip) = ip.to_ipv4_mapped() {
            return Scope::of_v4(ip);
        }
        match () {
            () if ip.is_loopback() => Scope::Machine,
            () if ip.is_unique_local() || ip.is_unicast_link_local() => Scope::Site,
            () => Scope::World,
        }
    }
}

/// A peer's addresses of one scope, signed by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddressRecord {
    /// The peer that can be dialled there.
    pub(crate) peer: PeerId,
    /// The life in which it signed.
    pub(crate) incarnation: u64,
    /// Counts the records of that life and scope.
    pub(crate) version: u32,
    /// From where the addresses lead to the peer.
    pub(crate) scope: Scope,
    /// Text of multiaddresses; at most [`ADDRESSES_MAX`].
    pub(crate) addresses: Vec<String>,
    signature: ByteBuf,
}

impl AddressRecord {
    /// Signs the addresses of this authenticator's peer.
    pub(crate) fn sign(
        authenticator: &Authenticator,
        federation: Genesis,
        incarnation: u64,
        (scope, version): (Scope, u32),
        addresses: Vec<String>,
    ) -> AddressRecord {
        let mut record = AddressRecord {
            peer: authenticator.peer(),
            incarnation,
            version,
            scope,
            addresses,
            signature: ByteBuf::new(),
        };
        let signature = authenticator.sign(DOMAIN, &record.said(federation));
        record.signature = ByteBuf::from(signature);
        record
    }

    fn said(&self, federation: Genesis) -> Vec<u8> {
        let AddressRecord {
            peer,
            incarnation,
            version,
            scope,
            addresses,
            ..
        } = self;
        wire::encode(&(federation, peer, incarnation, version, scope, addresses))
    }

    /// Checks a record from outside: its bounds, then its signature.
    ///
    /// # Errors
    /// [`Refusal::AddressRecord`] says what is wrong.
    pub(crate) fn check(
        &self,
        authenticator: &Authenticator,
        federation: Genesis,
    ) -> Result<(), Refusal> {
        let wrong = |why: &str| Err(Refusal::AddressRecord { why: why.into() });
        if self.addresses.len() > ADDRESSES_MAX {
            return wrong("it has more addresses than a peer may have");
        }
        if self
            .addresses
            .iter()
            .any(|text| text.len() > ADDRESS_BYTES_MAX)
        {
            return wrong("an address is longer than addresses are");
        }
        let signed = self.signature.len() == SIGNATURE_BYTES
            && authenticator.verify(&self.peer, DOMAIN, &self.said(federation), &self.signature);
        match signed || planted(Mutant::BelieveHearsay) {
            true => Ok(()),
            false => wrong("the peer that it names did not sign it"),
        }
    }

    /// Whether it replaces the other record of its peer and scope.
    pub(crate) fn is_newer_than(&self, other: &AddressRecord) -> bool {
        (self.incarnation, self.version) > (other.incarnation, other.version)
    }

    /// Bytes that it takes in a message, about.
    pub(crate) fn size(&self) -> usize {
        let texts: usize = self.addresses.iter().map(|text| text.len() + 3).sum();
        texts + 32 + SIGNATURE_BYTES + 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(addresses: Vec<String>) -> (Authenticator, AddressRecord) {
        let authenticator = Authenticator::from_secret(&[1; 32]);
        let record = AddressRecord::sign(
            &authenticator,
            Genesis::default(),
            7,
            (Scope::Site, 1),
            addresses,
        );
        (authenticator, record)
    }

    #[test]
    fn only_a_peer_itself_can_say_where_it_is() {
        let (authenticator, good) = record(vec!["/ip4/10.0.0.1/tcp/1".into()]);
        let check = |record: &AddressRecord| record.check(&authenticator, Genesis::default());
        assert_eq!(check(&good), Ok(()));
        let liar = Authenticator::from_secret(&[2; 32]);
        let mut forged =
            AddressRecord::sign(&liar, Genesis::default(), 9, (Scope::Site, 1), Vec::new());
        forged.peer = authenticator.peer();
        let others = [
            AddressRecord {
                version: 2,
                ..good.clone()
            },
            AddressRecord {
                scope: Scope::World,
                ..good.clone()
            },
            AddressRecord {
                incarnation: 8,
                ..good.clone()
            },
            AddressRecord {
                addresses: vec!["/ip4/10.0.0.2/tcp/1".into()],
                ..good.clone()
            },
            forged,
        ];
        for other in others {
            assert_eq!(check(&other).unwrap_err().name(), "address-record");
        }
        let another = kith_consensus::Digest::of(b"another federation");
        assert!(good.check(&authenticator, Genesis(another)).is_err());
    }

    #[test]
    fn an_address_has_the_scope_from_which_it_leads_to_its_peer() {
        let cases = [
            ("/ip4/127.0.0.1/tcp/1", Scope::Machine),
            ("/ip6/::1/udp/1/quic-v1", Scope::Machine),
            ("/ip6/::ffff:127.0.0.1/tcp/1", Scope::Machine),
            ("/ip4/10.1.2.3/tcp/1", Scope::Site),
            ("/ip4/172.31.0.1/tcp/1", Scope::Site),
            ("/ip4/192.168.0.1/udp/1/quic-v1", Scope::Site),
            ("/ip4/169.254.0.1/tcp/1", Scope::Site),
            ("/ip4/100.64.0.1/tcp/1", Scope::Site),
            ("/ip4/100.127.255.255/tcp/1", Scope::Site),
            ("/ip6/fd00::1/tcp/1", Scope::Site),
            ("/ip6/fe80::1/tcp/1", Scope::Site),
            ("/ip4/100.128.0.1/tcp/1", Scope::World),
            ("/ip4/172.32.0.1/tcp/1", Scope::World),
            ("/ip4/203.0.113.1/tcp/1", Scope::World),
            ("/ip6/2001:db8::1/tcp/1", Scope::World),
            ("/dns4/kith.example/tcp/1", Scope::World),
            ("/memory/7", Scope::World),
            ("nonsense", Scope::World),
        ];
        for (address, scope) in cases {
            assert_eq!(Scope::of(address), scope, "{address}");
        }
    }

    #[test]
    fn a_record_has_bounds_even_if_its_peer_signed_more() {
        for addresses in [vec!["/x".to_owned(); 9], vec!["x".repeat(257)]] {
            let (authenticator, record) = record(addresses);
            assert!(record.check(&authenticator, Genesis::default()).is_err());
        }
    }
}
