//! Local training with differential privacy: for each example by DP-SGD (Abadi et al. 2016, arXiv
//! 1607.00133), or for all rows of a peer together (`update`).
//!
//! In DP-SGD a step draws a lot by Poisson sampling, clips each unit's gradient to norm C, adds noise of
//! deviation σ·C to their sum and divides by a constant. From there on the noised gradient is used
//! as any gradient is: momentum, weight decay and corrections look at nothing else. What comes out
//! holds nothing that was not noised: no loss, no number of rows, no size of a lot. A gradient that
//! is not finite counts as none, and an empty lot takes its step of noise, so that neither shows.
//!
//! A unit is a row, or a group of rows that belong together, such as a patient's. A group counts as
//! one gradient, the sum of its rows', and takes part as a whole.
//!
//! Not here: what it costs (`kith_consensus::privacy`), and who permits it.

use kith_consensus::Problem;
use kith_consensus::charter::{Guarantee, Mechanism};
use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::privacy::ledger::Slack;
use kith_consensus::privacy::noise::{self, Noise, NoiseScale, ReleaseKey};
use kith_consensus::privacy::sampling::PoissonSampling;
use kith_consensus::privacy::{Phase, PrivacyError, SampledGaussian};
use zeroize::Zeroize;

mod longest;
mod update;

use super::optimizer::Optimizer;
use super::{Request, Trained, Trainer};
use crate::data::Dataset;
use crate::model::{Clipping, Network, Workspace, exp_negative};
use crate::schema::GROUP_MAX;
use crate::task::{ModelError, Task};

/// Why private training is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateError {
    /// A parameter of the mechanism.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    /// Start, memory or correction do not suit the model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A lot size that is not possible.
    #[error("lot size {found}: expected from 1 to {LOT_MAX}, the units expected in a step")]
    LotSize {
        /// What was given.
        found: usize,
    },
    /// Lots of an audit that rounding would spoil.
    #[error(
        "an audit with lots of {found} units: expected at most {AUDITED_LOT_MAX}; audit fewer rows"
    )]
    AuditedLot {
        /// The units expected in a step.
        found: usize,
    },
    /// So few units that most lots are empty.
    #[error(
        "{units} units at sampling rate {rate} make lots of {expected:.2}; expected at least one unit in a lot: raise the rate or bring more rows"
    )]
    TooFewUnits {
        /// The peer's units.
        units: usize,
        /// The sampling rate.
        rate: f64,
        /// Their product.
        expected: f64,
    },
    /// More units than the lot size and the sampling rate allow for.
    #[error(
        "{units} units at sampling rate {rate} make lots of {expected:.1}, more than the lot size {lot}; lower the rate or raise the lot size"
    )]
    TooManyUnits {
        /// The peer's units.
        units: usize,
        /// The sampling rate.
        rate: f64,
        /// Their product.
        expected: f64,
        /// The lot size.
        lot: usize,
    },
    /// Units of other rows than the trainer's.
    #[error("the units name {found} rows, and the trainer has {expected}")]
    Rows {
        /// Rows of the trainer.
        expected: usize,
        /// Rows that the units were made of.
        found: usize,
    },
    /// A cap on a group's rows that is not possible.
    #[error("a cap of {found} rows a group: expected from 1 to {GROUP_MAX}")]
    GroupCap {
        /// What was given.
        found: usize,
    },
    /// Rows that tell no groups, under a schema that asks for them.
    #[error(
        "data.group is {column:?}, and these rows have no such column; expected a table that has it"
    )]
    NoGroups {
        /// The column.
        column: String,
    },
    /// A clip on whole gradients beside that on each unit's.
    #[error(
        "training.clip_norm is {found}: expected 0 in private training, which clips each unit's gradient instead"
    )]
    ClipNorm {
        /// What the charter says.
        found: f64,
    },
    /// A model without per-row gradients.
    #[error(
        "private training needs a model of convolutions and linear layers; this one has others"
    )]
    Architecture,
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes: {0}; nothing was released")]
    Entropy(String),
}

/// Largest lot size: f32 sums over blocks of rows cost at most a hundredth of the clip norm up to
/// here.
const LOT_MAX: usize = 4096;

/// Largest lot of an audit. The clip norm is lowered by what rounding may add to it, by an eighth
/// here, so that a lot beyond [`LOT_MAX`] keeps its guarantee and only learns from less.
const AUDITED_LOT_MAX: usize = 1 << 16;

/// Values noised at once: they stay in the first cache.
const BLOCK: usize = 1024;

