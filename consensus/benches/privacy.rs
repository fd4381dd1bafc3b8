//! What accounting and noise cost: `cargo bench -p kith-consensus --bench privacy`.

use std::time::{Duration, Instant};

use kith_consensus::privacy::calibration::{Accountant, noise_multiplier};
use kith_consensus::privacy::noise::{Noise, NoiseScale, ReleaseKey};
use kith_consensus::privacy::{Delta, Epsilon, Phase, SampledGaussian, pld, rdp};

const MEASURED: Duration = Duration::from_secs(1);

/// The fastest of several runs: on a machine that others use too, the others are what varies.
fn fastest(mut run: impl FnMut()) -> Duration {
    let begin = Instant::now();
    let mut least = Duration::MAX;
    while begin.elapsed() < MEASURED {
        let begin = Instant::now();
        run();
        least = least.min(begin.elapsed());
    }
    least
}

fn main() {
    let delta = Delta::new(1e-5).expect("a usual delta");
    let orders = rdp::orders();
    for (sigma, rate, steps) in [(1.0, 0.01, 10_000), (1.0, 1e-4, 100_000), (0.6, 0.25, 50)] {
        let mechanism = SampledGaussian::new(sigma, rate).expect("usual noise");
        let phase = Phase::new(mechanism, steps).expect("usual steps");
        let name = format!("σ {sigma}, q {rate}, {steps} steps");
        let time = fastest(|| {
            rdp::Curve::of(&[phase], &orders).expect("usual orders");
        });
        println!("Rényi, {name}: {time:.1?}");
        let time = fastest(|| {
            pld::epsilon(&[phase], delta).expect("a usual delta");
        });
        println!("privacy loss distributions, {name}: {time:.1?}");
    }
    for accountant in [Accountant::Rdp, Accountant::Pld] {
        let budget = Epsilon::new(3.0).expect("a usual budget");
        let time = fastest(|| {
            noise_multiplier(budget, delta, 0.01, 10_000, accountant).expect("usual sizes");
        });
        println!("calibration by {accountant:?}, ε 3, q 0.01, 10000 steps: {time:.1?}");
    }
    let scale = NoiseScale::new(1.0, 1.0).expect("usual noise");
    let sums = vec![0.25; 110_000];
    let mut released = vec![0.0; sums.len()];
    let mut step = 0;
    let time = fastest(|| {
        let mut noise = Noise::new(&ReleaseKey::new([1; 32]), step, scale);
        noise.release(&sums, &mut released);
        step += 1;
    });
    let each = time.as_secs_f64() * 1e9 / sums.len() as f64;
    println!("noise: {each:.2} ns a value");
}
