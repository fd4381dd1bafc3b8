//! The tight ε of a composition that is fixed beforehand, by privacy loss distributions.
//!
//! The loss of a step is the logarithm of the ratio of its outcome's densities under two
//! neighbours. Its distribution is put on a grid by *connecting the dots* (Doroshenko et al. 2022,
//! arXiv 2207.04380, algorithm 1): the mass between two dots goes to both such that it keeps its
//! probability under either neighbour. That gives an upper bound of δ at every ε which is exact at
//! the dots. Rounding losses up, the older way, is 30 % high for usual parameters and 25 times for
//! rare participation. Steps compose by convolution: powers and products of Fourier transforms.
//!
//! Transforms in f64 leave errors of 10⁻¹⁶ times the number of steps, and δ may be smaller than
//! that. So masses are tilted by e^(λ·loss) first, with the λ of Chernoff's bound, which moves the
//! middle of the distribution to the ε that is looked for, and errors become relative to δ. Rare large
//! losses can make that distribution so wide that it fits no transform; then λ is smaller. Masses
//! that come out negative show what errors are left: ten times as much is added to δ, and a δ
//! below a hundred times that is refused.
//!
//! Both directions, a unit added and a unit removed, are composed apart, and the larger ε counts.
//!
//! Cost: about 15,000 dots a direction and mechanism, and a transform of some 200·√steps points: 20
//! to 100 ms. The transform takes sines from the platform, so the last bits of a result may differ
//! between machines; what peers agree on is accounted by [`super::rdp`].

use libm::{exp, expm1, log, log1p, sqrt};
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

use super::gaussian::between;
use super::rdp::ln_ratio;
use super::{Delta, Phase, PrivacyError, SampledGaussian, canonical, gaussian};

/// The share of δ that goes to losses beyond the dots.
const TRUNCATED: f64 = 1e-6;

/// Dots this many times their own distance from 0 are no denser: far losses are rare, and what
/// matters is their ratio. The λ-fold exponential of a loss is right to a thousandth where it
/// decides.
const DOTS: i64 = 2048;

/// Standard deviations of the tilted distribution to either side of its mean.
const REACH: f64 = 10.0;

/// How many times as wide as without a tilt the tilted distribution may be (guesses). The first
/// that leaves no error to speak of counts, else the best of those that leave little.
const WIDTHS: [f64; 3] = [3.0, 10.0, 1e9];

/// Below this noise multiplier the distance between dots no longer grows (guess). So little noise hides
/// no row.
const LITTLE: f64 = 0.05;

/// The measured error is multiplied by this and added to δ.
const CAUTION: f64 = 10.0;

/// Errors, relative to δ, that are too small to look for better, and too large to accept.
const ERRORS: std::ops::Range<f64> = 1e-4..1e-2;

/// How much coarser than usual the grid becomes before a δ is refused (guess).
const COARSEST: f64 = 1024.0;

/// Most points of a transform; beyond, the grid becomes coarser, and ε a little larger.
const POINTS_MAX: usize = 1 << 22;

/// The smallest ε ≥ 0 at `delta` of a composition; 0 for no phase.
///
/// # Errors
/// When 64-bit arithmetic cannot resolve so small a δ.
pub fn epsilon(phases: &[Phase], delta: Delta) -> Result<f64, PrivacyError> {
    let phases = canonical(phases);
    if phases
        .iter()
        .all(|phase| phase.mechanism.sampling_rate == 1.0)
    {
        return Ok(gaussian::epsilon(distance(&phases), delta));
    }
    let steps: f64 = phases.iter().map(|phase| phase.steps as f64).sum();
    let reach = sqrt(-2.0 * log(delta.get() * TRUNCATED / steps));
    // Together, the dots raise the mean loss by as much as they would with each mechanism's own grid.
    let grown = |phase: &Phase| phase.steps as f64 * spacing(phase.mechanism).powi(2);
    let finest = sqrt(phases.iter().map(grown).sum::<f64>() / steps);
    let mut spacing = finest;
    loop {
        let in_direction =
            |direction| Composition::new(&phases, direction, spacing, reach).epsilon(delta.get());
        let both = in_direction(Direction::Add)
            .and_then(|add| Ok(add.max(in_direction(Direction::Remove)?)));
        match both {
            Ok(epsilon) => return Ok(epsilon),
            Err(Failure::TooFine) if spacing < COARSEST * finest => spacing *= 2.0,
            Err(Failure::TooFine) => {
                return Err(PrivacyError::Unresolved {
                    delta: delta.get(),
                    least: delta.get(),
                });
            }
            // Fewer points leave fewer errors.
            Err(Failure::Unresolved { .. }) if spacing < COARSEST * finest => spacing *= 4.0,
            Err(Failure::Unresolved { least }) => {
                return Err(PrivacyError::Unresolved {
                    delta: delta.get(),
                    least,
                });
            }
        }
    }
}

