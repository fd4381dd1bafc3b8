//! `kith topology explain`: the analysis of a graph, before anybody builds a federation on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use kith_consensus::Rule;
use kith_consensus::aggregate::rule_from_text;
use kith_consensus::section::Document;
use kith_consensus::topology::{Analysis, Graph, PeriodAnalysis, TopologySection, edges_from_text};
use kith_gossip::envelope::HEADER_BYTES_MAX;
use kith_simulations::plot;
use serde::Serialize;
use serde_json::{Value, json};
use toml::Table;

use super::done;
use super::output::{Failure, Verdict, bytes, print, print_json, table, tell};
use super::text;
use crate::problems::BadFile;

/// Analyse a topology
#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    /// Degrees, connectivity, spectral gap, and how many liars a rule tolerates on it
    Explain(Explain),
}

/// Degrees, connectivity, spectral gap, and how many liars a rule tolerates on it
#[derive(Debug, Args)]
#[command(after_help = "\
An edge list has two peers' numbers on a line, for example \"0 1\"; # begins a comment.

Examples:
  kith topology explain ring --peers 16
  kith topology explain random-regular:5 --peers 32 --rule krum --byzantine 1
  kith topology explain torus --peers 12 --param rows=3 --json
  kith topology explain ring --peers 64 --compare torus --compare exponential
  kith topology explain --edges graph.txt --svg graph.svg
  kith topology explain --edges graph.txt --param directed=true      the first of each pair sends to the second")]
pub(crate) struct Explain {
    /// Kind (`kith list topologies`), with its main parameter after a colon if you like
    #[arg(required_unless_present = "edges")]
    kind: Option<String>,
    /// How many peers; with --edges one more than the largest number in it
    #[arg(long, required_unless_present = "edges")]
    peers: Option<usize>,
    /// A list of edges instead of a kind
    #[arg(long, value_name = "FILE", conflicts_with = "kind")]
    edges: Option<PathBuf>,
    /// Degree, for kinds that have one
    #[arg(long)]
    degree: Option<u64>,
    /// Further parameters
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = text::parameter)]
    parameters: Vec<(String, String)>,
    /// Seed of random kinds
    #[arg(long, default_value_t = 0, value_parser = text::seed)]
    seed: u64,
    /// Another kind to compare with; may be given several times
    #[arg(long, value_name = "KIND")]
    compare: Vec<String>,
    /// A rule, to see whether every neighbourhood is large enough for it
    #[arg(long)]
    rule: Option<String>,
    /// Liars that the rule is to tolerate
    #[arg(long, default_value_t = 0)]
    byzantine: usize,
    /// Draw the graph of round 0 into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
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

/// Largest graph that is analysed: its spectrum takes n³ steps.
const PEERS_MAX: usize = 4096;

/// A graph and its analysis.
struct Explained {
    /// The kind as the user wrote it.
    asked: String,
    kind: &'static str,
    graph: Arc<Graph>,
    analysis: Analysis,
    /// If graphs follow each other: one period, or a sample if they never begin again.
    period: Option<PeriodAnalysis>,
    /// The sample, if graphs never begin again.
    sample: Option<Sample>,
    /// If peers do different things in different rounds: each stage of a period.
    stages: Vec<Stage>,
    /// Fewest models that a peer receives in rounds that combine models.
    smallest: usize,
}

/// For a kind that is drawn again and again: the rounds that were looked at.
struct Sample {
    /// Number of rounds, from round 0 on.
    rounds: u64,
    /// Different graphs among them.
    draws: u64,
    /// Rounds for which a graph stays.
    every: u64,
}

impl Sample {
    /// Most draws of a kind that `redraw_every` draws anew: as many as a charter's check looks at.
    const DRAWS_MAX: u64 = 4;
    /// Most rounds of them. A guess: each costs n³ steps.
    const ROUNDS_MAX: u64 = 8;

    /// `None` if the graph stays, or begins again.
    fn of(section: &TopologySection, peers: usize) -> Option<Sample> {
        let (kind, every) = (&section.kind, section.redraw_every);
        // The stages of a kind with stages do begin again, though other peers take part in them.
        if kind.changes() && kind.is_random() && !section.has_stages(peers) {
            let rounds = kind.period(peers);
            return Some(Sample {
                rounds,
                draws: rounds,
                every: 1,
            });
        }
        let rounds = every
            .saturating_mul(Sample::DRAWS_MAX)
            .min(Sample::ROUNDS_MAX);
        (every > 0).then(|| Sample {
            rounds,
            draws: rounds.div_ceil(every),
            every,
        })
    }

