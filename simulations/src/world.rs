//! `[world]`: everything around the peers. An experiment is a charter plus a world; a deployment is
//! the same charter plus real machines.

use std::path::PathBuf;
use std::time::Duration;

use kith_consensus::section::unknown;
use kith_consensus::{Section, Seed, Stream};
use kith_models::DATASETS;
use kith_models::partition::Partition;
use serde::{Deserialize, Serialize};

use crate::attack::attack_from_text;
use crate::simulator::{Carrier, Cut, Device, Fault, Jitter, Line, Links, Reach, Weather};
use crate::trainer::TrainerSection;

/// Most peers of a world; the limit is the memory of one process.
pub const PEERS_MAX: u64 = 1_000_000;

/// How envelopes are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signatures {
    /// One ed25519 key per peer, as in production.
    Ed25519,
    /// BLAKE3 keyed by a secret of the world: fast, and worth nothing outside one process.
    #[default]
    KeyedHash,
}

impl Signatures {
    /// Its name in `world.signatures`.
    pub fn name(self) -> &'static str {
        match self {
            Signatures::Ed25519 => "ed25519",
            Signatures::KeyedHash => "keyed-hash",
        }
    }
}

/// A resolved `[world]`.
#[derive(Clone, Debug)]
pub struct World {
    /// Peers; 0 leaves it to the charter's list of members.
    pub peers: usize,
    /// Every draw follows from it: keys, placement of liars, rows, links, devices.
    pub seed: u64,
    /// Name of the data set whose rows are dealt.
    pub dataset: String,
    /// Folder of its files, if it has any.
    pub data_dir: Option<PathBuf>,
    /// How the rows are dealt to the peers.
    pub partition: Partition,
    /// Rows held out for evaluation; 0 takes the data set's own split.
    pub test_rows: usize,
    /// An objective with a known optimum instead of the charter's model.
    pub trainer: Option<TrainerSection>,
    /// Peers that lie, drawn from the seed.
    pub adversaries: usize,
    /// Numbers of the peers that lie; if given, none is drawn.
    pub liars: Vec<usize>,
    /// Their attack, as text.
    pub attack: String,
    /// How envelopes are signed.
    pub signatures: Signatures,
    /// Evaluate after every this many rounds; 0 evaluates after the last one only.
    pub evaluate_every: u64,
    /// Peers that evaluate on the held-out rows, drawn from the seed; 0: all.
    pub evaluating: usize,
    /// Virtual time after which the run is ended.
    pub limit: Duration,
    /// Virtual time after the end of the last fault within which everybody must have finished.
    pub heals_within: Duration,
    /// What all links have in common.
    pub links: Links,
    /// The faults of the file, in order of time.
    pub faults: Vec<(Duration, Fault)>,
    /// Random faults, if the world has them.
    pub chaos: Option<Chaos>,
    /// Crashes at random times.
    pub churn: Option<Churn>,
    line: Line,
    devices: Devices,
    special: Vec<Special>,
}

#[derive(Clone, Copy, Debug)]
struct Devices {
    step: Duration,
    spread: f64,
    jitter: f64,
}

/// Some peers are unlike the others.
#[derive(Clone, Debug)]
struct Special {
    peers: Vec<usize>,
    line: Line,
    slowness: f64,
    starts: Duration,
    /// Local steps of a round; 0: the trainer's.
    local_steps: u64,
}

/// Peers that crash and come back at random times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// Mean crashes of a peer in an hour of virtual time.
    pub crashes_per_hour: f64,
    /// Mean time that a crashed peer is away.
    pub absence: Duration,
    /// Whether it comes back with its disk.
    pub keeps_disk: bool,
    /// No crash after this time.
    pub until: Duration,
}

/// Faults drawn at random until a time, after which everything works again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chaos {
    /// Number of random faults.
    pub faults: usize,
    /// Virtual time after which everything works again.
    pub until: Duration,
}