/// μ of phases without sampling: how far neighbours' outcomes are apart, in deviations of the noise.
fn distance(phases: &[Phase]) -> f64 {
    let square = |phase: &Phase| {
        let sigma = phase.mechanism.noise_multiplier;
        phase.steps as f64 / (sigma * sigma)
    };
    sqrt(phases.iter().map(square).sum::<f64>())
}

/// The distance h between dots: a tenth of √(2·mean loss), and caps for little noise.
///
/// Between dots, the mean loss of a step grows by at most h²/8, which is a four-hundredth of it. Where
/// losses are alike, √(2·mean loss) is their standard deviation; where most are tiny and few are large
/// it is less, and a tenth of the deviation makes ε 1 % too large (σ 0.43, q 0.02). Without the caps ε
/// is half too high at σ = 0.3, q = 0.25 (both measured).
fn spacing(mechanism: SampledGaussian) -> f64 {
    let close = sqrt(2.0 * mean_loss(mechanism)) / 10.0;
    close.min(0.1 / mechanism.noise_multiplier).min(0.05)
}

/// The mean loss of a step with a unit against one without: their Kullback–Leibler divergence, by the
/// trapezoidal rule, to a hundredth. For noise below [`LITTLE`], a lower bound.
fn mean_loss(mechanism: SampledGaussian) -> f64 {
    let (sigma, rate) = (
        mechanism.noise_multiplier.max(LITTLE),
        mechanism.sampling_rate,
    );
    let (far, points) = (9.0, 1024);
    let step = (2.0 * far + 1.0 / sigma) / f64::from(points);
    let densities = |z: f64| {
        (
            exp(-z * z / 2.0),
            exp(-(z - 1.0 / sigma) * (z - 1.0 / sigma) / 2.0),
        )
    };
    // With the ratio 1 + t of the densities of outcome z: (1 + t)·ln(1 + t) − t, never negative.
    let term = |point: i32| {
        let z = f64::from(point) * step - far;
        let (without, with) = densities(z);
        let exponent = (z - 0.5 / sigma) / sigma;
        let loss = ln_ratio(rate, exponent);
        if loss.abs() < 1e-4 {
            without * loss * loss / 2.0
        } else {
            ((1.0 - rate) * without + rate * with) * loss - rate * (with - without)
        }
    };
    (0..=points).map(term).sum::<f64>() * step / sqrt(std::f64::consts::TAU)
}

/// Which of two neighbours the outcome comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Direction {
    /// The one without the unit: its outcome against that of the one to which it was added.
    Add,
    /// The one with the unit.
    Remove,
}

/// The loss of one step on the grid.
struct Loss {
    /// Pairs of a dot's place on the grid and the logarithm of its mass, by place.
    dots: Vec<(i64, f64)>,
    /// Mass of a loss beyond all dots.
    infinite: f64,
}

impl Loss {
    fn new(mechanism: SampledGaussian, direction: Direction, spacing: f64, reach: f64) -> Loss {
        let sampled = Sampled { mechanism };
        let places = sampled.places(direction, spacing, reach);
        let mut dots: Vec<(i64, f64)> = places.iter().map(|place| (*place, 0.0)).collect();
        // What lies below the first dot is moved up to it, which can only raise ε.
        let (below, _) = sampled.masses(direction, f64::NEG_INFINITY, places[0] as f64 * spacing);
        dots[0].1 = below;
        for index in 1..dots.len() {
            let [from, to] = [index - 1, index].map(|index| places[index] as f64 * spacing);
            let (mass, other) = sampled.masses(direction, from, to);
            // mass = lower + upper, and other = lower·e^(−from) + upper·e^(−to).
            let upper = (mass - exp(from + log(other))) / -expm1(from - to);
            let upper = if upper >= 0.0 { upper.min(mass) } else { 0.0 };
            dots[index - 1].1 += mass - upper;
            dots[index].1 += upper;
        }
        let last = places[places.len() - 1] as f64 * spacing;
        let (infinite, _) = sampled.masses(direction, last, f64::INFINITY);
        dots.retain(|(_, mass)| *mass > 0.0);
        dots.iter_mut().for_each(|(_, mass)| *mass = log(*mass));
        Loss { dots, infinite }
    }

