//! What is watched: a file of events, a peer's folder, or a testnet's.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use kith_consensus::PeerId;
use kith_gossip::Event;

use crate::agreement::Agreement;
use crate::cli::log::{self, Follower, Store, brief};
use crate::cli::output::Failure;
use crate::cli::testnet::{self, Order};
use crate::config::CONFIG_FILE;
use crate::error::NodeError;
use crate::telemetry::{Known, Line, What};

/// Events kept for the screen.
const EVENTS_MAX: usize = 200;
/// Losses kept of each peer, for a curve as wide as any screen.
const LOSSES_MAX: usize = 1000;

/// What a look at the source showed.
#[derive(Clone, Default)]
pub(super) struct Seen {
    /// What is watched.
    pub(super) title: String,
    /// What is missing from the numbers, if anything is.
    pub(super) note: Option<String>,
    /// Rounds of the charter, if it is known.
    pub(super) rounds: Option<u64>,
    /// What became of the last order.
    pub(super) answer: String,
    /// Whether peers can be killed and started again.
    pub(super) takes_orders: bool,
    pub(super) peers: Vec<Watched>,
    /// The members' names by their ids.
    pub(super) names: BTreeMap<String, String>,
    /// The last events in words, oldest first.
    pub(super) events: VecDeque<String>,
}

/// A peer on the screen.
#[derive(Clone, Default)]
pub(super) struct Watched {
    pub(super) name: String,
    /// `honest` or `adversary`, if a running testnet says so.
    pub(super) role: String,
    /// Empty for a peer of a file.
    pub(super) state: &'static str,
    /// What its lines add up to.
    pub(super) known: Known,
    /// Its training losses, oldest first.
    pub(super) losses: VecDeque<f64>,
}

impl Seen {
    /// The peers that a peer's round waits for.
    pub(super) fn missing(&self, peer: &Watched) -> String {
        let name = |id: &PeerId| match self.names.get(&id.to_string()) {
            Some(name) => name.clone(),
            None => id.short(),
        };
        let names: Vec<String> = peer.known.missing.iter().map(name).collect();
        names.join(", ")
    }
}

/// Where lines come from.
pub(super) struct Source {
    path: PathBuf,
    /// The peers whose lines are read, in the order of `seen.peers`; none for a file.
    logs: Vec<Follower>,
    seen: Seen,
}

impl Source {
    /// A file of events, which is read up to its end or to the first line that is no event.
    ///
    /// # Errors
    /// When it cannot be read or begins with something else.
    pub(super) fn file(path: &Path) -> Result<Source, Failure> {
        let failed = |error| NodeError::io("read", path, error);
        let mut source = Source::new(path);
        let lines = BufReader::new(File::open(path).map_err(failed)?).split(b'\n');
        for (number, text) in (1..).zip(lines) {
            let text = text.map_err(failed)?;
            let Ok(line) = serde_json::from_slice::<Line>(&text) else {
                let note = format!("line {number} is cut or no event; shown up to there");
                source.seen.note = Some(note);
                break;
            };
            source.add(&line, &String::from_utf8_lossy(&text));
        }
        if source.seen.peers.is_empty() {
            return Err(Failure::new(format!(
                "{} does not begin with an event; expected JSON lines, as `kith log --json` writes them",
                path.display()
            )));
        }
        Ok(source)
    }

    /// A peer's folder or a testnet's.
    ///
    /// # Errors
    /// When it is neither.
    pub(super) fn folder(path: &Path) -> Result<Source, Failure> {
        let folders = log::peers(path).map_err(|error| match error {
            NodeError::NoConfig { .. } => Failure::new(format!(
                "{} is neither a peer's folder nor a testnet's: no {CONFIG_FILE} is in it or in a folder of it",
                path.display()
            )),
            other => other.into(),
        })?;
        let mut source = Source::new(path);
        for folder in folders {
            let log = Follower::new(&folder)?;
            source.seen.peers.push(Watched::new(&log.config.name));
            // If the charter cannot be read, ids are shown instead of names.
            if source.logs.is_empty()
                && let Ok(agreement) = Agreement::load(&log.config.charter)
            {
                source.seen.rounds = Some(agreement.charter.rounds);
                source.seen.names = log::names(&log.config);
            }
            source.logs.push(log);
        }
        Ok(source)
    }

    fn new(path: &Path) -> Source {
        let mut source = Source {
            path: path.to_owned(),
            logs: Vec::new(),
            seen: Seen::default(),
        };
        source.seen.title = path.display().to_string();
        source
    }

    /// Adds a line of a file, whose peers are known by their lines alone.
    fn add(&mut self, line: &Line, text: &str) {
        let (name, peers) = (line.node.short(), &mut self.seen.peers);
        let place = peers.iter().position(|peer| peer.name == name);
        let place = place.unwrap_or(peers.len());
        if place == peers.len() {
            peers.push(Watched::new(&name));
        }
        peers[place].apply(line);
        let event = format!("{name} {}", brief(text, &self.seen.names));
        keep(&mut self.seen.events, [event], EVENTS_MAX);
    }

    /// Reads what is new.
    pub(super) fn look(&mut self) -> Seen {
        let testnet = testnet::ask_status(&self.path).ok();
        self.seen.takes_orders = testnet.is_some();
        let store = testnet.as_ref().map_or(Store::Read, |_| Store::Leave);
        let mut events = Vec::new();
        for (log, peer) in self.logs.iter_mut().zip(&mut self.seen.peers) {
            for text in log.fresh_lines(store) {
                if let Ok(line) = serde_json::from_str::<Line>(&text) {
                    peer.apply(&line);
                    let event = format!("{:<8} {}", peer.name, brief(&text, &self.seen.names));
                    events.push((line.time, event));
                }
            }
            peer.state = log.state(&peer.known);
        }
        events.sort();
        let events = events.into_iter().map(|(_, event)| event);
        keep(&mut self.seen.events, events, EVENTS_MAX);
        // The testnet's supervisor knows best which processes run.
        for node in testnet.iter().flat_map(|status| &status.nodes) {
            let mut peers = self.seen.peers.iter_mut();
            if let Some(peer) = peers.find(|peer| peer.name == node.name) {
                peer.role.clone_from(&node.role);
                peer.state = node.state.name();
            }
        }
        self.seen.clone()
    }

    /// Carries out an order; what became of it is part of the next look.
    pub(super) fn carry_out(&mut self, order: Order, peer: &str) {
        let done = testnet::carry_out(&self.path, order, peer);
        self.seen.answer = done.unwrap_or_else(|failure| failure.to_string());
    }
}

impl Watched {
    fn new(name: &str) -> Watched {
        Watched {
            name: name.to_owned(),
            ..Watched::default()
        }
    }

    fn apply(&mut self, line: &Line) {
        self.known.apply(line);
        if let (What::Peer(Event::Trained { .. }), Some(loss)) =
            (&line.what, self.known.training_loss)
        {
            keep(&mut self.losses, [loss], LOSSES_MAX);
        }
    }
}

/// Adds items to a list, of which only the last stay.
fn keep<T>(list: &mut VecDeque<T>, items: impl IntoIterator<Item = T>, most: usize) {
    list.extend(items);
    list.drain(..list.len().saturating_sub(most));
}