    fn text(&self, left: f64) -> String {
        let count = |number: u64, what: &str| {
            format!("{number} {what}{}", if number == 1 { "" } else { "s" })
        };
        let often = if self.every == 1 {
            "each round".to_owned()
        } else {
            format!("every {} rounds", self.every)
        };
        format!(
            "{} in {}: drawn anew {often}, never the same again; {left:.6} of a distance is left after these",
            count(self.draws, "draw"),
            count(self.rounds, "round")
        )
    }
}

/// What peers do in a round.
#[derive(Serialize)]
struct Stage {
    trains: bool,
    /// Peers that combine what they receive by the rule.
    combining: usize,
    /// Fewest models that one of them receives; of senders that are alternatives one counts.
    smallest: Option<usize>,
    /// Peers that take a single sender's model unchanged.
    adopting: usize,
    /// Largest group of senders of which only the best that comes counts.
    alternatives: usize,
}

impl Stage {
    fn of(trains: bool, graph: &Graph) -> Stage {
        let peers = || 0..graph.peers();
        let combining = || {
            peers().filter(|peer| !graph.adopts(*peer) && !graph.receives_from(*peer).is_empty())
        };
        Stage {
            trains,
            combining: combining().count(),
            smallest: combining().map(|peer| graph.models_received(peer)).min(),
            adopting: peers().filter(|peer| graph.adopts(*peer)).count(),
            alternatives: peers()
                .flat_map(|peer| graph.alternatives(peer))
                .map(|group| group.len())
                .max()
                .unwrap_or(0),
        }
    }

    fn text(&self) -> String {
        let mut parts = vec![
            if self.trains {
                "all train"
            } else {
                "nobody trains"
            }
            .to_owned(),
        ];
        if let Some(models) = self.smallest {
            let one = if self.combining == 1 {
                "combines"
            } else {
                "combine"
            };
            parts.push(format!(
                "{} {one} the models of at least {models} others",
                self.combining
            ));
        }
        if self.adopting > 0 {
            parts.push(format!("{} take one model as it is", self.adopting));
        }
        if self.alternatives > 1 {
            parts.push(format!(
                "for a model up to {} senders, of which the best that comes counts",
                self.alternatives
            ));
        }
        parts.join(", ")
    }
}

/// Fewest models that a peer receives.
fn smallest_of(graph: &Graph) -> usize {
    (0..graph.peers())
        .map(|peer| graph.receives_from(peer).len())
        .min()
        .unwrap_or(0)
}

impl Explained {
    fn of(asked: &str, section: &TopologySection, peers: usize) -> Result<Explained, Failure> {
        let failure =
            |error: kith_consensus::topology::TopologyError| Failure::new(error.to_string());
        let graph = section.graph(peers, 0).map_err(failure)?;
        let (mut period, mut stages) = (None, Vec::new());
        let mut smallest = smallest_of(&graph);
        let sample = Sample::of(section, peers);
        if section.changes() {
            let rounds = 0..sample
                .as_ref()
                .map_or_else(|| section.kind.period(peers), |sample| sample.rounds);
            let graphs: Result<Vec<_>, _> =
                rounds.map(|round| section.graph(peers, round)).collect();
            let graphs = graphs.map_err(failure)?;
            period = Some(PeriodAnalysis::of(&graphs));
            smallest = graphs
                .iter()
                .map(|graph| smallest_of(graph))
                .min()
                .unwrap_or(smallest);
            if section.has_stages(peers) {
                stages = (0..)
                    .zip(graphs)
                    .map(|(round, graph)| Stage::of(section.trains(round), &graph))
                    .collect();
            }
        }
        let smallest = stages
            .iter()
            .filter_map(|stage| stage.smallest)
            .min()
            .unwrap_or(smallest);
        Ok(Explained {
            period,
            sample,
            stages,
            smallest,
            ..Explained::with(asked, section.kind.name(), graph)
        })
    }

    /// The analysis of a graph that stays.
    fn with(asked: &str, kind: &'static str, graph: Arc<Graph>) -> Explained {
        let (analysis, smallest) = (graph.analyse(), smallest_of(&graph));
        Explained {
            asked: asked.to_owned(),
            kind,
            analysis,
            graph,
            period: None,
            sample: None,
            stages: Vec::new(),
            smallest,
        }
    }

