//! How a testnet ended: a table for people, one JSON object for programs.

use std::path::Path;
use std::time::Duration;

use kith_models::read_model;
use kith_simulations::sites::{SiteRow, Spread, WAYS};
use serde_json::{Value, json};

use super::super::output::{bytes, table};
use super::baseline::{Baselines, SPLITS};
use super::directory::Places;
use super::live::role;
use super::plan::Plan;
use super::tally::{State, Tally, mean};
use crate::checkpoint;

/// Everything there is to tell.
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    pub(super) places: &'a Places,
    pub(super) tally: &'a Tally,
    pub(super) baselines: Option<Baselines>,
    pub(super) wall: Duration,
    pub(super) ready_after: Option<Duration>,
    pub(super) seed: u64,
    /// What each site gains, where peers are sites.
    pub(super) sites: Option<Vec<SiteRow>>,
}

impl Report<'_> {
    /// Whether every honest peer went through all rounds.
    pub(super) fn finished(&self) -> bool {
        self.plan
            .honest()
            .all(|index| self.tally.nodes[index].state == State::Finished)
    }

    fn spread(&self, value: impl Fn(usize) -> Option<f64>) -> Value {
        let values: Vec<f64> = self.plan.honest().filter_map(value).collect();
        if values.is_empty() {
            return json!({"mean": null, "min": null, "max": null});
        }
        json!({
            "mean": mean(values.iter().copied()),
            "min": values.iter().copied().fold(f64::INFINITY, f64::min),
            "max": values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }

    fn wire(&self) -> u64 {
        self.tally.nodes.iter().map(|node| node.wire).sum()
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

    /// The object that `--json` ends with.
    pub(super) fn to_json(&self) -> Value {
        let sent = &self.tally.bytes;
        let liars = self
            .plan
            .members
            .iter()
            .filter(|member| member.lies)
            .count();
        let work = |seconds: fn(&super::tally::NodeTally) -> f64| {
            self.tally.nodes.iter().map(seconds).sum::<f64>()
        };
        let nodes: Vec<Value> = (0..self.plan.members.len())
            .map(|index| self.node_json(index))
            .collect();
        json!({
            "federation": self.plan.agreement.charter.id.to_string(),
            "seed": self.seed,
            "dataset": self.plan.dataset,
            "partition": self.plan.partition,
            "rule": self.plan.agreement.charter.aggregation.rule.name(),
            "byzantine": self.plan.byzantine(),
            "topology": self.plan.agreement.charter.topology.kind.name(),
            "codec": self.plan.agreement.codec.name(),
            "peers": self.plan.members.len(),
            "honest": self.plan.members.len() - liars,
            "adversaries": liars,
            "rounds": self.plan.agreement.charter.rounds,
            "finished": self.finished(),
            "ready_seconds": self.ready_after.map(|after| after.as_secs_f64()),
            "wall_seconds": self.wall.as_secs_f64(),
            "peer_rounds_per_second": self.tally.peer_rounds_per_second(),
            "training_seconds": work(|node| node.training_seconds),
            "evaluation_seconds": work(|node| node.evaluation_seconds),
            "accuracy": self.spread(|index| self.tally.nodes[index].accuracy),
            "accuracy_local_only": self.baselines.map(|baselines| baselines.local_only),
            "accuracy_pooled": self.baselines.map(|baselines| baselines.pooled),
            "loss": self.spread(|index| self.tally.nodes[index].loss),
            "consensus_distance": self.consensus_distance(),
            "dropped_share": {"adversaries": self.tally.dropped_share_of(true), "honest": self.tally.dropped_share_of(false)},
            "refused": self.tally.refused(),
            "bytes": {
                "payload": sent.payload,
                "keyframes": sent.keyframes,
                "envelope": sent.envelope,
                "wire": self.wire(),
                "dense_equivalent": sent.dense_equivalent,
            },
            "pss_bytes": self.tally.nodes.iter().map(|node| node.pss_bytes).sum::<u64>(),
            "nodes": nodes,
            "sites": self.sites.as_ref().map(|sites| sites.iter().map(site_json).collect::<Vec<_>>()),
        })
    }

    fn node_json(&self, index: usize) -> Value {
        let (member, node) = (&self.plan.members[index], &self.tally.nodes[index]);
        json!({
            "name": member.name,
            "peer_id": member.peer.to_string(),
            "pid": node.pid,
            "role": role(member.lies),
            "state": node.state,
            "rounds": node.rounds,
            "accuracy": node.accuracy,
            "loss": node.loss,
            "updates_accepted": node.accepted,
            "updates_refused": node.refused.values().sum::<u64>(),
            "mixing_skipped": node.skipped,
            "dropped_share": self.tally.dropped_share(index),
            "liars_around": member.liars_around,
            "restarts": node.restarts,
            "pss_bytes": node.pss_bytes,
        })
    }

    /// The table and what it means.
    pub(super) fn to_text(&self, folder: Option<&Path>) -> String {
        let percent = |share: Option<f64>| {
            share.map_or("–".to_owned(), |share| format!("{:.0} %", 100.0 * share))
        };
        let number =
            |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.4}"));
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
        for (member, (index, node)) in self
            .plan
            .members
            .iter()
            .zip(self.tally.nodes.iter().enumerate())
        {
            shown.add_row([
                member.name.clone(),
                role(member.lies).to_owned(),
                node.rounds.to_string(),
                number(node.accuracy),
                number(node.loss),
                node.accepted.to_string(),
                node.refused.values().sum::<u64>().to_string(),
                percent(self.tally.dropped_share(index)),
                bytes(node.pss_bytes),
            ]);
        }
        let mut text = format!("{shown}\n\n");
        let mut line = |name: &str, value: String| text.push_str(&format!("{name:<24}{value}\n"));
        let accuracy = self.spread(|index| self.tally.nodes[index].accuracy);
        let part = |key: &str| number(accuracy[key].as_f64());
        line(
            "accuracy, honest peers",
            format!("{} mean, {} to {}", part("mean"), part("min"), part("max")),
        );
        if let Some(baselines) = self.baselines {
            line(
                "  each alone",
                format!(
                    "{:.4} mean of the honest peers' own models",
                    baselines.local_only
                ),
            );
            line(
                "  all rows pooled",
                format!("{:.4} one model on all honest rows", baselines.pooled),
            );
        }
        if self.plan.members.iter().any(|member| member.lies) {
            let (liars, honest) = (
                self.tally.dropped_share_of(true),
                self.tally.dropped_share_of(false),
            );
            line(
                "dropped",
                format!(
                    "{} of the liars' contributions, {} of honest ones",
                    percent(liars),
                    percent(honest)
                ),
            );
        }
        let refused = self.tally.refused();
        let reasons: Vec<String> = refused
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        line(
            "refused",
            if reasons.is_empty() {
                "nothing".to_owned()
            } else {
                reasons.join(", ")
            },
        );
        line("consensus distance", number(self.consensus_distance()));
        let sent = &self.tally.bytes;
        let encoded = sent.payload + sent.keyframes;
        let ratio = if encoded > 0 {
            sent.dense_equivalent as f64 / encoded as f64
        } else {
            0.0
        };
        line(
            "updates",
            format!(
                "{} payload + {} keyframes + {} envelopes",
                bytes(sent.payload),
                bytes(sent.keyframes),
                bytes(sent.envelope)
            ),
        );
        line(
            "  uncompressed",
            format!("{}, {ratio:.1} times as much", bytes(sent.dense_equivalent)),
        );
        line("  on the wire", bytes(self.wire()));
        let rate = self
            .tally
            .peer_rounds_per_second()
            .map_or(String::new(), |rate| {
                format!(", {rate:.1} peer-rounds a second")
            });
        line("time", format!("{:.1} s{rate}", self.wall.as_secs_f64()));
        let evaluation: f64 = self
            .tally
            .nodes
            .iter()
            .map(|node| node.evaluation_seconds)
            .sum();
        let training: f64 = self
            .tally
            .nodes
            .iter()
            .map(|node| node.training_seconds)
            .sum();
        line(
            "  of all peers",
            format!("{training:.1} s training, {evaluation:.1} s evaluating"),
        );
        if let Some(sites) = &self.sites {
            text.push_str(&sites_text(sites));
        }
        if !self.finished() {
            text.push_str("\nNot every honest peer went through all rounds.\n");
        }
        text.push_str(&self.next_steps(folder));
        text
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

fn site_json(site: &SiteRow) -> Value {
    let ways = |spreads: &[Spread; 4]| -> Value {
        let way = |(way, spread): (&&str, &Spread)| {
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

/// Two tables: who gains, by two measures.
fn sites_text(sites: &[SiteRow]) -> String {
    let measure = |name: &str, spreads: fn(&SiteRow) -> &[Spread; 4]| {
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
