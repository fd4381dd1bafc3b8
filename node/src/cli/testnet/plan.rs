//! The plan of a testnet: its charter, its peers, its liars, each peer's rows. Follows from the
//! options and the seed alone.

use std::collections::BTreeSet;

use kith_consensus::{PeerId, Seed, Stream};
use kith_gossip::Authenticator;
use kith_models::dataset::Site;
use kith_models::{DATASETS, DatasetEntry, DatasetOptions, Loaded, Partition, Rows};
use kith_simulations::attack::{Means, attack_from_text, entry_of};
use toml::{Table, Value};

use super::super::guard;
use super::super::output::{Failure, tell};
use super::super::text;
use super::Up;
use crate::agreement::Agreement;

/// The partition for more peers than the suggested one can serve.
const EVEN: &str = "iid";
/// Rounds whose graphs are looked at if they change.
const GRAPHS_MAX: u64 = 64;

/// A testnet before it exists.
pub(super) struct Plan {
    pub(super) agreement: Agreement,
    /// The same without a guarantee, for comparison, if it has one.
    pub(super) unprotected: Option<Agreement>,
    pub(super) members: Vec<Member>,
    pub(super) attack: String,
    pub(super) dataset: String,
    pub(super) partition: String,
    pub(super) evaluate_every: u64,
    /// Positions of each peer's rows.
    pub(super) shards: Vec<Vec<usize>>,
    /// Positions of the held-out rows.
    pub(super) test: Vec<usize>,
    /// Rows of each class, per peer.
    pub(super) classes: Vec<Vec<u64>>,
}

/// A peer of the testnet. Members are in the order of their ids, which is the graph's.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) secret: [u8; 32],
    pub(super) peer: PeerId,
    pub(super) lies: bool,
    /// Members that it exchanges updates with in some round.
    pub(super) neighbours: BTreeSet<usize>,
    /// The most liars among those it receives from in one round.
    pub(super) liars_around: usize,
}

/// A data set's default options.
struct Suggestion {
    peers: usize,
    adversaries: usize,
    byzantine: usize,
    rule: &'static str,
    topology: &'static str,
    codec: &'static str,
    partition: &'static str,
    rounds: u64,
}

/// Settings that were tried: two liars of eight are filtered, with 6 % of the values sent
/// (docs/tutorials/see-it.md, simulations/tests/digits.rs).
const DIGITS: Suggestion = Suggestion {
    peers: 8,
    adversaries: 2,
    byzantine: 2,
    rule: "nnm+trimmed-mean",
    topology: "random-regular:5",
    codec: "top-k:0.06",
    partition: "dirichlet:1.0",
    rounds: 30,
};
/// The setting that other programs were measured with: 600 rows each, plain averaging, no liars.
const FASHION_MNIST: Suggestion = Suggestion {
    peers: 10,
    adversaries: 0,
    byzantine: 0,
    rule: "mean",
    topology: "ring",
    codec: "identity",
    partition: "iid:600",
    rounds: 10,
};
/// Noise is averaged over all peers, and all have the same number of rows: then a guarantee costs
/// least (measured, docs/guides/privacy-accounting.md).
const PROTECTED: Suggestion = Suggestion {
    adversaries: 0,
    byzantine: 0,
    rule: "mean",
    topology: "complete",
    codec: "identity",
    partition: "iid",
    ..DIGITS
};
/// Four hospitals that trust each other; all exchange with all.
const HEART: Suggestion = Suggestion {
    peers: 4,
    adversaries: 0,
    byzantine: 0,
    rule: "mean",
    topology: "complete",
    codec: "identity",
    partition: "natural",
    rounds: 30,
};

fn suggestion(dataset: &str, protected: bool) -> &'static Suggestion {
    match dataset {
        "digits" if protected => &PROTECTED,
        "fashion-mnist" => &FASHION_MNIST,
        "heart" => &HEART,
        _ => &DIGITS,
    }
}