/// A key for one release, from the operating system's random bytes.
///
/// # Errors
/// When the operating system gives none.
pub fn fresh_release_key() -> Result<ReleaseKey, PrivateError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| PrivateError::Entropy(error.to_string()))?;
    let key = ReleaseKey::new(bytes);
    bytes.zeroize();
    Ok(key)
}

/// What a release's training does, the same for every peer whatever its rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrivateTraining {
    scale: NoiseScale,
    mechanism: Mechanism,
    steps: u64,
}

impl PrivateTraining {
    /// `steps` steps with noise of `scale`, in which each unit takes part as `sampling` says;
    /// gradients are divided by `lot`, the expected number of units, at most 4096.
    ///
    /// # Errors
    /// A lot size outside 1 to 4096, no step.
    pub fn new(
        scale: NoiseScale,
        sampling: PoissonSampling,
        lot: usize,
        steps: u64,
    ) -> Result<PrivateTraining, PrivateError> {
        if !(1..=LOT_MAX).contains(&lot) {
            return Err(PrivateError::LotSize { found: lot });
        }
        let mechanism = Mechanism::ExampleLevel { sampling, lot };
        PrivateTraining::by(mechanism, scale, steps)
    }

    /// `steps` steps as without a guarantee, whose whole change then gets noise of `scale`.
    ///
    /// # Errors
    /// No step.
    pub fn of_updates(scale: NoiseScale, steps: u64) -> Result<PrivateTraining, PrivateError> {
        PrivateTraining::by(Mechanism::UpdateLevel, scale, steps)
    }

    fn by(
        mechanism: Mechanism,
        scale: NoiseScale,
        steps: u64,
    ) -> Result<PrivateTraining, PrivateError> {
        let private = PrivateTraining {
            scale,
            mechanism,
            steps,
        };
        private.phase()?;
        Ok(private)
    }

    /// The same noise and sampling rate for a peer with at most so many units, whose lots are as
    /// large as such a peer's: for an audit, whose canaries may be more than a charter's lots bear.
    ///
    /// # Errors
    /// More units than an audit's lots may have, 65,536.
    pub fn for_units(&self, units: usize) -> Result<PrivateTraining, PrivateError> {
        let Mechanism::ExampleLevel { sampling, .. } = self.mechanism else {
            return Ok(*self);
        };
        let lot = (sampling.rate() * units as f64).ceil().max(1.0) as usize;
        if lot > AUDITED_LOT_MAX {
            return Err(PrivateError::AuditedLot { found: lot });
        }
        let mechanism = Mechanism::ExampleLevel { sampling, lot };
        PrivateTraining::by(mechanism, self.scale, self.steps)
    }

    /// The same noise for a peer with a single unit, which surely takes part: what an attacker would
    /// like best.
    ///
    /// # Errors
    /// None that a guarantee which was accounted has.
    pub fn for_one_unit(&self) -> Result<PrivateTraining, PrivateError> {
        match self.mechanism {
            Mechanism::ExampleLevel { .. } => {
                PrivateTraining::new(self.scale, PoissonSampling::new(1.0)?, 1, self.steps)
            }
            Mechanism::UpdateLevel => Ok(*self),
        }
    }

    /// What a charter says.
    fn of(guarantee: &Guarantee) -> Result<PrivateTraining, PrivateError> {
        let (scale, steps) = (guarantee.scale(), guarantee.local_steps());
        match guarantee.mechanism() {
            Mechanism::ExampleLevel { sampling, lot } => {
                PrivateTraining::new(scale, sampling, lot, steps)
            }
            Mechanism::UpdateLevel => PrivateTraining::of_updates(scale, steps),
        }
    }

    /// The number of samples that every peer names.
    fn samples(&self) -> u64 {
        match self.mechanism {
            Mechanism::ExampleLevel { lot, .. } => lot as u64,
            Mechanism::UpdateLevel => 1,
        }
    }

    /// Whether a peer with so many units can take part: lots of no fewer than one unit and of no
    /// more than the lot size are expected.
    ///
    /// # Errors
    /// Too few units, or too many.
    pub fn check_units(&self, units: usize) -> Result<(), PrivateError> {
        let Mechanism::ExampleLevel { sampling, lot } = self.mechanism else {
            return Ok(());
        };
        let rate = sampling.rate();
        let expected = rate * units as f64;
        // The rate is rounded down a little, so that exactly one row may come out just below 1.
        if expected < 1.0 - 1e-6 {
            return Err(PrivateError::TooFewUnits {
                units,
                rate,
                expected,
            });
        }
        check_most(sampling, lot, units)
    }