    /// ln Σ mass · e^(λ·loss), and mean and variance of the loss under those weights.
    fn moments(&self, lambda: f64, spacing: f64) -> [f64; 3] {
        let exponent = |(place, ln_mass): &(i64, f64)| lambda * spacing * *place as f64 + ln_mass;
        let largest = self
            .dots
            .iter()
            .map(exponent)
            .fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
        for dot in &self.dots {
            // Below e^(−50), what is left out is less than rounding.
            let below = exponent(dot) - largest;
            let weight = if below > -50.0 { exp(below) } else { 0.0 };
            let loss = spacing * dot.0 as f64;
            sum += weight;
            first += weight * loss;
            second += weight * loss * loss;
        }
        let mean = first / sum;
        [
            largest + log(sum),
            mean,
            (second / sum - mean * mean).max(0.0),
        ]
    }
}

/// Places of dots from `first` to at least `last`: every one near 0, then ever fewer.
fn places(first: i64, last: i64) -> Vec<i64> {
    let outwards = |end: i64| {
        let mut place = 0;
        let step = move |place: i64| (place / DOTS).max(1);
        std::iter::from_fn(move || {
            (place < end).then(|| {
                place = i64::saturating_add(place, step(place));
                place
            })
        })
    };
    let mut places: Vec<i64> = outwards(first.saturating_neg())
        .map(|place| -place)
        .collect();
    places.reverse();
    places.push(0);
    places.extend(outwards(last));
    places
}

/// The two densities of a step.
struct Sampled {
    mechanism: SampledGaussian,
}

impl Sampled {
    /// Places of dots for outcomes up to `reach` deviations of the noise away.
    fn places(&self, direction: Direction, spacing: f64, reach: f64) -> Vec<i64> {
        let rate = self.mechanism.sampling_rate;
        let sigma = self.mechanism.noise_multiplier;
        let loss = |z: f64| ln_ratio(rate, (2.0 * z - 1.0) / (2.0 * sigma * sigma));
        let (least, most) = (loss(-reach * sigma), loss(1.0 + reach * sigma));
        let [first, last] = match direction {
            Direction::Remove => [least, most],
            Direction::Add => [-most, -least],
        };
        places(
            (first / spacing).floor() as i64,
            (last / spacing).ceil() as i64,
        )
    }

    /// The mass of losses in (from, to], under the neighbour that the outcome comes from and under
    /// the other.
    fn masses(&self, direction: Direction, from: f64, to: f64) -> (f64, f64) {
        let rate = self.mechanism.sampling_rate;
        let sigma = self.mechanism.noise_multiplier;
        let [from, to] = match direction {
            Direction::Remove => [from, to],
            Direction::Add => [-to, -from],
        };
        let [from, to] = [from, to].map(|loss| self.outcome(loss));
        let without = between(from / sigma, to / sigma);
        let moved = between((from - 1.0) / sigma, (to - 1.0) / sigma);
        let with = (1.0 - rate) * without + rate * moved;
        match direction {
            Direction::Remove => (with, without),
            Direction::Add => (without, with),
        }
    }

    /// The outcome z with ln(1 − q + q·e^((2z − 1) / 2σ²)) = `loss`; −∞ if none has so low a loss.
    fn outcome(&self, loss: f64) -> f64 {
        let rate = self.mechanism.sampling_rate;
        let sigma = self.mechanism.noise_multiplier;
        let ln = if loss > 30.0 {
            loss - log(rate) + log1p(-(1.0 - rate) * exp(-loss))
        } else {
            let ratio = 1.0 + expm1(loss) / rate;
            if ratio <= 0.0 {
                return f64::NEG_INFINITY;
            }
            log(ratio)
        };
        sigma * sigma * ln + 0.5
    }
}

/// Why a composition has no answer on this grid.
enum Failure {
    /// A transform would have too many points.
    TooFine,
    /// The mass beyond all dots is not below δ.
    Unresolved { least: f64 },
}

