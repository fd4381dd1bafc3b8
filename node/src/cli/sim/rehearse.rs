//! Rehearsal: a consortium's own charter in a world with liars, before anybody runs it. The answer
//! is in plain words.

mod answer;
mod cell;
mod conditions;
mod figures;
mod files;
mod treated;

use std::path::Path;

use kith_simulations::experiment::Outcome;

use self::answer::Answer;
use self::cell::Cell;
use self::conditions::conditions;
use self::files::Files;
use super::super::output::{Failure, Verdict, tell};
use super::experiment::{execute, report, warn_of_liars};
use super::folder::{may_hold, may_hold_runs};
use super::options::Run;

/// Runs the charter in its world with nobody lying and with the world's liars, placed anew by each
/// seed.
pub(super) fn rehearse(charter: &Path, world: &Path, options: &Run) -> Verdict {
    let files = Files::read(charter, world)?;
    let first = files.experiment(&options.settings())?;
    options.out().map_or(Ok(()), may_hold_runs)?;
    warn_of_liars(&first);
    let liars = first.world.adversaries_among(first.peers()).len();
    let command = |seed| options.rehearsal_command(charter, world, seed);
    let seeds = first.world.seed..first.world.seed.saturating_add(options.seeds());
    let mut cells = Vec::new();
    for count in if liars > 0 { vec![0, liars] } else { vec![0] } {
        let outcomes = seeds.clone().map(|seed| {
            tell(&format!("seed {seed}, {count} lying"));
            run_seed(&files, options, count, seed, &command(seed))
        });
        let outcomes = outcomes.collect::<Result<_, Failure>>()?;
        cells.push(Cell { outcomes });
    }
    let answer = Answer {
        experiment: &first,
        liars,
        conditions: conditions(&cells[0], cells.get(1)),
        cells: &cells,
    };
    answer.tell(options, &command)
}

/// One run of a cell; its results are written if a folder is asked for.
fn run_seed(
    files: &Files,
    options: &Run,
    liars: usize,
    seed: u64,
    command: &str,
) -> Result<Outcome, Failure> {
    let mut settings = options.settings();
    settings.push((
        "world.seed".to_owned(),
        toml::Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX)),
    ));
    if liars == 0 {
        settings.push(("world.adversaries".to_owned(), toml::Value::Integer(0)));
        settings.push(("world.liars".to_owned(), toml::Value::Array(Vec::new())));
    }
    let experiment = files.experiment(&settings)?;
    let folder = options.out().map(|out| {
        out.join(if liars == 0 { "nobody-lies" } else { "liars" })
            .join(format!("seed-{seed}"))
    });
    if let Some(folder) = &folder {
        may_hold(folder, &experiment, options.again())?;
    }
    let outcome = execute(&experiment, options.threads(), None, |problems| {
        files.placed(problems, &settings)
    })?;
    if let Some(folder) = folder {
        report(&experiment, &outcome, &folder, command)?;
    }
    Ok(outcome)
}
