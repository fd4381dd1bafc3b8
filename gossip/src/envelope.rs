//! The signed carrier of every message, and the ways to sign it.
//!
//! An [`Envelope`] is three byte strings: the encoded [`Header`], its signature, and the payload
//! that the header names by its BLAKE3 hash. The signature covers a domain prefix and the header's
//! bytes exactly as they travel, so nothing is ever encoded again to be verified. A header alone,
//! without its payload, still proves what its sender claimed: that is what witnesses pass on (at
//! most [`HEADER_BYTES_MAX`] bytes).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::privacy::ledger::Total;
use kith_consensus::{Digest, Genesis, PeerId};
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use crate::refusal::Refusal;
use crate::wire;

/// The protocol this program speaks. A peer of another version is refused by name.
pub const PROTOCOL_VERSION: u16 = 4;

/// Most bytes of a message that is sent in one piece: 64 KiB, gossipsub's own default; anything
/// larger is pulled.
pub const ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of a header with its signature.
pub const HEADER_BYTES_MAX: usize = 256;

/// Bytes of a signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// A signature covers this text, then the header's bytes. Other signed things have other prefixes.
const SIGNATURE_DOMAIN: &[u8] = b"kith.v1 envelope";

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Handshake: which charter, which layout, which round, which addresses.
    Hello,
    /// An update's announcement, with its body inside when it is small.
    Update,
    /// "I miss your update of this round."
    Want,
    /// Two headers that cannot both be honest.
    Proof,
    /// The sender has finished every round, or leaves before.
    Goodbye,
    /// The sender has no update of a round.
    Skip,
}

/// What a sender signs. It travels as the list of its fields, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
pub struct Header {
    /// Protocol version, [`PROTOCOL_VERSION`] for this program.
    pub version: u16,
    /// Identity of the federation.
    pub federation: Genesis,
    /// What the payload is.
    pub kind: Kind,
    /// The peer that signs.
    pub sender: PeerId,
    /// Which life of the sender this is: greater in each later one ([`crate::Setup`]). So what it
    /// signed in earlier lives, and in earlier runs, is not taken for what it says now.
    pub incarnation: u64,
    /// Round of the sender when it signed.
    pub round: u64,
    /// Number of the sender's updates before this message; orders them.
    pub sequence: u64,
    /// For an update its `state_hash` (the public reconstruction after it); zeros otherwise.
    pub state: Digest,
    /// BLAKE3 of the payload.
    pub payload: Digest,
    /// For an update under a privacy guarantee: what the sender's ledger had spent by then. Whoever
    /// holds the header gives it back to a peer that comes back, whose ledger may be an older copy.
    /// Without a guarantee it is not there, and takes no byte.
    pub spent: Option<Total>,
}

#[derive(Serialize, Deserialize)]
struct Fields(
    u16,
    Genesis,
    Kind,
    PeerId,
    u64,
    u64,
    u64,
    Digest,
    Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<Total>,
);

impl From<Header> for Fields {
    fn from(header: Header) -> Fields {
        let Header {
            version,
            federation,
            kind,
            sender,
            incarnation,
            round,
            sequence,
            state,
            payload,
            spent,
        } = header;
        Fields(
            version,
            federation,
            kind,
            sender,
            incarnation,
            round,
            sequence,
            state,
            payload,
            spent,
        )
    }
}

impl From<Fields> for Header {
    fn from(fields: Fields) -> Header {
        let Fields(
            version,
            federation,
            kind,
            sender,
            incarnation,
            round,
            sequence,
            state,
            payload,
            spent,
        ) = fields;
        Header {
            version,
            federation,
            kind,
            sender,
            incarnation,
            round,
            sequence,
            state,
            payload,
            spent,
        }
    }
}

impl Header {
    /// Whether this header came without the payload that it names.
    pub(crate) fn is_without(&self, payload: &[u8]) -> bool {
        payload.is_empty() && self.payload != Digest::of(&[])
    }
}

#[derive(Serialize)]
struct Encoded<'a>(&'a Bytes, &'a Bytes, &'a Bytes);

#[derive(Deserialize)]
struct Decoded<'a>(
    #[serde(borrow)] &'a Bytes,
    #[serde(borrow)] &'a Bytes,
    #[serde(borrow)] &'a Bytes,
);

/// A message whose signature has been verified (or that we signed ourselves).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The header, decoded.
    pub header: Header,
    /// The bytes that were signed, as they travelled.
    pub header_bytes: Vec<u8>,
    /// The signature over the header's bytes, 64 bytes.
    pub signature: Vec<u8>,
    /// What the header names; empty for a header that a witness passes on.
    pub payload: Vec<u8>,
}