/// The losses of all steps in one direction.
struct Composition {
    losses: Vec<(Loss, u64)>,
    spacing: f64,
}

/// Chernoff's bound where it is best: with ln M the logarithm of the composition's moment
/// generating function, δ(ε) ≤ e^(ln M(λ) − λ·ε).
struct Tilt {
    lambda: f64,
    /// The ε of the bound.
    epsilon: f64,
    /// The tilted distribution's mean; where λ is best, that ε.
    mean: f64,
    /// The tilted distribution's standard deviation.
    deviation: f64,
}

impl Composition {
    fn new(phases: &[Phase], direction: Direction, spacing: f64, reach: f64) -> Composition {
        let loss = |phase: &Phase| {
            let loss = Loss::new(phase.mechanism, direction, spacing, reach);
            (loss, phase.steps)
        };
        Composition {
            losses: phases.iter().map(loss).collect(),
            spacing,
        }
    }

    fn epsilon(&self, delta: f64) -> Result<f64, Failure> {
        let kept: f64 = self
            .losses
            .iter()
            .map(|(loss, steps)| *steps as f64 * log1p(-loss.infinite))
            .sum();
        let infinite = -expm1(kept);
        if infinite >= delta {
            return Err(Failure::Unresolved { least: infinite });
        }
        let rest = delta - infinite;
        let (mut best, mut least) = (None::<f64>, f64::INFINITY);
        for width in WIDTHS {
            let tilt = self.tilt(rest, width);
            if tilt.epsilon <= 0.0 {
                return Ok(0.0);
            }
            let found = self.look(&tilt, rest)?;
            if found.error < ERRORS.end {
                best = Some(best.map_or(found.epsilon, |best| best.min(found.epsilon)));
            }
            if found.error < ERRORS.start {
                break;
            }
            least = least.min(infinite + found.error / ERRORS.end * rest);
        }
        best.ok_or(Failure::Unresolved { least })
    }

    /// The ε of the distribution so tilted; looked for down to 0 if it lies below the usual window, as
    /// it does where λ is small.
    fn look(&self, tilt: &Tilt, delta: f64) -> Result<Crossing, Failure> {
        let usual = tilt.mean - REACH * tilt.deviation;
        for lowest in [usual, usual.min(0.0)] {
            let window = self.window(tilt, lowest, delta)?;
            let masses = self.compose(tilt, window.points);
            if let Some(found) = self.crossing(tilt, &window, &masses) {
                return Ok(found);
            }
        }
        Err(Failure::TooFine)
    }

    /// ln M, mean and variance of the tilted distribution.
    fn moments(&self, lambda: f64) -> [f64; 3] {
        let mut all = [0.0; 3];
        for (loss, steps) in &self.losses {
            let each = loss.moments(lambda, self.spacing);
            all.iter_mut()
                .zip(each)
                .for_each(|(sum, value)| *sum += *steps as f64 * value);
        }
        all
    }

    /// The λ at which the bound's ε is smallest: there λ·mean − ln M, which grows with λ, is −ln δ.
    /// Or a smaller one, such that the distribution is at most `width` times as wide as untilted.
    fn tilt(&self, delta: f64, width: f64) -> Tilt {
        let goal = -log(delta);
        let widest = width * width * self.moments(0.0)[2];
        let fits = |lambda: f64| {
            let [ln_moment, mean, variance] = self.moments(lambda);
            lambda * mean - ln_moment < goal && variance <= widest
        };
        // From below, since a distribution that is too wide may become narrow again, far off. Tilting
        // by more than a factor e from one place to the next resolves nothing more.
        let most = 1.0 / self.spacing;
        let mut lambda = 1e-3 / sqrt(self.moments(0.0)[2]);
        while lambda * 1.4 < most && fits(lambda * 1.4) {
            lambda *= 1.4;
        }
        for exponent in 2..12 {
            let larger = lambda * exp(0.34 / f64::from(1 << exponent) * 2.0);
            if larger < most && fits(larger) {
                lambda = larger;
            }
        }
        let [ln_moment, mean, variance] = self.moments(lambda);
        Tilt {
            lambda,
            epsilon: (ln_moment + goal) / lambda,
            mean,
            deviation: sqrt(variance),
        }
    }

