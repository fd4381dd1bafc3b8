//! A message as it travels, and what became of opening it.
//!
//! A [`Packet`] is cheap to clone, and its clones share one answer to the question whether the
//! bytes are well-formed, signed and whole. A node opens each received message once. If a thousand
//! peers live in one process, the first receiver opens a message for all of them. It also
//! reconstructs the update's vector and lends it to the others, for as long as somebody holds it.
//! No bit depends on that: the answer is a function of the bytes, of the public key named in them,
//! and, for keyed hashes, of the one secret that all peers of a process share. The peer that seals
//! a message leaves in it what it had to compute anyway. That is the hash of the payload, and the
//! vector whose hash is the state in the header and whose encoding is the body. A receiver then
//! compares bits instead of hashing them again, and takes the vector if the encoding is exact.

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use kith_consensus::{Digest, PeerId};
use serde_bytes::Bytes;

use crate::Parameters;
use crate::envelope::{
    Authenticator, Envelope, HEADER_BYTES_MAX, Header, Kind, Parts, SIGNATURE_BYTES, header_alone,
};
use crate::message::{Announcement, Body, Hello};
use crate::refusal::Refusal;
use crate::wire;

/// The bytes of a message. Equal bytes are equal packets.
#[derive(Clone)]
pub struct Packet(Arc<Inner>);

struct Inner {
    bytes: Vec<u8>,
    /// The hash of the payload, if it was sealed in this process.
    payload: Option<Digest>,
    /// The vector whose hash is the header's state, as long as the peer that computed it holds it.
    stated: Shelf,
    opened: OnceLock<Result<Contents, Box<Refusal>>>,
    name: OnceLock<Digest>,
}

/// What verified bytes hold.
struct Contents {
    header: Header,
    signature: [u8; SIGNATURE_BYTES],
    payload: Range<usize>,
    is_header_only: bool,
    /// What its payload announces, with the place of an inline body, decoded when first asked for.
    announcement: OnceLock<Result<Announced, Refusal>>,
    /// The header without its payload, made when first asked for.
    header_alone: OnceLock<Packet>,
    /// The vector that somebody reconstructed from an update.
    vector: Shelf,
}

impl Packet {
    /// Signs a message whose header names this payload.
    pub(crate) fn seal(authenticator: &Authenticator, header: Header, payload: Vec<u8>) -> Packet {
        let digest = header.payload;
        Packet::new(
            Envelope::seal(authenticator, header, payload).to_bytes(),
            Some(digest),
        )
    }

    fn new(bytes: Vec<u8>, payload: Option<Digest>) -> Packet {
        Packet(Arc::new(Inner {
            bytes,
            payload,
            stated: Mutex::default(),
            opened: OnceLock::new(),
            name: OnceLock::new(),
        }))
    }

    /// Opens the bytes: size, version, encoding, signature, payload hash, in this order. `verified`
    /// says that header and signature were verified before, byte for byte.
    ///
    /// # Errors
    /// The [`Refusal`] that names what is wrong.
    pub(crate) fn open(
        &self,
        authenticator: &Authenticator,
        verified: bool,
    ) -> Result<Opened<'_>, Refusal> {
        let opened = self.0.opened.get_or_init(|| {
            let Parts {
                header,
                signature,
                payload,
                ..
            } = Parts::of(authenticator, self, verified, self.0.payload)?;
            let is_header_only = header.is_without(payload);
            Ok(Contents {
                header,
                signature: *signature
                    .first_chunk()
                    .expect("a signature that was verified has its length"),
                payload: self.place_of(payload),
                is_header_only,
                announcement: OnceLock::new(),
                header_alone: OnceLock::new(),
                vector: Mutex::default(),
            })
        });
        let contents = opened.as_ref().map_err(|refusal| (**refusal).clone())?;
        Ok(Opened {
            packet: self,
            contents,
            header: &contents.header,
        })
    }

    /// The range of a part within the packet.
    ///
    /// # Panics
    /// When `part` is not part of the packet.
    pub(crate) fn place_of(&self, part: &[u8]) -> Range<usize> {
        let start = (part.as_ptr() as usize)
            .checked_sub(self.as_ptr() as usize)
            .expect("a part lies in its packet");
        assert!(
            start + part.len() <= self.len(),
            "a part lies in its packet"
        );
        start..start + part.len()
    }

    /// Whether somebody in this process has opened it and found it valid.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.0.opened.get(), Some(Ok(_)))
    }

    /// The name that tells messages apart: the hash of their beginning, where a signed header names
    /// the payload by its hash.
    pub fn name(&self) -> Digest {
        *self
            .0
            .name
            .get_or_init(|| Digest::of(&self[..self.len().min(HEADER_BYTES_MAX)]))
    }

    /// The header that the bytes begin with, as they say it: nothing is verified.
    pub fn claimed_header(&self) -> Option<Header> {
        Some(Parts::claimed(self)?.0)
    }

    /// The sender of a handshake that says that it has heard none, as the bytes say it: nothing is
    /// verified.
    pub fn asks_for_answer(&self) -> Option<PeerId> {
        let (header, _, payload) = Parts::claimed(self)?;
        let asks = header.kind == Kind::Hello && !Hello::decode(payload).ok()?.answered;
        asks.then_some(header.sender)
    }

    /// Whether both are one and the same in memory.
    pub fn is(&self, other: &Packet) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A packet whose signature and payload have been verified.
