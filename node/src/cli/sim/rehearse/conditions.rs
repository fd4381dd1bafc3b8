//! The conditions that a charter must meet in a rehearsal to pass, each with its limit.

use serde::Serialize;

use super::cell::Cell;
use super::figures::{number, percent};

/// How far a federation must come to be said to learn: a fifth of the way from learning nothing to
/// the best possible (guess: less is hard to tell from luck). With a model the way goes from the
/// accuracy of always naming the most frequent class to 100 %, with a formula from the common start
/// to the optimum.
const LEARNS_MIN: f64 = 0.2;

/// What liars may cost the honest peers' mean: 5 points of accuracy (guess: a loss that a person
/// notices).
const COST_MAX: f64 = 0.05;

/// What liars may cost the worst honest peer: 10 points of accuracy (guess: twice what they may
/// cost the mean, as one peer varies more).
const WORST_COST_MAX: f64 = 0.10;

/// What liars may cost of the way to a formula's optimum: half of it (guess: some cannot be had,
/// since the liars' own objectives are part of that optimum).
const WAY_COST_MAX: f64 = 0.5;

/// Share of the honest peers' rounds in which too few models may come in: a tenth (guess: such a
/// round is a peer's own step, and a few of them delay more than they spoil).
const LOST_MAX: f64 = 0.10;

/// How much a backdoor may add to the triggered rows that are taken for its target: 10 points
/// (guess: as for the worst peer).
const BACKDOOR_MAX: f64 = 0.10;

/// One condition.
#[derive(Debug, Serialize)]
pub(super) struct Condition {
    /// Its name, for programs.
    name: &'static str,
    /// Whether it is met; `None`: it cannot be judged.
    pub(super) holds: Option<bool>,
    /// What was measured against which limit, or why it cannot be judged.
    pub(super) what: String,
    /// What to try if it is not met.
    #[serde(skip)]
    pub(super) advice: &'static str,
}

const TRAINING: &str = "It learns too little even with nobody lying: look at learning rate and local steps, or allow more rounds.";
const DEFENCE: &str = "Against these liars: raise byzantine, choose another rule (kith list rules), or a topology with larger \
                       neighbourhoods (kith topology explain).";
const ROUNDS: &str = "So that fewer rounds are lost: a longer deadline, a rule that needs fewer models, or larger neighbourhoods; \
                      and look at what this world does to lines and peers.";
const INVARIANTS: &str = "A broken invariant is a fault in Kith, unless the world leaves too little time (limit_seconds, \
                        heals_within_seconds): please report it with both files and the command that replays it.";

/// Every condition of a rehearsal: with nobody lying, and with liars if there are any.
pub(super) fn conditions(clean: &Cell, attacked: Option<&Cell>) -> Vec<Condition> {
    const CLEAN: [&str; 4] = ["with nobody lying", "learns", "worst_learns", "rounds"];
    const ATTACKED: [&str; 4] = [
        "with liars",
        "learns_attacked",
        "worst_learns_attacked",
        "rounds_attacked",
    ];
    let mut found = vec![invariants([Some(clean), attacked].into_iter().flatten())];
    let learns = clean
        .progress()
        .is_some_and(|progress| progress >= LEARNS_MIN);
    for ([when, mean, worst, rounds], cell) in [(CLEAN, Some(clean)), (ATTACKED, attacked)] {
        let Some(cell) = cell else { continue };
        // If the model does not learn without liars, the liars are not to blame.
        let advice = if when == ATTACKED[0] && learns {
            DEFENCE
        } else {
            TRAINING
        };
        let way = if cell.has_accuracy() {
            "from guessing to no error"
        } else {
            "from the start to the optimum"
        };
        for (name, who, value) in [
            (mean, "honest peers", cell.progress()),
            (worst, "the worst honest peer", cell.worst_progress()),
        ] {
            let what = |value| {
                let come = if value < 0.0 {
                    "no part".to_owned()
                } else {
                    percent(value)
                };
                format!(
                    "{when}, {who} came {come} of the way {way}; expected at least {}",
                    percent(LEARNS_MIN)
                )
            };
            let asked = format!(
                "{when}, whether {who} learn{}",
                if name == worst { "s" } else { "" }
            );
            found.push(judged(
                name,
                &asked,
                cell.ensure(value),
                |value| value >= LEARNS_MIN,
                what,
                advice,
            ));
        }
        let what = |lost| {
            let (lost, limit) = (percent(lost), percent(LOST_MAX));
            format!("{when}, {lost} of rounds lost for want of models; expected at most {limit}")
        };
        found.push(judged(
            rounds,
            "",
            Ok(cell.rounds_lost()),
            |value| value <= LOST_MAX,
            what,
            ROUNDS,
        ));
    }
    if let Some(attacked) = attacked {
        found.extend(costs(clean, attacked));
    }
    found
}

