//! Training with differential privacy for all rows of a peer together.
//!
//! Local steps are the same as without a guarantee. What they changed is clipped and noised as one
//! vector, and nothing else of them comes out: no loss, no memory of the optimizer, and not whether
//! they diverged.

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::privacy::noise::{NoiseScale, ReleaseKey};
use kith_consensus::privacy::update::release_update;

use super::{PrivateError, PrivatelyTrained};
use crate::task::ModelError;
use crate::trainer::{Request, Trainer};

impl Trainer {
    /// Trains for one round and releases the noised change.
    pub(super) fn train_by_update(
        &self,
        request: &Request<'_>,
        scale: NoiseScale,
        key: ReleaseKey,
    ) -> Result<PrivatelyTrained, PrivateError> {
        let training = self.task.training();
        let trained = match self.train(request) {
            Ok(trained) => trained.parameters,
            // It follows from the rows, and is released as if nothing had changed.
            Err(ModelError::Diverged { .. }) => request.start.to_vec(),
            Err(error) => return Err(error.into()),
        };
        let mut parameters = release_update(request.start, &trained, scale, key);
        if planted(Mutant::BareTensor) {
            parameters[0] = trained[0];
        }
        Ok(PrivatelyTrained {
            parameters,
            local_steps: training.steps(self.data.len()),
            rate: training.rate(request.round),
            memory: None,
        })
    }
}