impl Plan {
    /// Makes the plan; also returns the rows that the shards point into.
    pub(super) fn new(up: &Up) -> Result<(Plan, Loaded), Failure> {
        let entry = DATASETS.find(&up.dataset).map_err(Failure::new)?;
        if up.guard.is_wanted() && up.charter.is_some() {
            return Err(Failure::with_help(
                "--privacy would change the charter that --charter gives",
                "write [privacy] into the charter (`kith charter new --privacy example-level` shows how), or leave --charter out",
            ));
        }
        let written = up
            .charter
            .as_ref()
            .map(|path| read_charter(path))
            .transpose()?;
        let suggested = suggestion(&up.dataset, up.guard.is_wanted());
        let peers = up
            .peers
            .or(written.as_ref().and_then(members_of))
            .unwrap_or(suggested.peers);
        let adversaries =
            up.adversaries
                .unwrap_or(if written.is_some() || peers < suggested.peers {
                    0
                } else {
                    suggested.adversaries
                });
        check_numbers(peers, adversaries)?;
        if adversaries > 0 {
            check_attack(&up.attack)?;
        }
        let seed = Seed::from_number(up.seed);
        let loaded = (entry.new.load)(&DatasetOptions {
            directory: up.data_dir.clone(),
        })
        .map_err(|error| Failure::new(error.to_string()))?;
        let wanted = up.partition.as_deref().unwrap_or(suggested.partition);
        let mut members = draw_members(peers, adversaries, &seed);
        if let (Some(sites), "natural") = (&loaded.sites, wanted) {
            name_as_sites(&mut members, sites);
        }
        let table = match written {
            Some(table) => table,
            None => charter_table(up, entry, suggested, peers, adversaries)?,
        };
        let agreement = resolve(table.clone(), &members)?;
        let graphs = place(&mut members, &agreement)?;
        debug_assert!(graphs > 0, "a charter has rounds");

        let (partition, (shards, test, classes)) = match deal(
            &loaded, &agreement, wanted, peers, &seed,
        ) {
            // There are too many peers for the suggested partition, which nobody asked for.
            Err(_) if up.partition.is_none() && peers > suggested.peers => {
                let dealt = deal(&loaded, &agreement, EVEN, peers, &seed)?;
                tell(&format!(
                    "note: there are too few rows for {peers} peers under --partition {wanted}; dealt by {EVEN}"
                ));
                (EVEN, dealt)
            }
            dealt => (wanted, dealt?),
        };
        let (agreement, unprotected) = if up.guard.is_wanted() {
            let protected = protect(up, table, &agreement, &members, &shards)?;
            (protected, Some(agreement))
        } else if agreement.charter.privacy.is_some() {
            let mut table = table;
            table.remove("privacy");
            (agreement, Some(resolve(table, &members)?))
        } else {
            (agreement, None)
        };
        let plan = Plan {
            agreement,
            unprotected,
            members,
            attack: up.attack.clone(),
            dataset: up.dataset.clone(),
            partition: partition.to_owned(),
            evaluate_every: up.evaluate_every(),
            shards,
            test,
            classes,
        };
        plan.tell_of_rows_left(loaded.source.len());
        Ok((plan, loaded))
    }

    /// Reports rows that the partition deals to nobody.
    fn tell_of_rows_left(&self, rows: usize) {
        let used: usize = self.shards.iter().map(Vec::len).sum::<usize>() + self.test.len();
        let left_over = rows.saturating_sub(used);
        if left_over > 0 {
            tell(&format!(
                "note: {left_over} of {} training rows go to nobody under --partition {}",
                rows - self.test.len(),
                self.partition
            ));
        }
    }