    /// Bytes of signed headers that a peer sends in a round, at most, so that contradictions are
    /// noticed: of any two receivers of an update one shows its header to the other. Mean over the
    /// peers.
    fn header_bytes(&self) -> f64 {
        let graph = &self.graph;
        let pairs = |receivers: usize| receivers * receivers.saturating_sub(1) / 2;
        let headers: usize = (0..graph.peers())
            .map(|sender| pairs(graph.sends_to(sender).len()))
            .sum();
        (headers * HEADER_BYTES_MAX) as f64 / graph.peers().max(1) as f64
    }

    fn rule_json(&self, rule: &dyn Rule) -> Value {
        let fits = self.fits(rule);
        json!({"name": rule.name(), "byzantine": rule.byzantine(), "models_needed": rule.minimum(), "fits": fits})
    }

    fn to_json(&self, rule: Option<&dyn Rule>) -> Result<Value, Failure> {
        let mut object = serde_json::to_value(&self.analysis)
            .map_err(|error| Failure::new(error.to_string()))?;
        let mut add = |key: &str, value: Value| {
            drop(
                object
                    .as_object_mut()
                    .map(|object| object.insert(key.to_owned(), value)),
            )
        };
        add("kind", json!(self.kind));
        add("asked", json!(self.asked));
        if let Some(Ok(Value::Object(keys))) = self.period.as_ref().map(serde_json::to_value) {
            keys.into_iter().for_each(|(key, value)| add(&key, value));
        }
        if self.period.is_some() {
            add("rounds_to_consensus_over_periods", json!(self.rounds()));
        }
        if let Some(Sample {
            rounds,
            draws,
            every,
        }) = &self.sample
        {
            // There is no period, nor an end of one.
            ["period", "exact_average_after_period"]
                .iter()
                .for_each(|key| add(key, Value::Null));
            add(
                "sample",
                json!({"rounds": rounds, "draws": draws, "redraw_every": every}),
            );
        }
        if !self.stages.is_empty() {
            add("stages", json!(self.stages));
        }
        add("byzantine_max", json!(self.tolerable()));
        add(
            "header_bytes_per_peer_and_round",
            json!(self.header_bytes()),
        );
        if let Some(rule) = rule {
            add("rule", self.rule_json(rule));
        }
        Ok(object)
    }

    /// Of the models in the smallest neighbourhood, the peer's own included, fewer than half may be
    /// liars', whatever the rule.
    fn tolerable(&self) -> usize {
        self.smallest / 2
    }

    fn fits(&self, rule: &dyn Rule) -> bool {
        self.smallest + 1 >= rule.minimum()
    }

    fn diameter(&self) -> String {
        self.analysis
            .diameter
            .map_or("none: it is not connected".to_owned(), |diameter| {
                diameter.to_string()
            })
    }

    /// Rounds until averaging alone has shrunk the distance to a thousandth; if graphs follow each
    /// other, over all of them.
    fn rounds(&self) -> Option<u64> {
        const SHRUNK: f64 = 1e-3;
        let Some(period) = &self.period else {
            return self.analysis.rounds_to_consensus;
        };
        let left = &period.disagreement_two_norm_after_each_round;
        if let Some(place) = left.iter().position(|left| *left <= SHRUNK) {
            return Some(place as u64 + 1);
        }
        let last = left.last().copied().filter(|last| *last < 1.0 - 1e-12)?;
        Some((period.period as f64 * SHRUNK.ln() / last.ln()).ceil() as u64)
    }

    fn rounds_text(&self) -> String {
        self.rounds()
            .map_or("never".to_owned(), |rounds| rounds.to_string())
    }

