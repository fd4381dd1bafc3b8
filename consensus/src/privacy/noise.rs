//! The noise of a release: normal numbers on a grid, from bytes that are used once.
//!
//! A plain `sum + noise` in floating point gives away the sum: which of its last bits are possible
//! depends on it (Mironov 2012, doi 10.1145/2382196.2382264). Here the result is k·g for a whole
//! number k and a grid g of about a 1,024th of the noise's deviation, and k is what rounding the
//! exact sum of both to that grid gives. So a release is a rounded Gaussian release, and costs what
//! that does: rounding looks at nothing but the result.
//!
//! Box and Muller turn 192 uniform bits into two normal numbers; 128 bits of them decide the
//! distance from 0, which therefore reaches 13.3 deviations. Whatever lies within 2⁻³⁰ of the border
//! between two cells of the grid is decided again by `exact`, from the same bits, in twice the
//! precision: drawing anew would only move the border. What is left of the finite number of bits is
//! [`slack`].
//!
//! The bits are BLAKE3's output under the release's key, a stream of its own for each step and
//! purpose. A key that was stored would release two sums under one noise after a restored backup,
//! and their difference is exact; so a key is drawn anew for each release, not copied, and erased.
//!
//! Cost: 12 bytes of output and some 60 operations a value.

mod exact;

use multiversion::multiversion;
use zeroize::Zeroize;

use super::PrivacyError;
use crate::mutant::{Mutant, planted};

/// 32 bytes for one release, from the operating system or, in a simulation, from its seed. They are
/// neither copied nor shown, and erased at the end.
pub struct ReleaseKey([u8; 32]);

impl ReleaseKey {
    /// A key of bytes that nobody else knows and nothing else uses.
    pub fn new(bytes: [u8; 32]) -> ReleaseKey {
        ReleaseKey(bytes)
    }

    /// The output for a purpose in a step of the release.
    pub(super) fn reader(&self, purpose: &str, step: u64) -> blake3::OutputReader {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(purpose.as_bytes());
        hasher.update(&step.to_le_bytes());
        let reader = hasher.finalize_xof();
        hasher.zeroize();
        reader
    }
}

impl Drop for ReleaseKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for ReleaseKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ReleaseKey(hidden)")
    }
}

/// How much noise, and on which grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseScale {
    clip: f64,
    noise_multiplier: f64,
    /// g, a power of two.
    grid: f64,
}

impl NoiseScale {
    /// Least noise multiplier of a release: below, the distance between two neighbours is many
    /// deviations, and the arithmetic of the accountants is all that is left of a guarantee.
    pub const MULTIPLIER_MIN: f64 = 0.2;

    /// Cells of the grid in a standard deviation, up to a factor √2.
    const CELLS: f64 = 1024.0;

    /// Noise of standard deviation `noise_multiplier` times `clip`, the clip norm.
    ///
    /// # Errors
    /// A noise multiplier below 0.2 or above 10⁶, a clip norm outside 10⁻⁹ to 10⁹.
    pub fn new(noise_multiplier: f64, clip: f64) -> Result<NoiseScale, PrivacyError> {
        if !(NoiseScale::MULTIPLIER_MIN..=1e6).contains(&noise_multiplier) {
            return Err(PrivacyError::ReleasedNoise {
                found: noise_multiplier,
            });
        }
        if !(1e-9..=1e9).contains(&clip) {
            return Err(PrivacyError::ClipNorm { found: clip });
        }
        let exponent = libm::log2(noise_multiplier * clip / NoiseScale::CELLS).round();
        Ok(NoiseScale {
            clip,
            noise_multiplier,
            grid: libm::exp2(exponent),
        })
    }

    /// C: the norm to which a unit's contribution is clipped.
    pub fn clip(&self) -> f64 {
        self.clip
    }

    /// σ: the noise's standard deviation over the clip norm.
    pub fn noise_multiplier(&self) -> f64 {
        self.noise_multiplier
    }

    /// The standard deviation σ·C.
    pub fn deviation(&self) -> f64 {
        self.noise_multiplier * self.clip
    }

    /// The distance g between two values that can be released; a power of two.
    pub fn grid(&self) -> f64 {
        self.grid
    }
}

/// What the finite number of random bits adds to a guarantee for `values` noised values in all: to
/// ε 2·10⁻¹⁴ for each (64 bits of angle), to δ 10⁻¹⁵ (nothing beyond 13.3 deviations).
pub fn slack(values: u64) -> (f64, f64) {
    (2e-14 * values as f64, 1e-15)
}

