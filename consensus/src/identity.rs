//! Names of peers and of bytes: [`PeerId`] and [`Digest`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A participant of the protocol: its ed25519 public key. Ordered by bytes, which is the canonical order of everything.
///
/// Shown as libp2p shows it (`12D3Koo…`), so that logs, configuration and network tools name a peer alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(#[serde(with = "bytes32")] pub [u8; 32]);

/// The identity multihash of a protobuf-encoded ed25519 key: what libp2p puts before the 32 bytes of the key.
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
#[error("{0:?} is not a peer id; expected the text that `kith init` prints, beginning with 12D3Koo")]
pub struct NotAPeerId(pub String);

impl FromStr for PeerId {
    type Err = NotAPeerId;

    fn from_str(text: &str) -> Result<PeerId, NotAPeerId> {
        // 38 bytes are at most 52 base58 characters; longer text is refused before it is decoded.
        let bytes = (text.len() <= 64).then(|| bs58::decode(text).into_vec().ok()).flatten();
        let key = bytes.as_deref().and_then(|bytes| bytes.strip_prefix(&LIBP2P_PREFIX[..]));
        key.and_then(|key| <[u8; 32]>::try_from(key).ok()).map(PeerId).ok_or_else(|| NotAPeerId(text.to_owned()))
    }
}

/// A BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Digest(#[serde(with = "bytes32")] pub [u8; 32]);

impl Digest {
    /// BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// BLAKE3 of the little-endian bytes of `values`: the name of a parameter vector on every machine.
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
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({})", self.short())
    }
}

/// 32 bytes as one CBOR byte string instead of an array of 32 integers.
mod bytes32 {
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = [u8; 32];
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("32 bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; 32], E> {
                <[u8; 32]>::try_from(bytes).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<[u8; 32], A::Error> {
                let mut bytes = [0u8; 32];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = items.next_element()?.ok_or_else(|| A::Error::invalid_length(index, &self))?;
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_bytes(Bytes)
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
    }

    #[test]
    fn hashing_values_is_hashing_their_little_endian_bytes() {
        let values: Vec<f32> = (0..5000).map(|value| value as f32 * 0.5).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(Digest::of_values(&values), Digest::of(&bytes));
    }
}
