//! How a testnet ended: a table for people, one JSON object for programs.

use std::path::Path;

use kith_consensus::charter::Unit;
use kith_consensus::privacy::ledger::Statement;
use kith_models::read_model;
use kith_simulations::sites::{self, SiteRow, WAYS};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::guard::TRUST;
use super::super::output::{bytes, table};
use super::baseline::{Baselines, SPLITS};
use super::directory::Places;
use super::live::role;
use super::plan::Plan;
use super::supervisor::Ended;
use super::tally::{Group, Tally, mean};
use crate::checkpoint;
use crate::guarantee::account;
use crate::telemetry::Known;

/// Everything that the report shows.
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    pub(super) places: &'a Places,
    pub(super) baselines: Option<Baselines>,
    pub(super) ended: &'a Ended,
    pub(super) seed: u64,
    /// What each site gains, if peers are sites.
    pub(super) sites: Option<Vec<SiteRow>>,
}

/// Mean, least and most; `None` if there are no values.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    max: Option<f64>,
    mean: Option<f64>,
    min: Option<f64>,
}

impl Report<'_> {
    /// Whether every honest peer went through all rounds.
    pub(super) fn finished(&self) -> bool {
        self.tally().finished()
    }

    fn tally(&self) -> &Tally {
        &self.ended.tally
    }

    fn spread(&self, value: fn(&Known) -> Option<f64>) -> Spread {
        let known = |index: usize| &self.tally().nodes[index].known;
        let values = self.plan.honest().filter_map(|index| value(known(index)));
        let values: Vec<f64> = values.collect();
        Spread {
            mean: mean(values.iter().copied()),
            min: values.iter().copied().reduce(f64::min),
            max: values.iter().copied().reduce(f64::max),
        }
    }

    /// Seconds that all peers spent together.
    fn work(&self, seconds: fn(&Known) -> f64) -> f64 {
        let nodes = self.tally().nodes.iter();
        nodes.map(|node| seconds(&node.known)).sum()
    }

    /// Root mean square distance of the honest peers' final parameters to their mean.
    fn consensus_distance(&self) -> Option<f64> {
        let layout = self.plan.agreement.task.layout();
        let rounds = self.plan.agreement.charter.rounds;
        let model = |index: usize| {
            let path = self.places.nodes[index]
                .folder
                .join("checkpoints")
                .join(checkpoint::file_name(rounds));
            read_model(&std::fs::read(path).ok()?, layout).ok()
        };
        let models: Vec<Vec<f32>> = self.plan.honest().filter_map(model).collect();
        if models.is_empty() {
            return None;
        }
        let count = models.len() as f64;
        let square: f64 = (0..layout.dimension)
            .map(|place| {
                let mean = models
                    .iter()
                    .map(|model| f64::from(model[place]))
                    .sum::<f64>()
                    / count;
                models
                    .iter()
                    .map(|model| (f64::from(model[place]) - mean).powi(2))
                    .sum::<f64>()
            })
            .sum();
        Some((square / count).sqrt())
    }

    /// What the honest peer that spent most of its privacy budget may say of its releases; `None`
    /// without a guarantee.
    fn privacy(&self) -> Option<Statement> {
        let account = account(&self.plan.agreement)?;
        let statement = |index: usize| {
            let ledger = self.places.nodes[index].ledger.read().ok()?;
            account.statement(&ledger).ok()
        };
        let statements = self.plan.honest().filter_map(statement);
        statements.reduce(|most, other| match other.epsilon_rdp > most.epsilon_rdp {
            true => other,
            false => most,
        })
    }

    /// The object that `--json` ends with.
    pub(super) fn to_json(&self) -> Value {
        let (plan, tally) = (self.plan, self.tally());
        let charter = &plan.agreement.charter;
        let liars = plan.members.iter().filter(|member| member.lies).count();
        let members = 0..plan.members.len();
        let sites = self.sites.as_ref();
        json!({
            "federation": charter.genesis.to_string(),
            "seed": self.seed,
            "dataset": plan.dataset,
            "partition": plan.partition,
            "rule": charter.aggregation.rule.name(),
            "byzantine": plan.byzantine(),
            "topology": charter.topology.kind.name(),
            "codec": plan.agreement.codec.name(),
            "peers": plan.members.len(),
            "honest": plan.members.len() - liars,
            "adversaries": liars,
            "rounds": charter.rounds,
            "finished": self.finished(),
            "ready_seconds": self.ended.ready_after.map(|after| after.as_secs_f64()),
            "wall_seconds": self.ended.wall.as_secs_f64(),
            "peer_rounds_per_second": tally.peer_rounds_per_second(),
            "training_seconds": self.work(|known| known.training_seconds),
            "evaluation_seconds": self.work(|known| known.evaluation_seconds),
            "accuracy": self.spread(|known| known.accuracy),
            "accuracy_without_privacy": self.baselines.and_then(|baselines| baselines.unprotected),
            "accuracy_local_only": self.baselines.map(|baselines| baselines.local_only),
            "accuracy_pooled": self.baselines.map(|baselines| baselines.pooled),
            "loss": self.spread(|known| known.loss),
            "privacy": self.privacy(),
            "consensus_distance": self.consensus_distance(),
            "dropped_share": {
                "adversaries": tally.dropped_share_of(Group::Liars),
                "honest": tally.dropped_share_of(Group::Honest),
            },
            "refused": tally.refused(),
            "bytes": tally.bytes(),
            "pss_bytes": tally.nodes.iter().map(|node| node.pss_bytes).sum::<u64>(),
            "nodes": members.map(|index| self.node_json(index)).collect::<Vec<_>>(),
            "sites": sites.map(|sites| sites.iter().map(site_json).collect::<Vec<_>>()),
        })
    }

    fn node_json(&self, index: usize) -> Value {
        let (member, node) = (&self.plan.members[index], &self.tally().nodes[index]);
        json!({
            "name": member.name,
            "peer_id": member.peer.to_string(),
            "pid": node.pid,
            "role": role(member.lies),
            "state": node.state,
            "rounds": node.known.completed,
            "accuracy": node.known.accuracy,
            "loss": node.known.loss,
            "updates_accepted": node.known.accepted,
            "updates_refused": node.refused(),
            "mixing_skipped": node.known.mixing_skipped,
            "dropped_share": self.tally().dropped_share(index),
            "liars_around": member.liars_around,
            "restarts": node.restarts(),
            "pss_bytes": node.pss_bytes,
        })
    }

    /// The table and its explanation.
    pub(super) fn to_text(&self, folder: Option<&Path>) -> String {
        let mut text = format!("{}\n\n", self.peers());
        let lines = [self.learned(), self.sent(), self.took()];
        for (name, value) in lines.into_iter().flatten() {
            text.push_str(&format!("{name:<24}{value}\n"));
        }
        if let Some(sites) = &self.sites {
            text.push_str(&sites_text(sites));
        }
        if !self.finished() {
            text.push_str("\nNot every honest peer went through all rounds.\n");
        }
        text.push_str(&self.next_steps(folder));
        text
    }

    fn peers(&self) -> comfy_table::Table {
        let mut shown = table(&[
            "name",
            "role",
            "rounds",
            "accuracy",
            "loss",
            "accepted",
            "refused",
            "dropped by others",
            "memory",
        ]);
        let nodes = self.tally().nodes.iter().enumerate();
        for (member, (index, node)) in self.plan.members.iter().zip(nodes) {
            shown.add_row([
                member.name.clone(),
                role(member.lies).to_owned(),
                node.known.completed.to_string(),
                number(node.known.accuracy),
                number(node.known.loss),
                node.known.accepted.to_string(),
                node.refused().to_string(),
                percent(self.tally().dropped_share(index)),
                bytes(node.pss_bytes),
            ]);
        }
        shown
    }

    /// What the peers learned, and what the rule left out.
    fn learned(&self) -> Vec<(&'static str, String)> {
        let Spread { mean, min, max } = self.spread(|known| known.accuracy);
        let [mean, min, max] = [mean, min, max].map(number);
        let mut lines = vec![(
            "accuracy, honest peers",
            format!("{mean} mean, {min} to {max}"),
        )];
        if let Some(baselines) = self.baselines {
            let alone = format!(
                "{:.4} mean of the honest peers' own models",
                baselines.local_only
            );
            let pooled = format!("{:.4} one model on all honest rows", baselines.pooled);
            let without = baselines.unprotected.map(|accuracy| {
                (
                    "  without privacy",
                    format!("{accuracy:.4} the same federation without noise"),
                )
            });
            lines.extend(without);
            lines.extend([("  each alone", alone), ("  all rows pooled", pooled)]);
        }
        if self.plan.members.iter().any(|member| member.lies) {
            let share = |group: Group| percent(self.tally().dropped_share_of(group));
            let dropped = format!(
                "{} of the liars' contributions, {} of honest ones",
                share(Group::Liars),
                share(Group::Honest)
            );
            lines.push(("dropped", dropped));
        }
        lines.extend(self.privacy().iter().flat_map(privacy_lines));
        lines.push(("refused", self.refused()));
        lines.push(("consensus distance", number(self.consensus_distance())));
        lines
    }

    fn refused(&self) -> String {
        let refused = self.tally().refused();
        let reasons: Vec<String> = refused
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        match reasons.len() {
            0 => "nothing".to_owned(),
            _ => reasons.join(", "),
        }
    }

    fn sent(&self) -> Vec<(&'static str, String)> {
        let sent = self.tally().bytes();
        let encoded = sent.payload + sent.keyframes;
        let ratio = if encoded > 0 {
            sent.dense_equivalent as f64 / encoded as f64
        } else {
            0.0
        };
        let updates = format!(
            "{} payload + {} keyframes + {} envelopes",
            bytes(sent.payload),
            bytes(sent.keyframes),
            bytes(sent.envelope)
        );
        let dense = format!("{}, {ratio:.1} times as much", bytes(sent.dense_equivalent));
        vec![
            ("updates", updates),
            ("  uncompressed", dense),
            ("  on the wire", bytes(sent.wire)),
        ]
    }

    fn took(&self) -> Vec<(&'static str, String)> {
        let rate = self.tally().peer_rounds_per_second();
        let rate = rate.map_or(String::new(), |rate| {
            format!(", {rate:.1} peer-rounds a second")
        });
        let work = format!(
            "{:.1} s training, {:.1} s evaluating",
            self.work(|known| known.training_seconds),
            self.work(|known| known.evaluation_seconds)
        );
        let wall = self.ended.wall.as_secs_f64();
        vec![
            ("time", format!("{wall:.1} s{rate}")),
            ("  of all peers", work),
        ]
    }

    fn next_steps(&self, folder: Option<&Path>) -> String {
        let lying = self.plan.members.iter().any(|member| member.lies);
        let mut steps = Vec::new();
        if lying && self.plan.agreement.charter.aggregation.rule.name() != "mean" {
            steps.push((
                "kith testnet --rule mean",
                "the same liars against plain averaging",
            ));
            steps.push((
                "kith testnet --adversaries 0",
                "what the defence costs when nobody lies",
            ));
        }
        if !lying && self.plan.dataset == "digits" {
            steps.push(("kith testnet --adversaries 2", "two peers lie"));
        }
        steps.push((
            "kith testnet --topology ring --rule mean --adversaries 0",
            "fewer neighbours: watch the consensus distance",
        ));
        steps.push((
            "kith init --dir ada --name ada",
            "a peer of your own, on your own rows",
        ));
        let steps: String = steps
            .iter()
            .map(|(command, why)| format!("  {command:<58}{why}\n"))
            .collect();
        let folder = folder.map_or(String::new(), |folder| {
            format!("The peers' files are in {}.\n", folder.display())
        });
        format!("\n{folder}What to try next:\n{steps}")
    }
}