impl World {
    /// Reads `[world]`. Problems are noted in the section.
    pub fn read(section: &mut Section<'_>) -> World {
        let peers = section.integer("peers", Some(0), 0..=PEERS_MAX) as usize;
        let seed = section.integer("seed", Some(0), 0..=i64::MAX as u64);
        let trainer = section.optional_table("trainer", TrainerSection::read);
        let dataset = section.choice("dataset", Some("digits"), &DATASETS.names());
        let data_dir = section.text("data_dir", Some(""));
        let text = section.text("partition", Some("iid"));
        let partition = Partition::parse(&text).unwrap_or_else(|error| {
            section.note("partition", error.to_string());
            Partition::parse("iid").expect("iid is a partition")
        });
        let adversaries = section.integer("adversaries", Some(0), 0..=PEERS_MAX) as usize;
        let liars: Vec<usize> = section
            .integers("liars", Some(&[]), 0..=PEERS_MAX)
            .into_iter()
            .map(|peer| peer as usize)
            .collect();
        if adversaries > 0 && !liars.is_empty() {
            section.note(
                "liars",
                "expected either adversaries, a number, or liars, a list; both are given",
            );
        }
        let attack = section.text("attack", Some("sign-flip"));
        if let Err(problems) = attack_from_text(&attack) {
            problems
                .into_iter()
                .for_each(|problem| section.note("attack", problem.what));
        }
        let signatures = match section
            .choice("signatures", Some("keyed-hash"), &["keyed-hash", "ed25519"])
            .as_str()
        {
            "ed25519" => Signatures::Ed25519,
            _ => Signatures::KeyedHash,
        };
        let seconds = |section: &mut Section<'_>, key: &str, default: f64| {
            Duration::from_secs_f64(section.number(key, Some(default), 0.0..=1e9))
        };
        World {
            peers,
            seed,
            trainer,
            dataset,
            data_dir: (!data_dir.is_empty()).then(|| PathBuf::from(data_dir)),
            partition,
            test_rows: section.integer("test_rows", Some(0), 0..=1 << 40) as usize,
            adversaries,
            liars,
            attack,
            signatures,
            evaluate_every: section.integer("evaluate_every", Some(0), 0..=1_000_000_000),
            evaluating: section.integer("evaluating", Some(0), 0..=PEERS_MAX) as usize,
            // Guess: some hundred days, so that only a run that hangs is ended.
            limit: seconds(section, "limit_seconds", 1e7),
            heals_within: seconds(section, "heals_within_seconds", 86_400.0),
            links: Links {
                carrier: read_carrier(section),
                ..section.table("links", |section| read_links(section, seed))
            },
            line: section.table("lines", read_line),
            devices: section.table("devices", |section| Devices {
                step: Duration::from_secs_f64(
                    section.number("step_ms", Some(1.0), 0.0..=1e9) / 1e3,
                ),
                spread: section.number("spread", Some(0.0), 0.0..=10.0),
                jitter: section.number("jitter", Some(0.0), 0.0..=10.0),
            }),
            special: section.tables("special", read_special),
            churn: section.optional_table("churn", read_churn),
            chaos: section.optional_table("chaos", |section| Chaos {
                faults: section.integer("faults", Some(6), 0..=100_000) as usize,
                until: Duration::from_secs_f64(section.number(
                    "until_seconds",
                    Some(60.0),
                    0.0..=1e9,
                )),
            }),
            faults: section
                .tables("fault", read_fault)
                .into_iter()
                .flatten()
                .collect(),
        }
    }

    /// A peer's machine: (device, line, when it starts).
    pub fn machine(&self, peer: usize) -> (Device, Line, Duration) {
        let mut device = Device {
            step: self.devices.step,
            jitter: self.devices.jitter,
        };
        let (mut line, mut starts) = (self.line, Duration::ZERO);
        if self.devices.spread > 0.0 {
            let seed = Seed::from_number(self.seed);
            let mut random = Stream::derive("kith.v1 devices", &seed, 0, peer as u64, 0);
            device.step = device
                .step
                .mul_f64((self.devices.spread * random.normal()).exp());
        }
        for special in self
            .special
            .iter()
            .filter(|special| special.peers.contains(&peer))
        {
            device.step = device.step.mul_f64(special.slowness);
            line = special.line;
            starts = special.starts;
        }
        (device, line, starts)
    }

    /// Whether links lose nothing and the lines of `peers` peers have no limit.
    pub fn is_prompt(&self, peers: usize) -> bool {
        let unlimited = |peer: usize| {
            let (_, line, _) = self.machine(peer);
            line.up == 0.0 && line.down == 0.0
        };
        self.links.loss == 0.0 && (0..peers).all(unlimited)
    }

    /// How a peer descends, if the world has an objective of its own.
    pub fn trainer_of(&self, peer: usize) -> Option<TrainerSection> {
        let mut trainer = self.trainer.clone()?;
        for special in self
            .special
            .iter()
            .filter(|special| special.local_steps > 0 && special.peers.contains(&peer))
        {
            trainer.local_steps = special.local_steps;
        }
        Some(trainer)
    }

    /// Numbers of the liars among `peers`, ascending.
    pub fn adversaries_among(&self, peers: usize) -> Vec<usize> {
        let mut liars = self.liars.clone();
        if liars.is_empty() {
            let mut order: Vec<usize> = (0..peers).collect();
            Seed::from_number(self.seed)
                .stream("kith.v1 adversaries")
                .shuffle(&mut order);
            liars = order[..self.adversaries.min(peers)].to_vec();
        }
        liars.sort_unstable();
        liars.dedup();
        liars
    }

    /// Everything that goes wrong among `peers` peers, random faults drawn: the file's, churn's,
    /// chaos'. If there is chaos, healing comes last.
    pub fn timeline(&self, peers: usize) -> Vec<(Duration, Fault)> {
        let seed = Seed::from_number(self.seed);
        let mut timeline = self.faults.clone();
        if let Some(churn) = &self.churn {
            churn.draw(peers, &seed, &mut timeline);
        }
        if let Some(chaos) = &self.chaos {
            chaos.draw(peers, &seed, &mut timeline);
            timeline.push((chaos.until, Fault::Heal));
        }
        timeline.sort_by_key(|(at, _)| *at);
        timeline
    }

    /// The file's faults that have no effect if the run is over at `end`: what they are and when.
    pub fn faults_after(&self, end: Duration) -> Vec<String> {
        let late = self.faults.iter().filter(|(at, _)| *at > end);
        let mut late: Vec<(Duration, &'static str)> =
            late.map(|(at, fault)| (*at, kind_of(fault))).collect();
        late.sort();
        late.into_iter()
            .map(|(at, kind)| format!("{kind} at {} s", at.as_secs_f64()))
            .collect()
    }

    /// Problems of this world for `peers` peers: (key, what).
    pub fn misfits(&self, peers: usize) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let liars = self.adversaries.max(self.liars.len());
        if liars >= peers && liars > 0 {
            let key = if self.adversaries > 0 {
                "world.adversaries"
            } else {
                "world.liars"
            };
            found.push((
                key,
                format!("{liars} of {peers} peers lie; expected at least one that does not"),
            ));
        }
        let beyond = |list: &[usize]| list.iter().find(|peer| **peer >= peers).copied();
        if let Some(peer) = beyond(&self.liars) {
            found.push((
                "world.liars",
                format!(
                    "there is no peer {peer}; peers are numbered from 0 to {}",
                    peers - 1
                ),
            ));
        }
        let special: Vec<usize> = self
            .special
            .iter()
            .flat_map(|special| special.peers.clone())
            .collect();
        if let Some(peer) = beyond(&special) {
            found.push((
                "world.special.peers",
                format!(
                    "there is no peer {peer}; peers are numbered from 0 to {}",
                    peers - 1
                ),
            ));
        }
        if self.trainer.is_none() && self.special.iter().any(|special| special.local_steps > 0) {
            let what = "a model's local steps are the charter's, [training]; expected 0 without [world.trainer]";
            found.push(("world.special.local_steps", what.to_owned()));
        }
        let faulty: Vec<usize> = self
            .faults
            .iter()
            .flat_map(|(_, fault)| peers_of(fault))
            .collect();
        if let Some(peer) = beyond(&faulty) {
            found.push((
                "world.fault",
                format!(
                    "there is no peer {peer}; peers are numbered from 0 to {}",
                    peers - 1
                ),
            ));
        }
        found
    }
}

