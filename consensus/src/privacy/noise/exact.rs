//! Normal numbers in twice the precision of f64, for values that lie so near a border of the grid
//! that f64 cannot tell on which side.
//!
//! A number is a sum of two f64 of which the second is below half a unit in the last place of the
//! first (Dekker 1971, doi 10.1007/BF01397083); series are Taylor's, added until a term no longer
//! counts. Slow, some microseconds, and used for one value in 500 million.

use std::ops::{Add, Mul, Sub};

/// The random bits of a pair of normal numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uniform {
    /// High and low half of 128 bits: the distance from 0.
    pub(super) distance: [u64; 2],
    /// The direction.
    pub(super) angle: u64,
}

/// Which normal number of a pair.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    Cosine,
    Sine,
}

/// ⌊fraction + N·cells + ½⌋ for the normal number N of these bits.
pub(super) fn cell(uniform: Uniform, half: Half, cells: f64, fraction: f64) -> f64 {
    let place =
        normal(uniform, half) * Double::from(cells) + Double::from(fraction) + Double::from(0.5);
    place.floor()
}

fn normal(uniform: Uniform, half: Half) -> Double {
    const SCALE: f64 = 1.0 / (1u128 << 64) as f64;
    let [high, low] = uniform.distance.map(Double::from);
    let all = (high + (low + Double::from(0.5)) * Double::from(SCALE)) * Double::from(SCALE);
    let distance = (ln(all) * Double::from(-2.0)).root();
    let (quarter, x) = quarter(uniform.angle);
    let x = Double::from(x) * Double::from(1.0 / (1u64 << 62) as f64) * HALF_PI;
    // cos(x + quarter·π/2), or the sine, which is the cosine a quarter earlier.
    let turns = match half {
        Half::Cosine => quarter,
        Half::Sine => quarter.wrapping_sub(1),
    };
    let direction = match turns % 4 {
        0 => series(x, 0),
        1 => series(x, 1) * Double::from(-1.0),
        2 => series(x, 0) * Double::from(-1.0),
        _ => series(x, 1),
    };
    distance * direction
}

/// The nearest quarter turn of an angle in 2⁶⁴ths of a turn, and what is left, in −2⁶¹ to 2⁶¹.
#[inline(always)]
pub(super) fn quarter(angle: u64) -> (u64, i64) {
    let quarter = angle.wrapping_add(1 << 61) >> 62;
    (quarter, angle.wrapping_sub(quarter << 62) as i64)
}

/// The cosine's series from term 0, or the sine's from term 1, for |x| ≤ π/4.
fn series(x: Double, first: u32) -> Double {
    let square = x * x;
    let mut term = if first == 0 { Double::from(1.0) } else { x };
    let mut sum = term;
    for place in (first + 1..first + 31).step_by(2) {
        let divisor = Double::from(-f64::from(place * (place + 1)));
        term = (term * square).over(divisor);
        sum = sum + term;
    }
    sum
}

/// ln x for x in (0, 1): Newton's step from the logarithm in f64.
fn ln(x: Double) -> Double {
    let first = libm::log(x.high);
    // x·e^(−first) − 1 is some 10⁻¹⁶, and its square below what counts.
    let rest = x * exp(Double::from(-first)) - Double::from(1.0);
    Double::from(first) + rest
}

/// eˣ for x in 0 to 100.
fn exp(x: Double) -> Double {
    let powers = (x.high * std::f64::consts::LOG2_E).round();
    let x = x - LN_2 * Double::from(powers);
    let (mut term, mut sum) = (Double::from(1.0), Double::from(1.0));
    for place in 1..30 {
        term = (term * x).over(Double::from(f64::from(place)));
        sum = sum + term;
    }
    sum * Double::from(libm::exp2(powers))
}

/// A number as the sum of two.
#[derive(Clone, Copy, Debug)]
struct Double {
    high: f64,
    low: f64,
}

const LN_2: Double = Double {
    high: std::f64::consts::LN_2,
    low: 2.319_046_813_846_3e-17,
};

