//! Encodings of a parameter vector for the wire, and the table that lists them.
//!
//! A codec is `stateless` (it encodes the vector itself) or works on a `replica` (it encodes the difference to the public
//! reconstruction that sender and receivers keep; see [`Form`]). Decoding takes bytes from outside: lengths are checked
//! before anything is allocated, and every value that comes out is checked by the caller for finiteness.

use kith_consensus::section::unknown;
use kith_consensus::{Section, Stream};

mod block_int8;
mod half_precision;
pub mod identity;
#[cfg(test)]
mod known_answers;
mod top_k;

/// What a codec encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The vector itself: every update stands alone.
    Stateless,
    /// The difference to the replica, which already holds what was not sent before; no second residual is kept.
    Replica,
}

/// Bytes that a codec refuses to decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

/// Encoding of vectors of a known dimension.
pub trait Codec: std::fmt::Debug + Send + Sync {
    /// Its name in [`CODECS`].
    fn name(&self) -> &'static str;

    /// What it encodes.
    fn form(&self) -> Form;

    /// Most bytes that an encoding of `dimension` values can have; a longer body is refused before it is pulled.
    fn bytes_max(&self, dimension: usize) -> usize;

    /// Encodes finite values.
    fn encode(&self, values: &[f32], random: &mut Stream) -> Vec<u8>;

    /// Decodes exactly `dimension` values.
    ///
    /// # Errors
    /// When the bytes are not an encoding of that many values.
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError>;
}

/// A codec in the table.
pub struct CodecEntry {
    /// The name in charters and on the command line.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// Reads its parameters from `[codec]`.
    pub new: fn(&mut Section<'_>) -> Box<dyn Codec>,
}

/// Every codec.
pub static CODECS: &[CodecEntry] = &[
    CodecEntry { name: "identity", help: "32-bit floats as they are", new: identity::new },
    CodecEntry { name: "f16", help: "16-bit floats: half the bytes, 11 bits of precision", new: half_precision::new },
    CodecEntry { name: "int8", help: "8-bit integers with one scale per block: a quarter of the bytes", new: block_int8::new },
    CodecEntry {
        name: "top-k",
        help: "the largest changes since the last update, by share of the values (replica codec)",
        new: top_k::new,
    },
];

/// Reads `[codec]`: its `kind`, and the parameters of that kind.
pub fn codec_from_section(section: &mut Section<'_>) -> Box<dyn Codec> {
    let names: Vec<&str> = CODECS.iter().map(|entry| entry.name).collect();
    let kind = section.text("kind", Some("identity"));
    match CODECS.iter().find(|entry| entry.name == kind) {
        Some(entry) => (entry.new)(section),
        None => {
            section.note("kind", unknown("codec", &kind, &names));
            identity::new(section)
        }
    }
}

/// Reads the key `replica`, which turns a codec that could stand alone into a replica codec.
fn form(section: &mut Section<'_>, default: Form) -> Form {
    if section.flag("replica", Some(default == Form::Replica)) { Form::Replica } else { Form::Stateless }
}