    /// What has to be accounted for one call of [`Trainer::train_privately`], besides
    /// [`PrivateTraining::slack`].
    ///
    /// # Errors
    /// A noise multiplier or a number of steps that cannot be accounted.
    pub fn phase(&self) -> Result<Phase, PrivacyError> {
        let sigma = self.scale.noise_multiplier();
        let rate = self.mechanism.sampling_rate();
        Phase::new(SampledGaussian::new(sigma, rate)?, self.noised_steps())
    }

    /// Times that noise is added.
    fn noised_steps(&self) -> u64 {
        match self.mechanism {
            Mechanism::ExampleLevel { .. } => self.steps,
            // No step at all would release noise alone, which is refused as a mistake.
            Mechanism::UpdateLevel => self.steps.min(1),
        }
    }

    /// What has to be added to ε and δ for a model of `dimension` parameters: the noise's finite
    /// number of bits, and lots that are cut off. The latter is Bennett's bound for a sum of
    /// independent indicators of mean L to go beyond the cap, for each step: below 10⁻¹³.
    pub fn slack(&self, dimension: usize) -> Slack {
        let steps = self.noised_steps();
        let (epsilon, delta) = noise::slack(dimension as u64 * steps);
        let cut = match self.mechanism {
            Mechanism::ExampleLevel { lot, .. } => {
                let beyond = lot_max(lot) as f64 / lot as f64 - 1.0;
                (-(lot as f64) * ((1.0 + beyond) * beyond.ln_1p() - beyond)).exp()
            }
            Mechanism::UpdateLevel => 0.0,
        };
        Slack {
            epsilon,
            delta: delta + steps as f64 * cut,
        }
    }
}

/// Whether a peer with so many units has lots of no more than the lot size.
fn check_most(sampling: PoissonSampling, lot: usize, units: usize) -> Result<(), PrivateError> {
    let rate = sampling.rate();
    let expected = rate * units as f64;
    if expected > lot as f64 {
        return Err(PrivateError::TooManyUnits {
            units,
            rate,
            expected,
            lot,
        });
    }
    Ok(())
}

/// Most units of a lot; further ones are left out. L + 8√L alone would cut off one lot of a hundred
/// thousand where L is 1, since small lots vary less evenly.
fn lot_max(lot: usize) -> usize {
    lot + (8.0 * (lot as f64).sqrt()).ceil() as usize + 16
}

/// The norm to which units are clipped, such that sums differ by at most C between neighbours in
/// spite of rounding: 2·10⁻⁵ for a row's norm and scale, and for each of both sums 15 roundings of
/// 2⁻²⁴ in a block of 16 rows.
fn clip(scale: NoiseScale, lot: usize) -> f64 {
    if planted(Mutant::NoClip) {
        return 1e9;
    }
    let roundings = 2.0 * 15.0 / (1u64 << 24) as f64;
    scale.clip() * (1.0 - 2e-5 - roundings * lot_max(lot) as f64)
}

/// Which rows make a unit: neighbouring data sets differ by one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    /// The rows of unit u are `rows[starts[u]..starts[u + 1]]`.
    starts: Vec<usize>,
    rows: Vec<usize>,
    /// Rows that they were made of.
    all: usize,
}

impl Units {
    /// Each of so many rows is a unit.
    pub fn rows(count: usize) -> Units {
        Units {
            starts: (0..=count).collect(),
            rows: (0..count).collect(),
            all: count,
        }
    }

    /// Rows of equal `groups` (one for each row) are a unit, of which the first `cap` are used.
    ///
    /// # Errors
    /// A cap outside 1 to 16.
    pub fn groups(groups: &[u64], cap: usize) -> Result<Units, PrivateError> {
        if !(1..=GROUP_MAX).contains(&cap) {
            return Err(PrivateError::GroupCap { found: cap });
        }
        let mut members: std::collections::BTreeMap<u64, Vec<usize>> = Default::default();
        for (row, group) in groups.iter().enumerate() {
            members.entry(*group).or_default().push(row);
        }
        let (mut starts, mut rows) = (vec![0], Vec::with_capacity(groups.len()));
        for members in members.values() {
            rows.extend(members.iter().take(cap));
            starts.push(rows.len());
        }
        Ok(Units {
            starts,
            rows,
            all: groups.len(),
        })
    }

    /// Number of units.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is no unit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn of(&self, unit: usize) -> &[usize] {
        &self.rows[self.starts[unit]..self.starts[unit + 1]]
    }
}