fn kind_of(fault: &Fault) -> &'static str {
    match fault {
        Fault::Crash { .. } => "crash",
        Fault::Rollback { .. } => "rollback",
        Fault::RestoredLedger { .. } => "restored-ledger",
        Fault::Pause { .. } => "pause",
        Fault::Partition { .. } => "partition",
        Fault::Loss { .. } => "loss",
        Fault::SlowDisk { .. } => "slow-disk",
        Fault::Clock { .. } => "clock",
        Fault::StoreFails { .. } => "store-fails",
        Fault::Break { .. } => "break",
        Fault::Address { .. } => "address",
        Fault::Busy { .. } => "busy",
        Fault::Heal => "heal",
    }
}

fn peers_of(fault: &Fault) -> Vec<usize> {
    match fault {
        Fault::Crash { peer, .. }
        | Fault::Rollback { peer, .. }
        | Fault::RestoredLedger { peer, .. }
        | Fault::Pause { peer, .. }
        | Fault::SlowDisk { peer, .. }
        | Fault::StoreFails { peer, .. }
        | Fault::Break { peer, .. }
        | Fault::Address { peer, .. }
        | Fault::Busy { peer, .. }
        | Fault::Clock { peer, .. } => {
            vec![*peer]
        }
        Fault::Partition { cut, .. } => cut.group.clone(),
        Fault::Loss { .. } | Fault::Heal => Vec::new(),
    }
}

