//! `kith sim run FILE`: one experiment, measured, with its report.

use std::path::Path;
use std::process::ExitCode;

use kith_simulations::experiment::{Experiment, Outcome, Range, Setting, has_sweep};
use kith_simulations::metrics::Bytes;

use super::super::done;
use super::super::output::{Failure, Verdict, bytes, print, print_json, tell};
use super::experiment::{BROKEN, execute, report, warn_of_liars};
use super::folder::{beside, may_hold};
use super::options::{Run, shell_path};
use crate::problems::BadFile;

/// Runs the experiment that the options name.
pub(super) fn run(options: &Run) -> Verdict {
    let path = options
        .file
        .as_ref()
        .expect("clap wants a file or a charter");
    super::parquet_is_built(options.parquet)?;
    let experiment = load(path, &options.settings())?;
    let command = options.command(path, experiment.world.seed);
    let folder = match &options.out {
        _ if options.no_files => None,
        None => Some(beside(path, &experiment, options.again)?),
        Some(out) => {
            may_hold(out, &experiment, options.again)?;
            Some(out.clone())
        }
    };
    warn_of_liars(&experiment);
    let wrong = |problems| {
        BadFile::problems(
            path,
            &std::fs::read_to_string(path).unwrap_or_default(),
            problems,
        )
    };
    let outcome = execute(
        &experiment,
        options.threads(),
        options.events.as_deref(),
        wrong,
    )?;
    if let Some(folder) = &folder {
        report(&experiment, &outcome, folder, &command)?;
        super::parquet(options.parquet, folder)?;
    }
    if options.json() {
        print_json(&outcome)?
    } else {
        print(&summary(&outcome, folder.as_deref()))?
    }
    tell_of_faults(&outcome);
    if outcome.checks.failed.is_empty() {
        return done();
    }
    for failure in &outcome.checks.failed {
        tell(&failure.to_string());
    }
    tell(&format!("replay it: {command}"));
    Ok(ExitCode::from(BROKEN))
}

/// Reads an experiment, or says everything that is wrong with it.
fn load(path: &Path, settings: &[Setting]) -> Result<Experiment, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::with_help(
            format!("cannot read the experiment {}: {error}", path.display()),
            "`kith sim run --help` shows examples",
        )
    })?;
    if has_sweep(&text) {
        tell(&format!(
            "[sweep] of {} is left out here; `kith sim sweep {}` runs it",
            path.display(),
            shell_path(path)
        ));
    }
    Experiment::parse(&text, settings)
        .map_err(|problems| BadFile::problems(path, &text, problems).into())
}

fn tell_of_faults(outcome: &Outcome) {
    if !outcome.faults_not_felt.is_empty() {
        tell(&format!(
            "warning: never felt, since the run ended at {:.3} s: {}",
            outcome.virtual_seconds,
            outcome.faults_not_felt.join(", ")
        ));
    }
}

/// The summary for people at the end.
fn summary(outcome: &Outcome, folder: Option<&Path>) -> String {
    let mut text = format!(
        "{}: {} peers, {} rounds, seed {}\n",
        outcome.name, outcome.peers, outcome.rounds, outcome.seed
    );
    let folder = folder.map(|folder| format!("{} (report.html)", folder.display()));
    let lines = [learned(outcome), sent(outcome), went(outcome)];
    for (name, value) in lines
        .into_iter()
        .flatten()
        .chain(folder.map(|folder| ("results", folder)))
    {
        text.push_str(&format!("  {name:<22}{value}\n"));
    }
    text
}

type Line = (&'static str, String);

/// Which peers lied, and what the honest ones learned.
fn learned(outcome: &Outcome) -> Vec<Line> {
    let mut lines = Vec::new();
    if outcome.adversaries > 0 {
        let liars = format!("{} ({})", outcome.adversaries, outcome.liars.join(", "));
        lines.push(("liars", liars));
    }
    if let Some(Range { mean, min, max }) = outcome.accuracy {
        let accuracy = format!("{mean:.4} (from {min:.4} to {max:.4})");
        lines.push(("accuracy", accuracy));
    }
    if let Some(share) = outcome.known_to_liars {
        let known = format!(
            "{:.1} % of the honest vectors of their rounds",
            100.0 * share
        );
        lines.push(("known to the liars", known));
    }
    if let Some(Range { mean, min, max }) = outcome.optimum_distance {
        let distance = format!("{mean:.3e} (from {min:.3e} to {max:.3e})");
        lines.push(("distance to optimum", distance));
    }
    if let Some(distance) = outcome.consensus_distance {
        lines.push(("consensus distance", format!("{distance:.4e}")));
    }
    lines
}

/// Bytes on the wire, and how the rows were dealt.
fn sent(outcome: &Outcome) -> Vec<Line> {
    let Bytes {
        dense_equivalent: dense,
        payload,
        keyframes,
        ..
    } = outcome.bytes;
    let share = if dense > 0 {
        100.0 * (payload + keyframes) as f64 / dense as f64
    } else {
        0.0
    };
    let bodies = bytes(payload + keyframes);
    let mut lines = vec![(
        "updates",
        format!("{bodies} of bodies, {share:.1} % of uncompressed"),
    )];
    if let Some(skew) = &outcome.skew {
        let unlike = format!(
            "{:.3} of 2 (mean distance of a peer's classes from everybody's)",
            skew.l1
        );
        lines.push(("unlike labels", unlike));
        if skew.left_over > 0 {
            let left = format!(
                "{} training rows that the partition deals to nobody",
                skew.left_over
            );
            lines.push(("rows left over", left));
        }
    }
    let again = outcome.bytes.retransmitted.filter(|again| *again > 0);
    let again = again.map_or(String::new(), |again| {
        format!(", of that {} sent once more", bytes(again))
    });
    let wire = format!("{}{again}", bytes(outcome.bytes.wire));
    lines.push(("on the wire", wire));
    lines
}

/// How the run went.
fn went(outcome: &Outcome) -> Vec<Line> {
    let jumped = if outcome.rounds_jumped > 0 {
        format!("; left out by jumps: {}", outcome.rounds_jumped)
    } else {
        String::new()
    };
    let (late, few) = (outcome.rounds_by_deadline, outcome.mixing_skipped);
    let took = format!(
        "{:.2} s, {:.0} peer-rounds/s, {} inputs, {}",
        outcome.wall_seconds,
        outcome.peer_rounds_per_second,
        outcome.events,
        outcome.signatures.name()
    );
    let (kept, broken) = (outcome.checks.passed, outcome.checks.failed.len());
    vec![
        (
            "rounds by deadline",
            format!("{late}; too few to mix: {few}{jumped}"),
        ),
        ("virtual time", format!("{:.3} s", outcome.virtual_seconds)),
        ("took", took),
        ("invariants held", format!("{kept} of {}", kept + broken)),
        ("trace", outcome.trace.to_string()),
    ]
}