/// Pairs of normal numbers computed at once: as many bytes of output as the widest CPUs compute
/// three times over.
const PAIRS: usize = 128;

/// Values of a block.
const BLOCK: usize = 2 * PAIRS;

/// Distance from a border between two cells, in cells, below which the exact arithmetic decides.
/// The error of the fast one is below 10⁻¹¹.
const NEAR: f64 = 1.0 / (1u64 << 30) as f64;

/// Largest sum in cells: below, half a cell is exact in f64.
const CELLS_MAX: f64 = (1u64 << 51) as f64;

/// The noise of one step of a release. It is used up as values are released.
pub struct Noise {
    reader: blake3::OutputReader,
    scale: NoiseScale,
    bytes: Box<[[u8; 8]; PAIRS]>,
    words: Box<Words>,
    normals: Box<[f64; BLOCK]>,
}

/// Uniform bits of a block: the high and the low halves for the distances, and the angles.
type Words = [[u64; PAIRS]; 3];

impl Noise {
    /// The noise of `step` of the release of this key. The same step of the same key gives the same
    /// noise, so a step is released once.
    pub fn new(key: &ReleaseKey, step: u64, scale: NoiseScale) -> Noise {
        let step = if planted(Mutant::SameNoise) { 0 } else { step };
        Noise {
            reader: key.reader("kith.v1 noise", step),
            scale,
            bytes: Box::new([[0; 8]; PAIRS]),
            words: Box::new([[0; PAIRS]; 3]),
            normals: Box::new([0.0; BLOCK]),
        }
    }

    /// Releases sums: `released` gets each of `sums` with its own noise, on the grid, rounded to
    /// f32 (which is exact below 2¹⁴ deviations).
    ///
    /// # Panics
    /// When the slices differ in length, or a sum is not below 2⁵¹ cells of the grid: sums of
    /// clipped contributions always are.
    pub fn release(&mut self, sums: &[f64], released: &mut [f32]) {
        assert_eq!(sums.len(), released.len(), "a place for each sum");
        let inverse = 1.0 / self.scale.grid;
        let weaker = if planted(Mutant::QuarterNoise) {
            0.25
        } else {
            1.0
        };
        let cells = weaker * self.scale.deviation() * inverse;
        for (sums, released) in sums.chunks(BLOCK).zip(released.chunks_mut(BLOCK)) {
            self.fill();
            let units = Units {
                inverse,
                cells,
                grid: self.scale.grid,
            };
            let outcome = round(sums, &self.normals, units, released);
            assert!(!outcome.is_beyond, "a sum of clipped contributions");
            if outcome.is_near {
                self.decide(sums, units, released);
            }
        }
    }

    fn fill(&mut self) {
        for words in self.words.iter_mut() {
            self.reader.fill(self.bytes.as_flattened_mut());
            for (word, bytes) in words.iter_mut().zip(self.bytes.iter()) {
                *word = u64::from_le_bytes(*bytes);
            }
        }
        normals(&self.words, &mut self.normals);
    }

    /// Releases what lies near a border once more, exactly.
    fn decide(&self, sums: &[f64], units: Units, released: &mut [f32]) {
        for (index, (sum, released)) in sums.iter().zip(released).enumerate() {
            let cells = sum * units.inverse;
            let whole = cells.floor();
            let place = (cells - whole) + self.normals[index] * units.cells + 0.5;
            if is_near(place - place.floor()) {
                let pair = index % PAIRS;
                let uniform = exact::Uniform {
                    distance: [self.words[0][pair], self.words[1][pair]],
                    angle: self.words[2][pair],
                };
                let half = if index < PAIRS {
                    exact::Half::Cosine
                } else {
                    exact::Half::Sine
                };
                let noise = exact::cell(uniform, half, units.cells, cells - whole);
                *released = ((whole + noise) * units.grid) as f32;
            }
        }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.reader.zeroize();
        self.bytes.as_flattened_mut().zeroize();
        self.words.as_flattened_mut().zeroize();
        self.normals.zeroize();
    }
}

impl std::fmt::Debug for Noise {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Noise({:?})", self.scale)
    }
}

/// How sums, cells and deviations convert.
#[derive(Clone, Copy)]
struct Units {
    /// Cells in a unit of the sums.
    inverse: f64,
    /// Cells in a standard deviation.
    cells: f64,
    grid: f64,
}

struct Outcome {
    /// Whether a value lies near a border between two cells.
    is_near: bool,
    /// Whether a sum is too large, or no number.
    is_beyond: bool,
}

fn is_near(fraction: f64) -> bool {
    !(NEAR..=1.0 - NEAR).contains(&fraction)
}

