//! `kith charter`: the agreement, before anything runs.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kith_consensus::section::Document;
use kith_consensus::{Charter as Agreed, PeerId};
use kith_models::DATASETS;
use serde_json::json;
use toml::{Table, Value};

use super::done;
use super::guard::{Guard, Plan};
use super::output::{Failure, Verdict, print, print_json, tell};
use super::text;
use crate::agreement::Agreement;
use crate::problems::BadFile;
use crate::secrets::redacted;

/// Make and compare charters
#[derive(Debug, Subcommand)]
pub(crate) enum Charter {
    /// Write a charter with every key in it
    New(Box<New>),
    /// Show a charter with every default written out
    Show(One),
    /// The federation id
    Hash(One),
    /// Which sections differ, and how
    Diff(Diff),
}

/// A charter file.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The charter's file
    file: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Which sections differ, and how
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0 where they agree, 1 where they differ.")]
pub(crate) struct Diff {
    /// One charter
    left: PathBuf,
    /// The other charter
    right: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Write a charter with every key in it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kith charter new --name clinic --dataset heart --rounds 20 --member ada=12D3Koo… --member bob=12D3Koo…@Hospital > charter.toml
  kith charter new --name clinic --dataset digits --member-file ada.member --member-file bob.member --topology complete
  kith charter new --name clinic --dataset heart --privacy example-level --epsilon 4 --delta 1e-5 --rows 300 --member-file …

What `kith init` prints can be given as a file with --member-file. Everything can be edited afterwards; `kith check` tells
whether it fits.")]
pub(crate) struct New {
    /// The federation's name
    #[arg(long)]
    name: String,
    /// Take [data], [model] and [training] from a known data set (`kith list datasets`)
    #[arg(long, default_value = "digits")]
    dataset: String,
    /// The kind of model (`kith list models`)
    #[arg(long)]
    model: Option<String>,
    /// Aggregation rule (`kith list rules`)
    #[arg(long, default_value = "mean")]
    rule: String,
    /// Liars to tolerate in every neighbourhood
    #[arg(long, default_value_t = 0)]
    byzantine: u64,
    /// Which peers exchange updates (`kith list topologies`)
    #[arg(long, default_value = "complete")]
    topology: String,
    /// Encoding of updates (`kith list codecs`)
    #[arg(long, default_value = "identity")]
    codec: String,
    /// Rounds to train
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Seconds that a round waits for updates
    #[arg(long)]
    deadline: Option<f64>,
    /// Shared seed
    #[arg(long, default_value_t = 0, value_parser = text::seed)]
    seed: u64,
    /// Instead of members: the number of places, taken by the first peers with this charter
    #[arg(long, value_name = "PEERS", conflicts_with_all = ["members", "member_files"])]
    open: Option<u16>,
    /// A member: name=PEERID, with @organisation if you like
    #[arg(long = "member", value_name = "NAME=PEERID[@ORGANISATION]")]
    members: Vec<String>,
    /// A file with [[membership.member]] as `kith init` prints it
    #[arg(long = "member-file", value_name = "FILE")]
    member_files: Vec<PathBuf>,
    #[command(flatten)]
    guard: Guard,
    /// With --privacy: training rows of the member that has most; one with more cannot take part
    #[arg(long, requires = "privacy", default_value_t = 1000)]
    rows: u64,
    /// Where to write it; without it, to stdout
    #[arg(long)]
    out: Option<PathBuf>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Charter {
    pub(crate) fn run(self) -> Verdict {
        match self {
            Charter::New(new) => new.run(),
            Charter::Show(one) => {
                let agreement = Agreement::load(&one.file)?;
                if one.json {
                    print_json(
                        &json!({"federation": agreement.charter.id.to_string(), "charter": agreement.charter.canonical}),
                    )?;
                } else {
                    print(&agreement.charter.to_toml())?;
                }
                done()
            }
            Charter::Hash(one) => {
                let id = Agreement::load(&one.file)?.charter.id.to_string();
                if one.json {
                    print_json(&json!({"federation": id}))?
                } else {
                    print(&format!("{id}\n"))?
                }
                done()
            }
            Charter::Diff(diff) => diff.run(),
        }
    }
}

impl New {
    fn run(self) -> Verdict {
        let agreement = self.agreement()?;
        let written = agreement.charter.to_toml();
        if let Some(out) = &self.out {
            if out.exists() {
                return Err(Failure::new(format!(
                    "{} exists already and is not overwritten; choose another --out",
                    out.display()
                )));
            }
            std::fs::write(out, &written).map_err(|error| {
                Failure::new(format!("cannot write {}: {error}", out.display()))
            })?;
        }
        if self.json {
            print_json(
                &json!({"federation": agreement.charter.id.to_string(), "charter": agreement.charter.canonical}),
            )?;
        } else if self.out.is_none() {
            print(&written)?;
        }
        done()
    }

    /// The agreement, with its noise calibrated if it has a guarantee.
    fn agreement(&self) -> Result<Agreement, Failure> {
        let parse = |table: &Table| {
            Agreement::parse(&table.to_string())
                .map_err(|problems| Failure::of_problems("this charter cannot work", &problems))
        };
        let mut table = self.table()?;
        let agreement = parse(&table)?;
        if !self.guard.is_wanted() {
            return Ok(agreement);
        }
        let terms = self.guard.terms(Plan::of(&agreement, self.rows, 0))?;
        terms.write(&mut table);
        tell(&terms.words());
        parse(&table)
    }