    /// Members that do not lie.
    pub(super) fn honest(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.members.len()).filter(|index| !self.members[*index].lies)
    }

    /// The `f` of the charter.
    pub(super) fn byzantine(&self) -> usize {
        self.agreement.charter.aggregation.byzantine
    }

    /// Refuses a placement in which an honest peer has more liars around it than the rule
    /// tolerates.
    pub(super) fn check_overload(&self, allowed: bool) -> Result<(), Failure> {
        let f = self.byzantine();
        let overloaded: Vec<String> = self
            .honest()
            .filter(|index| self.members[*index].liars_around > f)
            .map(|index| {
                format!(
                    "{} has {}",
                    self.members[index].name, self.members[index].liars_around
                )
            })
            .collect();
        if overloaded.is_empty() || allowed {
            return Ok(());
        }
        Err(Failure::with_help(
            format!(
                "the rule tolerates byzantine = {f} liars in a neighbourhood, but {}",
                overloaded.join(", ")
            ),
            "raise --byzantine (with a larger --topology degree), take fewer --adversaries or another --seed, \
             or watch it break with --allow-overload",
        ))
    }
}

fn check_numbers(peers: usize, adversaries: usize) -> Result<(), Failure> {
    // Each peer is a process with some 20 MB; a thousand peers are for the simulator.
    const PEERS_MAX: usize = 100;
    if !(2..=PEERS_MAX).contains(&peers) {
        return Err(Failure::new(format!(
            "--peers: expected from 2 to {PEERS_MAX}, found {peers}"
        )));
    }
    if adversaries >= peers {
        return Err(Failure::new(format!(
            "--adversaries: expected fewer than the {peers} peers, found {adversaries}"
        )));
    }
    Ok(())
}

/// Refuses an attack that is not known or that a testnet cannot run.
pub(super) fn check_attack(attack: &str) -> Result<(), Failure> {
    attack_from_text(attack)
        .map_err(|problems| Failure::of_problems("--attack cannot be used", &problems))?;
    let what = match entry_of(attack).map(|entry| entry.new.means) {
        Some(Means::Rows) => {
            "poisons the rows that a liar trains on, and a testnet's processes read theirs as they are"
        }
        Some(Means::Messages { .. }) => {
            "sends messages that no peer would send, and a testnet's processes are peers"
        }
        Some(Means::Updates) | None => return Ok(()),
    };
    Err(Failure::with_help(
        format!("--attack {attack:?} {what}"),
        "`kith sim run` runs it: set world.attack",
    ))
}

/// Peers that are sites get the sites' names; a name is a folder name as well.
fn name_as_sites(members: &mut [Member], sites: &[Site]) {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    for (member, site) in members.iter_mut().zip(sites) {
        member.name = site.name.chars().map(plain).collect();
    }
}

fn read_charter(path: &std::path::Path) -> Result<Table, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    // The whole charter is resolved first, so that its problems are shown at their places in the
    // file.
    Agreement::load(path)?;
    text.parse().map_err(|error: toml::de::Error| {
        Failure::new(format!("{}: {}", path.display(), error.message()))
    })
}

fn members_of(charter: &Table) -> Option<usize> {
    let membership = charter.get("membership")?;
    let listed = membership
        .get("member")
        .and_then(Value::as_array)
        .map(Vec::len);
    listed.or_else(|| {
        membership
            .get("peers")?
            .as_integer()
            .and_then(|peers| usize::try_from(peers).ok())
    })
}

/// Keys follow from the seed, so these peers may only live on loopback.
fn draw_members(peers: usize, adversaries: usize, seed: &Seed) -> Vec<Member> {
    let mut keys: Vec<([u8; 32], PeerId)> = (0..peers)
        .map(|index| {
            let secret = seed.child(&format!("testnet key {index}")).0;
            (secret, Authenticator::from_secret(&secret).peer())
        })
        .collect();
    keys.sort_by_key(|(_, peer)| *peer);
    let mut order: Vec<usize> = (0..peers).collect();
    Stream::derive("kith.v1 testnet adversaries", seed, 0, 0, 0).shuffle(&mut order);
    let liars = &order[..adversaries];
    keys.into_iter()
        .enumerate()
        .map(|(index, (secret, peer))| Member {
            name: format!("peer-{}", index + 1),
            secret,
            peer,
            lies: liars.contains(&index),
            neighbours: BTreeSet::new(),
            liars_around: 0,
        })
        .collect()
}

