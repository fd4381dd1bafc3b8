//! What a charter must keep in a rehearsal for it to be said to hold: one condition each, with its limit.

use serde::Serialize;

use super::Cell;

/// How far a federation must come to be said to learn: a fifth of the way from whoever learns nothing to what cannot be
/// surpassed (guess: less is hard to tell from luck). With a model the way goes from the accuracy of always naming the most
/// frequent class to 100 %, with a formula from where everybody starts to the optimum.
const LEARNS_MIN: f64 = 0.2;

/// What liars may cost the honest peers' mean: 5 points of accuracy (guess: what a person notices).
const COST_MAX: f64 = 0.05;

/// What liars may cost the worst honest peer: 10 points of accuracy (guess: twice what they may cost the mean, as one peer
/// varies more).
const WORST_COST_MAX: f64 = 0.10;

/// What liars may cost of the way to a formula's optimum: half of it (guess: some cannot be had, since the liars' own
/// objectives are part of that optimum).
const WAY_COST_MAX: f64 = 0.5;

/// Share of the honest peers' rounds in which too few models may come in: a tenth (guess: such a round is a peer's own step,
/// and a few of them delay more than they spoil).
const LOST_MAX: f64 = 0.10;

/// What a backdoor may add to the triggered rows that are taken for its target: 10 points (guess: as for the worst peer).
const BACKDOOR_MAX: f64 = 0.10;

/// One condition.
#[derive(Debug, Serialize)]
pub(super) struct Condition {
    /// Its name, for programs.
    name: &'static str,
    /// Whether it is kept; `None`: it cannot be judged.
    pub(super) holds: Option<bool>,
    /// What was measured against which limit, or why it cannot be judged.
    pub(super) what: String,
    /// What to try where it is not kept.
    #[serde(skip)]
    pub(super) advice: &'static str,
}

const TRAINING: &str =
    "It learns too little even with nobody lying: look at learning rate and local steps, or allow more rounds.";
const DEFENCE: &str = "Against these liars: raise byzantine, choose another rule (kith list rules), or a topology with larger \
                       neighbourhoods (kith topology explain).";
const ROUNDS: &str = "So that fewer rounds are lost: a longer deadline, a rule that needs fewer models, or larger neighbourhoods; \
                      and look at what this world does to lines and peers.";
const PROMISES: &str = "A broken promise is a fault in Kith, unless the world leaves too little time (limit_seconds, \
                        heals_within_seconds): please report it with both files and the command that replays it.";

/// Every condition of a rehearsal: with nobody lying, and with liars where there are any.
pub(super) fn conditions(clean: &Cell, attacked: Option<&Cell>) -> Vec<Condition> {
    let cells = || [("with nobody lying", clean)].into_iter().chain(attacked.map(|attacked| ("with liars", attacked)));
    let mut found = vec![promises(cells().map(|(_, cell)| cell))];
    for (when, cell) in cells() {
        let clean = when == "with nobody lying";
        let names = if clean {
            ["learns", "worst_learns", "rounds"]
        } else {
            ["learns_attacked", "worst_learns_attacked", "rounds_attacked"]
        };
        let advice = if clean { TRAINING } else { DEFENCE };
        let way = if cell.has_accuracy() { "from guessing to no error" } else { "from the start to the optimum" };
        for (name, who, value) in [(names[0], "honest peers", cell.way()), (names[1], "the worst of them", cell.worst_way())] {
            let what = |value| {
                format!("{when}, {who} came {} of the way {way}; expected at least {}", percent(value), percent(LEARNS_MIN))
            };
            found.push(judged(name, cell.ensure(value), |value| value >= LEARNS_MIN, what, advice));
        }
        let what = |value| {
            format!("{when}, {} of rounds lost for want of models; expected at most {}", percent(value), percent(LOST_MAX))
        };
        found.push(judged(names[2], Ok(cell.rounds_lost()), |value| value <= LOST_MAX, what, ROUNDS));
    }
    if let Some(attacked) = attacked {
        found.extend(costs(clean, attacked));
    }
    found
}

fn promises<'a>(cells: impl Iterator<Item = &'a Cell>) -> Condition {
    let checks: Vec<_> = cells.flat_map(|cell| &cell.outcomes).map(|outcome| &outcome.checks).collect();
    let broken: usize = checks.iter().map(|checks| checks.failed.len()).sum();
    let all: usize = broken + checks.iter().map(|checks| checks.passed).sum::<usize>();
    let what = format!("promises kept: {} of {all} in {} runs", all - broken, checks.len());
    Condition { name: "promises", holds: Some(broken == 0), what, advice: PROMISES }
}

/// What liars cost, against nobody lying.
fn costs(clean: &Cell, attacked: &Cell) -> Vec<Condition> {
    let cost = |of: fn(&Cell) -> Option<f64>| Some(of(clean)? - of(attacked)?);
    let ensured = |value| clean.ensure(value).and_then(|_| attacked.ensure(value));
    let points = |who: &'static str, limit| {
        move |cost| format!("liars cost {who} {} points of accuracy; expected at most {}", number(cost), number(limit))
    };
    let mut found = Vec::new();
    if clean.has_accuracy() {
        let what = points("honest peers", COST_MAX);
        found.push(judged("cost", ensured(cost(Cell::accuracy)), |cost| cost <= COST_MAX, what, DEFENCE));
        let what = points("the worst of them", WORST_COST_MAX);
        found.push(judged("worst_cost", ensured(cost(Cell::worst)), |cost| cost <= WORST_COST_MAX, what, DEFENCE));
    } else {
        let what = |cost| {
            format!(
                "liars cost {} of the way to the optimum; expected at most {}, as a formula has no accuracy",
                percent(cost),
                percent(WAY_COST_MAX)
            )
        };
        found.push(judged("cost", ensured(cost(Cell::way)), |cost| cost <= WAY_COST_MAX, what, DEFENCE));
    }
    if let Some(gain) = cost(Cell::backdoor).map(|cost| -cost) {
        let what = |gain| {
            format!(
                "the backdoor gained {} points of the triggered rows; expected at most {}",
                number(gain),
                number(BACKDOOR_MAX)
            )
        };
        found.push(judged("backdoor", Ok(gain), |gain| gain <= BACKDOOR_MAX, what, DEFENCE));
    }
    found
}

/// A value against its limit; what is not a number keeps none.
fn judged(
    name: &'static str,
    value: Result<f64, String>,
    keeps: impl Fn(f64) -> bool,
    what: impl Fn(f64) -> String,
    advice: &'static str,
) -> Condition {
    match value {
        Ok(value) => Condition { name, holds: Some(keeps(value)), what: what(value), advice },
        Err(why) => Condition { name, holds: None, what: format!("{name} cannot be judged: {why}"), advice },
    }
}

/// A share for people.
pub(super) fn percent(value: f64) -> String {
    format!("{} %", number(value))
}

/// Hundredths for people, without a sign on what rounds to zero.
fn number(value: f64) -> String {
    let text = format!("{:.1}", 100.0 * value);
    if text == "-0.0" { "0.0".to_owned() } else { text }
}
