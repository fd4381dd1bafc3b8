//! The weight of a peer's own model: the rest to 1 after the weights of the others.
//!
//! In exact arithmetic every peer of a complete graph of n gives each model 1/n, its own too. In
//! floating point 1 − (n − 1)/n is another number than 1/n for n = 3, 5, 6, 7, 9, …; then peers
//! that mixed the same models would hold different last bits. So if the remainder equals one of the
//! other weights except for rounding, it is that weight.
//!
//! Not here: absence (an absent neighbour is not among `others`, so that its weight goes to the
//! peer's own model).

/// The rest to 1 after the weights `others`, for the peer's own model. It equals one of them to the
/// bit if only rounding tells the two apart. If nothing is left, rounding may make it slightly
/// negative.
pub fn remainder(others: impl Iterator<Item = f64> + Clone) -> f64 {
    let (count, sum) = others.clone().fold((1.0, 0.0), |(count, sum), weight| {
        (count + 1.0, sum + weight)
    });
    let left: f64 = 1.0 - sum;
    // Each weight is off by half a unit in the last place of 1 at most, and so is each of the sums.
    let rounding = count * f64::EPSILON;
    let mut near = others.filter(|weight| *weight > rounding && (left - weight).abs() <= rounding);
    near.next().unwrap_or(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_weights_the_own_one_has_the_bits_of_the_others() {
        for count in 2..=300usize {
            let weight = 1.0 / count as f64;
            assert_eq!(
                remainder(std::iter::repeat_n(weight, count - 1)),
                weight,
                "{count} models"
            );
        }
    }

    #[test]
    fn what_nobody_else_weighs_is_the_remainder_itself() {
        assert_eq!(remainder(std::iter::empty()), 1.0);
        assert_eq!(remainder([0.25, 0.25].into_iter()), 0.5);
        // One of four equal weights is absent: it goes to the peer's own model.
        assert_eq!(
            remainder([0.2, 0.2, 0.2].into_iter()),
            1.0 - (0.2 + 0.2 + 0.2)
        );
        assert!(
            remainder(std::iter::repeat_n(0.1, 10)).abs() < 1e-12,
            "nothing is left"
        );
    }
}