/// What is spent of a unit's privacy, and whom one has to trust for that.
fn privacy_lines(statement: &Statement) -> [(&'static str, String); 2] {
    let Statement {
        epsilon_rdp,
        epsilon_pld,
        delta,
        budget,
        releases,
        unit,
        ..
    } = statement;
    let of = match unit {
        Unit::Row => "privacy of each row",
        Unit::Group => "privacy of each group",
        Unit::Peer => "privacy of each peer",
    };
    let tight = epsilon_pld.map_or(String::new(), |epsilon| {
        format!(", {epsilon:.3} by privacy loss distributions")
    });
    [
        (
            of,
            format!(
                "epsilon {epsilon_rdp:.3} of {budget} at delta {delta:e} (Rényi{tight}), {releases} releases"
            ),
        ),
        ("  trust", TRUST.to_owned()),
    ]
}

fn percent(share: Option<f64>) -> String {
    share.map_or("–".to_owned(), |share| format!("{:.0} %", 100.0 * share))
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.4}"))
}

fn site_json(site: &SiteRow) -> Value {
    let ways = |spreads: &[sites::Spread; 4]| -> Value {
        let way = |(way, spread): (&&str, &sites::Spread)| {
            (
                way.replace(' ', "_"),
                json!({"mean": spread.mean, "deviation": spread.deviation}),
            )
        };
        WAYS.iter()
            .zip(spreads)
            .map(way)
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({
        "name": site.name,
        "splits": SPLITS,
        "train_rows": site.train_rows,
        "test_rows": site.test_rows,
        "balanced_accuracy": ways(&site.balanced_accuracy),
        "auc": ways(&site.auc),
    })
}

/// Two tables: what each site gains, by two measures.
fn sites_text(sites: &[SiteRow]) -> String {
    let measure = |name: &str, spreads: fn(&SiteRow) -> &[sites::Spread; 4]| {
        let header: Vec<&str> = ["site", "rows", "test rows"]
            .into_iter()
            .chain(WAYS)
            .collect();
        let mut shown = table(&header);
        for site in sites {
            let counts = [
                site.name.clone(),
                site.train_rows.to_string(),
                site.test_rows.to_string(),
            ];
            let values = spreads(site)
                .iter()
                .map(|spread| format!("{:.3} ± {:.3}", spread.mean, spread.deviation));
            shown.add_row(counts.into_iter().chain(values));
        }
        format!("\n{name}, mean ± standard deviation over {SPLITS} splits\n{shown}\n")
    };
    measure("balanced accuracy", |site| &site.balanced_accuracy)
        + &measure("area under the ROC curve", |site| &site.auc)
}
