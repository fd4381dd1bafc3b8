//! `[world.carrier]`: in what the simulated carrier is as unkind as sockets are.
//!
//! Each key is one way in which a real carrier differs from a queue that delivers everything. By
//! default each of them is on that costs little; the others are on in worlds with chaos. The
//! limits themselves are the real carrier's ([`kith_gossip::limits`]).

use std::time::Duration;

use kith_consensus::{Section, Stream};
use kith_gossip::Input;
use kith_gossip::limits::{PING_INTERVAL, PING_TIMEOUT};

use super::nanoseconds;
use super::queue::Nanoseconds;

/// A dead line is noticed after this at the earliest (guess: the second of two pings that fail,
/// and the first may have been on its way when the line died).
pub(super) const UNANSWERED_MIN: Duration = Duration::from_secs(10);

/// How long after its links' first messages the news of a connection may come (guess: a busy
/// program looks at its streams before it looks at its sockets).
const OVERTAKEN_BY: Duration = Duration::from_millis(20);

/// Time that every input takes (guess: a decoded header and a look-up).
const EVERY_INPUT: Duration = Duration::from_micros(5);

/// Time for the signature of a message (about what `ed25519-dalek` takes on one core of a server).
const SIGNATURE: Duration = Duration::from_micros(40);

/// Nanoseconds for each byte of a vector that is encoded, decoded or hashed: 1 GB/s (guess).
const PER_BYTE: u64 = 1;

/// How gossip reaches everyone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gossip {
    /// From peer to peer over connections, as gossipsub does.
    #[default]
    Flood,
    /// From its author to everybody at once.
    Direct,
}

/// In what the carrier is unkind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carrier {
    /// How gossip reaches everyone.
    pub gossip: Gossip,
    /// Whether a source is asked for one body at a time and serves so many at a time.
    pub pull_limits: bool,
    /// Whether a body that ends with its source is lost, and long ones take line time in chunks.
    pub chunks: bool,
    /// Whether messages on their way are lost with their connection.
    pub messages_die: bool,
    /// Share of deaths that no reset shows: others notice when pings stay unanswered.
    pub silent_deaths: f64,
    /// Share of pairs that dial each other at the same time when they meet, and get two
    /// connections.
    pub parallel: f64,
    /// Whether only so many messages wait for a slow line or a busy reader.
    pub outboxes: bool,
    /// Whether a connection carries so many streams of bodies at a time.
    pub stream_limits: bool,
    /// Whether a dial takes time and can fail.
    pub dialling: bool,
    /// Whether a peer that is sent away may first read why, and cannot come back for a while.
    pub farewell: bool,
    /// Factor on the time that inputs take; 0: none.
    pub work: f64,
    /// Time of an evaluation as a share of a round's local training.
    pub evaluation: f64,
    /// Share of connections whose first messages come before the news of the connection.
    pub overtaking: f64,
    /// Whether a message above the limit is truncated, and those after it are lost until the
    /// sender notices.
    pub oversize: bool,
}

impl Default for Carrier {
    fn default() -> Carrier {
        Carrier::of_world(Weather::Calm)
    }
}

/// Whether a world draws faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// It has no `[world.chaos]`.
    Calm,
    /// It has.
    Chaos,
}

impl Carrier {
    /// The defaults.
    fn of_world(weather: Weather) -> Carrier {
        let chaos = weather == Weather::Chaos;
        Carrier {
            gossip: Gossip::Flood,
            pull_limits: true,
            chunks: true,
            messages_die: true,
            // Guess: as many machines lose power or network as processes end.
            silent_deaths: 0.5,
            // Guesses: peers of one organisation start together, others do not.
            parallel: if chaos { 0.3 } else { 0.0 },
            outboxes: true,
            stream_limits: true,
            dialling: true,
            farewell: true,
            work: if chaos { 1.0 } else { 0.0 },
            // Guess: held-out rows are as many as a round's, and a forward pass is a third of a
            // step.
            evaluation: 1.0 / 3.0,
            overtaking: if chaos { 0.1 } else { 0.0 },
            oversize: true,
        }
    }

