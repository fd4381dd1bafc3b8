//! Compares what sites gain from a federation: a site's own model, the mean of all sites' scores,
//! the federated model, and the pooled model that nobody may train, over several splits into
//! training and test rows.
//!
//! Every site is one peer of the charter; the federation runs in memory with the charter's own
//! rule, codec and rounds.

use std::sync::Arc;
use std::time::Duration;

use kith_consensus::Seed;
use kith_consensus::charter::Charter;
use kith_gossip::{Authenticator, Federation, Setup};
use kith_models::dataset::Loaded;
use kith_models::{Dataset, Task, auc};

use crate::learner::Learner;
use crate::simulator::{Ended, Links, Meeting, Participant, Simulation};

/// The compared models, in this order everywhere.
pub const WAYS: [&str; 4] = ["own", "mean of scores", "federated", "pooled"];

/// Virtual time after which a run that does not end is an error: rounds are milliseconds here.
const LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Mean and sample standard deviation over splits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Mean over the splits.
    pub mean: f64,
    /// Standard deviation (ddof 1), 0 for one split.
    pub deviation: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Spread {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Spread {
            mean,
            deviation: if values.len() > 1 {
                (squares / (count - 1.0)).sqrt()
            } else {
                0.0
            },
        }
    }
}

/// One site's row of the table: an entry for each of [`WAYS`].
#[derive(Clone, Debug, PartialEq)]
pub struct SiteRow {
    /// Name of the site.
    pub name: String,
    /// Training rows of one split.
    pub train_rows: usize,
    /// Test rows of one split.
    pub test_rows: usize,
    /// Mean of the classes' accuracies on the site's own test rows.
    pub balanced_accuracy: [Spread; 4],
    /// Area under the ROC curve on them; NaN-free: splits whose test rows have one class only are
    /// left out.
    pub auc: [Spread; 4],
}

/// The inputs of a comparison.
pub struct Sites<'a> {
    /// Agreement of the sites; as many members as there are sites.
    pub charter: Arc<Charter>,
    /// The learning task.
    pub task: &'a Task,
    /// What the sites' peers have in common.
    pub federation: Federation,
    /// Secrets of the members' keys, in the order of the sites.
    pub secrets: Vec<[u8; 32]>,
    /// The data, with its sites.
    pub loaded: &'a Loaded,
    /// Seed of splits and batches.
    pub seed: Seed,
}

impl Sites<'_> {
    /// Runs `splits` splits and gives one row per site.
    ///
    /// # Errors
    /// What went wrong in which split, in words for people.
    pub fn compare(&self, splits: u64) -> Result<Vec<SiteRow>, String> {
        let sites = self
            .loaded
            .sites
            .as_ref()
            .ok_or("this data set has no sites to compare")?;
        let all = self
            .loaded
            .dataset(self.task.schema())
            .map_err(|error| error.to_string())?;
        let mut measured = vec![Measured::default(); sites.len()];
        for split in 0..splits {
            let seed = self.seed.child(&format!("split {split}"));
            self.split(&all, &seed, &mut measured)
                .map_err(|why| format!("split {split}: {why}"))?;
        }
        let names = sites.iter().map(|site| site.name.clone());
        Ok(names
            .zip(measured)
            .map(|(name, measured)| measured.summary(name))
            .collect())
    }

    fn split(&self, all: &Dataset, seed: &Seed, measured: &mut [Measured]) -> Result<(), String> {
        let split = self
            .loaded
            .split(self.task.schema(), None, seed)
            .map_err(|error| error.to_string())?;
        let among = |rows: &[usize]| -> Vec<Dataset> {
            let sites = self.loaded.sites_among(rows).unwrap_or_default();
            sites
                .iter()
                .map(|site| all.select(&site.rows.iter().map(|row| rows[*row]).collect::<Vec<_>>()))
                .collect()
        };
        let (train, test) = (among(&split.train), among(&split.test));
        let rounds = self.charter.rounds;
        let alone = |rows: &Dataset, name: &str| {
            let learner = Learner::new(self.task, rows.clone(), seed.child(name), None);
            learner
                .and_then(|learner| learner.alone(rounds))
                .map_err(|error| error.to_string())
        };
        let own: Vec<Vec<f32>> = train
            .iter()
            .map(|rows| alone(rows, "own"))
            .collect::<Result<_, _>>()?;
        let pooled = alone(&Dataset::concat(&train), "pooled")?;
        let federated = self.federate(&train, seed)?;
        for (site, rows) in test.iter().enumerate() {
            let scores = |parameters: &[f32]| {
                self.task
                    .scores(parameters, rows)
                    .map_err(|error| error.to_string())
            };
            let every: Vec<Vec<Vec<f32>>> = own
                .iter()
                .map(|parameters| scores(parameters))
                .collect::<Result<_, _>>()?;
            let ways = [
                every[site].clone(),
                mean_of(&every),
                scores(&federated[site])?,
                scores(&pooled)?,
            ];
            measured[site].add(
                train[site].len(),
                rows.labels(),
                self.task.schema().classes,
                &ways,
            );
        }
        Ok(())
    }

    /// The model that each site ends with.
    fn federate(&self, train: &[Dataset], seed: &Seed) -> Result<Vec<Vec<f32>>, String> {
        let Sites {
            charter,
            task,
            federation,
            secrets,
            ..
        } = self;
        let together = Together {
            charter,
            task,
            federation,
            secrets,
        };
        together.train(train, seed)
    }
}

