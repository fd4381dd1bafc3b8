//! What is watched: a file of events, a peer's folder, or a testnet's.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use kith_consensus::PeerId;
use kith_gossip::Event;

use crate::agreement::Agreement;
use crate::cli::log::{self, Follower, Store, brief};
use crate::cli::output::Failure;
use crate::cli::testnet::{self, Order};
use crate::config::CONFIG_FILE;
use crate::error::NodeError;
use crate::page::growing::{Growing, Next};
use crate::page::recording::{Header, Noticed, Recording, Role};
use crate::telemetry::{Known, Line, What};

/// Events kept for the screen.
const EVENTS_MAX: usize = 200;
/// Most bytes of a line of a file; an event of a peer with 256 neighbours has 40 kB.
const LINE_MAX: u64 = 1 << 20;
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
    file: Option<Events>,
    seen: Seen,
}

/// A file of events, which may still grow.
enum Events {
    /// One peer's lines, as `kith run --json` and `kith log --json` write them; `None` after a line
    /// that is no event.
    Lines(Option<Growing>),
    /// What a testnet, a simulation or `kith log --export` wrote.
    Recording(Recording),
}

impl Source {
    /// A file of events, which is read up to its end, also when it has grown, or to the first line
    /// that is no event.
    ///
    /// # Errors
    /// When it cannot be read or begins with something else.
    pub(super) fn file(path: &Path) -> Result<Source, Failure> {
        let mut source = Source::new(path);
        if let Ok((header, recording)) = Recording::open(path) {
            source.file = Some(Events::Recording(recording));
            source.begin(&header);
            return Ok(source);
        }
        let lines = Growing::open(path, LINE_MAX);
        let lines = lines.map_err(|error| NodeError::io("read", path, error))?;
        source.file = Some(Events::Lines(Some(lines)));
        source.read_on();
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
            file: None,
            seen: Seen::default(),
        };
        source.seen.title = path.display().to_string();
        source
    }

    /// What the head of a file says of its peers.
    fn begin(&mut self, header: &Header) {
        self.seen.rounds = Some(header.rounds);
        for member in &header.peers {
            let id = member.peer.to_string();
            self.seen.names.insert(id, member.name.clone());
            let mut peer = Watched::new(&member.name);
            peer.role = match member.role {
                Role::Honest => "honest".to_owned(),
                Role::Adversary => "adversary".to_owned(),
                Role::Unknown => String::new(),
            };
            // Of the others one peer's log says nothing that the table has.
            if header
                .seen_by
                .is_none_or(|own| header.peers[own] == *member)
            {
                self.seen.peers.push(peer);
            }
        }
    }

    /// Reads a file to its present end.
    fn read_on(&mut self) {
        let mut fresh: Vec<(Line, String)> = Vec::new();
        match &mut self.file {
            Some(Events::Recording(recording)) => {
                fresh.extend(recording.by_ref().filter_map(|entry| match entry.what {
                    Noticed::Line(line) => {
                        let text = serde_json::to_string(&line).ok()?;
                        Some((line, text))
                    }
                    _ => None,
                }));
                self.seen.note = recording.cut();
            }
            Some(Events::Lines(lines)) => {
                if let Some(growing) = lines {
                    let cut;
                    (fresh, cut) = read_lines(growing);
                    let number = growing.line();
                    self.seen.note =
                        cut.map(|_| format!("line {number} is cut or no event; shown up to there"));
                    if cut == Some(Cut::ForGood) {
                        *lines = None;
                    }
                }
            }
            None => {}
        }
        for (line, text) in fresh {
            self.add(&line, &text);
        }
    }

    /// Adds a line of a file; a peer that its head does not name is known by its lines alone.
    fn add(&mut self, line: &Line, text: &str) {
        let id = line.node.to_string();
        let name = self.seen.names.get(&id).cloned();
        let name = name.unwrap_or_else(|| line.node.short());
        let peers = &mut self.seen.peers;
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
        self.read_on();
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

/// Whether the rest of a file may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The last line has no end yet.
    ForNow,
    /// A line is too long or no event.
    ForGood,
}

/// The events up to the present end of a file, and whether a line comes next that is none.
fn read_lines(lines: &mut Growing) -> (Vec<(Line, String)>, Option<Cut>) {
    let mut read = Vec::new();
    let cut = loop {
        match lines.next() {
            // The end of a line that was taken before it came.
            Ok(Next::Line(text)) if text.is_empty() && lines.line() > 1 => {}
            Ok(Next::Line(text)) => match event(&text) {
                Some(event) => read.push(event),
                None => break Cut::ForGood,
            },
            Ok(Next::End) => return (read, None),
            Ok(Next::Unfinished) => match lines.take_unfinished(|text| event(text).is_some()) {
                Some(text) => read.extend(event(&text)),
                None => break Cut::ForNow,
            },
            Err(_) => break Cut::ForGood,
        }
    };
    (read, Some(cut))
}

/// The event in a line, and the line.
fn event(text: &[u8]) -> Option<(Line, String)> {
    let line = serde_json::from_slice(text).ok()?;
    Some((line, String::from_utf8_lossy(text).into_owned()))
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
