//! `identity`: little-endian 32-bit floats. Payload 4d bytes; exact.

use kith_consensus::Section;

use super::{Codec, CodecError, Form, Randomness, form};

#[derive(Debug)]
struct Identity {
    form: Form,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    Box::new(Identity {
        form: form(section, Form::Stateless),
    })
}

/// The codec that stands alone.
pub(super) fn plain() -> Box<dyn Codec> {
    Box::new(Identity {
        form: Form::Stateless,
    })
}

/// Values as little-endian bytes: how parameters are written wherever they are written whole.
pub fn to_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 4];
    bytes
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(values)
        .for_each(|(word, value)| *word = value.to_le_bytes());
    bytes
}

/// The inverse of [`to_bytes`].
///
/// # Errors
/// When the length is not `4 · dimension`.
pub fn from_bytes(bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
    if bytes.len() != dimension * 4 {
        return Err(CodecError(format!(
            "{} bytes where {dimension} values take {}",
            bytes.len(),
            dimension * 4
        )));
    }
    Ok(bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| f32::from_le_bytes(*word))
        .collect())
}

impl Codec for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }
    fn form(&self) -> Form {
        self.form
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        dimension * 4
    }
    fn is_exact(&self) -> bool {
        self.form == Form::Stateless
    }
    fn encode(&self, values: &[f32], _random: &mut Randomness) -> Vec<u8> {
        to_bytes(values)
    }
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        from_bytes(bytes, dimension)
    }
}
