//! A message as it travels, and what became of opening it.
//!
//! A [`Packet`] is cheap to clone, and its clones share one answer to the question whether the bytes are well-formed, signed and
//! whole. A node asks once for what it receives. Where a thousand peers live in one process, a message that reaches many is
//! opened by the first of them, and the vector that an update leads to is reconstructed by the first and lent to the others for as
//! long as somebody holds it. No bit depends on that: the answer is a function of the bytes, of the public key named in them, and, for
//! keyed hashes, of the one secret that all peers of a process share.

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use kith_consensus::Digest;

use crate::effect::Parameters;
use crate::envelope::{Authenticator, HEADER_BYTES_MAX, Header, Parts};
use crate::event::Refusal;

/// The bytes of a message. Equal bytes are equal packets.
#[derive(Clone)]
pub struct Packet(Arc<Inner>);

struct Inner {
    bytes: Vec<u8>,
    opened: OnceLock<Result<Contents, Refusal>>,
    name: OnceLock<Digest>,
}

/// What verified bytes hold.
struct Contents {
    header: Header,
    /// Where header and signature end, with which every message that carries them begins.
    front: usize,
    payload: Range<usize>,
    is_header_only: bool,
    /// The header without its payload, made when first asked for.
    header_alone: OnceLock<Packet>,
    /// The vector that an update has led somebody to.
    vector: Mutex<Weak<Vec<f32>>>,
}

impl Packet {
    /// Opens the bytes: size, encoding, version, signature, payload hash, in this order. `verified` tells that header and signature
    /// were verified before, byte for byte.
    ///
    /// # Errors
    /// The [`Refusal`] that names what is wrong.
    pub(crate) fn open(&self, authenticator: &Authenticator, verified: bool) -> Result<Opened<'_>, Refusal> {
        let opened = self.0.opened.get_or_init(|| {
            let Parts { header, signature, payload, .. } = Parts::of(authenticator, self, verified)?;
            let (front, is_header_only) = (self.place_of(signature).end, header.is_without(payload));
            let (header_alone, vector) = (OnceLock::new(), Mutex::default());
            Ok(Contents { header, front, payload: self.place_of(payload), is_header_only, header_alone, vector })
        });
        let contents = opened.as_ref().map_err(Refusal::clone)?;
        Ok(Opened { packet: self, contents, header: &contents.header })
    }

    /// Where in the packet a part of it is.
    ///
    /// # Panics
    /// When `part` is none.
    pub(crate) fn place_of(&self, part: &[u8]) -> Range<usize> {
        let start = (part.as_ptr() as usize).checked_sub(self.as_ptr() as usize).expect("a part lies in its packet");
        assert!(start + part.len() <= self.len(), "a part lies in its packet");
        start..start + part.len()
    }

    /// Whether somebody in this process has opened it, and it was as it should be.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.0.opened.get(), Some(Ok(_)))
    }

    /// What tells messages apart: the hash of their beginning, where a signed header names the payload by its hash.
    pub fn name(&self) -> Digest {
        *self.0.name.get_or_init(|| Digest::of(&self[..self.len().min(HEADER_BYTES_MAX)]))
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
    /// What was signed.
    pub(crate) header: &'a Header,
}

impl<'a> Opened<'a> {
    /// What the header names; empty for a header that a witness passes on.
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.packet[self.contents.payload.clone()]
    }

    pub(crate) fn packet(&self) -> &'a Packet {
        self.packet
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
        self.contents.header_alone.get_or_init(|| Parts::header_alone(&self.packet[..self.contents.front]).into()).clone()
    }
}

// What an update led to, lent among the peers of a process.
impl Packet {
    fn vector(&self) -> Option<&Mutex<Weak<Vec<f32>>>> {
        self.0.opened.get()?.as_ref().ok().map(|contents| &contents.vector)
    }

    /// The vector that this update has led somebody to who still holds it, its `state_hash` verified.
    pub(crate) fn borrow_vector(&self) -> Option<Parameters> {
        self.vector()?.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Lends the vector that this update led to.
    pub(crate) fn lend_vector(&self, vector: &Parameters) {
        if let Some(shelf) = self.vector() {
            *shelf.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(vector);
        }
    }
}

impl From<Vec<u8>> for Packet {
    fn from(bytes: Vec<u8>) -> Packet {
        Packet(Arc::new(Inner { bytes, opened: OnceLock::new(), name: OnceLock::new() }))
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
