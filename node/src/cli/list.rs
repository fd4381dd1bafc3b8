//! `kith list`: what charters, experiments and the command line can name, from the tables that the code itself uses.

use clap::{Args, ValueEnum};
use kith_consensus::aggregate::{PRE_AGGREGATORS, RULES};
use kith_consensus::optimization::METHODS;
use kith_consensus::selection::SELECTIONS;
use kith_consensus::topology::TOPOLOGIES;
use kith_gossip::codec::CODECS;
use kith_models::{DATASETS, MODELS, OBJECTIVES, PARTITIONS};
use kith_simulations::attack::ATTACKS;
use kith_simulations::check::CHECKS;
use kith_simulations::trainer::TRAINERS;
use serde_json::{Value, json};

use super::done;
use super::output::{Verdict, print, print_json};

/// What there is to choose from
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kith list rules\n  kith list attacks --json")]
pub(crate) struct List {
    /// Of what
    #[arg(value_enum)]
    table: Table,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Table {
    Rules,
    Topologies,
    Selections,
    Codecs,
    Attacks,
    Models,
    Datasets,
    Partitions,
    Objectives,
    Methods,
    Trainers,
    Checks,
}

/// Name, one line of help, and what else the table says.
type Row = (String, &'static str, Value);

impl Table {
    fn rows(self) -> Vec<Row> {
        match self {
            Table::Rules => {
                let rule = |entry: &kith_consensus::aggregate::RuleEntry| {
                    (entry.name.to_owned(), entry.help, json!({"source": entry.source}))
                };
                let before = PRE_AGGREGATORS.iter().map(|entry| {
                    (format!("{}+RULE", entry.name), entry.help, json!({"source": entry.source, "pre_aggregator": true}))
                });
                RULES.iter().map(rule).chain(before).collect()
            }
            Table::Topologies => {
                TOPOLOGIES.iter().map(|entry| (entry.name.to_owned(), entry.help, json!({"source": entry.source}))).collect()
            }
            Table::Selections => {
                SELECTIONS.iter().map(|entry| (entry.name.to_owned(), entry.help, json!({"source": entry.source}))).collect()
            }
            Table::Codecs => CODECS.iter().map(|entry| (entry.name.to_owned(), entry.help, json!({}))).collect(),
            Table::Attacks => ATTACKS
                .iter()
                .map(|entry| {
                    let knowledge = entry.knowledge.to_string();
                    let more = json!({"source": entry.source, "knowledge": knowledge, "parameter": entry.parameter});
                    (entry.name.to_owned(), entry.help, more)
                })
                .collect(),
            Table::Models => MODELS.iter().map(|entry| (entry.name.to_owned(), entry.help, json!({}))).collect(),
            Table::Datasets => {
                DATASETS.iter().map(|entry| (entry.name.to_owned(), entry.help, json!({"defaults": entry.defaults}))).collect()
            }
            Table::Partitions => PARTITIONS
                .iter()
                .map(|entry| (entry.name.to_owned(), entry.help, json!({"source": entry.source, "parameter": entry.parameter})))
                .collect(),
            Table::Objectives => OBJECTIVES.iter().map(|entry| (entry.name.to_owned(), entry.help, json!({}))).collect(),
            Table::Methods => {
                METHODS.iter().map(|entry| (entry.name.to_owned(), entry.help, json!({"source": entry.source}))).collect()
            }
            Table::Trainers => TRAINERS.iter().map(|entry| (entry.name.to_owned(), entry.help, json!({}))).collect(),
            Table::Checks => CHECKS.iter().map(|entry| (entry.name.to_owned(), entry.help, json!({}))).collect(),
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