/// The results of a round of private training: all of it was noised, so all of it may be released.
#[derive(Clone, Debug, PartialEq)]
pub struct PrivatelyTrained {
    /// The parameters afterwards. They may be anything, as noise may.
    pub parameters: Vec<f32>,
    /// Number of optimizer steps, the charter's.
    pub local_steps: u64,
    /// The round's step size.
    pub rate: f64,
    /// What the optimizer carries to the next round, as in [`super::Trained::memory`].
    pub memory: Option<Vec<f32>>,
}

impl PrivatelyTrained {
    /// The same as the result of any training. The number of samples is one for all peers, and there
    /// is no loss: both would tell of the rows.
    pub fn trained(self, private: &PrivateTraining) -> Trained {
        Trained {
            parameters: self.parameters,
            samples: private.samples(),
            local_steps: self.local_steps,
            rate: self.rate,
            loss: f64::NAN,
            memory: self.memory,
        }
    }
}

impl Task {
    /// How its peers train under a guarantee.
    ///
    /// # Errors
    /// At the example level a model without gradients for each row, a lot size outside 1 to 4096.
    pub fn private_training(&self, guarantee: &Guarantee) -> Result<PrivateTraining, PrivateError> {
        if let Mechanism::ExampleLevel { .. } = guarantee.mechanism() {
            self.network().ok_or(PrivateError::Architecture)?;
        }
        PrivateTraining::of(guarantee)
    }

    /// The units of these rows: each row, or the groups of the schema.
    ///
    /// # Errors
    /// When the schema asks for groups and the rows do not tell any.
    pub fn units(&self, rows: &Dataset) -> Result<Units, PrivateError> {
        let Some(group) = &self.schema().group else {
            return Ok(Units::rows(rows.len()));
        };
        let groups = rows.groups().ok_or_else(|| PrivateError::NoGroups {
            column: group.column.clone(),
        })?;
        Units::groups(groups, group.rows)
    }

    /// Whether a charter's guarantee can be kept with its model and its training.
    ///
    /// # Errors
    /// What [`Task::private_training`] refuses, as a problem of the charter.
    pub fn check_guarantee(&self, guarantee: Option<&Guarantee>) -> Result<(), Vec<Problem>> {
        let error = guarantee.and_then(|guarantee| self.private_training(guarantee).err());
        let Some(error) = error else {
            return Ok(());
        };
        Err(vec![Problem {
            key: "privacy.mechanism".to_owned(),
            line: 0,
            column: 0,
            span: None,
            what: error.to_string(),
        }])
    }
}

impl Trainer {
    /// The units of the peer's rows.
    ///
    /// # Errors
    /// When the schema asks for groups and the rows do not tell any.
    pub fn units(&self) -> Result<Units, PrivateError> {
        self.task.units(&self.data)
    }

    /// Trains for one round and releases the result, once: the key is used up. The release has to
    /// be charged before.
    ///
    /// # Errors
    /// What cannot be trained privately; whether it can follows from the charter and the number of
    /// units, never from the values of rows.
    pub fn train_privately(
        &self,
        request: &Request<'_>,
        private: &PrivateTraining,
        units: &Units,
        key: ReleaseKey,
    ) -> Result<PrivatelyTrained, PrivateError> {
        match private.mechanism {
            Mechanism::ExampleLevel { sampling, lot } => {
                let lots = (sampling, lot);
                self.train_by_examples(request, (private.scale, private.steps), lots, (units, key))
            }
            Mechanism::UpdateLevel => self.train_by_update(request, private.scale, key),
        }
    }

    /// DP-SGD: `steps` steps with noise of `scale`, on lots of units.
    fn train_by_examples(
        &self,
        request: &Request<'_>,
        (scale, steps): (NoiseScale, u64),
        (sampling, lot_size): (PoissonSampling, usize),
        (units, key): (&Units, ReleaseKey),
    ) -> Result<PrivatelyTrained, PrivateError> {
        check_most(sampling, lot_size, units.len())?;
        self.train_lots(request, (scale, steps), (sampling, lot_size), (units, key))
    }

