//! A peer's event log, followed: the lines that were added since the last look, whether the peer
//! runs or not.

use std::path::Path;

use kith_consensus::PeerId;

use super::status;
use crate::cli::output::Failure;
use crate::config::{CONFIG_FILE, Config};
use crate::error::NodeError;
use crate::identity::Identity;
use crate::store::{StoreError, read_events};
use crate::telemetry::{Known, Line};

/// Lines asked of a running peer at the first look: all that it gives.
const FIRST_MAX: usize = super::RUNNING_MAX;
/// Lines asked of it afterwards. If it wrote more since the last look, [`FIRST_MAX`] are asked for.
const NEXT_MAX: usize = 500;

/// Whether a peer's process answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    Answers,
    /// It holds its state and does not answer, or nobody has looked yet.
    Silent,
    /// None runs, and its last lines have been read.
    Gone,
}

/// What to do with the store of a peer that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Store {
    /// Read its last lines.
    Read,
    /// Leave it alone: whoever starts the peer again would find it in use.
    Leave,
}

/// Follows a peer's log.
pub(in crate::cli) struct Follower {
    pub(in crate::cli) config: Config,
    process: Process,
    /// By it, another program at the peer's old address is told from the peer.
    id: PeerId,
    /// The last line that was given out.
    last: Option<String>,
}

impl Follower {
    /// Of the peer in `folder`.
    ///
    /// # Errors
    /// When its configuration or its key cannot be read.
    pub(in crate::cli) fn new(folder: &Path) -> Result<Follower, Failure> {
        let config = Config::load(&folder.join(CONFIG_FILE))?;
        let id = Identity::load(&config.key).map_err(NodeError::from)?.peer();
        Ok(Follower {
            config,
            process: Process::Silent,
            id,
            last: None,
        })
    }

    /// The lines since the last look: from the running peer, or once from its store when it has
    /// stopped. If a running peer wrote more than it gives, the oldest of them are missing.
    pub(in crate::cli) fn fresh_lines(&mut self, store: Store) -> Vec<String> {
        let fresh = match self.ask() {
            Some(lines) => {
                self.process = Process::Answers;
                lines
            }
            None if self.process == Process::Gone || store == Store::Leave => Vec::new(),
            None => {
                let read = read_events(&self.config.state, usize::MAX);
                self.process = match &read {
                    Err(StoreError::InUse { .. }) => Process::Silent,
                    _ => Process::Gone,
                };
                let lines = read.unwrap_or_default();
                self.after_last(&lines).unwrap_or(lines)
            }
        };
        if let Some(last) = fresh.last() {
            self.last = Some(last.clone());
        }
        fresh
    }

    /// The peer's state in a word, as the last look and the sum of its lines show it.
    pub(in crate::cli) fn state(&self, known: &Known) -> &'static str {
        match self.process {
            _ if known.finished => "finished",
            Process::Answers if known.is_ready() => "running",
            Process::Answers => "starting",
            Process::Silent => "silent",
            Process::Gone => "ended",
        }
    }

    /// The running peer's new lines; `None` if it does not answer.
    fn ask(&self) -> Option<Vec<String>> {
        if self.last.is_some() {
            let fresh = self.after_last(&self.get(NEXT_MAX)?);
            if fresh.is_some() {
                return fresh;
            }
        }
        let lines = self.get(FIRST_MAX)?;
        Some(self.after_last(&lines).unwrap_or(lines))
    }

    fn get(&self, count: usize) -> Option<Vec<String>> {
        let answer = status::get(&self.config, &format!("/log?count={count}")).ok()?;
        let lines: Vec<String> = answer.lines().map(str::to_owned).collect();
        let last: Option<Line> = lines
            .last()
            .and_then(|line| serde_json::from_str(line).ok());
        last.is_none_or(|line| line.node == self.id)
            .then_some(lines)
    }

    /// The lines after the last that was given out; `None` if that is not among them.
    fn after_last(&self, lines: &[String]) -> Option<Vec<String>> {
        let place = lines
            .iter()
            .rposition(|line| Some(line) == self.last.as_ref())?;
        Some(lines[place + 1..].to_vec())
    }
}
