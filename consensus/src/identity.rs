//! Names of peers, of federations and of bytes: [`PeerId`], [`Genesis`] and [`Digest`].

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::random::Seed;

/// A participant of the protocol: its ed25519 public key. Ordered by bytes, which is the canonical
/// order of everything.
///
/// Shown as libp2p shows it (`12D3Koo…`), so that logs, configuration and network tools name a peer
/// alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId(pub [u8; 32]);

impl Ord for PeerId {
    /// By bytes. Keys are as good as random, so the first eight decide, in one comparison.
    #[inline]
    fn cmp(&self, other: &PeerId) -> Ordering {
        let first = |peer: &PeerId| peer.0.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        first(self)
            .cmp(&first(other))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for PeerId {
    #[inline]
    fn partial_cmp(&self, other: &PeerId) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The identity multihash of a protobuf-encoded ed25519 key: what libp2p puts before the 32 bytes
/// of the key.
const LIBP2P_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl PeerId {
    /// The last eight characters, enough to tell peers apart in a table.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len() - 8..].to_owned()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0u8; 38];
        bytes[..6].copy_from_slice(&LIBP2P_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        formatter.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PeerId(…{})", self.short())
    }
}

/// A text that is not a peer id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a peer id; expected the text that `kith init` prints, beginning with 12D3Koo"
)]
pub struct NotAPeerId(pub String);

impl FromStr for PeerId {
    type Err = NotAPeerId;

    fn from_str(text: &str) -> Result<PeerId, NotAPeerId> {
        // 38 bytes are at most 52 base58 characters; longer text is refused before it is decoded.
        let bytes = (text.len() <= 64)
            .then(|| bs58::decode(text).into_vec().ok())
            .flatten();
        let key = bytes
            .as_deref()
            .and_then(|bytes| bytes.strip_prefix(&LIBP2P_PREFIX[..]));
        key.and_then(|key| <[u8; 32]>::try_from(key).ok())
            .map(PeerId)
            .ok_or_else(|| NotAPeerId(text.to_owned()))
    }
}

impl Serialize for PeerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bytes32::serialize(&self.0, self, serializer)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
        bytes32::deserialize(deserializer, |text| {
            text.parse().ok().map(|peer: PeerId| peer.0)
        })
        .map(PeerId)
    }
}

/// A BLAKE3 hash. As text, 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// BLAKE3 of the little-endian bytes of `values`: the name of a parameter vector on every
    /// machine.
    pub fn of_values(values: &[f32]) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let mut block = [0u8; 4096];
        for chunk in values.chunks(block.len() / 4) {
            for (slot, value) in block.chunks_exact_mut(4).zip(chunk) {
                slot.copy_from_slice(&value.to_le_bytes());
            }
            hasher.update(&block[..chunk.len() * 4]);
        }
        Digest(*hasher.finalize().as_bytes())
    }

    /// The first eight hexadecimal digits.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A text that is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest; expected 64 hexadecimal digits")]
pub struct NotADigest(pub String);

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Digest, NotADigest> {
        let digit = |index: usize| {
            text.as_bytes()
                .get(index)
                .and_then(|byte| (*byte as char).to_digit(16))
        };
        let mut bytes = [0u8; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let (Some(high), Some(low)) = (digit(2 * index), digit(2 * index + 1)) else {
                return Err(NotADigest(text.to_owned()));
            };
            *byte = (high * 16 + low) as u8;
        }
        if text.len() == 64 {
            Ok(Digest(bytes))
        } else {
            Err(NotADigest(text.to_owned()))
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bytes32::serialize(&self.0, self, serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        bytes32::deserialize(deserializer, |text| {
            text.parse().ok().map(|digest: Digest| digest.0)
        })
        .map(Digest)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({})", self.short())
    }
}

/// 32 bytes: one byte string where machines read (CBOR), text where people do (JSON).
mod bytes32 {
    use std::fmt::Display;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bytes: &[u8; 32],
        text: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(text)
        } else {
            serializer.serialize_bytes(bytes)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
        parse: fn(&str) -> Option<[u8; 32]>,
    ) -> Result<[u8; 32], D::Error> {
        struct Bytes(fn(&str) -> Option<[u8; 32]>);
        impl Visitor<'_> for Bytes {
            type Value = [u8; 32];
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("32 bytes, or their text")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; 32], E> {
                <[u8; 32]>::try_from(bytes).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<[u8; 32], E> {
                (self.0)(text)
                    .ok_or_else(|| E::custom(format!("{text:?} is not the text of 32 bytes")))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Bytes(parse))
        } else {
            deserializer.deserialize_bytes(Bytes(parse))
        }
    }
}

/// The identity of a federation: the id of its first charter. It stays when the charter in force is
/// amended, so it names topics, stores, seeds, handshakes and signatures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Genesis(pub Digest);

impl Genesis {
    /// The seed of the randomness that all peers of the federation share.
    pub fn seed(self) -> Seed {
        Seed(self.0.0)
    }
}

impl fmt::Display for Genesis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_ids_survive_their_text() {
        let id = PeerId([7; 32]);
        assert!(id.to_string().starts_with("12D3Koo"));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("12D3KooNope".parse::<PeerId>().is_err());
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("xyz".parse::<Digest>().is_err());
        let json = serde_json::to_string(&(id, digest)).unwrap();
        assert_eq!(json, format!("[\"{id}\",\"{digest}\"]"));
        assert_eq!(
            serde_json::from_str::<(PeerId, Digest)>(&json).unwrap(),
            (id, digest)
        );
    }

    #[test]
    fn peers_are_ordered_by_their_bytes() {
        let id = |place: usize, byte: u8| {
            let mut bytes = [7; 32];
            bytes[place] = byte;
            PeerId(bytes)
        };
        let ids: Vec<PeerId> = (0..32)
            .flat_map(|place| [0, 7, 255].map(|byte| id(place, byte)))
            .collect();
        for (a, b) in ids.iter().flat_map(|a| ids.iter().map(move |b| (a, b))) {
            assert_eq!(a.cmp(b), a.0.cmp(&b.0), "{a:?}, {b:?}");
        }
    }

    #[test]
    fn hashing_values_is_hashing_their_little_endian_bytes() {
        let values: Vec<f32> = (0..5000).map(|value| value as f32 * 0.5).collect();
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(Digest::of_values(&values), Digest::of(&bytes));
    }
}