fn read_links(section: &mut Section<'_>, seed: u64) -> Links {
    let milliseconds = |value: f64| (value * 1e6) as u64;
    let latency = milliseconds(section.number("latency_ms", Some(1.0), 0.0..=1e9));
    let most = section.number("jitter_ms", Some(0.0), 0.0..=1e9);
    let sigma = section.number("jitter_sigma", Some(0.0), 0.0..=10.0);
    let jitter = match section
        .choice(
            "jitter",
            Some("none"),
            &["none", "uniform", "exponential", "log-normal"],
        )
        .as_str()
    {
        "uniform" => Jitter::Uniform(milliseconds(most)),
        "exponential" => Jitter::Exponential(milliseconds(most)),
        "log-normal" => Jitter::LogNormal(sigma),
        _ => Jitter::None,
    };
    let idle = match jitter {
        Jitter::None => (most > 0.0 || sigma > 0.0).then_some(
            "jitter_ms and jitter_sigma say how much, jitter says of which kind: set it",
        ),
        Jitter::Uniform(_) | Jitter::Exponential(_) => {
            (most == 0.0).then_some("this jitter needs jitter_ms above 0")
        }
        Jitter::LogNormal(_) => (sigma == 0.0).then_some("this jitter needs jitter_sigma above 0"),
    };
    idle.into_iter()
        .for_each(|what| section.note("jitter", what));
    Links {
        latency,
        jitter,
        loss: section.number("loss", Some(0.0), 0.0..=1.0),
        duplication: section.number("duplication", Some(0.0), 0.0..=1.0),
        reordering: section.flag("reordering", Some(false)),
        seed,
        carrier: Carrier::default(),
    }
}

/// Worlds that draw faults have the whole carrier, the others what costs little.
fn read_carrier(section: &mut Section<'_>) -> Carrier {
    let weather = match section.has("chaos") {
        true => Weather::Chaos,
        false => Weather::Calm,
    };
    section.table("carrier", |section| Carrier::read(section, weather))
}

/// 1 Mbit/s in bytes a second.
const MEGABIT: f64 = 125_000.0;

fn read_line(section: &mut Section<'_>) -> Line {
    Line {
        up: section.number("up_mbit", Some(0.0), 0.0..=1e9) * MEGABIT,
        down: section.number("down_mbit", Some(0.0), 0.0..=1e9) * MEGABIT,
        latency: (section.number("latency_ms", Some(0.0), 0.0..=1e9) * 1e6) as u64,
    }
}

fn read_special(section: &mut Section<'_>) -> Special {
    Special {
        peers: section
            .integers("peers", None, 0..=PEERS_MAX)
            .into_iter()
            .map(|peer| peer as usize)
            .collect(),
        line: read_line(section),
        slowness: section.number("slowness", Some(1.0), 1e-3..=1e6),
        starts: Duration::from_secs_f64(section.number("starts_seconds", Some(0.0), 0.0..=1e9)),
        local_steps: section.integer("local_steps", Some(0), 0..=1_000_000),
    }
}

