//! `kith check`: everything that can be checked without starting anything. Its profile of the
//! peer's rows is private: it is shown here and sent nowhere.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use kith_consensus::PeerId;
use kith_consensus::charter::Admission;
use kith_consensus::topology::Graph;
use kith_gossip::codec::Form;
use kith_models::{Dataset, Reading, Schema, far_values, rows_in_both};
use serde_json::{Value, json};

use super::output::{Verdict, bytes, print, print_json, table, tell};
use crate::agreement::Agreement;
use crate::config::{CONFIG_FILE, Config};
use crate::data::{self, OwnRows};
use crate::error::NodeError;
use crate::identity::Identity;
use crate::node::may_lie;
use crate::readiness;

/// Memory of the program before any model, measured on a running testnet peer.
const BASE_BYTES: u64 = 16 << 20;
/// Bytes of an announcement around an update: envelope, hashes, signature. Measured: 265 on a
/// testnet, 232 to 267 in simulations; large numbers take a few more.
const ANNOUNCEMENT_BYTES: u64 = 300;

/// Most names of columns in a line.
const NAMES_SHOWN: usize = 8;

/// Check charter, key, configuration and data without starting anything
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kith check --dir ada\n  kith check --dir ada --json\n\nExit code 0 where `kith run` could start."
)]
pub(crate) struct Check {
    /// The peer's folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Its configuration, if it is not kith.toml in that folder
    #[arg(long)]
    config: Option<PathBuf>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// What was found, and what is wrong.
#[derive(Default)]
struct Findings {
    facts: serde_json::Map<String, Value>,
    problems: Vec<NodeError>,
}

impl Check {
    pub(crate) fn run(self) -> Verdict {
        let mut findings = Findings::default();
        let path = self
            .config
            .clone()
            .unwrap_or_else(|| self.dir.join(CONFIG_FILE));
        if let Some(config) = findings.keep(Config::load(&path)) {
            findings.look(&config);
        }
        let ok = findings.problems.is_empty();
        if self.json {
            let problems: Vec<Value> = findings.problems.iter().flat_map(problem_json).collect();
            findings.facts.insert("ok".to_owned(), json!(ok));
            findings
                .facts
                .insert("problems".to_owned(), json!(problems));
            print_json(&findings.facts)?;
        } else {
            // A configuration that cannot run has no result: its profile goes where its problems
            // go.
            let text = findings.to_text();
            if ok {
                print(&text)?
            } else {
                tell(text.trim_end())
            }
            for problem in findings.problems {
                // Each is shown in full on stderr; the exit code speaks for all.
                let _ = super::output::Failure::from(problem).report();
            }
        }
        Ok(if ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Findings {
    fn keep<T>(&mut self, result: Result<T, NodeError>) -> Option<T> {
        result.map_err(|error| self.problems.push(error)).ok()
    }

    fn fact(&mut self, name: &str, value: Value) {
        self.facts.insert(name.to_owned(), value);
    }

    fn look(&mut self, config: &Config) {
        let agreement = self.keep(Agreement::load(&config.charter));
        let peer = self
            .keep(Identity::load(&config.key).map_err(NodeError::from))
            .map(|identity| identity.peer());
        self.fact("name", json!(config.name));
        self.fact("peer_id", json!(peer.map(|peer| peer.to_string())));
        let Some(agreement) = agreement else { return };
        self.look_at_charter(config, &agreement, peer);
        let found = readiness::look(config, &agreement, peer);
        self.problems.extend(found.problems);
        let mut notes = found.notes;
        if agreement.codec.form() == Form::Replica
            && agreement.charter.aggregation.rule.name() == "mean"
        {
            let what = format!(
                "rule \"mean\" under codec {:?} mixes a peer's exact model with its neighbours' replicas, so the mean of all models moves a \
                 little; rule \"choco\" keeps it",
                agreement.codec.name()
            );
            notes.push(what);
        }
        self.fact("notes", json!(notes));
        let seed = agreement
            .charter
            .peer_seed(&peer.unwrap_or(PeerId([0; 32])));
        let schema = agreement.task.schema();
        if let Some(rows) = self.keep(data::read(&config.data, schema, seed)) {
            self.look_at_rows(config, schema, &rows);
            self.estimate(&agreement, peer, &rows.train, rows.held_out.as_ref());
        }
    }

    fn look_at_charter(&mut self, config: &Config, agreement: &Agreement, peer: Option<PeerId>) {
        let charter = &agreement.charter;
        self.fact(
            "federation",
            json!({"name": charter.name, "id": charter.id.to_string(), "rounds": charter.rounds}),
        );
        self.fact("model", json!({"kind": agreement.task.model().kind, "parameters": agreement.task.layout().dimension}));
        let rule = &charter.aggregation.rule;
        self.fact("rule", json!({"name": rule.name(), "byzantine": rule.byzantine(), "models_needed": rule.minimum()}));
        if let Some(attack) = &config.attack {
            self.keep(may_lie(config, agreement));
            self.keep(
                super::run::attack(attack, charter)
                    .map_err(|why| NodeError::Unfit(format!("[testnet] attack: {why}"))),
            );
        }
        let open = charter.membership.mode == Admission::Open;
        let peers = charter.membership.peers;
        if open {
            let what = "open: the first peers with this charter form the roster; whoever holds many keys holds many places, so \
                        byzantine is an assumption";
            self.fact("membership", json!({"mode": what, "peers": peers}));
        }
        if let (Some(peer), false) = (peer, open) {
            let member = charter.member(&peer);
            self.fact("member", json!(member.map(|member| &member.name)));
            if member.is_none() {
                self.problems.push(NodeError::Unfit(format!(
                    "this peer, {peer}, is not a member in {}; have its line added there",
                    config.charter.display()
                )));
            }
        }
        let Ok(graph) = charter.topology.graph(peers, 0) else {
            return;
        };
        let roster = charter.roster();
        let member = |index: usize| roster.get(index).and_then(|key| charter.member(key));
        let names: Vec<String> = (0..peers)
            .map(|index| {
                member(index).map_or(format!("peer {index}"), |member| member.name.clone())
            })
            .collect();
        let neighbourhood = |index: usize| {
            let others: Vec<&String> = graph
                .receives_from(index)
                .iter()
                .map(|other| &names[*other])
                .collect();
            json!({"name": names[index], "neighbours": others, "models": others.len() + 1, "byzantine": rule.byzantine()})
        };
        self.fact("neighbourhoods", (0..peers).map(neighbourhood).collect());
    }

    fn look_at_rows(&mut self, config: &Config, schema: &Schema, rows: &OwnRows) {
        let mut files = vec![file_json(
            &config.data.path,
            schema,
            &rows.all,
            &rows.reading,
        )];
        if let (Some(path), Some(held_out), Some(reading)) =
            (&config.data.test_path, &rows.held_out, &rows.test_reading)
        {
            files.push(file_json(path, schema, held_out, reading));
        }
        let held_out = rows.held_out.as_ref();
        self.fact(
            "data",
            json!({
                "path": config.data.path.display().to_string(),
                "rows": rows.train.len(),
                "held_out_rows": held_out.map(Dataset::len),
                "features": rows.train.features(),
                "class_counts": rows.train.class_counts(schema.classes),
                "held_out_class_counts": held_out.map(|rows| rows.class_counts(schema.classes)),
                "rows_in_both": held_out.map(|held_out| rows_in_both(&rows.train, held_out)),
                "missing": files[0]["missing"],
                "files": files,
            }),
        );
    }

    fn estimate(
        &mut self,
        agreement: &Agreement,
        peer: Option<PeerId>,
        rows: &Dataset,
        held_out: Option<&Dataset>,
    ) {
        let dimension = agreement.task.layout().dimension as u64;
        let membership = &agreement.charter.membership;
        let graph = agreement.charter.topology.graph(membership.peers, 0).ok();
        // In an open federation one place is as good as another.
        let place = match membership.mode {
            Admission::Members => {
                peer.and_then(|peer| agreement.charter.roster().binary_search(&peer).ok())
            }
            Admission::Open => Some(0),
        };
        let degree = |of: fn(&Graph, usize) -> &[usize]| match (&graph, place) {
            (Some(graph), Some(place)) => of(graph, place).len() as u64,
            _ => 0,
        };
        let (receives, sends) = (degree(Graph::receives_from), degree(Graph::sends_to));
        // Peers send a row: the model and the values that the charter's method adds.
        let method = agreement.charter.aggregation.method;
        let row = method.row_len(agreement.task.layout().dimension);
        let body = agreement.codec.bytes_max(row) as u64;
        let (row, update) = (row as u64, body + ANNOUNCEMENT_BYTES);
        // The peer's model, start, gradient, velocity and result, and the vectors of the method;
        // each neighbour's row, and its replica if there is one.
        let replicas = u64::from(agreement.codec.form() == Form::Replica);
        let own = 6 + method.carried_vectors(receives as usize) as u64;
        let others = receives * (1 + replicas) + replicas;
        let data = Dataset::memory_bytes_of(std::iter::once(rows).chain(held_out)) as u64;
        self.fact(
            "expected",
            json!({
                "memory_bytes": BASE_BYTES + data + 4 * (dimension * own + row * others),
                "update_bytes_max": update,
                "bytes_out_per_round": sends * update,
                "bytes_in_per_round": receives * update,
                "dense_bytes_per_round": receives * 4 * row,
                "keyframe_bytes": if replicas > 0 { json!(4 * row) } else { Value::Null },
                "graph_changes": agreement.charter.topology.changes(),
                "local_steps_per_round": agreement.task.training().steps(rows.len()),
            }),
        );
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| text.push_str(&format!("{name:<16}{value}\n"));
        let show = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => "–".to_owned(),
            other => other.to_string(),
        };
        let facts =
            |name: &str, key: &str| self.facts.get(name).map_or(&Value::Null, |fact| &fact[key]);
        let size = |name: &str, key: &str| bytes(facts(name, key).as_u64().unwrap_or(0));
        if let Some(peer) = self.facts.get("peer_id") {
            line(
                "peer",
                format!("{} {}", show(&self.facts["name"]), show(peer)),
            );
        }
        if self.facts.contains_key("federation") {
            let federation = |key| show(facts("federation", key));
            line(
                "federation",
                format!(
                    "{} ({}), {} rounds",
                    federation("name"),
                    federation("id"),
                    federation("rounds")
                ),
            );
            line(
                "model",
                format!(
                    "{}, {} parameters",
                    show(facts("model", "kind")),
                    show(facts("model", "parameters"))
                ),
            );
            let rule = |key| show(facts("rule", key));
            line(
                "rule",
                format!(
                    "{}, byzantine = {}, needs {} models",
                    rule("name"),
                    rule("byzantine"),
                    rule("models_needed")
                ),
            );
        }
        if self.facts.contains_key("data") {
            let data = |key| show(facts("data", key));
            line(
                "rows",
                format!(
                    "{} to train on, {} held out, {} features",
                    data("rows"),
                    data("held_out_rows"),
                    data("features")
                ),
            );
            line("of each class", data("class_counts"));
            if !facts("data", "held_out_class_counts").is_null() {
                line("held out", data("held_out_class_counts"));
            }
            if let Some(count) = facts("data", "rows_in_both")
                .as_u64()
                .filter(|count| *count > 0)
            {
                line(
                    "in both",
                    format!(
                        "{count} of the held-out rows are trained on as well; what they show is no test"
                    ),
                );
            }
            let files = facts("data", "files")
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            for file in files {
                let of = if files.len() > 1 {
                    format!(" in {}", show(&file["path"]))
                } else {
                    String::new()
                };
                file_lines(file)
                    .into_iter()
                    .for_each(|(name, text)| line(name, format!("{text}{of}")));
            }
        }
        if self.facts.contains_key("expected") {
            line(
                "memory",
                format!("about {}", size("expected", "memory_bytes")),
            );
            line(
                "a round",
                format!(
                    "{} local steps; at most {} out and {} in ({} uncompressed)",
                    show(facts("expected", "local_steps_per_round")),
                    size("expected", "bytes_out_per_round"),
                    size("expected", "bytes_in_per_round"),
                    size("expected", "dense_bytes_per_round"),
                ),
            );
            if facts("expected", "keyframe_bytes").is_u64()
                && facts("expected", "graph_changes") == &json!(true)
            {
                line(
                    "a new edge",
                    format!(
                        "costs missed updates or a keyframe of {}",
                        size("expected", "keyframe_bytes")
                    ),
                );
            }
        }
        if let Some(Value::Array(neighbourhoods)) = self.facts.get("neighbourhoods") {
            let mut shown = table(&["member", "receives from", "models", "liars tolerated"]);
            for one in neighbourhoods {
                let names: Vec<String> = one["neighbours"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(show)
                    .collect();
                shown.add_row([
                    show(&one["name"]),
                    names.join(", "),
                    show(&one["models"]),
                    show(&one["byzantine"]),
                ]);
            }
            text.push_str(&format!("{shown}\n"));
        }
        for note in self
            .facts
            .get("notes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            text.push_str(&format!("note: {}\n", show(note)));
        }
        if self.problems.is_empty() {
            text.push_str("everything fits; `kith run` can start\n");
        }
        text
    }
}

/// What reading a file showed.
fn file_json(path: &Path, schema: &Schema, rows: &Dataset, reading: &Reading) -> Value {
    let missing = reading
        .missing
        .iter()
        .map(|(column, cells)| json!({"column": column, "cells": cells}));
    let far = far_values(rows).into_iter().map(|far| {
        let column = schema
            .column_of(far.feature)
            .map(|column| &column.name)
            .or_else(|| reading.columns.get(far.feature));
        json!({
            "line": reading.lines.get(far.row),
            "row": far.row,
            "column": column.cloned().unwrap_or_else(|| format!("feature {}", far.feature)),
            "value": schema.in_files_units(far.feature, far.value),
            "median": schema.in_files_units(far.feature, far.median),
        })
    });
    json!({
        "path": path.display().to_string(),
        "missing": missing.collect::<Vec<_>>(),
        "unused_columns": reading.unused,
        "columns_in_file_order": reading.columns,
        "axes": reading.axes,
        "large_values": far.collect::<Vec<_>>(),
    })
}

/// The same for people: what was done to a file's rows by default, and what they should check.
fn file_lines(file: &Value) -> Vec<(&'static str, String)> {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let items = |key: &str| file[key].as_array().cloned().unwrap_or_default();
    let some = |key: &str| {
        let names: Vec<String> = items(key).iter().map(text).collect();
        let more = if names.len() > NAMES_SHOWN {
            format!(", … ({} in all)", names.len())
        } else {
            String::new()
        };
        format!("{}{more}", names[..names.len().min(NAMES_SHOWN)].join(", "))
    };
    let mut lines = Vec::new();
    for column in items("missing") {
        lines.push((
            "missing",
            format!("{} cells of {}", column["cells"], text(&column["column"])),
        ));
    }
    if !items("unused_columns").is_empty() {
        lines.push((
            "not used",
            format!("the columns {}", some("unused_columns")),
        ));
    }
    if !items("columns_in_file_order").is_empty() {
        let advice = "the charter names no columns, so every member must have them in this order";
        lines.push((
            "columns",
            format!("{}: {advice}", some("columns_in_file_order")),
        ));
    }
    if let Some(axes) = file["axes"].as_str() {
        lines.push(("axes", axes.to_owned()));
    }
    for far in items("large_values") {
        let place = match far["line"].as_u64() {
            Some(line) => format!("line {line}"),
            None => format!("row {} (from 0)", far["row"]),
        };
        let [value, median] =
            ["value", "median"].map(|key| short_number(far[key].as_f64().unwrap_or(f64::NAN)));
        let why =
            format!("the column's median is {median}; training may fail on it, is it a mistake?");
        lines.push((
            "large value",
            format!(
                "{place}, column {}: {value}, but {why}",
                text(&far["column"])
            ),
        ));
    }
    lines
}

fn short_number(value: f64) -> String {
    if value == 0.0 || (1e-3..1e6).contains(&value.abs()) {
        format!("{value:.3}")
    } else {
        format!("{value:.3e}")
    }
}

fn problem_json(problem: &NodeError) -> Vec<Value> {
    match problem {
        NodeError::Files(files) => files.to_json().as_array().cloned().unwrap_or_default(),
        other => vec![json!({"what": other.to_string()})],
    }
}
