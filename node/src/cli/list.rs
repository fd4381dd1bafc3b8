//! `kith list`: what charters, experiments and the command line can name, from the tables that the
//! code itself uses.

use clap::{Args, ValueEnum};
use kith_consensus::aggregate::{PRE_AGGREGATORS, RULES};
use kith_consensus::mode::MODES;
use kith_consensus::optimization::staleness::STALENESS_WEIGHTS;
use kith_consensus::optimization::{METHODS, server_momentum};
use kith_consensus::selection::SELECTIONS;
use kith_consensus::topology::TOPOLOGIES;
use kith_gossip::codec::CODECS;
use kith_models::{DATASETS, MODELS, MOMENTUM_SCOPES, OBJECTIVES, PARTITIONS};
use kith_simulations::attack::{ATTACKS, Means};
use kith_simulations::check::CHECKS;
use kith_simulations::trainer::TRAINERS;
use serde_json::{Value, json};

use super::done;
use super::output::{Verdict, print, print_json};
use crate::telemetry::METRICS;

/// List rules, topologies, codecs and everything else that files can name
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kith list rules\n  kith list modes\n  kith list attacks --json"
)]
pub(crate) struct List {
    /// The table to list
    #[arg(value_enum)]
    table: Table,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Table {
    /// aggregation.rule: how models become one
    Rules,
    /// topology.kind: which peers exchange updates
    Topologies,
    /// round.mode: how peers keep step
    Modes,
    /// round.staleness_weight: how much an old update counts in asynchronous rounds
    Staleness,
    /// round.selection: whose updates a round mixes
    Selections,
    /// aggregation.method: what peers exchange besides their models
    Methods,
    /// training.momentum_scope and aggregation.momentum
    Momentum,
    /// training.objective: what a peer minimises
    Objectives,
    /// codec.kind: how updates are encoded
    Codecs,
    /// model.kind: what is learned
    Models,
    /// world.dataset: rows that come with Kith or with the system
    Datasets,
    /// world.partition: how rows are dealt to peers
    Partitions,
    /// world.attack: what liars do
    Attacks,
    /// world.trainer.kind: objectives with a known optimum
    Trainers,
    /// Invariants that every simulated run must keep
    Checks,
    /// Numbers that a running peer serves for Prometheus
    Metrics,
}

/// Name, one line of help, and what else the table says.
type Row = (String, &'static str, Value);

/// The rows of a table whose entries say name, help and source.
macro_rules! rows {
    ($table:expr) => {
        $table.iter().map(|entry| (entry.name.to_owned(), entry.help, json!({"source": entry.source})))
    };
}

impl Table {
    fn rows(self) -> Vec<Row> {
        match self {
            Table::Rules => {
                let before = PRE_AGGREGATORS.iter().map(|entry| {
                    (
                        format!("{}+RULE", entry.name),
                        entry.help,
                        json!({"source": entry.source, "pre_aggregator": true}),
                    )
                });
                rows!(RULES).chain(before).collect()
            }
            Table::Topologies => rows!(TOPOLOGIES).collect(),
            Table::Modes => rows!(MODES).collect(),
            Table::Staleness => rows!(STALENESS_WEIGHTS).collect(),
            Table::Selections => rows!(SELECTIONS).collect(),
            Table::Methods => rows!(METHODS).collect(),
            Table::Momentum => {
                let scope = |(name, help, mut more): Row| {
                    more["key"] = json!("training.momentum_scope");
                    (name, help, more)
                };
                // A number and no scope, but people who look for momentum look here.
                let (key, source) = ("aggregation.momentum", server_momentum::SOURCE);
                let server = (
                    key.to_owned(),
                    server_momentum::HELP,
                    json!({"source": source, "key": key}),
                );
                rows!(MOMENTUM_SCOPES).map(scope).chain([server]).collect()
            }
            Table::Objectives => rows!(OBJECTIVES).collect(),
            Table::Codecs => rows!(CODECS).collect(),
            Table::Models => rows!(MODELS).collect(),
            Table::Datasets => DATASETS
                .iter()
                .map(|entry| {
                    (
                        entry.name.to_owned(),
                        entry.help,
                        json!({"source": entry.source, "defaults": entry.new.defaults}),
                    )
                })
                .collect(),
            Table::Partitions => PARTITIONS
                .iter()
                .map(|entry| {
                    (
                        entry.name.to_owned(),
                        entry.help,
                        json!({"source": entry.source, "parameter": entry.main_key}),
                    )
                })
                .collect(),
            Table::Attacks => ATTACKS
                .iter()
                .map(|entry| {
                    let knowledge = entry.new.knowledge.to_string();
                    let (means, fails) = match entry.new.means {
                        Means::Updates => ("updates", None),
                        Means::Rows => ("rows", None),
                        Means::Messages { fails, .. } => ("messages", Some(fails)),
                    };
                    let more = json!({
                        "source": entry.source,
                        "knowledge": knowledge,
                        "parameter": entry.main_key,
                        "means": means,
                        "invariant": fails,
                    });
                    (entry.name.to_owned(), entry.help, more)
                })
                .collect(),
            Table::Trainers => rows!(TRAINERS).collect(),
            // The invariants are Kith's own.
            Table::Checks => CHECKS
                .iter()
                .map(|entry| (entry.name.to_owned(), entry.help, json!({})))
                .collect(),
            Table::Metrics => METRICS
                .iter()
                .map(|metric| {
                    let kind = metric.kind.name();
                    let more =
                        json!({"kind": kind, "labels": metric.labels, "source": metric.source});
                    (metric.name.to_owned(), metric.help, more)
                })
                .collect(),
        }
    }
}

impl List {
    pub(crate) fn run(self) -> Verdict {
        let rows = self.table.rows();
        if self.json {
            let object = |(name, help, more): &Row| {
                let mut object = json!({"name": name, "help": help});
                if let (Value::Object(object), Value::Object(more)) = (&mut object, more.clone()) {
                    object.extend(more);
                }
                object
            };
            print_json(&rows.iter().map(object).collect::<Vec<_>>())?;
            return done();
        }
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let line = |(name, help, more): &Row| match more["source"].as_str() {
            Some(source) => format!("{name:<width$}  {help} [{source}]\n"),
            None => format!("{name:<width$}  {help}\n"),
        };
        print(&rows.iter().map(line).collect::<String>())?;
        done()
    }
}
