//! Encodings of a parameter vector for the wire, and the table that lists them.
//!
//! A codec is `stateless` (it encodes the vector itself) or works on a `replica` (it encodes the
//! difference to the public reconstruction that sender and receivers keep; see [`Form`]). Decoding
//! takes bytes from outside: lengths are checked before anything is allocated, and every value that
//! comes out is checked by the caller for finiteness.

use kith_consensus::registry::{Entry, Registry};
use kith_consensus::{Section, Stream};

mod bfloat16;
mod bits;
mod block_int;
mod half_precision;
pub mod identity;
mod kept_values;
#[cfg(test)]
mod known_answers;
mod positions;
mod power_sgd;
mod qsgd;
mod random_k;
mod sign;
mod sums;
mod top_k;

/// What a codec encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The vector itself: every update stands alone.
    Stateless,
    /// The difference to the replica, which already holds the values left unsent before. No second
    /// residual is kept.
    Replica,
}

/// Bytes that a codec refuses to decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

/// Random streams for encoding. Decoding needs nothing but the bytes.
#[derive(Clone, Debug)]
pub struct Randomness {
    /// The peer's own stream: no other peer draws the same numbers.
    pub own: Stream,
    /// The same stream for all peers of a round, so that they can choose the same places.
    pub shared: Stream,
}

/// A matrix of the model inside its vector, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorShape {
    /// Position of its first value in the vector.
    pub offset: usize,
    /// Number of rows of the matrix.
    pub rows: usize,
    /// Number of columns; a row's values lie next to each other.
    pub columns: usize,
}

impl From<[usize; 3]> for TensorShape {
    /// From offset, rows and columns.
    fn from([offset, rows, columns]: [usize; 3]) -> TensorShape {
        TensorShape {
            offset,
            rows,
            columns,
        }
    }
}

impl TensorShape {
    /// Position of the first value after it.
    pub fn end(&self) -> usize {
        self.offset + self.rows * self.columns
    }
}

/// Encoding of vectors of a known dimension.
pub trait Codec: std::fmt::Debug + Send + Sync {
    /// Its name in [`CODECS`].
    fn name(&self) -> &'static str;

    /// What it encodes.
    fn form(&self) -> Form;

    /// Says which matrices the vector holds, before anything is encoded or decoded. Most codecs
    /// ignore it.
    fn shape(&mut self, _tensors: &[TensorShape]) {}

    /// Most bytes that an encoding of `dimension` values can have; a longer body is refused before
    /// it is pulled.
    fn bytes_max(&self, dimension: usize) -> usize;

    /// Whether an encoding is the values unchanged ([`identity::to_bytes`]), not added to anything.
    fn is_exact(&self) -> bool {
        false
    }

    /// Encodes finite values.
    fn encode(&self, values: &[f32], random: &mut Randomness) -> Vec<u8>;

    /// Decodes exactly `dimension` values.
    ///
    /// # Errors
    /// When the bytes are not an encoding of that many values.
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError>;
}

/// Reads a codec's keys and builds it.
pub type NewCodec = fn(&mut Section<'_>) -> Box<dyn Codec>;

/// A codec in the table; `new` reads its keys of `[codec]`.
pub type CodecEntry = Entry<NewCodec>;

/// Every codec.
pub static CODECS: Registry<NewCodec> = Registry::new(
    "codec",
    &[
        CodecEntry {
            name: "identity",
            help: "32-bit floats as they are",
            source: "IEEE 754, binary32",
            main_key: None,
            new: identity::new,
        },
        CodecEntry {
            name: "f16",
            help: "16-bit floats: half the bytes, 11 bits of precision",
            source: "IEEE 754, binary16",
            main_key: None,
            new: half_precision::new,
        },
        CodecEntry {
            name: "bf16",
            help: "the upper half of 32-bit floats: half the bytes, their whole range",
            source: "as in Kalamkar et al. 2019, arXiv 1905.12322",
            main_key: None,
            new: bfloat16::new,
        },
        CodecEntry {
            name: "int8",
            help: "8-bit integers with one scale per block: a quarter of the bytes",
            source: "blocks of Dettmers et al. 2022, arXiv 2110.02861, with levels evenly spaced",
            main_key: Some("block"),
            new: block_int::int8,
        },
        CodecEntry {
            name: "int4",
            help: "4-bit integers with one scale per block: an eighth of the bytes",
            source: "blocks of Dettmers et al. 2022, arXiv 2110.02861, with levels evenly spaced",
            main_key: Some("block"),
            new: block_int::int4,
        },
        CodecEntry {
            name: "qsgd",
            help: "levels of the vector's norm, rounded at random: unbiased",
            source: "Alistarh et al. 2017, arXiv 1610.02132",
            main_key: Some("levels"),
            new: qsgd::new,
        },
        CodecEntry {
            name: "sign",
            help: "one bit a value times the mean magnitude (replica codec)",
            source: "Karimireddy et al. 2019, arXiv 1901.09847",
            main_key: None,
            new: sign::new,
        },
        CodecEntry {
            name: "top-k",
            help: "the largest changes since the last update, by share of the values (replica codec)",
            source: "Stich, Cordonnier and Jaggi 2018, arXiv 1809.07599; replica: Koloskova, Stich and Jaggi 2019, arXiv 1902.00340",
            main_key: Some("share"),
            new: top_k::new,
        },
        CodecEntry {
            name: "random-k",
            help: "changes at places drawn at random, the same at all peers of a round (replica codec)",
            source: "Stich, Cordonnier and Jaggi 2018, arXiv 1809.07599; the shared draw is our own",
            main_key: Some("share"),
            new: random_k::new,
        },
        CodecEntry {
            name: "power-sgd",
            help: "every matrix as a product of two thin ones (replica codec)",
            source: "Vogels, Karimireddy and Jaggi 2019, arXiv 1905.13727",
            main_key: Some("rank"),
            new: power_sgd::new,
        },
    ],
);

/// Reads `[codec]`: its `kind`, and the parameters of that kind.
pub fn codec_from_section(section: &mut Section<'_>) -> Box<dyn Codec> {
    let entry = CODECS
        .choose(section, "kind", Some("identity"))
        .unwrap_or(&CODECS[0]);
    (entry.new)(section)
}

/// Reads the key `replica`, which turns a codec that could stand alone into a replica codec.
fn form(section: &mut Section<'_>, default: Form) -> Form {
    if section.flag("replica", Some(default == Form::Replica)) {
        Form::Replica
    } else {
        Form::Stateless
    }
}

/// How many of `dimension` values a share keeps: at least one, if there is one.
fn kept(share: f64, dimension: usize) -> usize {
    ((share * dimension as f64).ceil() as usize).clamp(1.min(dimension), dimension)
}

/// [`Stream::unit`] of a word already drawn, on a grid of 2⁻⁵²: a form that is computed for several
/// values at a time.
fn unit_of(word: u64) -> f64 {
    f64::from_bits(1f64.to_bits() | word >> 12) - 1.0
}
