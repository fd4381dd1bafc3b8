//! `kith log`: a peer's event log, from the running peer or from its state folder.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::output::{Verdict, print};
use super::{done, status};
use crate::error::NodeError;
use crate::store::{StoreError, read_events};

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
        let state = status::state_folder(&self.dir)?;
        let lines = match read_events(&state, self.count) {
            Ok(lines) => lines,
            Err(StoreError::InUse { .. }) => {
                status::get(&state, &format!("/log?count={}", self.count))?.lines().map(str::to_owned).collect()
            }
            Err(error) => return Err(NodeError::from(error).into()),
        };
        for line in lines {
            print(&if self.json { format!("{line}\n") } else { plain(&line) })?;
        }
        done()
    }
}

/// One line for people: when, what, and the rest as it is.
fn plain(line: &str) -> String {
    let Ok(Value::Object(mut line)) = serde_json::from_str(line) else { return format!("{line}\n") };
    let at = line.remove("at_seconds").and_then(|at| at.as_f64()).unwrap_or(0.0);
    let event = line.remove("event").and_then(|event| event.as_str().map(str::to_owned)).unwrap_or_default();
    line.remove("node");
    let rest: Vec<String> = line.iter().map(|(key, value)| format!("{key} {value}")).collect();
    format!("{at:10.3} s  {event:<16} {}\n", rest.join("  "))
}
