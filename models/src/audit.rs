//! Attacks on what a peer releases, as figures: what they find out about its rows with and without
//! a guarantee.
//!
//! [`inversion`] reads a row out of what one step changed; [`membership`] tells from a final model
//! whether a row was trained on (LiRA); [`one_run`] bounds ε from below by guessing which of many
//! canaries a single run has seen. An attack that finds nothing proves nothing: each is tried
//! without the guarantee as well, where it has to succeed.
//!
//! Not here: what a guarantee promises (`kith_consensus::privacy`).

pub mod inversion;
pub mod membership;
pub mod one_run;

use kith_consensus::Seed;
use kith_consensus::privacy::noise::ReleaseKey;

use crate::data::Dataset;
use crate::model::Workspace;
use crate::task::{ModelError, Task};
use crate::trainer::{PrivateError, PrivateTraining, Request, Units};

/// How a peer trains: the subject of the attacks.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Model, schema and training.
    pub task: &'a Task,
    /// The guarantee under which it trains; `None` without one.
    pub private: Option<&'a PrivateTraining>,
    /// Rounds of training, each of which releases.
    pub rounds: u64,
}

/// Sees the parameters before and after a round.
type Watch<'a> = dyn FnMut(&[f32], &[f32]) -> Result<(), PrivateError> + 'a;

impl Subject<'_> {
    /// Trains alone on these rows, each round from what the one before released. The keys of the noise follow from `seed`, so that an
    /// audit repeats; nothing of it may be published as if it were protected.
    fn train(
        &self,
        rows: Dataset,
        seed: &Seed,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<f32>, PrivateError> {
        let units = Units::rows(rows.len());
        let trainer = self.task.trainer(rows, seed.child("batches"))?;
        let (mut parameters, mut memory) = (self.task.initial_parameters(), None);
        for round in 0..self.rounds {
            let request = Request {
                memory: memory.as_deref(),
                ..Request::new(&parameters, round)
            };
            let (after, kept) = match self.private {
                None => {
                    let trained = trainer.train(&request)?;
                    (trained.parameters, trained.memory)
                }
                Some(private) => {
                    let key = ReleaseKey::new(seed.child(&format!("key {round}")).0);
                    let trained = trainer.train_privately(&request, private, &units, key)?;
                    (trained.parameters, trained.memory)
                }
            };
            watch(&parameters, &after)?;
            (parameters, memory) = (after, kept);
        }
        Ok(parameters)
    }
}

impl Task {
    /// The gradient of one row's loss, into `out`.
    fn gradient_of(
        &self,
        parameters: &mut [f32],
        (data, row): (&Dataset, usize),
        workspace: &mut Workspace,
        out: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        out.clear();
        out.resize(parameters.len(), 0.0);
        let mut keep = |range: std::ops::Range<usize>, _: &mut [f32], part: &mut [f32]| {
            out[range].copy_from_slice(part);
        };
        self.descend(parameters, data, &[row], workspace, &mut keep)?;
        Ok(())
    }
}

/// Σ aᵢ bᵢ in f64.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.sum()
}