    /// The places that are looked at, from a loss of `lowest` on.
    fn window(&self, tilt: &Tilt, lowest: f64, delta: f64) -> Result<Window, Failure> {
        let first = (lowest / self.spacing).floor() - 8.0;
        let highest = tilt.mean + REACH * tilt.deviation;
        let least = (highest - lowest) / self.spacing + 16.0;
        let mut points = 1024;
        while (points as f64) < least {
            points *= 2;
        }
        while points <= POINTS_MAX {
            // Mass above the window falls on lower places, where it counts for more: at most by the
            // factor that the tilt makes over the whole window.
            let length = points as f64 * self.spacing;
            let top = first * self.spacing + length;
            let ln_above = |factor: f64| {
                let lambda = tilt.lambda * factor;
                self.moments(lambda)[0] - lambda * top - log(delta)
            };
            let mut bounds = [1.5, 2.0, 1.25, 3.0, 5.0].into_iter().map(ln_above);
            if let Some(ln_above) = bounds.find(|ln| *ln + tilt.lambda * length < log(1e-4)) {
                let (first, above) = (first as i64, exp(ln_above));
                return Ok(Window {
                    first,
                    points,
                    above,
                });
            }
            points *= 2;
        }
        Err(Failure::TooFine)
    }

    /// The composition's tilted masses, each at its place modulo `points`.
    fn compose(&self, tilt: &Tilt, points: usize) -> Vec<f64> {
        let mut planner = RealFftPlanner::<f64>::new();
        let (forward, inverse) = (
            planner.plan_fft_forward(points),
            planner.plan_fft_inverse(points),
        );
        let mut spectrum = forward.make_output_vec();
        let mut product = vec![Complex::new(1.0, 0.0); spectrum.len()];
        let mut masses = vec![0.0; points];
        for (loss, steps) in &self.losses {
            let [ln_moment, ..] = loss.moments(tilt.lambda, self.spacing);
            masses.fill(0.0);
            for (place, ln_mass) in &loss.dots {
                let tilted = tilt.lambda * self.spacing * *place as f64 + ln_mass - ln_moment;
                masses[place.rem_euclid(points as i64) as usize] += exp(tilted);
            }
            forward
                .process(&mut masses, &mut spectrum)
                .expect("vectors of the plan's lengths");
            for (product, value) in product.iter_mut().zip(&spectrum) {
                *product *= power(*value, *steps);
            }
        }
        // The transform of real numbers is real at both ends.
        if let [first, .., last] = product.as_mut_slice() {
            (first.im, last.im) = (0.0, 0.0);
        }
        inverse
            .process(&mut product, &mut masses)
            .expect("vectors of the plan's lengths");
        let scale = 1.0 / points as f64;
        masses.iter_mut().for_each(|mass| *mass *= scale);
        masses
    }

    /// The ε at which δ(ε) = P(∞) + Σ_{loss > ε} (1 − e^(ε − loss)) · mass is as asked for, all
    /// relative to δ and seen from above; `None` if it lies below the window.
    fn crossing(&self, tilt: &Tilt, window: &Window, masses: &[f64]) -> Option<Crossing> {
        let points = window.points as i64;
        let (mut sum, mut reduced, mut error) = (window.above, 0.0, 0.0);
        let shrink = exp(-self.spacing);
        for place in (window.first..window.first + points).rev() {
            let loss = place as f64 * self.spacing;
            let weight = exp(tilt.lambda * (tilt.epsilon - loss));
            let mass = weight * masses[place.rem_euclid(points) as usize];
            error += (-mass).max(0.0);
            sum += mass.max(0.0);
            // Σ e^(this loss − loss) · mass: relative to this loss, it overflows nowhere.
            reduced = reduced * shrink + mass.max(0.0);
            let below = loss - self.spacing;
            let all = sum + CAUTION * error;
            let epsilon = if all - shrink * reduced >= 1.0 {
                (loss + log((all - 1.0) / reduced)).clamp(below, loss)
            } else if below <= 0.0 {
                0.0
            } else {
                continue;
            };
            let epsilon = epsilon.max(0.0);
            return Some(Crossing { epsilon, error });
        }
        None
    }
}

/// An ε, and the error that was measured on the way to it, relative to δ.
struct Crossing {
    epsilon: f64,
    error: f64,
}

/// A run of places on the grid.
struct Window {
    first: i64,
    /// How many, a power of two.
    points: usize,
    /// A bound of the mass above, relative to δ.
    above: f64,
}

