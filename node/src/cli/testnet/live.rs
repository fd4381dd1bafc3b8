//! The display while a testnet runs: a moving line on a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::super::output::{table, tell};
use super::directory::Places;
use super::plan::Plan;
use super::tally::{Group, Tally};
use crate::telemetry::Budget;

/// Progress over the rounds, on stderr.
pub(super) struct Live {
    bar: Option<ProgressBar>,
    rounds: u64,
}

impl Live {
    pub(super) fn new(rounds: u64) -> Live {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("round {pos}/{len} {wide_bar} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(rounds).with_style(style)
        });
        Live { bar, rounds }
    }

    /// A round is done everywhere.
    pub(super) fn round(&self, tally: &Tally) {
        let number =
            |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.4}"));
        let accuracy = tally.accuracy().map_or(String::new(), |accuracy| {
            format!("  accuracy {accuracy:.4}")
        });
        let dropped = match (
            tally.dropped_share_of(Group::Liars),
            tally.dropped_share_of(Group::Honest),
        ) {
            (Some(liars), Some(honest)) => format!(
                "  dropped: liars {:.0} %, honest {:.0} %",
                100.0 * liars,
                100.0 * honest
            ),
            _ => String::new(),
        };
        // Under a guarantee no loss is told.
        let text = match tally.privacy() {
            Some(Budget {
                epsilon, budget, ..
            }) => format!("epsilon {epsilon:.3} of {budget}{accuracy}{dropped}"),
            None => format!(
                "training loss {}{accuracy}{dropped}",
                number(tally.training_loss())
            ),
        };
        match &self.bar {
            Some(bar) => {
                bar.set_position(tally.common_round);
                bar.set_message(text);
            }
            None => tell(&format!(
                "round {}/{}: {text}",
                tally.common_round, self.rounds
            )),
        }
    }

    /// Shows another message.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell(text)),
            None => tell(text),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The table of peers: shown once all are connected.
pub(super) fn ready_table(plan: &Plan, places: &Places) -> String {
    let mut shown = table(&[
        "name",
        "peer id",
        "role",
        "address",
        "rows",
        "rows of each class",
        "liars around / f",
    ]);
    for (index, member) in plan.members.iter().enumerate() {
        let classes = &plan.classes[index];
        let classes = if classes.len() <= 12 {
            classes
                .iter()
                .map(u64::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        } else {
            format!(
                "{} of {} classes",
                classes.iter().filter(|rows| **rows > 0).count(),
                classes.len()
            )
        };
        let address = places.nodes[index]
            .address
            .split("/p2p/")
            .next()
            .unwrap_or_default()
            .to_owned();
        let liars = if member.lies {
            "–".to_owned()
        } else {
            format!("{} / {}", member.liars_around, plan.byzantine())
        };
        shown.add_row([
            member.name.clone(),
            format!("…{}", member.peer.short()),
            role(member.lies).to_owned(),
            address,
            plan.shards[index].len().to_string(),
            classes,
            liars,
        ]);
    }
    shown.to_string()
}

/// The word for a peer's role.
pub(super) fn role(lies: bool) -> &'static str {
    if lies { "adversary" } else { "honest" }
}