    /// A queue that delivers everything: no key is on.
    pub fn ideal() -> Carrier {
        Carrier {
            gossip: Gossip::Direct,
            pull_limits: false,
            chunks: false,
            messages_die: false,
            silent_deaths: 0.0,
            parallel: 0.0,
            outboxes: false,
            stream_limits: false,
            dialling: false,
            farewell: false,
            work: 0.0,
            evaluation: 0.0,
            overtaking: 0.0,
            oversize: false,
        }
    }

    /// Reads `[world.carrier]`. Problems are noted in the section.
    pub fn read(section: &mut Section<'_>, weather: Weather) -> Carrier {
        let default = Carrier::of_world(weather);
        let flood = section.choice("gossip", Some("flood"), &["flood", "direct"]) == "flood";
        let share = |section: &mut Section<'_>, key: &str, default: f64| {
            section.number(key, Some(default), 0.0..=1.0)
        };
        Carrier {
            gossip: if flood { Gossip::Flood } else { Gossip::Direct },
            pull_limits: section.flag("pull_limits", Some(default.pull_limits)),
            chunks: section.flag("chunks", Some(default.chunks)),
            messages_die: section.flag("messages_die", Some(default.messages_die)),
            silent_deaths: share(section, "silent_deaths", default.silent_deaths),
            parallel: share(section, "parallel", default.parallel),
            outboxes: section.flag("outboxes", Some(default.outboxes)),
            stream_limits: section.flag("stream_limits", Some(default.stream_limits)),
            dialling: section.flag("dialling", Some(default.dialling)),
            farewell: section.flag("farewell", Some(default.farewell)),
            work: section.number("work", Some(default.work), 0.0..=1e6),
            evaluation: section.number("evaluation", Some(default.evaluation), 0.0..=1e6),
            overtaking: share(section, "overtaking", default.overtaking),
            oversize: section.flag("oversize", Some(default.oversize)),
        }
    }

    /// How long a peer works on an input, on a machine that is `slowness` times as slow as usual.
    pub(super) fn takes(&self, input: &Input, slowness: f64) -> Nanoseconds {
        let factor = self.work * slowness;
        if factor == 0.0 {
            return 0;
        }
        let more = match input {
            Input::Received { bytes, .. } => nanoseconds(SIGNATURE) + PER_BYTE * bytes.len() as u64,
            Input::Fetched { bytes, .. } => PER_BYTE * bytes.len() as u64,
            Input::Trained { parameters, .. } => 4 * PER_BYTE * parameters.len() as u64,
            _ => 0,
        };
        ((nanoseconds(EVERY_INPUT) + more) as f64 * factor) as Nanoseconds
    }
}

/// The carrier's draws, apart from those of the links.
#[derive(Debug)]
pub(super) struct Chance {
    random: Stream,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance {
            random: kith_consensus::Seed::from_number(seed).stream("kith.v1 carrier"),
        }
    }

    /// Whether something happens that happens with this probability.
    pub(super) fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.unit() < share
    }

    /// A time up to `most`, uniformly.
    pub(super) fn time(&mut self, most: Duration) -> Nanoseconds {
        (nanoseconds(most) as f64 * self.random.unit()) as Nanoseconds
    }

    /// A place among `count`.
    pub(super) fn place(&mut self, count: usize) -> usize {
        self.random.bounded(count as u64) as usize
    }

    /// After what time a line that is dead is noticed to be dead.
    pub(super) fn unanswered(&mut self) -> Nanoseconds {
        let most = 2 * (PING_INTERVAL + PING_TIMEOUT);
        nanoseconds(UNANSWERED_MIN) + self.time(most.saturating_sub(UNANSWERED_MIN))
    }

    /// By what time the news of a connection is late.
    pub(super) fn overtaken(&mut self, share: f64) -> Nanoseconds {
        if self.happens(share) {
            self.time(OVERTAKEN_BY)
        } else {
            0
        }
    }
}