fn read_churn(section: &mut Section<'_>) -> Churn {
    Churn {
        crashes_per_hour: section.number("crashes_per_hour", None, 1e-6..=1e6),
        absence: Duration::from_secs_f64(section.number("absence_seconds", Some(30.0), 0.0..=1e9)),
        keeps_disk: section.flag("keeps_disk", Some(true)),
        until: Duration::from_secs_f64(section.number("until_seconds", Some(3600.0), 0.0..=1e9)),
    }
}

/// Kinds of `[[world.fault]]`.
const FAULTS: [&str; 13] = [
    "crash",
    "rollback",
    "restored-ledger",
    "pause",
    "partition",
    "loss",
    "slow-disk",
    "clock",
    "store-fails",
    "break",
    "address",
    "busy",
    "heal",
];

fn read_fault(section: &mut Section<'_>) -> Option<(Duration, Fault)> {
    let at = Duration::from_secs_f64(section.number("at_seconds", None, 0.0..=1e9));
    let kind = section.text("kind", None);
    let peer = |section: &mut Section<'_>| section.integer("peer", None, 0..=PEERS_MAX) as usize;
    let lasts = |section: &mut Section<'_>| {
        Duration::from_secs_f64(section.number("lasts_seconds", None, 0.0..=1e9))
    };
    let fault = match kind.as_str() {
        "crash" => {
            let (peer, keeps_disk) = (peer(section), section.flag("keeps_disk", Some(true)));
            let forever = section.flag("forever", Some(false));
            let back = if forever { None } else { Some(lasts(section)) };
            Fault::Crash {
                peer,
                back,
                keeps_disk,
            }
        }
        "rollback" => Fault::Rollback {
            peer: peer(section),
            back: lasts(section),
        },
        "restored-ledger" => Fault::RestoredLedger {
            peer: peer(section),
            entries: section.integer("entries", None, 0..=1_000_000_000) as usize,
            back: lasts(section),
        },
        "pause" => Fault::Pause {
            peer: peer(section),
            lasts: lasts(section),
        },
        "partition" => {
            let group = section
                .integers("group", None, 0..=PEERS_MAX)
                .into_iter()
                .map(|peer| peer as usize)
                .collect();
            let cut = Cut {
                group,
                one_way: section.flag("one_way", Some(false)),
            };
            Fault::Partition {
                cut,
                lasts: lasts(section),
            }
        }
        "loss" => Fault::Loss {
            share: section.number("share", None, 0.0..=1.0),
            lasts: lasts(section),
        },
        "slow-disk" => {
            let write = Duration::from_secs_f64(section.number("write_ms", None, 0.0..=1e9) / 1e3);
            Fault::SlowDisk {
                peer: peer(section),
                write,
                lasts: lasts(section),
            }
        }
        "clock" => Fault::Clock {
            peer: peer(section),
            rate: section.number("rate", None, 0.01..=100.0),
        },
        "store-fails" => Fault::StoreFails {
            peer: peer(section),
            records: section.integer("records", Some(0), 0..=1_000_000_000),
            back: lasts(section),
        },
        "break" => Fault::Break {
            peer: peer(section),
            silent: section.flag("silent", Some(false)),
        },
        "address" => Fault::Address {
            peer: peer(section),
            reach: read_reach(section),
            lasts: lasts(section),
        },
        "busy" => Fault::Busy {
            peer: peer(section),
            factor: section.number("factor", None, 1.0..=1e9),
            lasts: lasts(section),
        },
        "heal" => Fault::Heal,
        other => {
            section.note("kind", unknown("fault", other, &FAULTS));
            return None;
        }
    };
    Some((at, fault))
}

/// What answers at an address while a fault lasts.
fn read_reach(section: &mut Section<'_>) -> Reach {
    let known = ["other-key", "behind-router"];
    match section.choice("reach", None, &known).as_str() {
        "other-key" => Reach::OtherKey,
        _ => Reach::BehindRouter,
    }
}

