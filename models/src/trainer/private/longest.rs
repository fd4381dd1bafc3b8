//! The longest that a release may take to train, for a clock.

use kith_consensus::charter::Mechanism;
use kith_consensus::privacy::sampling::PoissonSampling;

use super::{PrivateError, PrivateTraining, Units, fresh_release_key, lot_max};
use crate::data::Dataset;
use crate::trainer::{Request, Trainer};

impl Trainer {
    /// Trains as for a release whose lots are as large as lots can be, on blank rows, and keeps
    /// nothing of it. How long that takes follows from the charter and the machine, and not from any
    /// row of the peer's.
    ///
    /// # Errors
    /// As [`Trainer::train_privately`].
    pub fn train_longest(&self, private: &PrivateTraining) -> Result<(), PrivateError> {
        let start = vec![0.0; self.task.layout().dimension];
        let request = Request::new(&start, 0);
        let key = fresh_release_key()?;
        let Mechanism::ExampleLevel { lot, .. } = private.mechanism else {
            let blank = self.on_blank_rows(self.task.training().batch_size)?;
            blank.train_by_update(&request, private.scale, key)?;
            return Ok(());
        };
        let of_unit = self.task.schema().group.as_ref();
        let of_unit = of_unit.map_or(1, |group| group.rows);
        let blank = self.on_blank_rows(lot_max(lot) * of_unit)?;
        let groups = (0..blank.data.len()).map(|row| (row / of_unit) as u64);
        let units = Units::groups(&groups.collect::<Vec<u64>>(), of_unit)?;
        let lots = (PoissonSampling::new(1.0)?, lot);
        blank.train_lots(
            &request,
            (private.scale, private.steps),
            lots,
            (&units, key),
        )?;
        Ok(())
    }

    /// A trainer of the same task over so many rows of zeros.
    fn on_blank_rows(&self, rows: usize) -> Result<Trainer, PrivateError> {
        let features = self.data.features();
        let one = Dataset::from_numbers(vec![0.0; features], vec![0], features);
        Ok(self.task.trainer(one.select(&vec![0; rows]), self.seed)?)
    }
}