    fn text(&self, rule: Option<&dyn Rule>) -> String {
        let analysis = &self.analysis;
        let number =
            |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.6}"));
        let first = if self.sample.is_some() {
            ", the first draw"
        } else {
            ""
        };
        let mut text = format!("{} over {} peers{first}\n", self.kind, analysis.n);
        let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<26}{value}\n"));
        // If rounds build on each other, no single one shows how well peers are connected.
        if self.stages.is_empty() {
            let one_way = if analysis.directed {
                ", each one way"
            } else {
                ""
            };
            line("edges", format!("{}{one_way}", analysis.edge_count));
            line(
                "degree",
                format!("{} to {}", analysis.min_degree, analysis.max_degree),
            );
            line("diameter", self.diameter());
            line(
                "vertex connectivity",
                format!(
                    "{}: so many peers must fail before it falls apart",
                    analysis.vertex_connectivity
                ),
            );
            line(
                "second largest eigenvalue",
                format!("{:.6} (by absolute value)", analysis.slem),
            );
            line(
                "spectral gap",
                format!(
                    "{:.6}: the larger, the faster peers agree",
                    analysis.spectral_gap
                ),
            );
            line(
                "algebraic connectivity",
                number(analysis.algebraic_connectivity),
            );
        }
        line(
            "rounds to consensus",
            format!(
                "{}: averaging alone shrinks the distance to a thousandth",
                self.rounds_text()
            ),
        );
        if let Some(period) = &self.period {
            let left = period
                .disagreement_two_norm_after_each_round
                .last()
                .copied()
                .unwrap_or(1.0);
            match &self.sample {
                Some(sample) => line("a sample", sample.text(left)),
                None => line(
                    "rounds of a period",
                    format!(
                        "{}: the graph is another one in each, and {left:.6} of a distance is left after them",
                        period.period
                    ),
                ),
            }
        }
        for (round, stage) in self.stages.iter().enumerate() {
            line(&format!("round {round} of a period"), stage.text());
        }
        line(
            "liars tolerable",
            format!(
                "at most {} in a neighbourhood, whatever the rule",
                self.tolerable()
            ),
        );
        line(
            "headers",
            format!(
                "at most {} a peer and round, so that contradictions are noticed",
                bytes(self.header_bytes() as u64)
            ),
        );
        if let Some(rule) = rule {
            let verdict = if self.fits(rule) { "enough" } else { "too few" };
            let (name, byzantine, needed, have) = (
                rule.name(),
                rule.byzantine(),
                rule.minimum(),
                self.smallest + 1,
            );
            line(
                "rule",
                format!(
                    "{name} with byzantine = {byzantine} needs {needed} models, the smallest neighbourhood has {have}: {verdict}"
                ),
            );
        }
        text
    }
}

/// Draws the graphs side by side.
fn draw(first: &Explained, path: &Path) -> Result<(), Failure> {
    let title = format!("{} over {} peers", first.kind, first.analysis.n);
    let drawing = plot::standalone(&plot::graph::svg(&title, first.kind, &first.graph, &[]));
    std::fs::write(path, drawing)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    tell(&format!("drawn in {}", path.display()));
    Ok(())
}

/// The first as an object, the others in it.
fn together(all: &[Explained], rule: Option<&dyn Rule>) -> Result<Value, Failure> {
    let mut objects = all.iter().map(|one| one.to_json(rule));
    let mut first = objects.next().expect("one is explained")?;
    let others: Vec<Value> = objects.collect::<Result<_, _>>()?;
    if let (Value::Object(first), false) = (&mut first, others.is_empty()) {
        first.insert("compared".to_owned(), Value::Array(others));
    }
    Ok(first)
}

fn compared(all: &[Explained], rule: Option<&dyn Rule>) -> String {
    let heads: Vec<&str> = std::iter::once("")
        .chain(all.iter().map(|one| one.asked.as_str()))
        .collect();
    let mut lines = table(&heads);
    let mut line = |name: &str, value: &dyn Fn(&Explained) -> String| {
        lines.add_row(std::iter::once(name.to_owned()).chain(all.iter().map(value)));
    };
    line("edges", &|one| one.analysis.edge_count.to_string());
    line("degree", &|one| {
        format!("{} to {}", one.analysis.min_degree, one.analysis.max_degree)
    });
    line("diameter", &|one| {
        one.analysis
            .diameter
            .map_or("–".to_owned(), |diameter| diameter.to_string())
    });
    line("vertex connectivity", &|one| {
        one.analysis.vertex_connectivity.to_string()
    });
    line("second largest eigenvalue", &|one| {
        format!("{:.6}", one.analysis.slem)
    });
    line("spectral gap", &|one| {
        format!("{:.6}", one.analysis.spectral_gap)
    });
    line("rounds to consensus", &|one| one.rounds_text());
    line(
        "rounds of a period",
        &|one| match (&one.sample, &one.period) {
            (Some(sample), _) => format!("none: {} draws", sample.draws),
            (None, Some(period)) => period.period.to_string(),
            (None, None) => "1".to_owned(),
        },
    );
    line("liars tolerable", &|one| one.tolerable().to_string());
    line("headers a peer and round", &|one| {
        bytes(one.header_bytes() as u64)
    });
    if let Some(rule) = rule {
        let name = format!("{} with byzantine = {}", rule.name(), rule.byzantine());
        line(&name, &|one| {
            if one.fits(rule) {
                "enough".to_owned()
            } else {
                format!("{} of {} models", one.smallest + 1, rule.minimum())
            }
        });
    }
    let first = all.first().map_or(0, |one| one.analysis.n);
    let note = "rounds to consensus: averaging alone shrinks the distance to a thousandth; liars tolerable: in a neighbourhood, by any rule";
    format!("{first} peers\n{lines}\n{note}\n")
}

