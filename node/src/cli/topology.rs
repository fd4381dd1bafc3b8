//! `kith topology explain`: what a graph is worth, before anybody builds a federation on it.

use clap::{Args, Subcommand};
use kith_consensus::aggregate::rule_from_text;
use kith_consensus::section::Document;
use kith_consensus::topology::{PeriodAnalysis, TopologySection};
use serde_json::{Value, json};
use toml::Table;

use super::done;
use super::output::{Failure, Verdict, print, print_json};
use super::text;

/// What a graph is worth
#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    /// Degrees, connectivity, spectral gap, and how many liars a rule tolerates on it
    Explain(Explain),
}

/// Degrees, connectivity, spectral gap, and how many liars a rule tolerates on it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kith topology explain ring --peers 16
  kith topology explain random-regular:5 --peers 32 --rule krum --byzantine 1
  kith topology explain torus --peers 12 --param rows=3 --json")]
pub(crate) struct Explain {
    /// Kind (`kith list topologies`), with its main parameter after a colon if you like
    kind: String,
    /// How many peers
    #[arg(long)]
    peers: usize,
    /// Degree, for kinds that have one
    #[arg(long)]
    degree: Option<u64>,
    /// Further parameters
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = text::parameter)]
    parameters: Vec<(String, String)>,
    /// Seed of random kinds
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A rule, to see whether every neighbourhood is large enough for it
    #[arg(long)]
    rule: Option<String>,
    /// Liars that the rule is to tolerate
    #[arg(long, default_value_t = 0)]
    byzantine: usize,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Topology {
    pub(crate) fn run(self) -> Verdict {
        match self {
            Topology::Explain(explain) => explain.run(),
        }
    }
}

impl Explain {
    fn section(&self) -> Result<TopologySection, Failure> {
        let mut table = text::topology(&self.kind).map_err(Failure::new)?;
        if let Some(degree) = self.degree {
            table.insert("degree".to_owned(), toml::Value::Integer(i64::try_from(degree).unwrap_or(i64::MAX)));
        }
        table.insert("seed".to_owned(), toml::Value::Integer(i64::try_from(self.seed).unwrap_or(i64::MAX)));
        for (key, value) in &self.parameters {
            let parsed: Table = toml::from_str(&format!("value = {value}")).map_err(|error| Failure::new(error.to_string()))?;
            table.insert(key.clone(), parsed["value"].clone());
        }
        let text = Table::from_iter([("topology".to_owned(), toml::Value::Table(table))]).to_string();
        let refused = |problems: &[kith_consensus::Problem]| Failure::of_problems("there is no such topology", problems);
        let mut document = Document::parse(&text).map_err(|problem| refused(&[problem]))?;
        let section = document.section("topology", TopologySection::read);
        document.finish().map_err(|problems| refused(&problems))?;
        Ok(section)
    }

    fn run(self) -> Verdict {
        const PEERS_MAX: usize = 4096;
        if self.peers == 0 || self.peers > PEERS_MAX {
            return Err(Failure::new(format!("--peers: expected from 1 to {PEERS_MAX}, found {}", self.peers)));
        }
        let section = self.section()?;
        let graph = section.graph(self.peers, 0).map_err(|error| Failure::new(error.to_string()))?;
        let analysis = graph.analyse();
        let mut object = serde_json::to_value(&analysis).map_err(|error| Failure::new(error.to_string()))?;
        let mut add = |key: &str, value: Value| drop(object.as_object_mut().map(|object| object.insert(key.to_owned(), value)));
        add("kind", json!(section.kind.name()));
        if section.kind.changes() {
            let rounds = 0..section.kind.period(self.peers);
            let graphs: Result<Vec<_>, _> = rounds.map(|round| section.graph(self.peers, round)).collect();
            let period = PeriodAnalysis::of(&graphs.map_err(|error| Failure::new(error.to_string()))?);
            if let Ok(Value::Object(keys)) = serde_json::to_value(&period) {
                keys.into_iter().for_each(|(key, value)| add(&key, value));
            }
        }
        let degrees = (0..self.peers).map(|peer| graph.receives_from(peer).len());
        let smallest = degrees.min().unwrap_or(0);
        // Of the models in the smallest neighbourhood, the own one included, fewer than half may lie for any rule at all.
        add("byzantine_max", json!(smallest / 2));
        let mut fits = None;
        if let Some(rule) = &self.rule {
            let rule = rule_from_text(rule, self.byzantine, &[])
                .map_err(|problems| Failure::of_problems("there is no such rule", &problems))?;
            let enough = smallest + 1 >= rule.minimum();
            fits = Some((rule.name(), rule.minimum(), enough));
            add(
                "rule",
                json!({"name": rule.name(), "byzantine": self.byzantine, "models_needed": rule.minimum(), "fits": enough}),
            );
        }
        if self.json {
            print_json(&object)?;
            return done();
        }
        let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.6}"));
        let mut text = format!("{} over {} peers\n", section.kind.name(), self.peers);
        let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<26}{value}\n"));
        line("edges", analysis.edge_count.to_string());
        line("degree", format!("{} to {}", analysis.min_degree, analysis.max_degree));
        line("diameter", analysis.diameter.map_or("none: it is not connected".to_owned(), |diameter| diameter.to_string()));
        line("vertex connectivity", format!("{}: so many peers must fail before it falls apart", analysis.vertex_connectivity));
        line("second largest eigenvalue", format!("{:.6} (by absolute value)", analysis.slem));
        line("spectral gap", format!("{:.6}: the larger, the faster peers agree", analysis.spectral_gap));
        line("algebraic connectivity", number(analysis.algebraic_connectivity));
        let rounds = analysis.rounds_to_consensus.map_or("never".to_owned(), |rounds| rounds.to_string());
        line("rounds to consensus", format!("{rounds}: averaging alone shrinks the distance to a thousandth"));
        line("liars tolerable", format!("at most {} in a neighbourhood, whatever the rule", smallest / 2));
        if let Some((name, needed, enough)) = fits {
            let verdict = if enough { "enough" } else { "too few" };
            line(
                "rule",
                format!(
                    "{name} with byzantine = {} needs {needed} models, the smallest neighbourhood has {}: {verdict}",
                    self.byzantine,
                    smallest + 1
                ),
            );
        }
        print(&text)?;
        done()
    }
}