impl Envelope {
    /// Signs a message.
    pub fn seal(authenticator: &Authenticator, header: Header, payload: Vec<u8>) -> Envelope {
        debug_assert_eq!(
            header.payload,
            Digest::of(&payload),
            "a header names the payload it is sealed with"
        );
        let header_bytes = wire::encode(&header);
        let signature = authenticator.sign_bytes(&header_bytes);
        Envelope {
            header,
            header_bytes,
            signature,
            payload,
        }
    }

    /// The bytes that travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode(&self.payload)
    }

    /// The bytes of the header alone, which prove the claim without its body.
    pub fn header_to_bytes(&self) -> Vec<u8> {
        self.encode(&[])
    }

    fn encode(&self, payload: &[u8]) -> Vec<u8> {
        // Header and signature come first, so a header alone is the beginning of every message that
        // carries it.
        let encoded = Encoded(
            Bytes::new(&self.header_bytes),
            Bytes::new(&self.signature),
            Bytes::new(payload),
        );
        wire::encode_sized(&encoded, HEADER_BYTES_MAX + payload.len())
    }

    /// Whether only the header came.
    pub fn is_header_only(&self) -> bool {
        self.header.is_without(&self.payload)
    }

    /// Opens bytes from outside: size, version, encoding, signature, payload hash, in this order.
    ///
    /// # Errors
    /// The [`Refusal`] that names what is wrong.
    pub fn open(authenticator: &Authenticator, bytes: &[u8]) -> Result<Envelope, Refusal> {
        let Parts {
            header,
            header_bytes,
            signature,
            payload,
        } = Parts::of(authenticator, bytes, false, None)?;
        let (header_bytes, signature) = (header_bytes.to_vec(), signature.to_vec());
        Ok(Envelope {
            header,
            header_bytes,
            signature,
            payload: payload.to_vec(),
        })
    }
}

/// The parts of a verified envelope.
pub(crate) struct Parts<'a> {
    pub(crate) header: Header,
    pub(crate) header_bytes: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl<'a> Parts<'a> {
    /// See [`Envelope::open`]. `verified` says that header and signature were verified before, byte
    /// for byte. `hash` is that of the payload, if it is known.
    pub(crate) fn of(
        authenticator: &Authenticator,
        bytes: &'a [u8],
        verified: bool,
        hash: Option<Digest>,
    ) -> Result<Parts<'a>, Refusal> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(Refusal::Oversize {
                bytes: bytes.len(),
                limit: ENVELOPE_BYTES_MAX,
            });
        }
        let Decoded(header_bytes, signature, payload) = wire::decode(bytes)?;
        // Before the rest of the header, which another version spells in another way.
        if let Some(theirs) = version_of(header_bytes).filter(|theirs| *theirs != PROTOCOL_VERSION)
        {
            let ours = PROTOCOL_VERSION;
            return Err(Refusal::Version { theirs, ours });
        }
        let header: Header = wire::decode(header_bytes)?;
        if header.version != PROTOCOL_VERSION {
            return Err(Refusal::Version {
                theirs: header.version,
                ours: PROTOCOL_VERSION,
            });
        }
        // One encoding only, so that a header's size is known and two spellings of one claim are
        // not two claims.
        if !verified && wire::encode(&header) != **header_bytes {
            return Err(Refusal::Junk {
                why: "its header is not in the one encoding that headers have".into(),
            });
        }
        // One encoding around it too: a header that is passed on begins as its message does.
        let canonical = is_canonical(bytes, header_bytes, signature, payload);
        if !canonical && !planted(Mutant::AcceptAnySpelling) {
            return Err(Refusal::Junk {
                why: "it is not in the one encoding that envelopes have".into(),
            });
        }
        if signature.len() != SIGNATURE_BYTES {
            return Err(Refusal::Signature);
        }
        let proven = verified || planted(Mutant::SkipSignature);
        if !proven
            && !authenticator.verify(&header.sender, SIGNATURE_DOMAIN, header_bytes, signature)
        {
            return Err(Refusal::Signature);
        }
        if !header.is_without(payload)
            && header.payload != hash.unwrap_or_else(|| Digest::of(payload))
        {
            return Err(Refusal::PayloadHash);
        }
        Ok(Parts {
            header,
            header_bytes,
            signature,
            payload,
        })
    }

    /// What a message claims to be, with nothing verified yet: its header, the signature under it,
    /// and its payload.
    pub(crate) fn claimed(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return None;
        }
        let Decoded(header, signature, payload) = wire::decode(bytes).ok()?;
        Some((wire::decode(header).ok()?, signature, payload))
    }
}