    fn table(&self) -> Result<Table, Failure> {
        let option = |name: &str, what: String| Failure::new(format!("--{name}: {what}"));
        let integer = |value: u64| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        let entry = DATASETS.find(&self.dataset).map_err(Failure::new)?;
        let mut table: Table = entry
            .new
            .defaults
            .parse()
            .expect("the defaults of a data set are TOML");
        if let Some(model) = &self.model {
            table.insert(
                "model".to_owned(),
                Value::Table(text::model(model).map_err(|what| option("model", what))?),
            );
        }
        if let Some(Value::Table(model)) = table.get_mut("model") {
            model.entry("seed").or_insert(integer(self.seed));
        }
        let mut topology =
            text::topology(&self.topology).map_err(|what| option("topology", what))?;
        topology.entry("seed").or_insert(integer(self.seed));
        let codec = text::codec(&self.codec).map_err(|what| option("codec", what))?;
        let mut round = Table::from_iter([("neighbours_min".to_owned(), integer(1))]);
        if let Some(deadline) = self.deadline {
            round.insert("deadline_seconds".to_owned(), Value::Float(deadline));
        }
        let federation = [
            ("name".to_owned(), Value::String(self.name.clone())),
            ("rounds".to_owned(), integer(self.rounds)),
            ("seed".to_owned(), integer(self.seed)),
        ];
        let aggregation = [
            ("rule".to_owned(), Value::String(self.rule.clone())),
            ("byzantine".to_owned(), integer(self.byzantine)),
        ];
        let membership = match self.open {
            Some(peers) => {
                vec![
                    ("mode".to_owned(), Value::from("open")),
                    ("peers".to_owned(), Value::Integer(i64::from(peers))),
                ]
            }
            None => vec![("member".to_owned(), Value::Array(self.members()?))],
        };
        for (name, section) in [
            ("federation", Table::from_iter(federation)),
            ("topology", topology),
            ("codec", codec),
            ("round", round),
            ("aggregation", Table::from_iter(aggregation)),
            ("membership", Table::from_iter(membership)),
        ] {
            table.insert(name.to_owned(), Value::Table(section));
        }
        Ok(table)
    }

    fn members(&self) -> Result<Vec<Value>, Failure> {
        let mut members = Vec::new();
        for text in &self.members {
            let (name, rest) = text.split_once('=').ok_or_else(|| {
                Failure::new(format!(
                    "--member: expected NAME=PEERID or NAME=PEERID@ORGANISATION, found {:?}",
                    redacted(text)
                ))
            })?;
            let (key, organisation) = rest.split_once('@').unwrap_or((rest, ""));
            let keys = [("name", name), ("organisation", organisation), ("key", key)];
            members.push(Value::Table(
                keys.into_iter()
                    .map(|(key, value)| (key.to_owned(), Value::String(value.to_owned())))
                    .collect(),
            ));
        }
        for path in &self.member_files {
            members.extend(read_members(path)?);
        }
        // In the order of their keys, which is the roster's: another order makes the same charter.
        members.sort_by_cached_key(|member| {
            let key = member
                .get("key")
                .and_then(Value::as_str)
                .unwrap_or_default();
            (key.parse::<PeerId>().ok(), key.to_owned())
        });
        if members.is_empty() {
            return Err(Failure::with_help(
                "a charter needs members",
                "give --member NAME=PEERID or --member-file FILE once for each; `kith init` prints what belongs there",
            ));
        }
        Ok(members)
    }
}

fn read_members(path: &Path) -> Result<Vec<Value>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    // Read as every other file is, so that its problems are shown in the same way. The charter
    // decides what it may hold.
    Document::parse(&text).map_err(|problem| BadFile::problems(path, &text, vec![problem]))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        Failure::new(format!("{}: {}", path.display(), redacted(error.message())))
    })?;
    let members = table
        .get("membership")
        .and_then(|membership| membership.get("member"))
        .and_then(Value::as_array);
    members.cloned().ok_or_else(|| {
        Failure::new(format!(
            "{} lists no member; expected [[membership.member]] as `kith init` prints it",
            path.display()
        ))
    })
}

impl Diff {
    fn run(self) -> Verdict {
        let (left, right) = (Agreement::load(&self.left)?, Agreement::load(&self.right)?);
        let sections = left.charter.differing_sections(&right.charter.sections);
        if self.json {
            let keys = |name: &String| differences(&left.charter, &right.charter, name);
            let differing: serde_json::Map<String, serde_json::Value> = sections
                .iter()
                .map(|name| (name.clone(), json!(keys(name))))
                .collect();
            print_json(&json!({"equal": sections.is_empty(), "sections": differing}))?;
        } else if sections.is_empty() {
            print("the same agreement\n")?;
        } else {
            for name in &sections {
                print(&format!("[{name}]\n"))?;
                for (key, one, other) in differences(&left.charter, &right.charter, name) {
                    print(&format!("  {key}: {one} | {other}\n"))?;
                }
            }
        }
        Ok(if sections.is_empty() {
            std::process::ExitCode::SUCCESS
        } else {
            std::process::ExitCode::FAILURE
        })
    }
}

/// Keys of a section whose values differ, with both values.
fn differences(left: &Agreed, right: &Agreed, section: &str) -> Vec<(String, String, String)> {
    let keys = |charter: &Agreed| {
        charter
            .canonical
            .get(section)
            .and_then(Value::as_table)
            .cloned()
            .unwrap_or_default()
    };
    let (left, right) = (keys(left), keys(right));
    let names: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let show = |value: Option<&Value>| value.map_or("absent".to_owned(), ToString::to_string);
    names
        .into_iter()
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| (name.clone(), show(left.get(name)), show(right.get(name))))
        .collect()
}
