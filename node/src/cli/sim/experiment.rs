//! One experiment on the command line: warned of, run with progress on stderr, and written.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kith_consensus::Problem;
use kith_simulations::experiment::{Experiment, ExperimentError, Outcome};
use kith_simulations::report;

use super::super::output::{Failure, tell};
use super::events::record;
use crate::problems::BadFiles;

/// Exit code if an invariant was broken.
pub(super) const BROKEN: u8 = 5;

/// Warns of neighbourhoods with more liars than the rule is meant to tolerate.
pub(super) fn warn_of_liars(experiment: &Experiment) {
    let byzantine = experiment.charter.aggregation.byzantine;
    if let Some((peer, liars)) = experiment
        .worst_neighbourhood()
        .filter(|(_, liars)| *liars > byzantine)
    {
        tell(&format!(
            "warning: peer {peer} hears {liars} liars in a round, and aggregation.byzantine is {byzantine}: rule {:?} promises nothing there",
            experiment.charter.aggregation.rule.name()
        ));
    }
}

/// Runs with progress on stderr; every event goes into the file `events`, if there is one. `wrong` says where problems are that are only found then.
pub(super) fn execute(
    experiment: &Experiment,
    threads: usize,
    events: Option<&Path>,
    wrong: impl FnOnce(Vec<Problem>) -> BadFiles,
) -> Result<Outcome, Failure> {
    let expected = experiment
        .charter
        .rounds
        .saturating_mul(experiment.peers() as u64);
    let bar = std::io::stderr().is_terminal().then(|| {
        let template = "{pos}/{len} peer-rounds {wide_bar} {eta} left  {msg}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(expected).with_style(style)
    });
    let mut reported = Instant::now();
    let begun = experiment.begin(threads);
    let mut run = begun.map_err(|error| match error {
        ExperimentError::Problems(problems) => wrong(problems).into(),
        ExperimentError::Rows(_) => Failure::new(error.to_string()),
    })?;
    if let Some(path) = events {
        record(path, experiment, &mut run)?;
    }
    run.run_until(
        experiment.world.limit,
        &mut |now: Duration, rounds: u64| match &bar {
            Some(bar) => {
                bar.set_position(rounds);
                bar.set_message(format!("{:.1} s of virtual time", now.as_secs_f64()));
            }
            None if reported.elapsed() > Duration::from_secs(10) => {
                reported = Instant::now();
                tell(&format!(
                    "{rounds} of {expected} peer-rounds, {:.1} s of virtual time",
                    now.as_secs_f64()
                ));
            }
            None => {}
        },
    );
    bar.into_iter().for_each(|bar| bar.finish_and_clear());
    Ok(run.finish())
}

/// Writes the resolved experiment, the measurements and the report.
pub(super) fn report(
    experiment: &Experiment,
    outcome: &Outcome,
    folder: &Path,
    command: &str,
) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| {
        Failure::new(format!("cannot write to {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(wrong)?;
    report::write(folder, experiment, outcome, command, true).map_err(wrong)?;
    report::run::page(folder).map_err(wrong)
}