fn invariants<'a>(cells: impl Iterator<Item = &'a Cell>) -> Condition {
    let outcomes: Vec<_> = cells.flat_map(|cell| &cell.outcomes).collect();
    let all: usize = outcomes
        .iter()
        .map(|outcome| outcome.checks.failed.len() + outcome.checks.passed)
        .sum();
    let broken: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| {
            outcome
                .checks
                .failed
                .iter()
                .map(|failure| format!("{} (seed {})", failure.check, outcome.seed))
        })
        .collect();
    let named: std::collections::BTreeSet<&str> = broken.iter().map(String::as_str).collect();
    let mut what = format!(
        "invariants held: {} of {all} in {} runs",
        all - broken.len(),
        outcomes.len()
    );
    if !named.is_empty() {
        what.push_str(&format!(
            "; broken: {}",
            named.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    Condition {
        name: "invariants",
        holds: Some(broken.is_empty()),
        what,
        advice: INVARIANTS,
    }
}

/// What liars cost, against nobody lying.
fn costs(clean: &Cell, attacked: &Cell) -> Vec<Condition> {
    let cost = |of: fn(&Cell) -> Option<f64>| Some(of(clean)? - of(attacked)?);
    let ensured = |value| clean.ensure(value).and_then(|_| attacked.ensure(value));
    let points = |who: &'static str, limit| {
        move |cost| {
            format!(
                "liars cost {who} {} points of accuracy; expected at most {}",
                number(at_least_nothing(cost)),
                number(limit)
            )
        }
    };
    let mut found = Vec::new();
    if clean.has_accuracy() {
        let (mean, worst) = (ensured(cost(Cell::accuracy)), ensured(cost(Cell::worst)));
        let what = points("honest peers", COST_MAX);
        found.push(judged(
            "cost",
            "what liars cost honest peers",
            mean,
            |cost| cost <= COST_MAX,
            what,
            DEFENCE,
        ));
        let what = points("the worst honest peer", WORST_COST_MAX);
        let asked = "what liars cost the worst honest peer";
        found.push(judged(
            "worst_cost",
            asked,
            worst,
            |cost| cost <= WORST_COST_MAX,
            what,
            DEFENCE,
        ));
    } else {
        let what = |cost| {
            let come = if cost > 1.0 {
                "more than all".to_owned()
            } else {
                percent(at_least_nothing(cost))
            };
            let limit = percent(WAY_COST_MAX);
            format!(
                "liars cost {come} of the way to the optimum; expected at most {limit} (a formula has no accuracy)"
            )
        };
        let (asked, value) = ("what liars cost", ensured(cost(Cell::progress)));
        found.push(judged(
            "cost",
            asked,
            value,
            |cost| cost <= WAY_COST_MAX,
            what,
            DEFENCE,
        ));
    }
    if let Some(gain) = cost(Cell::backdoor).map(|cost| -cost) {
        let what = |gain| {
            let (gain, limit) = (number(at_least_nothing(gain)), number(BACKDOOR_MAX));
            format!(
                "the backdoor gained {gain} points of the triggered rows; expected at most {limit}"
            )
        };
        found.push(judged(
            "backdoor",
            "",
            Ok(gain),
            |gain| gain <= BACKDOOR_MAX,
            what,
            DEFENCE,
        ));
    }
    found
}

/// A value against its limit; a value that is not a number meets none.
fn judged(
    name: &'static str,
    asked: &str,
    value: Result<f64, String>,
    keeps: impl Fn(f64) -> bool,
    what: impl Fn(f64) -> String,
    advice: &'static str,
) -> Condition {
    match value {
        Ok(value) => Condition {
            name,
            holds: Some(keeps(value)),
            what: what(value),
            advice,
        },
        Err(why) => Condition {
            name,
            holds: None,
            what: format!("{asked}: {why}"),
            advice,
        },
    }
}

/// The liars' cost, or 0 if it is negative.
fn at_least_nothing(cost: f64) -> f64 {
    if cost < 0.0 { 0.0 } else { cost }
}
