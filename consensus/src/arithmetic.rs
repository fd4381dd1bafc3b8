//! Exponential and logarithm from operations whose bits IEEE 754 fixes. Those of the standard
//! library differ between machines in their last bits, which would let peers draw different graphs
//! or weigh the same update differently.
//!
//! Not here: sums over vectors (`aggregate/kernel.rs`).

use std::f64::consts::{LN_2, SQRT_2};

/// The natural logarithm of a positive, normal number, to about 10⁻¹⁵.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    let mut exponent = (bits >> 52) as i64 - 1023;
    if mantissa > SQRT_2 {
        (mantissa, exponent) = (mantissa / 2.0, exponent + 1);
    }
    // ln m = 2 artanh s with s = (m − 1) / (m + 1), |s| < 0.172: twelve terms leave 10⁻²⁰.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..12).rev().fold(0.0, |sum, term| {
        sum * square + 1.0 / f64::from(2 * term + 1)
    });
    exponent as f64 * LN_2 + 2.0 * s * series
}

/// eˣ, to about 10⁻¹⁵ of its value; 0 below −700, infinite above 700.
pub(crate) fn exp(x: f64) -> f64 {
    if x.abs() > 700.0 {
        return if x > 0.0 { f64::INFINITY } else { 0.0 };
    }
    // e^x = 2^k · e^r with |r| < 0.35: sixteen terms leave 10⁻²¹.
    let k = (x / LN_2).round();
    let r = x - k * LN_2;
    let series = (1..=16)
        .rev()
        .fold(1.0, |sum, term| 1.0 + sum * r / f64::from(term));
    series * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

/// `base` (positive, normal) to the power `exponent`.
pub(crate) fn power(base: f64, exponent: f64) -> f64 {
    exp(exponent * ln(base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    #[test]
    fn they_are_what_they_are_called() {
        let mut stream = Seed::from_number(1).stream("arithmetic");
        for _ in 0..10_000 {
            let x = (1.0 - stream.unit()) * 2f64.powi(stream.bounded(120) as i32 - 60);
            assert!(
                (ln(x) - x.ln()).abs() <= 1e-14 * x.ln().abs().max(1.0),
                "ln {x}"
            );
            let y = 1000.0 * stream.unit() - 500.0;
            assert!((exp(y) / y.exp() - 1.0).abs() <= 1e-13, "exp {y}");
        }
        assert_eq!(
            (ln(1.0), exp(0.0), exp(-800.0), exp(800.0)),
            (0.0, 1.0, 0.0, f64::INFINITY)
        );
        assert!(ln(1.0 - f64::EPSILON / 2.0) < 0.0);
        assert!((power(9.0, -0.5) - 1.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn their_bits_never_change() {
        // If this fails, peers of two versions can draw different graphs.
        let bits = [ln(0.1), ln(3.0), exp(-0.3), exp(7.7)].map(f64::to_bits);
        assert_eq!(
            crate::identity::Digest::of(&bits.map(u64::to_le_bytes).concat()).short(),
            "4bc5b476"
        );
    }
}