impl Churn {
    fn draw(&self, peers: usize, seed: &Seed, timeline: &mut Vec<(Duration, Fault)>) {
        for peer in 0..peers {
            let mut random = Stream::derive("kith.v1 churn", seed, 0, peer as u64, 0);
            let mut exponential = |mean: f64| -(1.0 - random.unit()).ln() * mean;
            let mut at = exponential(3600.0 / self.crashes_per_hour);
            while at < self.until.as_secs_f64() {
                let absence = exponential(self.absence.as_secs_f64());
                let back = Some(Duration::from_secs_f64(absence));
                timeline.push((
                    Duration::from_secs_f64(at),
                    Fault::Crash {
                        peer,
                        back,
                        keeps_disk: self.keeps_disk,
                    },
                ));
                at += absence + exponential(3600.0 / self.crashes_per_hour);
            }
        }
    }
}

impl Chaos {
    /// A random subset of the kinds of faults, with random weights, so that some runs see much of
    /// one and none of another.
    fn draw(&self, peers: usize, seed: &Seed, timeline: &mut Vec<(Duration, Fault)>) {
        let mut random = seed.stream("kith.v1 chaos");
        let weights: Vec<f64> = (0..DRAWN.len())
            .map(|_| {
                if random.unit() < 0.4 {
                    0.0
                } else {
                    random.unit()
                }
            })
            .collect();
        let total: f64 = weights.iter().sum();
        if total == 0.0 || peers == 0 {
            return; // a run without faults is one of the cases
        }
        let until = self.until.as_secs_f64();
        for _ in 0..self.faults {
            let at = Duration::from_secs_f64(until * random.unit());
            let lasts = Duration::from_secs_f64(0.5 * until * random.unit());
            let mut place = total * random.unit();
            let kind = weights.iter().position(|weight| {
                place -= weight;
                place < 0.0
            });
            let draw = Draw {
                peers,
                peer: random.bounded(peers as u64) as usize,
                lasts,
                random: &mut random,
            };
            timeline.push((at, DRAWN[kind.unwrap_or(0)](draw)));
        }
    }
}

/// What a random fault is made of.
struct Draw<'a> {
    peers: usize,
    peer: usize,
    lasts: Duration,
    random: &'a mut Stream,
}

/// Draws a fault of one kind.
type Drawn = fn(Draw<'_>) -> Fault;

/// The kinds of faults that chaos draws.
const DRAWN: [Drawn; 11] = [
    |draw| Fault::Crash {
        peer: draw.peer,
        back: Some(draw.lasts),
        keeps_disk: draw.random.unit() < 0.8,
    },
    |draw| Fault::Pause {
        peer: draw.peer,
        lasts: draw.lasts,
    },
    |draw| {
        let share = draw.random.unit();
        let group = (0..draw.peers)
            .filter(|_| draw.random.unit() < share)
            .collect();
        Fault::Partition {
            cut: Cut {
                group,
                one_way: draw.random.unit() < 0.3,
            },
            lasts: draw.lasts,
        }
    },
    |draw| Fault::Loss {
        share: 0.5 * draw.random.unit(),
        lasts: draw.lasts,
    },
    |draw| Fault::SlowDisk {
        peer: draw.peer,
        write: Duration::from_secs_f64(2.0 * draw.random.unit()),
        lasts: draw.lasts,
    },
    |draw| Fault::Clock {
        peer: draw.peer,
        rate: 0.5 + draw.random.unit(),
    },
    |draw| Fault::Rollback {
        peer: draw.peer,
        back: draw.lasts,
    },
    |draw| Fault::StoreFails {
        peer: draw.peer,
        records: draw.random.bounded(4),
        back: draw.lasts,
    },
    |draw| Fault::Break {
        peer: draw.peer,
        silent: draw.random.unit() < 0.5,
    },
    |draw| Fault::Address {
        peer: draw.peer,
        reach: match draw.random.unit() < 0.5 {
            true => Reach::OtherKey,
            false => Reach::BehindRouter,
        },
        lasts: draw.lasts,
    },
    // Up to a second for every message: a mailbox of 256 overflows within a few rounds.
    |draw| Fault::Busy {
        peer: draw.peer,
        factor: 10f64.powf(4.0 * draw.random.unit()),
        lasts: draw.lasts,
    },
];
