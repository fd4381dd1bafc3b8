//! Rehearsal: a consortium's own charter in a world with liars, before anybody runs it. The answer
//! is in plain words.

mod conditions;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use kith_consensus::charter::Admission;
use kith_simulations::experiment::{Experiment, Outcome};
use serde::Serialize;
use serde_json::json;

use super::super::done;
use super::super::output::{Failure, Verdict, bytes, print, print_json, table, tell};
use super::folder::{may_hold, may_hold_runs};
use super::run::{BROKEN, Run, report, warn_of_liars};
use conditions::{Condition, conditions, percent};
use files::Files;

/// Peers that are named in the answer, those first that honest peers leave out most (guess: as many
/// as fit on a screen).
const NAMED_MAX: usize = 20;

/// From this share of honest peers' models on that the rule leaves out, the answer says that being
/// left out is no sign of a lie (guess: half).
const PICKY_MIN: f64 = 0.5;

/// One of the two cells over all seeds.
struct Cell {
    outcomes: Vec<Outcome>,
}

impl Cell {
    fn mean(&self, of: impl Fn(&Outcome) -> Option<f64>) -> Option<f64> {
        mean(self.outcomes.iter().filter_map(of))
    }

    fn has_accuracy(&self) -> bool {
        self.outcomes
            .iter()
            .all(|outcome| outcome.optimum_distance.is_none())
    }

    fn accuracy(&self) -> Option<f64> {
        self.mean(|outcome| outcome.accuracy.map(|accuracy| accuracy.mean))
    }

    fn worst(&self) -> Option<f64> {
        self.outcomes
            .iter()
            .filter_map(|outcome| outcome.accuracy.map(|accuracy| accuracy.min))
            .reduce(f64::min)
    }

    /// Mean share of the way from learning nothing to the best possible.
    fn way(&self) -> Option<f64> {
        self.mean(|outcome| {
            way(
                outcome,
                outcome.accuracy.map(|range| range.mean),
                outcome.optimum_distance.map(|range| range.mean),
            )
        })
    }

    /// The same for the worst peer in any run.
    fn worst_way(&self) -> Option<f64> {
        let worst = |outcome: &Outcome| {
            way(
                outcome,
                outcome.accuracy.map(|range| range.min),
                outcome.optimum_distance.map(|range| range.max),
            )
        };
        // A value that is not a number is worse than any other.
        self.outcomes
            .iter()
            .filter_map(worst)
            .reduce(|least, value| if value >= least { least } else { value })
    }

    fn backdoor(&self) -> Option<f64> {
        self.mean(|outcome| outcome.attack_success.map(|share| share.mean))
    }