/// The fast rounding of a block. A sum is split exactly into whole cells and a fraction, and the
/// noise is added to the fraction.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
fn round(sums: &[f64], normals: &[f64; BLOCK], units: Units, released: &mut [f32]) -> Outcome {
    // Flags as wide as the values: a maximum of the sums would be computed one by one.
    let (mut near, mut beyond) = (0u64, 0u64);
    for ((sum, normal), released) in sums.iter().zip(normals).zip(released) {
        let cells = sum * units.inverse;
        let whole = cells.floor();
        let place = (cells - whole) + normal * units.cells + 0.5;
        let cell = place.floor();
        near |= u64::from(is_near(place - cell));
        beyond |= u64::from(!(-CELLS_MAX..CELLS_MAX).contains(&cells));
        *released = ((whole + cell) * units.grid) as f32;
    }
    Outcome {
        is_near: near != 0,
        is_beyond: beyond != 0,
    }
}

/// The normal numbers of a block: first the cosines' of all pairs, then the sines'.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
fn normals(words: &Words, normals: &mut [f64; BLOCK]) {
    let [high, low, angle] = words;
    let (first, second) = normals.split_at_mut(PAIRS);
    for pair in 0..PAIRS {
        let distance = (-2.0 * ln_uniform(high[pair], low[pair])).sqrt();
        let (cosine, sine) = direction(angle[pair]);
        first[pair] = distance * cosine;
        second[pair] = distance * sine;
    }
}

/// ln U for U = (2⁶⁴·high + low + ½) / 2¹²⁸, to some 10⁻¹⁶ of its value.
#[inline(always)]
fn ln_uniform(high: u64, low: u64) -> f64 {
    const SCALE: f64 = 1.0 / (1u128 << 64) as f64;
    // The smaller of U and 1 − U, both of which have 128 exact bits.
    let is_large = high >> 63 == 1;
    let flip = if is_large { u64::MAX } else { 0 };
    let (high, low) = (high ^ flip, low ^ flip);
    let small = (high as f64 + (low as f64 + 0.5) * SCALE) * SCALE;
    let rest = 1.0 - small;
    // What `rest` lacks of 1 − small, over 1 − small: ln(1 − small) = ln rest + that. It is below 2⁻⁵⁴,
    // so that 1 + small is near enough to 1 / (1 − small).
    let lost = ((1.0 - rest) - small) * (1.0 + small);
    let (value, lost) = if is_large { (rest, lost) } else { (small, 0.0) };
    ln(value) + lost
}

/// The natural logarithm of a positive normal number below 1.
#[inline(always)]
fn ln(value: f64) -> f64 {
    // Mantissa in [√½, √2): its bits from those of √½ on.
    const ROOT: u64 = 0x3fe6_a09e_667f_3bcd;
    const ONE: u64 = 0x3ff0_0000_0000_0000;
    let shifted = value.to_bits().wrapping_add(ONE - ROOT);
    let mantissa = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff).wrapping_add(ROOT));
    // The exponent as an integer in the low bits of 2⁵² + 2⁵¹, so that no conversion is needed.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let exponent = f64::from_bits(MAGIC.to_bits() + (shifted >> 52)) - MAGIC - 1023.0;
    // ln m = 2 artanh s with |s| < 0.172; the next term is below 10⁻¹⁷ of the first.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let series = 1.0 / 21.0;
    let series = series * z + 1.0 / 19.0;
    let series = series * z + 1.0 / 17.0;
    let series = series * z + 1.0 / 15.0;
    let series = series * z + 1.0 / 13.0;
    let series = series * z + 1.0 / 11.0;
    let series = series * z + 1.0 / 9.0;
    let series = series * z + 1.0 / 7.0;
    let series = series * z + 1.0 / 5.0;
    let series = series * z + 1.0 / 3.0;
    exponent * std::f64::consts::LN_2 + (2.0 * s + 2.0 * s * z * series)
}

