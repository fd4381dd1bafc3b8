//! `[privacy]`: which guarantee the releases of a federation have, and how much of it may be spent.
//!
//! All that is released of a round under `example-level` follows from this section and from
//! `[training]`: the same for every peer, whatever its rows. Not here: the arithmetic
//! ([`crate::privacy`]) and what is done with the rows (`kith-models`).

use crate::privacy::filter::RdpFilter;
use crate::privacy::noise::NoiseScale;
use crate::privacy::sampling::PoissonSampling;
use crate::privacy::{Delta, Epsilon, Phase, PrivacyError, SampledGaussian};
use crate::section::Section;

/// What `[privacy]` itself says of `example-level`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Terms {
    scale: NoiseScale,
    sampling: PoissonSampling,
    delta: Delta,
    epsilon: Epsilon,
}

impl Terms {
    /// `None` without a guarantee, or if something is wrong, which is noted.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Terms> {
        let mechanism = section.choice("mechanism", Some("none"), &["none", "example-level"]);
        if mechanism != "example-level" {
            return None;
        }
        let clip = positive(section, "clip_norm", |clip| NoiseScale::new(1.0, clip));
        let sigma = positive(section, "noise_multiplier", |sigma| {
            NoiseScale::new(sigma, 1.0)
        });
        let sampling = positive(section, "sampling_rate", PoissonSampling::new);
        let delta = positive(section, "delta", Delta::new);
        let epsilon = positive(section, "epsilon_budget", Epsilon::new);
        let (clip, sigma) = (clip?.clip(), sigma?.noise_multiplier());
        Some(Terms {
            scale: NoiseScale::new(sigma, clip).ok()?,
            sampling: sampling?,
            delta: delta?,
            epsilon: epsilon?,
        })
    }
}

/// Reads a number that only its type can judge. There is no default: how much privacy is enough is
/// for the members to say.
fn positive<T>(
    section: &mut Section<'_>,
    key: &str,
    judge: impl FnOnce(f64) -> Result<T, PrivacyError>,
) -> Option<T> {
    let found = section.number(key, None, f64::MIN..=f64::MAX);
    match judge(found) {
        Ok(value) => Some(value),
        Err(error) => {
            // A missing key, or one that is no number, has its problem already; then `found` is the
            // start of the range.
            if section.has(key) && found != f64::MIN {
                section.note(key, error.to_string());
            }
            None
        }
    }
}

/// `mechanism = "example-level"`: each row of a peer is protected (DP-SGD, Abadi et al. 2016,
/// arXiv 1607.00133).
///
/// In each local step a row takes part with probability q, its gradient is clipped to norm C,
/// noise of deviation σ·C is added to the sum, and the sum is divided by the lot size. Neighbouring
/// data sets differ by one row of one peer that is added or removed.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleLevel {
    scale: NoiseScale,
    sampling: PoissonSampling,
    delta: Delta,
    epsilon: Epsilon,
    lot: usize,
    release: Phase,
    releases: u64,
    /// Nothing is spent of it.
    filter: RdpFilter,
}

impl ExampleLevel {
    /// # Errors
    /// When the budget does not even pay for one release.
    pub(super) fn new(
        terms: Terms,
        steps: u64,
        lot: usize,
        releases: u64,
    ) -> Result<ExampleLevel, PrivacyError> {
        let Terms {
            scale,
            sampling,
            delta,
            epsilon,
        } = terms;
        let mechanism = SampledGaussian::new(scale.noise_multiplier(), sampling.rate())?;
        let release = Phase::new(mechanism, steps)?;
        let plan = Phase::new(mechanism, steps.saturating_mul(releases.max(1)))?;
        let filter = RdpFilter::for_plan(epsilon, delta, &[plan])?;
        filter.clone().charge(&release)?;
        Ok(ExampleLevel {
            scale,
            sampling,
            delta,
            epsilon,
            lot,
            release,
            releases,
            filter,
        })
    }

    /// Clip norm C and noise multiplier σ.
    pub fn scale(&self) -> NoiseScale {
        self.scale
    }

    /// How rows take part in a step.
    pub fn sampling(&self) -> PoissonSampling {
        self.sampling
    }

    /// δ of the guarantee.
    pub fn delta(&self) -> Delta {
        self.delta
    }

    /// ε that may be spent of a data set at that δ.
    pub fn budget(&self) -> Epsilon {
        self.epsilon
    }

    /// The number by which a step's noised sum is divided: `training.batch_size`. A peer with this
    /// many rows over q takes steps of the usual length; with fewer rows its steps are shorter, and
    /// one with more does not take part.
    pub fn lot(&self) -> usize {
        self.lot
    }

    /// What one release costs: the local steps of a round.
    pub fn release(&self) -> Phase {
        self.release
    }

    /// Releases of a peer that takes part in every round.
    pub fn releases(&self) -> u64 {
        self.releases
    }

    /// What they cost together.
    pub fn plan(&self) -> Phase {
        let steps = self.release.steps().saturating_mul(self.releases.max(1));
        Phase::new(self.release.mechanism(), steps).expect("it was accounted when it was read")
    }

    /// The filter that stops releases at the budget, at the order that is fixed with the charter.
    pub fn filter(&self) -> &RdpFilter {
        &self.filter
    }
}