/// The charter that options and data set make.
fn charter_table(
    up: &Up,
    entry: &DatasetEntry,
    suggested: &Suggestion,
    peers: usize,
    adversaries: usize,
) -> Result<Table, Failure> {
    let mut table: Table = entry
        .new
        .defaults
        .parse()
        .expect("the defaults of a data set are TOML");
    let option = |name: &str, what: String| Failure::new(format!("--{name}: {what}"));
    let mut set = |name: &str, section: Table| table.insert(name.to_owned(), Value::Table(section));
    if let Some(model) = &up.model {
        set(
            "model",
            text::model(model).map_err(|what| option("model", what))?,
        );
    }
    set("federation", federation(up, suggested));
    let topology = match &up.topology {
        Some(topology) => topology.clone(),
        None => default_topology(suggested, peers),
    };
    let mut topology = text::topology(&topology).map_err(|what| option("topology", what))?;
    topology.entry("seed").or_insert(integer(up.seed));
    set("topology", topology);
    let codec = up.codec.as_deref().unwrap_or(suggested.codec);
    set(
        "codec",
        text::codec(codec).map_err(|what| option("codec", what))?,
    );
    let byzantine = match up.byzantine {
        Some(byzantine) => byzantine,
        None if peers < suggested.peers => adversaries,
        None => suggested.byzantine,
    };
    let rule = up.rule.as_deref().unwrap_or(suggested.rule);
    set(
        "aggregation",
        Table::from_iter([
            ("rule".to_owned(), Value::String(rule.to_owned())),
            ("byzantine".to_owned(), integer(byzantine as u64)),
        ]),
    );
    // On one machine a peer that is this late is dead (guess).
    let deadline = Value::Float(up.deadline.unwrap_or(10.0));
    set(
        "round",
        Table::from_iter([("deadline_seconds".to_owned(), deadline)]),
    );
    if let Some(Value::Table(model)) = table.get_mut("model") {
        model.insert("seed".to_owned(), integer(up.seed));
    }
    if let (Some(epochs), Some(Value::Table(training))) =
        (up.local_epochs, table.get_mut("training"))
    {
        training.insert("local_epochs".to_owned(), integer(epochs));
    }
    Ok(table)
}

