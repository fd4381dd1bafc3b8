//! `kith log`: a peer's event log, from the running peer or from its state folder.

mod export;
mod follow;
mod tensorboard;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

pub(super) use self::follow::{Follower, Store};
use super::output::{Failure, Verdict, print, print_json, tell};
use super::{done, status};
use crate::agreement::Agreement;
use crate::config::{CONFIG_FILE, Config};
use crate::error::NodeError;
use crate::store::{StoreError, read_events};
use crate::telemetry::Line;

/// Lines that a running peer gives in one answer; its store gives all.
const RUNNING_MAX: usize = 10_000;

/// Events that are shown if no other number is asked for.
const SHOWN: usize = 100;

/// Show a peer's event log
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kith log --dir ada --count 20\n  kith log --dir ada --json | jq 'select(.event == \"refused\")'\n  kith log --dir net --tensorboard curves\n  kith log --dir ada --export ada.jsonl && kith view ada.jsonl"
)]
pub(crate) struct Log {
    /// The peer's folder; with --tensorboard a testnet's too
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// How many of the last events; 100 if this is not given, with --tensorboard and --export all
    #[arg(long)]
    count: Option<usize>,
    /// JSON lines as they are stored
    #[arg(long)]
    json: bool,
    /// Write the rounds' numbers into this folder, for TensorBoard, instead of showing the log
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
    /// Write the log into this file of events, for `kith view`, instead of showing it
    #[arg(long, value_name = "FILE", conflicts_with = "tensorboard")]
    export: Option<PathBuf>,
}

impl Log {
    pub(crate) fn run(self) -> Verdict {
        if let Some(out) = &self.tensorboard {
            return self.to_tensorboard(out);
        }
        let config = Config::load(&self.dir.join(CONFIG_FILE))?;
        if let Some(out) = &self.export {
            return self.to_events(&config, out);
        }
        let lines = read(&config, self.count.unwrap_or(SHOWN))?;
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

    /// Writes a file of events.
    fn to_events(&self, config: &Config, out: &Path) -> Verdict {
        let count = export::export(config, self.count.unwrap_or(usize::MAX), out)?;
        if self.json {
            print_json(&json!({"written": [out], "events": count}))?;
        } else {
            print(&format!("{}\n", out.display()))?;
            tell(&format!(
                "{count} events; look at them with `kith view {}`",
                out.display()
            ));
        }
        done()
    }

    /// Writes a file for TensorBoard into a folder for each peer.
    fn to_tensorboard(&self, out: &Path) -> Verdict {
        let mut written = Vec::new();
        for folder in peers(&self.dir)? {
            let config = Config::load(&folder.join(CONFIG_FILE))?;
            let lines: Vec<Line> = read(&config, self.count.unwrap_or(usize::MAX))?
                .iter()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            let folder = out.join(config.name.replace('/', "-"));
            let path = folder.join(tensorboard::file_name(&lines));
            std::fs::create_dir_all(&folder)
                .and_then(|()| std::fs::write(&path, tensorboard::file(&lines, &names(&config))))
                .map_err(|error| NodeError::io("write", &path, error))?;
            written.push(path);
        }
        if self.json {
            print_json(&json!({"written": written}))?;
        } else {
            let paths = written.iter().map(|path| format!("{}\n", path.display()));
            print(&paths.collect::<String>())?;
            tell(&format!(
                "look at them with `tensorboard --logdir {}`",
                out.display()
            ));
        }
        done()
    }
}

/// The folder itself if a peer's configuration is in it; else, in a testnet's folder, those of its
/// peers.
pub(super) fn peers(dir: &Path) -> Result<Vec<PathBuf>, NodeError> {
    if dir.join(CONFIG_FILE).exists() {
        return Ok(vec![dir.to_owned()]);
    }
    let entries = std::fs::read_dir(dir).map_err(|error| NodeError::io("read", dir, error))?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join(CONFIG_FILE).exists())
        .collect();
    folders.sort();
    if folders.is_empty() {
        let path = dir.join(CONFIG_FILE);
        return Err(NodeError::NoConfig { path });
    }
    Ok(folders)
}

/// The last lines of a peer's log, from its state or, while it runs, from itself.
fn read(config: &Config, count: usize) -> Result<Vec<String>, Failure> {
    match read_events(&config.state, count) {
        Ok(lines) => Ok(lines),
        Err(StoreError::InUse { .. }) => {
            let asked = count.min(RUNNING_MAX);
            let lines: Vec<String> = status::get(config, &format!("/log?count={asked}"))?
                .lines()
                .map(str::to_owned)
                .collect();
            if asked < count && lines.len() == asked {
                tell(&format!(
                    "a running peer gives its last {RUNNING_MAX} events at most; all that it keeps can be \
                     read when it has stopped"
                ));
            }
            Ok(lines)
        }
        Err(error) => Err(NodeError::from(error).into()),
    }
}

pub(super) fn names(config: &Config) -> BTreeMap<String, String> {
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
    let Some([time, at, event, rest]) = parts(line, names) else {
        return format!("{line}\n");
    };
    format!("{time:<24}  {at:>10} s  {event:<16} {rest}\n")
}

/// The same for a narrow screen: of the time hours, minutes and seconds.
pub(super) fn brief(line: &str, names: &BTreeMap<String, String>) -> String {
    let Some([time, _, event, rest]) = parts(line, names) else {
        return line.to_owned();
    };
    format!("{} {event} {rest}", time.get(11..19).unwrap_or_default())
}

/// Time of day, seconds since the start, the event's name, and the rest unchanged; `None` if the
/// line is no event.
fn parts(line: &str, names: &BTreeMap<String, String>) -> Option<[String; 4]> {
    let Ok(Value::Object(mut line)) = serde_json::from_str(line) else {
        return None;
    };
    let at = line.remove("at_seconds").and_then(|at| at.as_f64());
    let [time, event] = ["time", "event"].map(|key| {
        let text = line.remove(key);
        text.and_then(|text| text.as_str().map(str::to_owned))
            .unwrap_or_default()
    });
    line.remove("node");
    let rest: Vec<String> = line
        .iter()
        .map(|(key, value)| format!("{key} {}", named(value, names)))
        .collect();
    let at = format!("{:.3}", at.unwrap_or(0.0));
    Some([time, at, event, rest.join("  ")])
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