    /// A value, if every run contributes to it; otherwise why it says nothing.
    fn ensure(&self, value: Option<f64>) -> Result<f64, String> {
        let judged = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.accuracy.or(outcome.optimum_distance).is_some())
            .count();
        match value {
            Some(value) if judged == self.outcomes.len() => Ok(value),
            _ if judged < self.outcomes.len() => Err(format!(
                "in {} of {} runs no honest peer evaluated its model",
                self.outcomes.len() - judged,
                self.outcomes.len()
            )),
            _ => Err("there is nothing to compare with: no rows are held out, or everybody starts in the optimum".to_owned()),
        }
    }

    /// Share of the honest peers' rounds in which too few models came in.
    fn rounds_lost(&self) -> f64 {
        let honest =
            |outcome: &Outcome| (outcome.peers - outcome.adversaries) as u64 * outcome.rounds;
        let lost: u64 = self
            .outcomes
            .iter()
            .map(|outcome| outcome.mixing_skipped)
            .sum();
        lost as f64 / self.outcomes.iter().map(honest).sum::<u64>().max(1) as f64
    }

    fn bytes_per_peer(&self) -> f64 {
        self.mean(|outcome| Some(outcome.bytes.wire as f64 / outcome.peers as f64))
            .unwrap_or(0.0)
    }

    /// What the model reached, in words.
    fn reached(&self) -> String {
        if !self.has_accuracy() {
            let distance = self
                .mean(|outcome| outcome.optimum_distance.map(|range| range.mean))
                .unwrap_or(f64::NAN);
            let farthest = self
                .outcomes
                .iter()
                .filter_map(|outcome| outcome.optimum_distance.map(|range| range.max))
                .reduce(f64::max);
            let start = self
                .mean(|outcome| outcome.optimum_distance_at_start)
                .unwrap_or(f64::NAN);
            let farthest = farthest.unwrap_or(f64::NAN);
            return format!(
                "distance to the optimum {distance:.3e} (worst peer {farthest:.3e}, at the start {start:.3e})"
            );
        }
        let told = |value: Option<f64>| value.map_or("unknown".to_owned(), percent);
        let (mean, worst, guessing) = (
            self.accuracy(),
            self.worst(),
            self.mean(|outcome| outcome.guessing),
        );
        format!(
            "accuracy {} (worst peer {}, guessing {})",
            told(mean),
            told(worst),
            told(guessing)
        )
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn way(outcome: &Outcome, accuracy: Option<f64>, distance: Option<f64>) -> Option<f64> {
    let way = match (accuracy, distance) {
        (Some(accuracy), _) => outcome
            .guessing
            .filter(|guessing| *guessing < 1.0)
            .map(|guessing| (accuracy - guessing) / (1.0 - guessing)),
        (None, Some(distance)) => outcome
            .optimum_distance_at_start
            .filter(|start| *start > 0.0)
            .map(|start| 1.0 - distance / start),
        (None, None) => None,
    };
    way.map(|way| {
        if way.is_finite() {
            way
        } else {
            f64::NEG_INFINITY
        }
    })
}

/// How honest peers treated a peer's contributions over all runs.
#[derive(Debug, Default, Serialize)]
struct Treated {
    /// Mean share that honest peers left out: when nobody lied, when others lied, when it lied.
    left_out_clean: Option<f64>,
    left_out_honest: Option<f64>,
    left_out_lying: Option<f64>,
    /// Runs in which it was honest, and in how many of them some honest peer suspected it.
    honest_runs: usize,
    suspected_honest: usize,
    /// The same for runs in which it lied.
    lying_runs: usize,
    suspected_lying: usize,
}

impl Treated {
    fn all(cells: &[Cell]) -> BTreeMap<&str, Treated> {
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

    fn is_measured(&self) -> bool {
        self.left_out_clean
            .or(self.left_out_honest)
            .or(self.left_out_lying)
            .is_some()
            || self.suspected_honest + self.suspected_lying > 0
    }

    /// Its row of the table.
    fn row(&self, name: String) -> Vec<String> {
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
    fn left_out(&self) -> f64 {
        self.left_out_clean
            .into_iter()
            .chain(self.left_out_honest)
            .fold(0.0, f64::max)
    }
}

fn share(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), percent)
}

/// Runs the charter in its world with nobody lying and with the world's liars, placed anew by each
/// seed.
pub(super) fn rehearse(charter: &Path, world: &Path, options: &Run) -> Verdict {
    let files = Files::read(charter, world)?;
    let first = files.experiment(&options.settings())?;
    options.out().map_or(Ok(()), may_hold_runs)?;
    warn_of_liars(&first);
    let liars = first.world.adversaries_among(first.peers()).len();
    let mut cells = Vec::new();
    for count in if liars > 0 { vec![0, liars] } else { vec![0] } {
        let mut outcomes = Vec::new();
        for seed in first.world.seed..first.world.seed.saturating_add(options.seeds()) {
            let mut settings = options.settings();
            settings.push((
                "world.seed".to_owned(),
                toml::Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX)),
            ));
            if count == 0 {
                settings.push(("world.adversaries".to_owned(), toml::Value::Integer(0)));
                settings.push(("world.liars".to_owned(), toml::Value::Array(Vec::new())));
            }
            tell(&format!("seed {seed}, {count} lying"));
            let experiment = files.experiment(&settings)?;
            let folder = options.out().map(|out| {
                out.join(if count == 0 { "nobody-lies" } else { "liars" })
                    .join(format!("seed-{seed}"))
            });
            folder
                .iter()
                .try_for_each(|folder| may_hold(folder, &experiment, options.again()))?;
            let outcome = super::run::run(&experiment, options.threads(), |problems| {
                files.placed(problems, &settings)
            })?;
            if let Some(folder) = folder {
                report(
                    &experiment,
                    &outcome,
                    &folder,
                    &options.rehearsal_command(charter, world, seed),
                )?;
            }
            outcomes.push(outcome);
        }
        cells.push(Cell { outcomes });
    }
    let answer = Answer {
        experiment: &first,
        liars,
        conditions: conditions(&cells[0], cells.get(1)),
        cells: &cells,
    };
    answer.tell(options, &|seed| {
        options.rehearsal_command(charter, world, seed)
    })
}