/// `base` to a whole power, by squaring.
fn power(mut base: Complex<f64>, mut exponent: u64) -> Complex<f64> {
    let mut result = Complex::new(1.0, 0.0);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result *= base;
        }
        base *= base;
        exponent /= 2;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// h = min(√(2·mean loss)/10, 0.1/σ, 0.05): each of the three counts in some case. Mean losses were
    /// integrated by other code, over 200,000 points.
    #[test]
    fn the_grid_is_a_tenth_of_the_root_of_twice_the_mean_loss_with_caps_for_little_noise() {
        for (sigma, rate, expected) in [
            (1.0, 0.01, 0.001_294_698_5),
            (0.428_427_3, 0.023_017_04, 0.014_600_24), // the deviation is 2.4 times as large
            (10.0, 1e-5, 1.002_505_2e-7),
            (4.0, 0.5, 0.012_548_236), // 0.025 and 0.05 are larger
            (0.3, 0.25, 0.05),         // 0.136 and 0.333 are larger
            (0.25, 0.9, 0.05),         // 0.372 and 0.4
            (2.5, 1.0, 0.04),          // μ/10 and 0.1/σ are the same
        ] {
            let found = spacing(SampledGaussian::new(sigma, rate).unwrap());
            assert!(
                (found / expected - 1.0).abs() < 1e-6,
                "{sigma} {rate}: {found}"
            );
        }
    }

    /// Masses that came out negative show the transform's error: ten times as much raises ε, and an
    /// error of more than a hundredth of δ is no answer.
    #[test]
    fn ten_times_the_negative_mass_is_added_and_a_delta_below_a_hundred_times_it_is_refused() {
        let phases = [Phase::new(SampledGaussian::new(1.0, 0.1).unwrap(), 10).unwrap()];
        let composition = Composition::new(&phases, Direction::Remove, 0.01, 8.0);
        let tilt = Tilt {
            lambda: 0.0,
            epsilon: 0.0,
            mean: 0.0,
            deviation: 0.0,
        };
        let window = Window {
            first: 0,
            points: 512,
            above: 0.0,
        };
        // Relative to δ: mass 1.5 at loss 4, and an error at loss 5.
        let crossing = |error: f64| {
            let mut masses = vec![0.0; 512];
            (masses[400], masses[500]) = (1.5, -error);
            composition.crossing(&tilt, &window, &masses).unwrap()
        };
        let (exact, found) = (crossing(0.0), crossing(0.005));
        // 1.5·(1 − e^(ε − 4)) = 1, and with ten times 0.005 more on the left.
        assert!((exact.epsilon - (4.0 + log(0.5 / 1.5))).abs() < 1e-9);
        assert!((found.epsilon - (4.0 + log(0.55 / 1.5))).abs() < 1e-9);
        assert_eq!((exact.error, found.error), (0.0, 0.005));
        assert_eq!(ERRORS.end, 1.0 / 100.0);
        // Little noise and a δ far below what a transform resolves.
        let many = Phase::new(SampledGaussian::new(0.3, 0.01).unwrap(), 3).unwrap();
        let refused = epsilon(&[many], Delta::new(1e-200).unwrap());
        assert!(
            matches!(refused, Err(PrivacyError::Unresolved { .. })),
            "{refused:?}"
        );
    }

    /// What lies beyond the dots counts as an infinite loss: it is taken from δ, and a δ that it
    /// exceeds is refused with what can be resolved.
    #[test]
    fn the_mass_beyond_the_dots_is_taken_from_delta() {
        let phases = [Phase::new(SampledGaussian::new(1.0, 0.1).unwrap(), 10).unwrap()];
        let within = |reach, delta| {
            let composition = Composition::new(&phases, Direction::Remove, 0.01, reach);
            composition.epsilon(delta)
        };
        let Err(Failure::Unresolved { least }) = within(3.0, 1e-9) else {
            panic!("dots to three deviations cannot resolve 1e-9");
        };
        // Ten steps, in each of which the mass beyond three deviations is 0.00135 or less.
        assert!((1e-4..1.36e-2).contains(&least), "{least}");
        let (few, all) = (within(3.0, 1.01 * least), within(8.0, 1.01 * least));
        let (Ok(few), Ok(all)) = (few, all) else {
            panic!("a delta above that mass is resolved");
        };
        assert!(few > 1.2 * all, "{few} {all}");
    }
}