impl Explain {
    /// The section of a kind; parameters are those of the explained kind, not of those it is
    /// compared with.
    fn section(&self, kind: &str, own: bool) -> Result<TopologySection, Failure> {
        self.section_of(text::topology(kind).map_err(Failure::new)?, own)
    }

    fn section_of(&self, mut table: Table, own: bool) -> Result<TopologySection, Failure> {
        table.insert("seed".to_owned(), toml::Value::Integer(self.seed as i64)); // at most 2⁶³ − 1
        if let Some(degree) = self.degree.filter(|_| own) {
            table.insert(
                "degree".to_owned(),
                toml::Value::Integer(i64::try_from(degree).unwrap_or(i64::MAX)),
            );
        }
        for (key, value) in self.parameters.iter().filter(|_| own) {
            let parsed: Table = toml::from_str(&format!("value = {value}"))
                .map_err(|error| Failure::new(error.to_string()))?;
            table.insert(key.clone(), parsed["value"].clone());
        }
        let text =
            Table::from_iter([("topology".to_owned(), toml::Value::Table(table))]).to_string();
        let refused = |problems: &[kith_consensus::Problem]| {
            Failure::of_problems("there is no such topology", problems)
        };
        let mut document = Document::parse(&text).map_err(|problem| refused(&[problem]))?;
        let section = document.section("topology", TopologySection::read);
        document.finish().map_err(|problems| refused(&problems))?;
        Ok(section)
    }

    /// The graph that is explained, which fixes the number of peers.
    fn first(&self) -> Result<Explained, Failure> {
        let checked = |peers: usize| match peers {
            1..=PEERS_MAX => Ok(peers),
            _ => Err(Failure::new(format!(
                "--peers: expected from 1 to {PEERS_MAX}, found {peers}"
            ))),
        };
        if let Some(path) = &self.edges {
            return self.of_file(path, checked);
        }
        let (kind, peers) = (
            self.kind.as_deref().unwrap_or("ring"),
            checked(self.peers.unwrap_or(0))?,
        );
        Explained::of(kind, &self.section(kind, true)?, peers)
    }

    fn of_file(
        &self,
        path: &Path,
        checked: impl Fn(usize) -> Result<usize, Failure>,
    ) -> Result<Explained, Failure> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read the edges {name}: {error}")))?;
        let edges = edges_from_text("edges", &text)
            .map_err(|problem| BadFile::problems(path, &text, vec![problem]))?;
        let least = edges.iter().map(|(a, b)| a.max(b) + 1).max().unwrap_or(0);
        let peers = checked(self.peers.unwrap_or(least))?;
        let number = |peer: usize| toml::Value::Integer(peer as i64); // at most a million
        let pairs = edges
            .into_iter()
            .map(|(a, b)| toml::Value::Array(vec![number(a), number(b)]));
        let mut table =
            Table::from_iter([("kind".to_owned(), toml::Value::String("edges".to_owned()))]);
        table.insert("edges".to_owned(), toml::Value::Array(pairs.collect()));
        let section = self.section_of(table, true)?;
        let graph = section
            .graph(peers, 0)
            .map_err(|error| Failure::new(format!("{name}: {error}")))?;
        Ok(Explained::with(&name, "edges", graph))
    }

    fn rule(&self) -> Result<Option<Box<dyn Rule>>, Failure> {
        let Some(rule) = &self.rule else {
            return Ok(None);
        };
        rule_from_text(rule, self.byzantine, &[])
            .map(Some)
            .map_err(|problems| Failure::of_problems("there is no such rule", &problems))
    }

    fn run(self) -> Verdict {
        let first = self.first()?;
        let peers = first.analysis.n;
        let rule = self.rule()?;
        let rule = rule.as_deref();
        if let Some(path) = &self.svg {
            draw(&first, path)?;
        }
        let mut all = vec![first];
        for kind in &self.compare {
            all.push(Explained::of(kind, &self.section(kind, false)?, peers)?);
        }
        if self.json {
            print_json(&together(&all, rule)?)?;
        } else if all.len() > 1 {
            print(&compared(&all, rule))?;
        } else {
            print(&all[0].text(rule))?;
        }
        done()
    }
}