struct Answer<'a> {
    experiment: &'a Experiment,
    liars: usize,
    conditions: Vec<Condition>,
    cells: &'a [Cell],
}

impl Answer<'_> {
    /// Whether every condition is kept; `None`: none is known to fail, and one cannot be judged.
    fn holds(&self) -> Option<bool> {
        let is = |which: Option<bool>| {
            self.conditions
                .iter()
                .any(|condition| condition.holds == which)
        };
        if is(Some(false)) {
            Some(false)
        } else {
            (!is(None)).then_some(true)
        }
    }

    fn tell(&self, options: &Run, command: &dyn Fn(u64) -> String) -> Verdict {
        let text = self.text(options.seeds());
        let replay = self
            .broken()
            .first()
            .map(|(outcome, _)| command(outcome.seed));
        let json = self.json(options.seeds(), replay.as_deref());
        if let Some(out) = options.out() {
            let wrong = |error: std::io::Error| {
                Failure::new(format!("cannot write to {}: {error}", out.display()))
            };
            std::fs::create_dir_all(out).map_err(wrong)?;
            std::fs::write(out.join("answer.txt"), &text).map_err(wrong)?;
            std::fs::write(out.join("answer.json"), format!("{json:#}\n")).map_err(wrong)?;
        }
        if options.json() {
            print_json(&json)?
        } else {
            print(&text)?
        }
        let late: BTreeSet<&str> = self
            .outcomes()
            .flat_map(|outcome| &outcome.faults_not_felt)
            .map(String::as_str)
            .collect();
        if !late.is_empty() {
            let late: Vec<&str> = late.into_iter().collect();
            tell(&format!(
                "warning: never felt in some run, since it ended before: {}",
                late.join(", ")
            ));
        }
        let Some(replay) = replay else { return done() };
        for (outcome, failure) in self.broken() {
            let (seed, lying) = (outcome.seed, outcome.adversaries);
            tell(&format!(
                "promise {} broken by {} at {:.6} s with seed {seed}, {lying} lying: {}",
                failure.check,
                failure.place(),
                failure.virtual_seconds,
                failure.what
            ));
        }
        tell(&format!("replay it: {replay}"));
        Ok(ExitCode::from(BROKEN))
    }

    fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.cells.iter().flat_map(|cell| &cell.outcomes)
    }

    fn broken(&self) -> Vec<(&Outcome, &kith_simulations::check::Failure)> {
        self.outcomes()
            .flat_map(|outcome| {
                outcome
                    .checks
                    .failed
                    .iter()
                    .map(move |failure| (outcome, failure))
            })
            .collect()
    }

    fn json(&self, seeds: u64, replay: Option<&str>) -> serde_json::Value {
        let cell = |cell: &Cell| {
            json!({
                "accuracy": cell.accuracy(), "accuracy_min": cell.worst(), "guessing": cell.mean(|outcome| outcome.guessing),
                "optimum_distance": cell.mean(|outcome| outcome.optimum_distance.map(|range| range.mean)),
                "optimum_distance_at_start": cell.mean(|outcome| outcome.optimum_distance_at_start),
                "attack_success": cell.backdoor(), "rounds_lost": cell.rounds_lost(),
                "wire_bytes_per_peer": cell.bytes_per_peer(), "runs": cell.outcomes,
            })
        };
        json!({
            "charter": self.experiment.charter.id, "holds": self.holds(), "conditions": self.conditions, "seeds": seeds,
            "liars": self.liars, "attack": self.experiment.world.attack, "clean": cell(&self.cells[0]),
            "attacked": self.cells.get(1).map(cell), "peers": Treated::all(self.cells), "promises_broken": self.broken().len(),
            "replay": replay,
        })
    }

    fn text(&self, seeds: u64) -> String {
        let charter = &self.experiment.charter;
        let (rule, byzantine) = (
            charter.aggregation.rule.name(),
            charter.aggregation.byzantine,
        );
        let (peers, rounds) = (self.experiment.peers(), charter.rounds);
        let name = &charter.name;
        let plural = if seeds == 1 { "" } else { "s" };
        let mut text = format!(
            "{name} ({peers} peers, {rounds} rounds, rule {rule}, byzantine = {byzantine}), {seeds} seed{plural}\n\n"
        );
        let placed = if self.experiment.world.liars.is_empty() {
            "placed anew by each seed"
        } else {
            "the same ones in each seed"
        };
        let attacked = format!(
            "With {} lying ({}), {placed}",
            self.liars, self.experiment.world.attack
        );
        for (title, cell) in ["With nobody lying", &attacked].into_iter().zip(self.cells) {
            let (lost, wire) = (
                percent(cell.rounds_lost()),
                bytes(cell.bytes_per_peer() as u64),
            );
            text.push_str(&format!(
                "{title}: {}; {lost} of rounds lost; {wire} on the wire per peer.\n",
                cell.reached()
            ));
        }
        self.treated(&mut text);
        text.push_str("\nWhat was looked at:\n");
        for condition in &self.conditions {
            let word = match condition.holds {
                Some(true) => "kept",
                Some(false) => "FAILED",
                None => "unknown",
            };
            text.push_str(&format!("  {word:<8}{}\n", condition.what));
        }
        text.push_str(&format!("\n{}\n", self.verdict()));
        text
    }

    /// Lists the peers that would be filtered.
    fn treated(&self, text: &mut String) {
        let peers = Treated::all(self.cells);
        let mut order: Vec<(&str, &Treated)> = peers
            .iter()
            .map(|(name, treated)| (*name, treated))
            .collect();
        order.sort_by(|one, other| other.1.left_out().total_cmp(&one.1.left_out()));
        if !peers.values().any(Treated::is_measured) {
            return;
        }
        let rows = self.treated_table(&peers, &order);
        text.push_str(
            "\nOf what a peer sent, the share that honest peers left out; and the runs in which one of them suspected it:\n",
        );
        text.push_str(&format!("{rows}\n"));
        if order.len() > NAMED_MAX {
            text.push_str(&format!(
                "… and {} more, of whom less was left out.\n",
                order.len() - NAMED_MAX
            ));
        }
        if mean(peers.values().filter_map(|peer| peer.left_out_clean))
            .is_some_and(|share| share >= PICKY_MIN)
        {
            text.push_str(
                "This rule leaves out most of what honest peers send: to be left out or suspected is no sign of a lie here.\n",
            );
        }
    }

    fn treated_table(
        &self,
        peers: &BTreeMap<&str, Treated>,
        order: &[(&str, &Treated)],
    ) -> comfy_table::Table {
        let open = self.experiment.charter.membership.mode == Admission::Open;
        let mut rows = table(&[
            "",
            "nobody lies",
            "others lie",
            "it lies",
            "suspected, honest",
            "suspected, lying",
        ]);
        let all = |of: fn(&Treated) -> Option<f64>| share(mean(peers.values().filter_map(of)));
        rows.add_row(vec![
            "everybody".to_owned(),
            all(|peer| peer.left_out_clean),
            all(|peer| peer.left_out_honest),
            all(|peer| peer.left_out_lying),
            String::new(),
            String::new(),
        ]);
        for (name, peer) in order.iter().take(NAMED_MAX) {
            let shown = if open {
                format!("peer {name}")
            } else {
                (*name).to_owned()
            };
            rows.add_row(peer.row(shown));
        }
        rows
    }

    fn verdict(&self) -> String {
        let nobody = if self.liars == 0 {
            " Nobody lies in this world: set world.adversaries to see what liars do."
        } else {
            ""
        };
        match self.holds() {
            Some(true) => format!("The charter holds in this world.{nobody}"),
            Some(false) => {
                let mut text = "The charter does not hold in this world:".to_owned();
                let failed: Vec<&Condition> = self
                    .conditions
                    .iter()
                    .filter(|condition| condition.holds == Some(false))
                    .collect();
                failed
                    .iter()
                    .for_each(|condition| text.push_str(&format!("\n  {}.", condition.what)));
                let mut told = BTreeSet::new();
                for condition in failed
                    .iter()
                    .filter(|condition| told.insert(condition.advice))
                {
                    text.push_str(&format!("\n{}", condition.advice));
                }
                format!("{text}{}", nobody.replacen(' ', "\n", 1))
            }
            None => format!(
                "Whether the charter holds cannot be judged in this world: see what is unknown above. A model is evaluated after the last \
                 round, or after every so many (world.evaluate_every).{nobody}"
            ),
        }
    }
}