/// The protocol version that a header begins with, in whatever version the rest is: the first
/// element of a list (RFC 8949, section 3).
fn version_of(header: &[u8]) -> Option<u16> {
    let elements = match header {
        [0x80..=0x97, elements @ ..] => elements,
        [0x98, _, elements @ ..] => elements,
        _ => return None,
    };
    match elements {
        [version @ 0..=23, ..] | [24, version, ..] => Some(u16::from(*version)),
        [25, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// The bytes of an envelope that has this header and signature and no payload.
pub(crate) fn header_alone(header: &Header, signature: &[u8]) -> Vec<u8> {
    wire::encode(&Encoded(
        Bytes::new(&wire::encode(header)),
        Bytes::new(signature),
        Bytes::new(&[]),
    ))
}

/// Whether `bytes` are the one encoding of these three parts: an array of three byte strings with
/// the shortest lengths. CBOR has others (tags, longer lengths, texts), and the decoder reads them.
fn is_canonical(bytes: &[u8], header: &[u8], signature: &[u8], payload: &[u8]) -> bool {
    const ARRAY_OF_THREE: u8 = 0x83;
    let mut rest = bytes.strip_prefix(&[ARRAY_OF_THREE]);
    for part in [header, signature, payload] {
        let (head, length) = byte_string_head(part.len());
        rest = rest.and_then(|rest| rest.strip_prefix(&head[..length])?.get(part.len()..));
    }
    rest.is_some_and(<[u8]>::is_empty)
}

/// The shortest head of a CBOR byte string of `length` bytes, and how many bytes the head has (RFC
/// 8949, section 3).
fn byte_string_head(length: usize) -> ([u8; 5], usize) {
    const MAJOR: u8 = 2 << 5;
    let [a, b, c, d] = u32::try_from(length)
        .expect("a message is bounded before it is decoded")
        .to_be_bytes();
    match length {
        0..24 => ([MAJOR | d, 0, 0, 0, 0], 1),
        24..0x100 => ([MAJOR | 24, d, 0, 0, 0], 2),
        0x100..0x1_0000 => ([MAJOR | 25, c, d, 0, 0], 3),
        _ => ([MAJOR | 26, a, b, c, d], 5),
    }
}

/// How envelopes are signed and verified.
#[derive(Clone)]
pub enum Authenticator {
    /// One ed25519 key per peer, as in every deployment.
    Ed25519(Box<SigningKey>),
    /// BLAKE3 keyed by a secret that all simulated peers share. Fast, and worth nothing outside one
    /// process; worlds that choose it say so.
    KeyedHash {
        /// The peer that signs with this.
        peer: PeerId,
        /// The secret that all peers of the simulated world share.
        secret: [u8; 32],
    },
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Authenticator({:?})", self.peer()) // never the key
    }
}

impl Authenticator {
    /// The authenticator of the peer with this ed25519 secret.
    pub fn from_secret(secret: &[u8; 32]) -> Authenticator {
        Authenticator::Ed25519(Box::new(SigningKey::from_bytes(secret)))
    }

    /// The peer that signs with this.
    pub fn peer(&self) -> PeerId {
        match self {
            Authenticator::Ed25519(key) => PeerId(key.verifying_key().to_bytes()),
            Authenticator::KeyedHash { peer, .. } => *peer,
        }
    }

    /// The signature over a header's bytes as they will travel.
    pub fn sign_bytes(&self, header: &[u8]) -> Vec<u8> {
        self.sign(SIGNATURE_DOMAIN, header)
    }

    /// The signature over something that `domain` names the kind of.
    pub fn sign(&self, domain: &[u8], what: &[u8]) -> Vec<u8> {
        match self {
            Authenticator::Ed25519(key) => key.sign(&[domain, what].concat()).to_bytes().to_vec(),
            Authenticator::KeyedHash { peer, secret } => keyed(secret, peer, domain, what),
        }
    }

    /// Whether `sender` signed this, as something of the kind that `domain` names.
    pub fn verify(&self, sender: &PeerId, domain: &[u8], what: &[u8], signature: &[u8]) -> bool {
        match self {
            Authenticator::Ed25519(_) => {
                let key = VerifyingKey::from_bytes(&sender.0);
                let signature = Signature::from_slice(signature);
                matches!((key, signature), (Ok(key), Ok(signature))
                    if key.verify_strict(&[domain, what].concat(), &signature).is_ok())
            }
            Authenticator::KeyedHash { secret, .. } => {
                signature == keyed(secret, sender, domain, what)
            }
        }
    }
}

fn keyed(secret: &[u8; 32], sender: &PeerId, domain: &[u8], what: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(domain).update(&sender.0).update(what);
    let mut signature = vec![0; SIGNATURE_BYTES];
    hasher.finalize_xof().fill(&mut signature);
    signature
}