    /// The same, whatever the size of the lots that are to be expected.
    fn train_lots(
        &self,
        request: &Request<'_>,
        (scale, steps): (NoiseScale, u64),
        (sampling, lot_size): (PoissonSampling, usize),
        (units, key): (&Units, ReleaseKey),
    ) -> Result<PrivatelyTrained, PrivateError> {
        let network = self.check_examples(request, units)?;
        let training = self.task.training();
        let mut optimizer = Optimizer::new(training, request, steps, Vec::new());
        let mut parameters = request.start.to_vec();
        let mut lots = Lots::new(self, network, clip(scale, lot_size), parameters.len());
        let mut lot = Vec::new();
        for step in 0..steps {
            sampling.draw(&key, step, units.len(), &mut lot);
            lot.truncate(lot_max(lot_size));
            if planted(Mutant::FixedLots) {
                lot = (0..(sampling.rate() * units.len() as f64) as usize).collect();
            }
            let sums = lots.sums(&parameters, units, &lot);
            let mut noise = Noise::new(&key, step, scale);
            let mut block = [0.0; BLOCK];
            for first in (0..sums.len()).step_by(BLOCK) {
                let range = first..(first + BLOCK).min(sums.len());
                let gradient = &mut block[..range.len()];
                noise.release(&sums[range.clone()], gradient);
                if first == 0 && planted(Mutant::BareTensor) {
                    let sums = &sums[range.clone()];
                    (gradient.iter_mut().zip(sums)).for_each(|(value, sum)| *value = *sum as f32);
                }
                let scale = 1.0 / lot_size as f32;
                gradient.iter_mut().for_each(|value| *value *= scale);
                let (start, here) = (
                    &request.start[range.clone()],
                    &mut parameters[range.clone()],
                );
                training.kind.add_gradient(start, here, gradient);
                optimizer.step(range, 1.0, gradient, here);
            }
        }
        Ok(PrivatelyTrained {
            parameters,
            local_steps: steps,
            rate: training.rate(request.round),
            memory: optimizer.memory(request.start, &mut Default::default()),
        })
    }

    fn check_examples(
        &self,
        request: &Request<'_>,
        units: &Units,
    ) -> Result<&Network, PrivateError> {
        self.check(request)?;
        let (expected, found) = (self.data.len(), units.all);
        if found != expected {
            return Err(PrivateError::Rows { expected, found });
        }
        let clip_norm = self.task.training().clip_norm;
        if clip_norm != 0.0 {
            return Err(PrivateError::ClipNorm { found: clip_norm });
        }
        self.task.network().ok_or(PrivateError::Architecture)
    }
}

/// The sums of lots' clipped gradients.
struct Lots<'a> {
    trainer: &'a Trainer,
    network: &'a Network,
    clip: f64,
    workspace: Workspace,
    clipping: Clipping,
    sums: Vec<f64>,
}

impl<'a> Lots<'a> {
    fn new(trainer: &'a Trainer, network: &'a Network, clip: f64, dimension: usize) -> Lots<'a> {
        Lots {
            trainer,
            network,
            clip,
            workspace: Workspace::default(),
            clipping: Clipping::default(),
            sums: vec![0.0; dimension],
        }
    }

    /// The sum of the clipped gradients of the units of a lot.
    fn sums(&mut self, parameters: &[f32], units: &Units, lot: &[usize]) -> &[f64] {
        self.sums.fill(0.0);
        let most = self.network.rows_clipped();
        let (mut rows, mut lengths) = (Vec::with_capacity(most), Vec::with_capacity(most));
        for unit in lot {
            let unit = units.of(*unit);
            if rows.len() + unit.len() > most {
                self.add(parameters, &rows, &lengths);
                rows.clear();
                lengths.clear();
            }
            rows.extend_from_slice(unit);
            lengths.push(unit.len());
        }
        if !rows.is_empty() {
            self.add(parameters, &rows, &lengths);
        }
        &self.sums
    }

    fn add(&mut self, parameters: &[f32], rows: &[usize], lengths: &[usize]) {
        let data = &self.trainer.data;
        data.gather(rows, &mut self.workspace.inputs);
        let logits = self
            .network
            .logits(parameters, rows.len(), &mut self.workspace);
        let classes = self.trainer.task.schema().classes;
        for (logits, row) in logits.chunks_exact_mut(classes).zip(rows) {
            replace_by_residuals(logits, data.labels()[*row] as usize);
        }
        self.network.add_clipped(
            parameters,
            lengths,
            self.clip,
            &mut self.workspace,
            &mut self.clipping,
            &mut self.sums,
        );
    }
}

/// Replaces a row's logits by the gradient of its cross-entropy, softmax − one-hot; NaN if one is
/// not finite.
fn replace_by_residuals(logits: &mut [f32], label: usize) {
    if !logits.iter().all(|logit| logit.is_finite()) {
        return logits.fill(f32::NAN);
    }
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits
        .iter_mut()
        .for_each(|logit| *logit = exp_negative(*logit - largest));
    let factor = 1.0 / logits.iter().sum::<f32>();
    logits.iter_mut().for_each(|power| *power *= factor);
    logits[label] -= 1.0;
}

#[cfg(test)]
mod tests;