const HALF_PI: Double = Double {
    high: std::f64::consts::FRAC_PI_2,
    low: 6.123_233_995_736_766e-17,
};

impl Double {
    /// The exact sum of two numbers, of which the second may be as large.
    fn sum(a: f64, b: f64) -> Double {
        let high = a + b;
        let of_b = high - a;
        Double {
            high,
            low: (a - (high - of_b)) + (b - of_b),
        }
    }

    /// This over another.
    fn over(self, other: Double) -> Double {
        let first = self.high / other.high;
        let rest = self - other * Double::from(first);
        Double::sum(first, rest.high / other.high)
    }

    fn root(self) -> Double {
        let first = self.high.sqrt();
        let rest = self - Double::from(first) * Double::from(first);
        Double::sum(first, rest.high / (2.0 * first))
    }

    fn floor(self) -> f64 {
        let whole = self.high.floor();
        if whole == self.high && self.low < 0.0 {
            whole - 1.0
        } else {
            whole
        }
    }
}

impl From<f64> for Double {
    fn from(high: f64) -> Double {
        Double { high, low: 0.0 }
    }
}

impl From<u64> for Double {
    fn from(number: u64) -> Double {
        let low = number & 0xffff_ffff;
        Double::sum((number - low) as f64, low as f64)
    }
}

impl From<i64> for Double {
    fn from(number: i64) -> Double {
        let low = number & 0xffff_ffff;
        Double::sum((number - low) as f64, low as f64)
    }
}

impl Add for Double {
    type Output = Double;

    fn add(self, other: Double) -> Double {
        let (high, low) = (
            Double::sum(self.high, other.high),
            Double::sum(self.low, other.low),
        );
        let all = Double::sum(high.high, high.low + low.high);
        Double::sum(all.high, all.low + low.low)
    }
}

impl Sub for Double {
    type Output = Double;

    fn sub(self, other: Double) -> Double {
        self + Double {
            high: -other.high,
            low: -other.low,
        }
    }
}

impl Mul for Double {
    type Output = Double;

    fn mul(self, other: Double) -> Double {
        let high = self.high * other.high;
        let lost = self.high.mul_add(other.high, -high);
        Double::sum(high, lost + (self.high * other.low + self.low * other.high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with 60 decimal digits: bits, then both normal numbers as sums of two f64.
    #[test]
    fn normal_numbers_have_thirty_digits() {
        let cases = [
            (
                [
                    0x0123_4567_89ab_cdef,
                    0xfedc_ba98_7654_3210,
                    0x1122_3344_5566_7788,
                ],
                [
                    (3.0044860047357127, 7.877516440282124e-17),
                    (1.3436013738293344, -4.3101678299979733e-17),
                ],
            ),
            (
                [
                    0xffff_ffff_fff0_0001,
                    0x8000_0000_0000_0001,
                    0x9abc_def0_1234_5678,
                ],
                [
                    (-2.671399066647577e-07, -2.6100494746029057e-23),
                    (-2.0572541252465124e-07, -7.826572810427663e-24),
                ],
            ),
            (
                [0x7fff_ffff_ffff_ffff, 0x3, 0xdead_beef_cafe_babe],
                [
                    (0.805122083429012, -2.5480475273608135e-17),
                    (-0.8591116294724555, -3.2460574363626064e-17),
                ],
            ),
            (
                [0x5, 0x7, 0x5000_0000_0000_0001],
                [
                    (-3.5386106757016607, 1.196199030080282e-16),
                    (8.54296188523717, 1.4532881294550466e-16),
                ],
            ),
        ];
        for ([high, low, angle], expected) in cases {
            let uniform = Uniform {
                distance: [high, low],
                angle,
            };
            for (half, (high, low)) in [Half::Cosine, Half::Sine].into_iter().zip(expected) {
                let found = normal(uniform, half);
                let error = (found.high - high) + (found.low - low);
                assert!(
                    error.abs() < 1e-25,
                    "{uniform:?} {half:?}: {found:?} {error}"
                );
            }
        }
    }
}
