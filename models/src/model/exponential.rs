//! The exponential function of the softmax loss.

/// exp(x) for x ≤ 0, relative error below 2·10⁻⁷; 0 below −87, where f32 loses its precision. The
/// same bits on every CPU, which the platform's function does not guarantee, and several values at
/// once.
///
/// exp(x) = 2ᵏ·exp(r) with k the integer nearest x / ln 2, so |r| ≤ ln 2 / 2, where the series up
/// to r⁷/7! is exact to f32: the first term left out is 0.35⁸/8! = 5·10⁻⁹.
#[inline(always)]
pub(crate) fn exp_negative(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to an integer, whose low bits the sum then holds.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with zeros at its end so that k times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let within = x.max(-87.0);
    let shifted = within * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (within - k * LN_2_HIGH) - k * LN_2_LOW;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = (series * r + 1.0) * r + 1.0;
    let exponent = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127)
        << 23;
    if x < -87.0 {
        0.0
    } else {
        series * f32::from_bits(exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for step in 0..=870_000 {
            let x = -1e-4 * step as f32;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp_negative(x)) / exact - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!(exp_negative(0.0), 1.0);
        assert_eq!(exp_negative(-1e9), 0.0);
    }
}
