//! How the values that a sparse codec keeps are written: key `values` of `top-k` and `random-k`,
//! itself a codec that stands alone.
//!
//! `f32` as they are; `f16` as half floats, clamped to the largest; `int8` and `int4` as integers
//! from −127 to 127 or −7 to 7 times one 32-bit scale, rounded to nearest; `sign` as one bit each,
//! times the mean of their magnitudes. In a replica codec, rounding errors stay in the difference
//! and are sent later.
//!
//! Paper of `top-k` with `sign`, there with a residual in place of the replica: Sattler, Wiedemann,
//! Müller, Samek, "Robust and Communication-Efficient Federated Learning from Non-IID Data" (IEEE
//! TNNLS 2020, arXiv 1903.02891), sparse ternary compression.

use kith_consensus::Section;

use super::block_int::{self, Width};
use super::{Codec, half_precision, identity, sign};

type Plain = fn() -> Box<dyn Codec>;

const VALUES: [(&str, Plain); 5] = [
    ("f32", identity::plain),
    ("f16", half_precision::plain),
    ("int8", || block_int::one_block(Width::Bits8)),
    ("int4", || block_int::one_block(Width::Bits4)),
    ("sign", sign::plain),
];

/// Reads the key `values`. Of the codec that it names, `bytes_max` is exact.
pub(super) fn from_section(section: &mut Section<'_>) -> Box<dyn Codec> {
    let name = section.choice("values", Some("f32"), &VALUES.map(|(name, _)| name));
    let named = VALUES.iter().find(|(known, _)| *known == name);
    named.map_or_else(identity::plain, |(_, new)| new())
}
