//! `kith privacy audit`: what attacks find out about rows under a charter's own model and training,
//! with its guarantee and without.

use std::path::PathBuf;

use clap::Args;
use kith_consensus::Seed;
use kith_consensus::charter::Guarantee;
use kith_consensus::privacy::{Delta, Phase, pld};
use kith_models::audit::Subject;
use kith_models::audit::inversion::{Inversion, inversion};
use kith_models::audit::membership::{Membership, Rate, membership};
use kith_models::audit::one_run::{OneRun, one_run};
use kith_models::{Dataset, Opening, PrivateError, PrivateTraining, open_as};
use serde::Serialize;

use super::super::output::{Failure, Verdict, print, print_json, tell};
use crate::agreement::Agreement;
use crate::cli::done;

/// Fewest rows that say anything: half of them train a shadow model.
const ROWS_MIN: usize = 40;

/// Rows from each of which an update is read alone.
const READ: usize = 50;

/// Guesses, as a share of the canaries: those that an auditor is surest of (guess).
const GUESSES: usize = 10;

/// Fewest guesses: fewer cannot show anything (guess).
const GUESSES_MIN: usize = 20;

/// δ where there is no guarantee that names one.
const DELTA: f64 = 1e-5;

/// Attack the charter's own training on these rows
#[derive(Debug, Args)]
#[command(after_help = "\
Three attacks, each on training with the charter's guarantee and without it: reading a row out of an update that it made
alone; telling from a final model whether a row was trained on (LiRA); and a lower bound on epsilon from one run in which
each row takes part by the toss of a coin. An attack that finds nothing proves nothing: the guarantee is the proof, and the
column without it shows that the attack works. Nothing is released or charged, but the figures follow from the rows:
show them to those who may know the rows.

Examples:
  kith privacy audit --charter charter.toml --data rows.csv
  kith privacy audit --charter charter.toml --data rows.csv --rows 1000 --shadows 16 --json")]
pub(crate) struct Audit {
    /// The charter
    #[arg(long)]
    charter: PathBuf,
    /// Rows with labels
    #[arg(long)]
    data: PathBuf,
    /// The labels of IDX or NPY rows, if they are in a file of another name
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Rows that are used, the first of the file
    #[arg(long, default_value_t = 400)]
    rows: usize,
    /// Models that are trained to tell members from others: an even number from 4 on
    #[arg(long, default_value_t = 64)]
    shadows: usize,
    /// Rounds of training; the charter's if not given
    #[arg(long)]
    rounds: Option<u64>,
    /// Seed of halves, coins and noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// What the attacks found on one kind of training.
#[derive(Serialize)]
struct Found {
    /// `None` where the first layer is not linear.
    inversion: Option<Inversion>,
    membership: Membership,
    one_run: OneRun,
}

/// The answer.
#[derive(Serialize)]
struct Answer {
    model: String,
    rows: usize,
    rounds: u64,
    /// ε that the guarantee states for these rounds, by privacy loss distributions.
    epsilon: Option<f64>,
    delta: f64,
    without: Found,
    /// `None` if the charter gives no guarantee.
    with: Option<Found>,
}

impl Audit {
    pub(crate) fn run(self) -> Verdict {
        self.check()?;
        let agreement = Agreement::load(&self.charter)?;
        let opening = Opening {
            labels: self.labels.as_deref(),
            ..Opening::default()
        };
        let (all, _) = open_as(&self.data, agreement.task.schema(), opening)
            .map_err(|error| Failure::new(error.to_string()))?;
        if all.len().min(self.rows) < ROWS_MIN {
            return Err(Failure::new(format!(
                "{} rows are too few for an audit; expected {ROWS_MIN} or more",
                all.len().min(self.rows)
            )));
        }
        let pool = all.select(&(0..all.len().min(self.rows)).collect::<Vec<usize>>());
        let answer = self.answer(&agreement, &pool)?;
        match self.json {
            true => print_json(&answer)?,
            false => print(&answer.words())?,
        }
        done()
    }

    fn check(&self) -> Result<(), Failure> {
        if self.shadows < 4 || !self.shadows.is_multiple_of(2) {
            return Err(Failure::new(format!(
                "--shadows {}: expected an even number from 4 on, since each row is in half of them",
                self.shadows
            )));
        }
        if self.rounds == Some(0) {
            return Err(Failure::new("--rounds 0: expected 1 or more"));
        }
        Ok(())
    }