#[derive(Clone, Copy)]
pub(crate) struct Opened<'a> {
    packet: &'a Packet,
    contents: &'a Contents,
    /// The verified header.
    pub(crate) header: &'a Header,
}

impl<'a> Opened<'a> {
    /// What the header names; empty for a header that a witness passes on.
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.packet[self.contents.payload.clone()]
    }

    /// The signature of the header.
    pub(crate) fn signature(&self) -> &'a [u8; SIGNATURE_BYTES] {
        &self.contents.signature
    }

    pub(crate) fn packet(&self) -> &'a Packet {
        self.packet
    }

    /// The payload as an announcement, of which nothing is checked yet.
    ///
    /// # Errors
    /// When the payload is no announcement.
    pub(crate) fn announcement(&self) -> Result<Announcement<'a>, Refusal> {
        let decoded = self.contents.announcement.get_or_init(|| {
            let announcement: Announcement<'_> = wire::decode(self.payload())?;
            let (body, place) = match announcement.body {
                Body::Inline(inline) => (
                    Body::Inline(Bytes::new(&[])),
                    Some(self.packet.place_of(inline)),
                ),
                Body::Pulled(digest, length) => (Body::Pulled(digest, length), None),
            };
            Ok((
                Announcement {
                    body,
                    ..announcement
                },
                place,
            ))
        });
        let (announcement, place) = decoded.as_ref().map_err(Refusal::clone)?;
        let body = place.clone().map_or(announcement.body, |place| {
            Body::Inline(Bytes::new(&self.packet[place]))
        });
        Ok(Announcement {
            body,
            ..announcement.clone()
        })
    }

    /// Whether only the header came.
    pub(crate) fn is_header_only(&self) -> bool {
        self.contents.is_header_only
    }

    /// The header alone, which proves the claim without its body.
    pub(crate) fn header_alone(&self) -> Packet {
        if self.is_header_only() {
            return self.packet.clone();
        }
        self.contents
            .header_alone
            .get_or_init(|| header_alone(self.header, self.signature()).into())
            .clone()
    }
}

/// An announcement without its body, and where in the packet that is, if it is.
type Announced = (Announcement<'static>, Option<Range<usize>>);

type Shelf = Mutex<Weak<Vec<f32>>>;

/// Lends `vector` for as long as somebody holds it.
fn lend(shelf: &Shelf, vector: &Parameters) {
    *shelf.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(vector);
}

fn borrow(shelf: &Shelf) -> Option<Parameters> {
    shelf
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .upgrade()
}

// What an update leads to, lent among the peers of a process.
impl Packet {
    /// The vector whose hash is the header's state, from the peer that computed it.
    pub(crate) fn stated(&self) -> Option<Parameters> {
        borrow(&self.0.stated)
    }

    /// Lends the vector whose hash is the header's state and whose encoding is the body. Only the
    /// peer that encoded it may do that.
    pub(crate) fn state(&self, vector: &Parameters) {
        lend(&self.0.stated, vector);
    }

    /// The vector that a receiver reconstructed from this update and still holds, checked and its
    /// `state_hash` verified.
    pub(crate) fn led_to(&self) -> Option<Parameters> {
        borrow(&self.0.opened.get()?.as_ref().ok()?.vector)
    }

    /// Lends the vector that was reconstructed from this update.
    pub(crate) fn leads_to(&self, vector: &Parameters) {
        if let Some(Ok(contents)) = self.0.opened.get() {
            lend(&contents.vector, vector);
        }
    }
}

impl From<Vec<u8>> for Packet {
    fn from(bytes: Vec<u8>) -> Packet {
        Packet::new(bytes, None)
    }
}

impl Deref for Packet {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl PartialEq for Packet {
    fn eq(&self, other: &Packet) -> bool {
        self.is(other) || **self == **other
    }
}

impl Eq for Packet {}

impl std::fmt::Debug for Packet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Packet({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Kind, PROTOCOL_VERSION};
    use kith_consensus::Genesis;

    /// The values that the sealer leaves in a packet save hashing its own bytes, and nobody else's.
    #[test]
    fn bytes_that_came_another_way_are_hashed_whatever_the_sealer_knew() {
        let authenticator = Authenticator::from_secret(&[1; 32]);
        let payload = vec![7; 300];
        let hash = Digest::of(&payload);
        let header = Header {
            version: PROTOCOL_VERSION,
            federation: Genesis::default(),
            kind: Kind::Update,
            sender: authenticator.peer(),
            incarnation: 1,
            round: 3,
            sequence: 3,
            state: Digest::of(b"state"),
            payload: hash,
            spent: None,
        };
        let sealed = Packet::seal(&authenticator, header, payload);
        assert_eq!(
            sealed.open(&authenticator, false).unwrap().payload(),
            [7; 300]
        );
        let copy = Packet::from(sealed.to_vec());
        assert_eq!(
            copy.open(&authenticator, false).unwrap().payload(),
            [7; 300]
        );
        let mut wrong = sealed.to_vec();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(matches!(
            Packet::from(wrong).open(&authenticator, false),
            Err(Refusal::PayloadHash)
        ));
        let short = Packet::from(sealed[..sealed.len() - 1].to_vec());
        assert!(matches!(
            short.open(&authenticator, false),
            Err(Refusal::Junk { .. })
        ));
    }
}
