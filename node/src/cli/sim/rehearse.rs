//! Rehearsal: a consortium's own charter in a world with liars, before anybody runs it; the answer is in plain words.

use std::collections::BTreeMap;
use std::path::Path;

use kith_simulations::experiment::{Experiment, Outcome, Setting};
use serde_json::json;

use super::super::done;
use super::super::output::{Failure, Verdict, bytes, print, print_json, tell};
use super::run::Run;

/// What liars may cost for a charter to be said to hold: 5 points of accuracy (guess: what a person notices).
const COST_MAX: f64 = 0.05;

/// One of the two cells over all seeds.
struct Cell {
    outcomes: Vec<Outcome>,
}

impl Cell {
    fn mean(&self, of: impl Fn(&Outcome) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.outcomes.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    fn accuracy(&self) -> Option<f64> {
        self.mean(|outcome| outcome.accuracy.map(|accuracy| accuracy.mean))
    }

    fn worst(&self) -> Option<f64> {
        self.outcomes.iter().filter_map(|outcome| outcome.accuracy.map(|accuracy| accuracy.min)).reduce(f64::min)
    }

    /// Share of the honest peers' rounds in which too few models came in.
    fn rounds_lost(&self) -> f64 {
        let honest = |outcome: &Outcome| (outcome.peers - outcome.adversaries) as u64 * outcome.rounds;
        let lost: u64 = self.outcomes.iter().map(|outcome| outcome.mixing_skipped).sum();
        lost as f64 / self.outcomes.iter().map(honest).sum::<u64>().max(1) as f64
    }

    fn bytes_per_peer(&self) -> f64 {
        self.mean(|outcome| Some(outcome.bytes.wire as f64 / outcome.peers as f64)).unwrap_or(0.0)
    }

    /// How often each peer was suspected by somebody, and how often it lied then: name to (runs, runs in which it lied).
    fn suspected(&self) -> BTreeMap<&str, (usize, usize)> {
        let mut found = BTreeMap::new();
        for outcome in &self.outcomes {
            for name in outcome.suspected.keys() {
                let (runs, lied) = found.entry(name.as_str()).or_insert((0, 0));
                *runs += 1;
                *lied += usize::from(outcome.liars.contains(name));
            }
        }
        found
    }
}

/// Runs the charter in its world with nobody lying and with the world's liars, placed anew by each seed.
pub(super) fn rehearse(charter: &Path, world: &Path, options: &Run) -> Verdict {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
    };
    let text = format!("{}\n{}", read(charter)?, read(world)?);
    let experiment = |settings: &[Setting]| {
        Experiment::parse(&text, settings).map_err(|problems| {
            let what = format!("{} and {} do not make an experiment", charter.display(), world.display());
            Failure::of_problems(&what, &problems)
        })
    };
    let first = experiment(&options.settings())?;
    let liars = first.world.adversaries.max(first.world.liars.len());
    let mut cells = Vec::new();
    for count in if liars > 0 { vec![0, liars] } else { vec![0] } {
        let mut outcomes = Vec::new();
        for seed in first.world.seed..first.world.seed + options.seeds() {
            let mut settings = options.settings();
            settings.push(("world.seed".to_owned(), toml::Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX))));
            if count == 0 {
                settings.push(("world.adversaries".to_owned(), toml::Value::Integer(0)));
                settings.push(("world.liars".to_owned(), toml::Value::Array(Vec::new())));
            }
            tell(&format!("seed {seed}, {count} lying"));
            outcomes.push(super::run::run(&experiment(&settings)?, options.threads())?);
        }
        cells.push(Cell { outcomes });
    }
    answer(&first, liars, &cells, options)
}

fn answer(experiment: &Experiment, liars: usize, cells: &[Cell], options: &Run) -> Verdict {
    let (clean, attacked) = (&cells[0], cells.get(1));
    let cost = attacked.and_then(|attacked| Some(clean.accuracy()? - attacked.accuracy()?));
    let broken: usize = cells.iter().flat_map(|cell| &cell.outcomes).map(|outcome| outcome.checks.failed.len()).sum();
    let holds = broken == 0 && cost.is_none_or(|cost| cost <= COST_MAX);
    if options.json() {
        let cell = |cell: &Cell| {
            json!({
                "accuracy": cell.accuracy(), "accuracy_min": cell.worst(), "rounds_lost": cell.rounds_lost(),
                "wire_bytes_per_peer": cell.bytes_per_peer(), "suspected": cell.suspected(), "runs": cell.outcomes,
            })
        };
        print_json(&json!({
            "charter": experiment.charter.id, "holds": holds, "seeds": options.seeds(), "liars": liars,
            "attack": experiment.world.attack, "clean": cell(clean), "attacked": attacked.map(cell), "promises_broken": broken,
        }))?;
        return done();
    }
    let percent = |value: Option<f64>| value.map_or("unknown".to_owned(), |value| format!("{:.1} %", 100.0 * value));
    let charter = &experiment.charter;
    let mut text = format!(
        "{} ({} peers, {} rounds, rule {}, byzantine = {}), {} seeds\n\n",
        charter.name,
        experiment.peers(),
        charter.rounds,
        charter.aggregation.rule.name(),
        charter.aggregation.byzantine,
        options.seeds(),
    );
    let mut tell_cell = |title: String, cell: &Cell| {
        text.push_str(&format!(
            "{title}: accuracy {} (worst peer {}); {} of rounds lost; {} on the wire per peer.\n",
            percent(cell.accuracy()),
            percent(cell.worst()),
            percent(Some(cell.rounds_lost())),
            bytes(cell.bytes_per_peer() as u64),
        ));
        for (name, (runs, lied)) in cell.suspected() {
            text.push_str(&format!("  suspected: {name} in {runs} of {} runs, in {lied} of them it lied\n", cell.outcomes.len()));
        }
    };
    tell_cell("With nobody lying".to_owned(), clean);
    if let Some(attacked) = attacked {
        tell_cell(format!("With {liars} lying ({}), placed anew by each seed", experiment.world.attack), attacked);
    }
    let verdict = match (holds, cost) {
        (true, Some(cost)) => format!("The charter holds: these liars cost {:.1} points of accuracy.", 100.0 * cost),
        (true, None) => "The charter holds. Nobody lies in this world: set world.adversaries to see what liars do.".to_owned(),
        (false, Some(cost)) if cost > COST_MAX => format!(
            "The charter does not hold: these liars cost {:.1} points of accuracy, more than {:.0}. Raise byzantine, choose another \
             rule (kith list rules), or a topology with larger neighbourhoods (kith topology explain).",
            100.0 * cost,
            100.0 * COST_MAX
        ),
        (false, _) => format!("{broken} promises were broken: this is a fault in Kith, please report it with these files."),
    };
    text.push_str(&format!("\n{verdict}\n"));
    print(&text)?;
    done()
}