    fn answer(&self, agreement: &Agreement, pool: &Dataset) -> Result<Answer, Failure> {
        let charter = &agreement.charter;
        let guarantee = charter.privacy.as_ref();
        let releases = guarantee.map_or(charter.rounds, Guarantee::releases);
        let rounds = self.rounds.unwrap_or(releases.max(1));
        let delta = match guarantee {
            Some(guarantee) => guarantee.delta(),
            None => Delta::new(DELTA)?,
        };
        let private = guarantee.map(|guarantee| agreement.task.private_training(guarantee));
        let private = private.transpose().map_err(unfit)?;
        tell("attacking training without a guarantee …");
        let without = self.attack(agreement, None, (pool, rounds, delta))?;
        let with = private.map(|private| {
            tell("attacking training with it …");
            self.attack(agreement, Some(private), (pool, rounds, delta))
        });
        Ok(Answer {
            model: charter.canonical["model"]["kind"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            rows: pool.len(),
            rounds,
            epsilon: guarantee
                .map(|guarantee| stated(guarantee, rounds))
                .transpose()?,
            delta: delta.get(),
            without,
            with: with.transpose()?,
        })
    }

    fn attack(
        &self,
        agreement: &Agreement,
        private: Option<PrivateTraining>,
        (pool, rounds, delta): (&Dataset, u64, Delta),
    ) -> Result<Found, Failure> {
        let (task, seed) = (&agreement.task, Seed::from_number(self.seed));
        let alone = private.map(|private| private.for_one_unit()).transpose();
        let halves = private.map(|private| private.for_units(most_of_half(pool.len())));
        let (alone, halves) = (alone.map_err(unfit)?, halves.transpose().map_err(unfit)?);
        let some = pool.select(&(0..pool.len().min(READ)).collect::<Vec<usize>>());
        let subject = Subject {
            task,
            private: alone.as_ref(),
            rounds: 1,
        };
        let inversion = inversion(subject, &some, &seed.child("inversion"));
        let subject = Subject {
            task,
            private: halves.as_ref(),
            rounds,
        };
        let membership = membership(subject, pool, self.shadows, &seed.child("membership"));
        let guesses = (pool.len() / GUESSES).max(GUESSES_MIN);
        let one_run = one_run(subject, pool, guesses, delta, &seed.child("one run"));
        Ok(Found {
            inversion: inversion.map_err(unfit)?,
            membership: membership.map_err(unfit)?,
            one_run: one_run.map_err(unfit)?,
        })
    }
}

/// Rows that about half of a pool has at most: six deviations of as many coins above the half.
fn most_of_half(rows: usize) -> usize {
    (rows / 2 + (3.0 * (rows as f64).sqrt()).ceil() as usize).min(rows)
}

fn unfit(error: PrivateError) -> Failure {
    Failure::new(format!("these rows cannot be trained on so: {error}"))
}

/// ε of so many releases by privacy loss distributions: rounds are fixed beforehand here.
fn stated(guarantee: &Guarantee, rounds: u64) -> Result<f64, Failure> {
    let release = guarantee.release();
    let all = Phase::new(release.mechanism(), release.steps().saturating_mul(rounds))?;
    Ok(pld::epsilon(&[all], guarantee.delta())?)
}

impl Answer {
    fn words(&self) -> String {
        let columns: Vec<&Found> = std::iter::once(&self.without).chain(&self.with).collect();
        let line = |name: &str, of: &dyn Fn(&Found) -> String| {
            let cells = columns.iter().map(|found| format!("{:>22}", of(found)));
            format!("{name:<38}{}\n", cells.collect::<String>())
        };
        let mut text = format!(
            "attacks on {} with {} rows, {} rounds\n\n{:<38}{:>22}",
            self.model, self.rows, self.rounds, "", "without a guarantee"
        );
        text.push_str(match self.with {
            Some(_) => "               with it\n",
            None => "\n",
        });
        text += &line("rows read out of an update alone", &read_out);
        text += &line("  correlation of what was read", &correlated);
        text += &line("members told from others, AUC", &|found| {
            format!("{:.3}", found.membership.auc)
        });
        text += &line("  found at 1 % false alarms", &|found| {
            found_at(&found.membership.at[0])
        });
        text += &line("  found at 0.1 % false alarms", &|found| {
            found_at(&found.membership.at[1])
        });
        text += &line("epsilon of the run is at least", &|found| {
            format!("{:.2}", found.one_run.epsilon_low)
        });
        text += &line("  guesses right", &|found| {
            format!("{} of {}", found.one_run.right, found.one_run.guesses)
        });
        text += &format!(
            "\nAUC 0.5 is guessing. So many guesses cannot show more than epsilon {:.2} (delta {:e}, 95 %).\n",
            self.without.one_run.epsilon_most, self.delta
        );
        text += &match self.epsilon {
            Some(epsilon) => format!("The charter states epsilon {epsilon:.2} for these rounds.\n"),
            None => "The charter gives no guarantee.\n".to_owned(),
        };
        text
    }
}

fn read_out(found: &Found) -> String {
    match &found.inversion {
        Some(found) => format!("{} of {}", found.recovered, found.rows),
        None => "not for this model".to_owned(),
    }
}

fn correlated(found: &Found) -> String {
    match &found.inversion {
        Some(found) => format!("{:.3}", found.correlation),
        None => String::new(),
    }
}

fn found_at(rate: &Rate) -> String {
    let percent = |share: f64| 100.0 * share;
    let (low, high) = rate.between;
    format!(
        "{:.1} % ({:.1} to {:.1})",
        percent(rate.true_positive),
        percent(low),
        percent(high)
    )
}
