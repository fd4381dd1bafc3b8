//! `kith log`: a peer's event log, from the running peer or from its state folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::output::{Verdict, print, tell};
use super::{done, status};
use crate::agreement::Agreement;
use crate::config::{CONFIG_FILE, Config};
use crate::error::NodeError;
use crate::store::{StoreError, read_events};

/// Lines that a running peer gives in one answer; its store gives all.
const RUNNING_MAX: usize = 10_000;

/// Show a peer's event log
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kith log --dir ada --count 20\n  kith log --dir ada --json | jq 'select(.event == \"refused\")'"
)]
pub(crate) struct Log {
    /// The peer's folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// How many of the last events
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// JSON lines as they are stored
    #[arg(long)]
    json: bool,
}

impl Log {
    pub(crate) fn run(self) -> Verdict {
        let config = Config::load(&self.dir.join(CONFIG_FILE))?;
        let lines: Vec<String> = match read_events(&config.state, self.count) {
            Ok(lines) => lines,
            Err(StoreError::InUse { .. }) => {
                let asked = self.count.min(RUNNING_MAX);
                let lines: Vec<String> = status::get(&config, &format!("/log?count={asked}"))?
                    .lines()
                    .map(str::to_owned)
                    .collect();
                if asked < self.count && lines.len() == asked {
                    tell(&format!(
                        "a running peer gives its last {RUNNING_MAX} events at most, of the {} asked for; all that it keeps can be \
                         read when it has stopped",
                        self.count
                    ));
                }
                lines
            }
            Err(error) => return Err(NodeError::from(error).into()),
        };
        // If the charter cannot be read, ids are shown instead of names.
        let names = if self.json {
            BTreeMap::new()
        } else {
            names(&config)
        };
        for line in lines {
            print(&if self.json {
                format!("{line}\n")
            } else {
                plain(&line, &names)
            })?;
        }
        done()
    }
}

fn names(config: &Config) -> BTreeMap<String, String> {
    let Ok(agreement) = Agreement::load(&config.charter) else {
        return BTreeMap::new();
    };
    agreement
        .charter
        .membership
        .members
        .iter()
        .map(|member| (member.key.to_string(), member.name.clone()))
        .collect()
}

/// One line for people: the time, the event, and the rest unchanged.
fn plain(line: &str, names: &BTreeMap<String, String>) -> String {
    let Ok(Value::Object(mut line)) = serde_json::from_str(line) else {
        return format!("{line}\n");
    };
    let at = line
        .remove("at_seconds")
        .and_then(|at| at.as_f64())
        .unwrap_or(0.0);
    let time = line
        .remove("time")
        .and_then(|time| time.as_str().map(str::to_owned))
        .unwrap_or_default();
    let event = line
        .remove("event")
        .and_then(|event| event.as_str().map(str::to_owned))
        .unwrap_or_default();
    line.remove("node");
    let rest: Vec<String> = line
        .iter()
        .map(|(key, value)| format!("{key} {}", named(value, names)))
        .collect();
    format!("{time:<24}  {at:10.3} s  {event:<16} {}\n", rest.join("  "))
}

/// A value with the names of members in place of their ids.
fn named(value: &Value, names: &BTreeMap<String, String>) -> String {
    names.iter().fold(value.to_string(), |text, (id, name)| {
        text.replace(id.as_str(), name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_tells_when_and_by_which_name() {
        let names = BTreeMap::from([("12D3KooWa".to_owned(), "bob".to_owned())]);
        let line = r#"{"time":"2026-01-02T03:04:05.006Z","at_seconds":1.5,"node":"x","event":"round-closed","missing":["12D3KooWa"]}"#;
        let shown = plain(line, &names);
        assert!(
            shown.starts_with("2026-01-02T03:04:05.006Z")
                && shown.contains("1.500 s  round-closed"),
            "{shown}"
        );
        assert!(
            shown.contains("missing [\"bob\"]") && !shown.contains("12D3"),
            "{shown}"
        );
        assert!(
            plain(r#"{"at_seconds":1.5,"event":"left"}"#, &names).contains("1.500 s  left"),
            "a line of before"
        );
    }
}
