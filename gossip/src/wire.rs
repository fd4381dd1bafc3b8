//! The one place where bytes from outside become values: CBOR, bounded before it is decoded.
//!
//! Every caller has checked the length already; nesting is bounded by the types themselves (none is recursive) and by the
//! decoder's own depth limit. Tensors travel as byte strings, never as CBOR arrays.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::Refusal;

/// Encodes a value of ours.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("messages hold only structs, enums, vectors, ordered maps and byte strings")
}

/// Decodes bytes from outside.
///
/// # Errors
/// [`Refusal::Junk`] when they are not exactly one value of this type.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_cbor::from_slice(bytes).map_err(|error| Refusal::Junk { why: error.to_string() })
}