fn integer(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn federation(up: &Up, suggested: &Suggestion) -> Table {
    let name = format!("testnet {}", up.dataset);
    let rounds = up.rounds.unwrap_or(suggested.rounds);
    Table::from_iter([
        ("name".to_owned(), Value::String(name)),
        ("rounds".to_owned(), integer(rounds)),
        ("testnet".to_owned(), Value::Boolean(true)),
        ("seed".to_owned(), integer(up.seed)),
    ])
}

/// The suggested graph, or a complete one if there are too few peers for it.
fn default_topology(suggested: &Suggestion, peers: usize) -> String {
    match suggested.topology.split_once(':') {
        Some((kind, degree)) => match degree.parse::<usize>() {
            Ok(degree) if peers <= degree + 1 => "complete".to_owned(),
            // Degrees sum to twice the edges, so an odd number of peers needs an even degree.
            Ok(degree) if peers * degree % 2 == 1 => format!("{kind}:{}", degree + 1),
            _ => suggested.topology.to_owned(),
        },
        None => suggested.topology.to_owned(),
    }
}

fn resolve(mut table: Table, members: &[Member]) -> Result<Agreement, Failure> {
    if let Some(Value::Table(federation)) = table.get_mut("federation") {
        federation.insert("testnet".to_owned(), Value::Boolean(true));
    }
    let member = |member: &Member| {
        Value::Table(Table::from_iter([
            ("name".to_owned(), Value::String(member.name.clone())),
            ("key".to_owned(), Value::String(member.peer.to_string())),
        ]))
    };
    let membership = Table::from_iter([
        ("mode".to_owned(), Value::String("members".to_owned())),
        (
            "member".to_owned(),
            Value::Array(members.iter().map(member).collect()),
        ),
    ]);
    table.insert("membership".to_owned(), Value::Table(membership));
    Agreement::parse(&table.to_string())
        .map_err(|problems| Failure::of_problems("this testnet cannot work", &problems))
}

/// The agreement with a guarantee for each row.
fn protect(
    up: &Up,
    mut table: Table,
    agreement: &Agreement,
    members: &[Member],
    shards: &[Vec<usize>],
) -> Result<Agreement, Failure> {
    let sizes = || shards.iter().map(|shard| shard.len() as u64);
    let (most, fewest) = (sizes().max().unwrap_or(0), sizes().min().unwrap_or(0));
    let terms = up
        .guard
        .terms(guard::Plan::of(agreement, most, fewest.max(1)))?;
    terms.write(&mut table);
    tell(&terms.words());
    resolve(table, members)
}

/// Notes everyone's neighbours and the liars among them; returns the number of graphs looked at.
fn place(members: &mut [Member], agreement: &Agreement) -> Result<u64, Failure> {
    let charter = &agreement.charter;
    let rounds = if charter.topology.changes() {
        charter.rounds.min(GRAPHS_MAX)
    } else {
        1
    };
    let lies: Vec<bool> = members.iter().map(|member| member.lies).collect();
    for round in 0..rounds {
        let graph = charter
            .topology
            .graph(members.len(), round)
            .map_err(|error| Failure::new(error.to_string()))?;
        for (index, member) in members.iter_mut().enumerate() {
            let senders = graph.receives_from(index);
            member.liars_around = member
                .liars_around
                .max(senders.iter().filter(|sender| lies[**sender]).count());
            member
                .neighbours
                .extend(senders.iter().chain(graph.sends_to(index)).copied());
        }
    }
    Ok(rounds)
}

type Parts = (Vec<Vec<usize>>, Vec<usize>, Vec<Vec<u64>>);

fn deal(
    loaded: &Loaded,
    agreement: &Agreement,
    partition: &str,
    peers: usize,
    seed: &Seed,
) -> Result<Parts, Failure> {
    let failed = |what: &dyn std::fmt::Display| Failure::new(what.to_string());
    let schema = agreement.task.schema();
    let partition = Partition::parse(partition).map_err(|error| failed(&error))?;
    if partition.changes_rows() {
        // A testnet's peers read files of unchanged rows.
        return Err(failed(&format!(
            "partition {:?} changes rows, which only a simulation does",
            partition.kind
        )));
    }
    let labels = loaded.source.labels(schema).map_err(|error| {
        Failure::with_help(
            error.to_string(),
            "the charter's [data] does not describe this --dataset; give the one that it is about",
        )
    })?;
    let split = loaded
        .split(schema, None, &seed.child("split"))
        .map_err(|error| failed(&error))?;
    let train_labels: Vec<u32> = split.train.iter().map(|row| labels[*row]).collect();
    let sites = loaded.sites_among(&split.train);
    let rows = Rows {
        labels: &train_labels,
        classes: schema.classes,
        sites: sites.as_deref(),
    };
    let mut stream = Stream::derive("kith.v1 testnet partition", seed, 0, 0, 0);
    let dealt = partition
        .split(rows, peers, &mut stream)
        .map_err(|error| failed(&error))?;
    let classes = dealt.iter().map(|shard| {
        let mut counts = vec![0; schema.classes];
        shard
            .iter()
            .for_each(|row| counts[train_labels[*row] as usize] += 1);
        counts
    });
    let classes = classes.collect();
    let shards = dealt
        .iter()
        .map(|shard| shard.iter().map(|row| split.train[*row]).collect())
        .collect();
    Ok((shards, split.test, classes))
}
