//! The one place where bytes from outside become values: CBOR, bounded before it is decoded.
//!
//! Every caller has checked the length already; nesting is bounded by the types themselves (none is
//! recursive) and by the decoder's own depth limit. Tensors travel as byte strings, never as CBOR
//! arrays. Fields and variants travel as their numbers in the order in which a type names them, not
//! as words: an update's envelope is a large part of a small update.

use serde::Deserialize;
use serde::Serialize;
use serde_cbor::ser::IoWrite;

use crate::refusal::Refusal;

/// Most characters of a decoder's message that go into events and logs.
const WHY_CHARACTERS_MAX: usize = 120;

/// Encodes a value of ours.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_sized(value, 256)
}

/// Encodes a value of ours that takes about `bytes` bytes, without growing the memory for it step
/// by step.
pub(crate) fn encode_sized<T: Serialize>(value: &T, bytes: usize) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bytes);
    // "Legacy" enums are arrays; in the other form of this encoder, a word names a variant with a
    // value.
    let mut serializer = serde_cbor::Serializer::new(IoWrite::new(&mut encoded))
        .packed_format()
        .legacy_enums();
    value
        .serialize(&mut serializer)
        .expect("messages hold only structs, enums, vectors, ordered maps and byte strings");
    encoded
}

/// Decodes bytes from outside.
///
/// # Errors
/// [`Refusal::Junk`] when they are not exactly one value of this type.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Refusal> {
    serde_cbor::from_slice(bytes).map_err(|error| {
        // The decoder quotes its input, and that comes from outside.
        let why = error
            .to_string()
            .chars()
            .filter(|character| !character.is_control())
            .take(WHY_CHARACTERS_MAX)
            .collect();
        Refusal::Junk { why }
    })
}
