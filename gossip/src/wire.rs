//! The one place where bytes from outside become values: CBOR, bounded before it is decoded.
//!
//! Every caller has checked the length already; nesting is bounded by the types themselves (none is recursive) and by the
//! decoder's own depth limit. Tensors travel as byte strings, never as CBOR arrays.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::Refusal;

/// Most characters of a decoder's message that go into events and logs.
const WHY_CHARACTERS_MAX: usize = 120;

/// Encodes a value of ours.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("messages hold only structs, enums, vectors, ordered maps and byte strings")
}

/// Decodes bytes from outside.
///
/// # Errors
/// [`Refusal::Junk`] when they are not exactly one value of this type.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_cbor::from_slice(bytes).map_err(|error| {
        // The decoder quotes what it was given, and that comes from outside.
        let why = error.to_string().chars().filter(|character| !character.is_control()).take(WHY_CHARACTERS_MAX).collect();
        Refusal::Junk { why }
    })
}