/// Cosine and sine of 2π·angle / 2⁶⁴, to some 10⁻¹⁶.
#[inline(always)]
fn direction(angle: u64) -> (f64, f64) {
    let (quarter, x) = exact::quarter(angle);
    let x = x as f64 * (std::f64::consts::FRAC_PI_2 / (1u64 << 62) as f64);
    // Taylor's series for |x| ≤ π/4; the next terms are below 10⁻¹⁸.
    let z = x * x;
    let sine = 1.0 / 355_687_428_096_000.0;
    let sine = sine * z - 1.0 / 1_307_674_368_000.0;
    let sine = sine * z + 1.0 / 6_227_020_800.0;
    let sine = sine * z - 1.0 / 39_916_800.0;
    let sine = sine * z + 1.0 / 362_880.0;
    let sine = sine * z - 1.0 / 5_040.0;
    let sine = sine * z + 1.0 / 120.0;
    let sine = sine * z - 1.0 / 6.0;
    let sine = x + x * z * sine;
    let cosine = -1.0 / 6_402_373_705_728_000.0;
    let cosine = cosine * z + 1.0 / 20_922_789_888_000.0;
    let cosine = cosine * z - 1.0 / 87_178_291_200.0;
    let cosine = cosine * z + 1.0 / 479_001_600.0;
    let cosine = cosine * z - 1.0 / 3_628_800.0;
    let cosine = cosine * z + 1.0 / 40_320.0;
    let cosine = cosine * z - 1.0 / 720.0;
    let cosine = cosine * z + 1.0 / 24.0;
    let cosine = 1.0 - 0.5 * z + z * z * cosine;
    let is_odd = quarter & 1 == 1;
    let (first, second) = if is_odd {
        (sine, cosine)
    } else {
        (cosine, sine)
    };
    // The sign bits: cosine of quarters 1 and 2, sine of 2 and 3.
    let negate = |value: f64, sign: u64| f64::from_bits(value.to_bits() ^ ((sign & 1) << 63));
    (
        negate(first, (quarter >> 1) ^ quarter),
        negate(second, quarter >> 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    fn key(number: u8) -> ReleaseKey {
        ReleaseKey::new([number; 32])
    }

    fn scale() -> NoiseScale {
        NoiseScale::new(1.5, 2.0).unwrap()
    }

    fn released(step: u64, sums: &[f64]) -> Vec<f32> {
        let mut released = vec![0.0; sums.len()];
        Noise::new(&key(1), step, scale()).release(sums, &mut released);
        released
    }

    #[test]
    fn noise_is_normal_and_every_value_lies_on_the_grid() {
        let count = 400_000;
        let values = released(0, &vec![0.0; count]);
        let unit = |value: &f32| f64::from(*value) / scale().deviation();
        let moment = |power: i32| {
            values
                .iter()
                .map(|value| unit(value).powi(power))
                .sum::<f64>()
                / count as f64
        };
        // Five standard deviations of each mean: E N²ᵏ is 1, 3, 15, 105, 945, 10395.
        for (power, expected, square) in [
            (1, 0.0, 1.0),
            (2, 1.0, 3.0),
            (3, 0.0, 15.0),
            (4, 3.0, 105.0),
            (5, 0.0, 945.0),
            (6, 15.0, 10395.0f64),
        ] {
            let deviation = ((square - expected * expected) / count as f64).sqrt();
            let found = moment(power);
            assert!(
                (found - expected).abs() < 5.0 * deviation,
                "{power}: {found}"
            );
        }
        assert!(
            values
                .iter()
                .all(|value| (f64::from(*value) / scale().grid()).fract() == 0.0)
        );
        assert_eq!(scale().grid(), 1.0 / 256.0);
    }

    /// Kolmogorov and Smirnov's distance, and neighbours' independence.
    #[test]
    fn noise_follows_the_normal_distribution_and_values_are_independent() {
        let count = 100_000;
        let values = released(3, &vec![0.0; count]);
        let mut sorted: Vec<f64> = values
            .iter()
            .map(|value| f64::from(*value) / scale().deviation())
            .collect();
        for lag in [1, PAIRS, BLOCK] {
            let product: f64 = sorted.iter().zip(&sorted[lag..]).map(|(a, b)| a * b).sum();
            assert!(
                (product / (count as f64).sqrt()).abs() < 5.0,
                "{lag}: {product}"
            );
        }
        sorted.sort_by(f64::total_cmp);
        let below = |x: f64| 1.0 - super::super::gaussian::upper_tail(x);
        let distance = sorted
            .iter()
            .enumerate()
            .map(|(index, x)| (below(*x) - (index as f64 + 0.5) / count as f64).abs())
            .fold(0.0, f64::max);
        // Beyond 1.95/√n once in a thousand; the grid is 1/768 of a deviation and adds 0.0003.
        assert!(distance < 1.95 / (count as f64).sqrt() + 3e-4, "{distance}");
    }

    #[test]
    fn steps_keys_and_blocks_have_noise_of_their_own_and_a_step_repeats_itself() {
        let zeros = vec![0.0; 3 * BLOCK];
        let first = released(0, &zeros);
        assert_eq!(first, released(0, &zeros));
        assert_ne!(first, released(1, &zeros));
        assert_ne!(first[..BLOCK], first[BLOCK..2 * BLOCK]);
        let mut other = vec![0.0; zeros.len()];
        Noise::new(&key(2), 0, scale()).release(&zeros, &mut other);
        assert!(first.iter().zip(&other).filter(|(a, b)| a == b).count() < 20);
        // In parts: no part sees noise that another has seen.
        let mut noise = Noise::new(&key(1), 0, scale());
        let mut parts = vec![0.0; zeros.len()];
        noise.release(&zeros[..5], &mut parts[..5]);
        noise.release(&zeros[5..], &mut parts[5..]);
        assert_eq!(parts[..5], first[..5]);
        assert_eq!(parts[5..5 + BLOCK], first[BLOCK..2 * BLOCK]);
        assert_eq!(format!("{:?}", key(7)), "ReleaseKey(hidden)");
    }

    /// The same noise under sums that differ: the results differ by the sums, to a cell.
    #[test]
    fn the_released_value_is_the_sum_and_the_noise_rounded_once() {
        let mut stream = Seed::from_number(5).stream("sums");
        let sums: Vec<f64> = (0..2000)
            .map(|index| stream.normal() * 10f64.powi(index % 9 - 3))
            .collect();
        let (with, without) = (released(0, &sums), released(0, &vec![0.0; sums.len()]));
        for ((with, without), sum) in with.iter().zip(&without).zip(&sums) {
            let difference = f64::from(*with) - f64::from(*without) - sum;
            // f32 rounds beyond 2²⁴ cells.
            let coarse = f64::from(with.abs()) * f64::from(f32::EPSILON);
            assert!(
                difference.abs() <= scale().grid() * 1.0001 + coarse,
                "{sum}: {difference}"
            );
        }
    }

    #[test]
    fn fast_and_exact_arithmetic_agree_but_for_the_border() {
        let mut noise = Noise::new(&key(9), 0, scale());
        let cells = 1100.0;
        for _ in 0..40 {
            noise.fill();
            for index in 0..BLOCK {
                let pair = index % PAIRS;
                let uniform = exact::Uniform {
                    distance: [noise.words[0][pair], noise.words[1][pair]],
                    angle: noise.words[2][pair],
                };
                let half = if index < PAIRS {
                    exact::Half::Cosine
                } else {
                    exact::Half::Sine
                };
                let place = 0.3 + noise.normals[index] * cells + 0.5;
                let found = exact::cell(uniform, half, cells, 0.3);
                assert!(
                    found == place.floor() || is_near(place - place.floor()),
                    "{uniform:?}: {found} {place}"
                );
            }
        }
    }

    #[test]
    fn extreme_uniforms_give_finite_normals() {
        let mut words = [[0; PAIRS]; 3];
        words[0][1] = u64::MAX;
        words[1][1] = u64::MAX;
        words[0][2] = 1 << 63;
        words[0][3] = (1 << 63) - 1;
        words[1][3] = u64::MAX;
        words[2] = std::array::from_fn(|pair| (pair as u64) << 57);
        let mut found = [f64::NAN; BLOCK];
        normals(&words, &mut found);
        assert!(found.iter().all(|value| value.is_finite()));
        // √(2 · 129 · ln 2): the farthest that the noise reaches.
        assert!((found[0] - 13.3728).abs() < 1e-3, "{}", found[0]);
        assert!(found[1].abs() < 1e-18);
        assert!((found[2] - found[3]).abs() < 0.1);
    }

    /// The exact arithmetic decides what lies near a border, so that however the fast one is written, a
    /// key has the same noise.
    #[test]
    fn a_key_has_the_same_noise_to_the_bit_on_every_cpu() {
        let sums: Vec<f64> = (0..1 << 20).map(|index| f64::from(index) / 7.0).collect();
        let values = released(0, &sums);
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let digest = blake3::hash(&bytes).to_hex();
        assert_eq!(&digest[..16], "609c9243213c5ccf");
    }

    #[test]
    fn noise_that_guarantees_little_and_clip_norms_out_of_range_are_refused() {
        for found in [0.0, 0.19, 2e6, f64::INFINITY, -1.0] {
            let refused = NoiseScale::new(found, 1.0);
            assert_eq!(refused, Err(PrivacyError::ReleasedNoise { found }));
        }
        for found in [0.0, -1.0, f64::INFINITY, 1e10] {
            let refused = NoiseScale::new(1.0, found);
            assert_eq!(refused, Err(PrivacyError::ClipNorm { found }));
        }
        assert!(NoiseScale::new(f64::NAN, 1.0).is_err() && NoiseScale::new(1.0, f64::NAN).is_err());
    }
}
