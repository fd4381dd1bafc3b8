//! `[privacy]`: which guarantee the releases of a federation have, and how much of it may be spent.
//!
//! All that is released of a round follows from this section and from `[training]`: the same for
//! every peer, whatever its rows. Not here: the arithmetic ([`crate::privacy`]) and what is done
//! with the rows (`kith-models`).

use serde::{Deserialize, Serialize};

use super::Declared;

use crate::privacy::filter::RdpFilter;
use crate::privacy::noise::NoiseScale;
use crate::privacy::sampling::PoissonSampling;
use crate::privacy::{Delta, Epsilon, Phase, PrivacyError, SampledGaussian};
use crate::section::Section;

/// What is protected: neighbouring data sets differ by one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A row of one peer, added or removed.
    Row,
    /// The rows of one peer that belong together, added or removed.
    Group,
    /// All rows of one peer: with them, or as if its training had changed nothing.
    Peer,
}

impl Unit {
    /// Its name in statements: `row`, `group` or `peer`.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Row => "row",
            Unit::Group => "group",
            Unit::Peer => "peer",
        }
    }

    /// The value of `privacy.mechanism` that protects it: `example-level` or `update-level`.
    pub fn mechanism(self) -> &'static str {
        match self {
            Unit::Row | Unit::Group => "example-level",
            Unit::Peer => "update-level",
        }
    }
}

/// How releases come about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mechanism {
    /// DP-SGD (Abadi et al. 2016, arXiv 1607.00133). In each local step a row takes part with the
    /// probability of `sampling`, its gradient is clipped to norm C, noise of deviation σ·C is added
    /// to the sum, and the sum is divided by `lot`.
    ExampleLevel {
        /// How rows take part in a step.
        sampling: PoissonSampling,
        /// The number by which a step's noised sum is divided: `training.batch_size`. A peer with
        /// this many rows over the sampling rate takes steps of the usual length; with fewer rows
        /// its steps are shorter, and one with more does not take part.
        lot: usize,
    },
    /// What a round's training changed is clipped to norm C as one vector, and noise of deviation
    /// σ·C is added to each value ([`crate::privacy::update`]).
    UpdateLevel,
}

impl Mechanism {
    /// Share of the units that take part in a step: all, for a peer that publishes is seen to do so.
    pub fn sampling_rate(self) -> f64 {
        match self {
            Mechanism::ExampleLevel { sampling, .. } => sampling.rate(),
            Mechanism::UpdateLevel => 1.0,
        }
    }

    /// By what a noised value is divided before it moves a parameter.
    pub fn divisor(self) -> f64 {
        match self {
            Mechanism::ExampleLevel { lot, .. } => lot as f64,
            Mechanism::UpdateLevel => 1.0,
        }
    }
}

/// What `[privacy]` itself says of a guarantee.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Asked {
    scale: NoiseScale,
    /// `None` at the update level.
    sampling: Option<PoissonSampling>,
    delta: Delta,
    epsilon: Epsilon,
}

impl Asked {
    /// `None` without a guarantee, or if something is wrong, which is noted.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Asked> {
        let names = ["none", Unit::Row.mechanism(), Unit::Peer.mechanism()];
        let mechanism = section.choice("mechanism", Some("none"), &names);
        if mechanism == "none" {
            return None;
        }
        let samples = mechanism == Unit::Row.mechanism();
        let clip = positive(section, "clip_norm", |clip| NoiseScale::new(1.0, clip));
        let sigma = positive(section, "noise_multiplier", |sigma| {
            NoiseScale::new(sigma, 1.0)
        });
        let sampling = match samples {
            true => Some(positive(section, "sampling_rate", PoissonSampling::new)),
            false => None,
        };
        if !samples && section.has("sampling_rate") {
            let _ = section.number("sampling_rate", None, f64::MIN..=f64::MAX);
            let what = "at the update level every round counts in full, since neighbours see who \
                        takes part; expected no sampling_rate";
            section.note("sampling_rate", what);
        }
        let delta = positive(section, "delta", Delta::new);
        let epsilon = positive(section, "epsilon_budget", Epsilon::new);
        let (clip, sigma) = (clip?.clip(), sigma?.noise_multiplier());
        let sampling = match sampling {
            Some(rate) => Some(rate?),
            None => None,
        };
        Some(Asked {
            scale: NoiseScale::new(sigma, clip).ok()?,
            sampling,
            delta: delta?,
            epsilon: epsilon?,
        })
    }

    /// What is to be protected, where rows stand alone.
    pub(super) fn unit(&self) -> Unit {
        match self.sampling {
            Some(_) => Unit::Row,
            None => Unit::Peer,
        }
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

/// The guarantee of a charter: each unit of a peer is protected, against everybody else.
#[derive(Clone, Debug, PartialEq)]
pub struct Guarantee {
    unit: Unit,
    mechanism: Mechanism,
    scale: NoiseScale,
    delta: Delta,
    epsilon: Epsilon,
    local_steps: u64,
    release: Phase,
    releases: u64,
    /// Nothing is spent of it.
    filter: RdpFilter,
}

impl Guarantee {
    /// The guarantee of `releases` rounds of `local_steps` steps, on the batches that are declared.
    ///
    /// # Errors
    /// When the budget does not even pay for one release.
    pub(super) fn new(
        asked: Asked,
        local_steps: u64,
        declared: &Declared,
        releases: u64,
    ) -> Result<Guarantee, PrivacyError> {
        let Asked {
            scale,
            sampling,
            delta,
            epsilon,
        } = asked;
        let lot = declared.batch_size;
        let (mechanism, steps) = match sampling {
            Some(sampling) => (Mechanism::ExampleLevel { sampling, lot }, local_steps),
            None => (Mechanism::UpdateLevel, 1),
        };
        let unit = match (asked.unit(), declared.groups_rows) {
            (Unit::Row, true) => Unit::Group,
            (unit, _) => unit,
        };
        let gaussian = SampledGaussian::new(scale.noise_multiplier(), mechanism.sampling_rate())?;
        let release = Phase::new(gaussian, steps)?;
        let plan = Phase::new(gaussian, steps.saturating_mul(releases.max(1)))?;
        let filter = RdpFilter::for_plan(epsilon, delta, &[plan])?;
        filter.clone().charge(&release)?;
        Ok(Guarantee {
            unit,
            mechanism,
            scale,
            delta,
            epsilon,
            local_steps,
            release,
            releases,
            filter,
        })
    }

    /// How releases come about.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// What is protected.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Clip norm C and noise multiplier σ.
    pub fn scale(&self) -> NoiseScale {
        self.scale
    }

    /// δ of the guarantee.
    pub fn delta(&self) -> Delta {
        self.delta
    }

    /// ε that may be spent of a data set at that δ.
    pub fn budget(&self) -> Epsilon {
        self.epsilon
    }

    /// Local steps of a round.
    pub fn local_steps(&self) -> u64 {
        self.local_steps
    }

    /// The number of rows that every peer names, whatever it has.
    pub fn samples(&self) -> u64 {
        match self.mechanism {
            Mechanism::ExampleLevel { lot, .. } => lot as u64,
            Mechanism::UpdateLevel => 1,
        }
    }

    /// What one release costs: that of a round.
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
