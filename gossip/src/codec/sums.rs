//! Sums in 64 bits whose order is fixed: eight lanes, then one tree, never fused. The bits are the
//! same on every CPU.

const LANES: usize = 8;

/// Σ term(value).
pub(super) fn sum_of(values: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0f64; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        lanes
            .iter_mut()
            .zip(chunk)
            .for_each(|(lane, value)| *lane += term(f64::from(*value)));
    }
    lanes
        .iter_mut()
        .zip(rest)
        .for_each(|(lane, value)| *lane += term(f64::from(*value)));
    tree(lanes)
}

/// ⟨a, b⟩ of equally long vectors.
pub(super) fn dot<A: Copy + Into<f64>>(a: &[A], b: &[f64]) -> f64 {
    let mut lanes = [0f64; LANES];
    let (chunks, others) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (rest, others_rest) = (chunks.remainder(), others.remainder());
    for (chunk, other) in chunks.zip(others) {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane].into() * other[lane];
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest.iter().zip(others_rest)) {
        *lane += (*a).into() * b;
    }
    tree(lanes)
}

fn tree([a, b, c, d, e, f, g, h]: [f64; LANES]) -> f64 {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}
