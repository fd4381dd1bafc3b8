//! The data sets that come with the testnet and the simulator, and how they are cut into training
//! and test rows.
//!
//! A peer of a real federation uses none of these: its own files go through
//! [`crate::source::open`].

mod digits;
mod fashion_mnist;
mod heart;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kith_consensus::registry::{Entry, Registry};
use kith_consensus::{Digest, Seed, Stream};

use crate::data::Dataset;
use crate::holdout::contents;
use crate::partition::largest_remainder;
use crate::schema::Schema;
pub use crate::site::Site;
use crate::source::{DataError, Source};

/// A data set in the table.
pub type DatasetEntry = Entry<DatasetFiles>;

/// How a data set is read, and its default settings.
#[derive(Clone, Copy, Debug)]
pub struct DatasetFiles {
    /// Reads its rows, compiled in or from files.
    pub load: fn(&DatasetOptions) -> Result<Loaded, DataError>,
    /// Default `[data]`, `[model]` and `[training]` for it, as TOML text.
    pub defaults: &'static str,
}

/// Every data set.
pub static DATASETS: Registry<DatasetFiles> = Registry::new(
    "data set",
    &[digits::ENTRY, fashion_mnist::ENTRY, heart::ENTRY],
);

/// Where a data set looks for its files.
#[derive(Clone, Debug, Default)]
pub struct DatasetOptions {
    /// The folder with the data set's files. `None`: its usual folders are searched.
    pub directory: Option<PathBuf>,
}

/// A data set in memory.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All rows, test rows included.
    pub source: Source,
    /// The split that its authors published, if they did.
    pub official: Option<Split>,
    /// Default number of test rows if there is no official split.
    pub test: TestSize,
    /// The sites that the rows come from, if they are known.
    pub sites: Option<Vec<Site>>,
}

/// Training and test rows, ascending positions, none in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Rows to be partitioned among peers.
    pub train: Vec<usize>,
    /// Rows held out from all peers.
    pub test: Vec<usize>,
}

/// How many rows are held out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TestSize {
    /// This number of rows.
    Rows(usize),
    /// This share of all, in (0, 1).
    Share(f64),
}

/// Rows of one class and site.
#[derive(Default)]
struct Stratum {
    /// Its rows, in the order in which they are drawn as test rows.
    rows: Vec<usize>,
    /// How many test rows it still has to provide.
    open: usize,
}

impl Loaded {
    /// Cuts off test rows, stratified by class, and by site if sites are known: each stratum gives
    /// its share, by largest remainder. Rows that are equal, features and label, stay on one side,
    /// so that no training row is tested. `test` overrides the data set's own size; without it an
    /// official split is used unchanged.
    ///
    /// # Errors
    /// When a label is not in the schema, or no row would be left to train on or to test on.
    pub fn split(
        &self,
        schema: &Schema,
        test: Option<TestSize>,
        seed: &Seed,
    ) -> Result<Split, DataError> {
        if let (None, Some(official)) = (test, &self.official) {
            return Ok(official.clone());
        }
        let rows = self.source.len();
        let wanted = match test.unwrap_or(self.test) {
            TestSize::Rows(wanted) => wanted,
            TestSize::Share(share) => (share * rows as f64).round() as usize,
        };
        if wanted == 0 || wanted >= rows {
            let what = format!(
                "{wanted} of {rows} rows asked for as test rows; expected from 1 to {}",
                rows - 1
            );
            return Err(DataError::format("data set".as_ref(), what));
        }
        let all = self.dataset(schema)?;
        let mut site = vec![0; rows];
        for (index, members) in self.sites.iter().flatten().enumerate() {
            members.rows.iter().for_each(|row| site[*row] = index);
        }
        let place = |row: usize| (site[row], all.labels()[row]);
        let mut strata = BTreeMap::<(usize, u32), Stratum>::new();
        (0..rows).for_each(|row| strata.entry(place(row)).or_default().rows.push(row));
        let sizes: Vec<f64> = strata
            .values()
            .map(|stratum| stratum.rows.len() as f64)
            .collect();
        for (index, (stratum, share)) in strata
            .values_mut()
            .zip(largest_remainder(wanted, &sizes))
            .enumerate()
        {
            Stream::derive("kith.v1 split", seed, 0, 0, index as u64).shuffle(&mut stratum.rows);
            stratum.open = share.min(stratum.rows.len());
        }
        let contents = contents(&all);
        let mut equals = BTreeMap::<&Digest, Vec<usize>>::new();
        (0..rows).for_each(|row| equals.entry(&contents[row]).or_default().push(row));
        let mut test = Vec::with_capacity(wanted);
        for row in strata
            .values()
            .flat_map(|stratum| &stratum.rows)
            .copied()
            .collect::<Vec<_>>()
        {
            let group = equals.remove(&contents[row]).unwrap_or_default();
            let mut needed = BTreeMap::<(usize, u32), usize>::new();
            group
                .iter()
                .for_each(|row| *needed.entry(place(*row)).or_default() += 1);
            if needed
                .iter()
                .all(|(place, count)| strata[place].open >= *count)
            {
                needed
                    .iter()
                    .for_each(|(place, count)| strata.entry(*place).or_default().open -= count);
                test.extend(group);
            }
        }
        test.sort_unstable();
        let train = (0..rows)
            .filter(|row| test.binary_search(row).is_err())
            .collect();
        Ok(Split { train, test })
    }

    /// The sites with positions in `rows` (ascending) instead of positions in the source, as a
    /// partition of these rows needs them.
    pub fn sites_among(&self, rows: &[usize]) -> Option<Vec<Site>> {
        let among = |site: &Site| Site {
            name: site.name.clone(),
            rows: site
                .rows
                .iter()
                .filter_map(|row| rows.binary_search(row).ok())
                .collect(),
        };
        self.sites
            .as_ref()
            .map(|sites| sites.iter().map(among).collect())
    }

    /// All rows, read as the schema says.
    ///
    /// # Errors
    /// When they do not suit the schema.
    pub fn dataset(&self, schema: &Schema) -> Result<Dataset, DataError> {
        self.source.dataset(schema)
    }
}
