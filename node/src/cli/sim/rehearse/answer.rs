//! The answer of a rehearsal, in plain words and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use kith_consensus::charter::Admission;
use kith_simulations::experiment::{Experiment, Outcome};
use serde_json::json;

use super::super::experiment::BROKEN;
use super::super::options::Run;
use super::cell::Cell;
use super::conditions::Condition;
use super::figures::{mean, percent, share};
use super::treated::Treated;
use crate::cli::done;
use crate::cli::output::{Failure, Verdict, bytes, print, print_json, table, tell};

/// Peers that are named in the answer, those first that honest peers leave out most (guess: as many
/// as fit on a screen).
const NAMED_MAX: usize = 20;

/// From this share of honest peers' models on that the rule leaves out, the answer says that being
/// left out is no sign of a lie (guess: half).
const PICKY_MIN: f64 = 0.5;

/// What a rehearsal came to, as text and as JSON.
pub(super) struct Answer<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) liars: usize,
    pub(super) conditions: Vec<Condition>,
    pub(super) cells: &'a [Cell],
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

    /// Writes and prints it; the verdict is the exit code.
    pub(super) fn tell(&self, options: &Run, command: &dyn Fn(u64) -> String) -> Verdict {
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
                "invariant {} broken by {} at {:.6} s with seed {seed}, {lying} lying: {}",
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
            "attacked": self.cells.get(1).map(cell), "peers": Treated::all(self.cells), "invariants_broken": self.broken().len(),
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
                let mut advised = BTreeSet::new();
                for condition in failed
                    .iter()
                    .filter(|condition| advised.insert(condition.advice))
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
