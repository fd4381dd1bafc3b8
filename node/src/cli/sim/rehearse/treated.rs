//! How a rehearsal's honest peers treated each peer: what of its contributions they left out, and
//! whether they suspected it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::cell::Cell;
use super::figures::share;

/// How honest peers treated a peer's contributions over all runs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Treated {
    /// Mean share that honest peers left out: when nobody lied, when others lied, when it lied.
    pub(super) left_out_clean: Option<f64>,
    pub(super) left_out_honest: Option<f64>,
    pub(super) left_out_lying: Option<f64>,
    /// Runs in which it was honest, and in how many of them some honest peer suspected it.
    honest_runs: usize,
    suspected_honest: usize,
    /// The same for runs in which it lied.
    lying_runs: usize,
    suspected_lying: usize,
}

impl Treated {
    pub(super) fn all(cells: &[Cell]) -> BTreeMap<&str, Treated> {
        let mut found: BTreeMap<&str, Treated> = BTreeMap::new();
        let outcomes = || cells.iter().flat_map(|cell| &cell.outcomes);
        let names: BTreeSet<&String> = outcomes()
            .flat_map(|outcome| {
                outcome
                    .filtered
                    .keys()
                    .chain(outcome.suspected.keys())
                    .chain(&outcome.liars)
            })
            .collect();
        for name in names {
            let share = |cell: Option<&Cell>, lying: bool| {
                cell?.mean(|outcome| {
                    outcome
                        .filtered
                        .get(name)
                        .copied()
                        .filter(|_| outcome.liars.contains(name) == lying)
                })
            };
            let runs = |lying: bool| {
                outcomes().filter(move |outcome| outcome.liars.contains(name) == lying)
            };
            let suspected = |lying: bool| {
                runs(lying)
                    .filter(|outcome| outcome.suspected.contains_key(name))
                    .count()
            };
            let treated = Treated {
                left_out_clean: share(cells.first(), false),
                left_out_honest: share(cells.get(1), false),
                left_out_lying: share(cells.get(1), true),
                honest_runs: runs(false).count(),
                suspected_honest: suspected(false),
                lying_runs: runs(true).count(),
                suspected_lying: suspected(true),
            };
            found.insert(name, treated);
        }
        found
    }

    pub(super) fn is_measured(&self) -> bool {
        self.left_out_clean
            .or(self.left_out_honest)
            .or(self.left_out_lying)
            .is_some()
            || self.suspected_honest + self.suspected_lying > 0
    }

    /// Its row of the table.
    pub(super) fn row(&self, name: String) -> Vec<String> {
        let runs = |suspected: usize, runs: usize| {
            if runs == 0 {
                "–".to_owned()
            } else {
                format!("{suspected} of {runs}")
            }
        };
        vec![
            name,
            share(self.left_out_clean),
            share(self.left_out_honest),
            share(self.left_out_lying),
            runs(self.suspected_honest, self.honest_runs),
            runs(self.suspected_lying, self.lying_runs),
        ]
    }

    /// Largest share left out of its honest contributions.
    pub(super) fn left_out(&self) -> f64 {
        self.left_out_clean
            .into_iter()
            .chain(self.left_out_honest)
            .fold(0.0, f64::max)
    }
}