/// A federation in memory, without faults or delays, whose members' secrets are known.
pub struct Together<'a> {
    /// What its members agreed on.
    pub charter: &'a Charter,
    /// The learning task.
    pub task: &'a Task,
    /// What its peers have in common.
    pub federation: &'a Federation,
    /// Secrets of the members' keys.
    pub secrets: &'a [[u8; 32]],
}

impl Together<'_> {
    /// The model that each member ends with; `train` holds their rows in the order of the secrets.
    ///
    /// # Errors
    /// What went wrong, in words for people.
    pub fn train(&self, train: &[Dataset], seed: &Seed) -> Result<Vec<Vec<f32>>, String> {
        let mut members = Vec::new();
        for (index, (secret, rows)) in self.secrets.iter().zip(train).enumerate() {
            let keys = seed.child(&format!("release keys {index}"));
            let learner = Learner::new(self.task, rows.clone(), seed.child("own"), None)
                .map_err(|error| error.to_string())?
                .under(self.charter, keys)
                .map_err(|error| error.to_string())?;
            let (federation, secret, seed) =
                (self.federation.clone(), *secret, seed.child("codec"));
            let setup = move || Setup {
                seed,
                ..federation.peer(Authenticator::from_secret(&secret))
            };
            members.push(Participant::new(setup, learner));
        }
        let mut federation = Simulation::new(members, Meeting::Everyone, Links::clear(), 0, ());
        if federation.run(LIMIT) != Ended::Stopped {
            return Err("the federation did not end".to_owned());
        }
        Ok((0..train.len())
            .map(|member| federation.parameters(member).to_vec())
            .collect())
    }
}

/// Row by row and class by class, the mean of several models' scores.
fn mean_of(models: &[Vec<Vec<f32>>]) -> Vec<Vec<f32>> {
    let count = models.len() as f32;
    let row = |index: usize| -> Vec<f32> {
        (0..models[0][index].len())
            .map(|class| models.iter().map(|model| model[index][class]).sum::<f32>() / count)
            .collect()
    };
    (0..models[0].len()).map(row).collect()
}

fn balanced_accuracy(scores: &[Vec<f32>], labels: &[u32], classes: usize) -> f64 {
    let mut hits = vec![(0u32, 0u32); classes];
    for (scores, label) in scores.iter().zip(labels) {
        let best =
            (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)));
        let (right, all) = &mut hits[*label as usize];
        *all += 1;
        *right += u32::from(best == Some(*label as usize));
    }
    let present: Vec<f64> = hits
        .iter()
        .filter(|(_, all)| *all > 0)
        .map(|(right, all)| f64::from(*right) / f64::from(*all))
        .collect();
    present.iter().sum::<f64>() / present.len() as f64
}

#[derive(Clone, Default)]
struct Measured {
    train_rows: usize,
    test_rows: usize,
    balanced_accuracy: [Vec<f64>; 4],
    auc: [Vec<f64>; 4],
}

impl Measured {
    fn add(
        &mut self,
        train_rows: usize,
        labels: &[u32],
        classes: usize,
        ways: &[Vec<Vec<f32>>; 4],
    ) {
        (self.train_rows, self.test_rows) = (train_rows, labels.len());
        for (way, scores) in ways.iter().enumerate() {
            self.balanced_accuracy[way].push(balanced_accuracy(scores, labels, classes));
            self.auc[way].extend(auc(scores, labels));
        }
    }

    fn summary(self, name: String) -> SiteRow {
        SiteRow {
            name,
            train_rows: self.train_rows,
            test_rows: self.test_rows,
            balanced_accuracy: self
                .balanced_accuracy
                .each_ref()
                .map(|values| Spread::of(values)),
            auc: self.auc.each_ref().map(|values| Spread::of(values)),
        }
    }
}
