//! The charter: all that the members of a federation must agree on, and nothing that is private to
//! one.
//!
//! [`Charter::resolve`] reads `charter.toml` once: it checks every section, writes out every
//! default, and names the result by its hash. Sections that other crates own
//! (`[data] [model] [training] [codec]`) are read by the resolvers that these hand in, which also
//! declare the facts about them that the charter needs ([`Declared`]).
//!
//! A charter is in force at a height of a federation. The federation's identity is its [`Genesis`],
//! the id of its first charter: everything that outlives an amendment is named by that. Today
//! nothing amends a charter, so every charter is its federation's first.
//!
//! One file a section: `round`, `aggregation`, `privacy`, `membership`. `compatibility` says which parts do
//! not go together; `canonical` holds the bytes that are hashed. Not here: amendments, signatures,
//! and what is local to a member (`kith.toml`).

mod aggregation;
mod canonical;
mod compatibility;
mod membership;
mod privacy;
mod round;

use std::collections::BTreeMap;

use crate::identity::{Digest, Genesis, PeerId};
use crate::optimization::Optimizer;
use crate::random::Seed;
use crate::section::{Document, Problem, Section};
use crate::topology::TopologySection;

pub use aggregation::{Aggregation, Space, Weighting};
pub use membership::{Admission, Member, Membership};
pub use privacy::{Guarantee, Mechanism, Unit};
pub use round::RoundSection;

use compatibility::{Parts, checked_graphs, misfits, neighbourhoods};
use privacy::Asked;

/// A resolved charter. Equal ids mean equal agreements.
#[derive(Debug)]
pub struct Charter {
    /// The federation's name, for people.
    pub name: String,
    /// Version of the agreement, for people.
    pub version: u64,
    /// Number of rounds to train.
    pub rounds: u64,
    /// Whether this is a testnet's charter: only then may a real process be told to lie.
    pub testnet: bool,
    /// Seed of each peer's batches and rounding, and of what a selection picks. What peers draw
    /// together follows from the genesis.
    pub seed: u64,
    /// `[topology]`
    pub topology: TopologySection,
    /// `[round]`
    pub round: RoundSection,
    /// `[aggregation]`
    pub aggregation: Aggregation,
    /// `[privacy]`; `None` without a guarantee.
    pub privacy: Option<Guarantee>,
    /// `[membership]`
    pub membership: Membership,
    /// What the sections that other crates read declare.
    pub declared: Declared,
    /// The federation that this charter belongs to.
    pub genesis: Genesis,
    /// Amendments between the federation's first charter and this one.
    pub height: u64,
    /// The charter's own id: hash of all sections, defaults written out.
    pub id: Digest,
    /// Hash of each section by name.
    pub sections: BTreeMap<String, Digest>,
    /// All sections, every default written out.
    pub canonical: toml::Table,
}

/// What sections that other crates read declare about what they name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Declared {
    /// Whether the codec says every bit of a vector, each time anew.
    pub codec_is_exact: bool,
    /// The local optimizer, which determines how far training leads.
    pub optimizer: Optimizer,
    /// Local steps of a round; `None` if they follow from a peer's rows.
    pub local_steps: Option<u64>,
    /// Rows in a batch.
    pub batch_size: usize,
    /// Whether gradients of whole batches are clipped.
    pub clips_batches: bool,
    /// Whether rows that belong together are protected together.
    pub groups_rows: bool,
}

impl Default for Declared {
    /// The declarations of a charter without these sections: exact vectors and plain steps.
    fn default() -> Declared {
        Declared {
            codec_is_exact: true,
            optimizer: Optimizer::default(),
            local_steps: None,
            batch_size: 1,
            clips_batches: false,
            groups_rows: false,
        }
    }
}

/// Reads one section that another crate owns, and declares what it found.
pub type Resolver<'r> = (
    &'static str,
    &'r mut dyn FnMut(&mut Section<'_>, &mut Declared),
);

/// Sections in the order in which a person reads them.
const SECTIONS: [&str; 10] = [
    "federation",
    "model",
    "data",
    "training",
    "topology",
    "round",
    "aggregation",
    "codec",
    "privacy",
    "membership",
];

impl Charter {
    /// Reads and checks a charter. The resolvers are called in their order, one per section that
    /// another crate owns.
    ///
    /// # Errors
    /// Every problem found, with line and column if it has one.
    pub fn resolve(text: &str, resolvers: &mut [Resolver<'_>]) -> Result<Charter, Vec<Problem>> {
        let document = Document::parse(text).map_err(|problem| vec![problem])?;
        Charter::read(document, resolvers, &mut []).map(|(charter, _)| charter)
    }

    /// Reads a charter from a file that also holds other sections, an experiment's world for
    /// instance. `beside` reads those. They are no part of the agreement, and come back with every
    /// default written out.
    ///
    /// # Errors
    /// Every problem found in the charter or in the other sections.
    pub fn read<'r>(
        mut document: Document,
        resolvers: &mut [Resolver<'r>],
        beside: &mut [Resolver<'r>],
    ) -> Result<(Charter, toml::Table), Vec<Problem>> {
        let (name, version, rounds, testnet, seed) = document.section("federation", |section| {
            (
                section.text("name", None),
                section.integer("version", Some(1), 1..=u64::from(u32::MAX)),
                // 20: a guess, enough for a first look.
                section.integer("rounds", Some(20), 1..=1_000_000_000),
                section.flag("testnet", Some(false)),
                section.integer("seed", Some(0), 0..=i64::MAX as u64),
            )
        });
        let mut declared = Declared::default();
        let others: Vec<&str> = beside.iter().map(|(name, _)| *name).collect();
        for (name, read) in resolvers.iter_mut().chain(beside) {
            document.section(name, |section| read(section, &mut declared));
        }
        let membership = document.section("membership", Membership::read);
        let peers = membership.peers;
        let (topology, graphs) = document.section("topology", |section| {
            let topology = TopologySection::read(section);
            let graphs = checked_graphs(&topology, peers, section);
            (topology, graphs)
        });
        let round = document.section("round", RoundSection::read);
        let aggregation = document.section("aggregation", |section| {
            let aggregation = Aggregation::read(section)?;
            let rule = aggregation.rule.as_ref();
            let unfit = neighbourhoods(rule, &topology, round.selection.as_ref(), &graphs);
            if let Some((key, what)) = unfit {
                section.note(key, what);
            }
            Some(aggregation)
        });
        let asked = document.section("privacy", Asked::read);
        if let Some(aggregation) = &aggregation {
            let (topology, round, declared) = (&topology, &round, &declared);
            for (key, what) in misfits(&Parts {
                topology,
                peers,
                round,
                aggregation,
                declared,
                protects: asked.map(|asked| asked.unit()),
            }) {
                document.note(key, what);
            }
        }
        let steps = declared.local_steps.filter(|steps| *steps > 0);
        let privacy = asked.zip(steps).and_then(|(asked, steps)| {
            let releases = rounds_that_train(&topology, rounds);
            Guarantee::new(asked, steps, &declared, releases)
                .map_err(|error| document.note("privacy.epsilon_budget", error.to_string()))
                .ok()
        });
        let (others, mut canonical): (toml::Table, toml::Table) = document
            .finish()?
            .into_iter()
            .partition(|(name, _)| others.contains(&name.as_str()));
        sort_members(&mut canonical);
        let sections = canonical::digests(&canonical);
        let id = canonical::federation_id(&sections);
        let charter = Charter {
            name,
            version,
            rounds,
            testnet,
            seed,
            topology,
            round,
            aggregation: aggregation.expect("a charter without problems has its rule"),
            privacy,
            membership,
            declared,
            genesis: Genesis(id),
            height: 0,
            id,
            sections,
            canonical,
        };
        Ok((charter, others))
    }

    /// This charter as one of a federation that began with another: in force after `height`
    /// amendments.
    pub fn amending(self, genesis: Genesis, height: u64) -> Charter {
        Charter {
            genesis,
            height,
            ..self
        }
    }

    /// The seed from which `peer` draws the order of its batches and its codec's rounding. It
    /// follows from charter and key, so that a run repeats. Secrets never come from it.
    pub fn peer_seed(&self, peer: &PeerId) -> Seed {
        Seed::from_number(self.seed).child(&peer.to_string())
    }

    /// The members' keys in canonical order; empty if anyone may join.
    pub fn roster(&self) -> Vec<PeerId> {
        self.membership
            .members
            .iter()
            .map(|member| member.key)
            .collect()
    }

    /// The member with this key.
    pub fn member(&self, key: &PeerId) -> Option<&Member> {
        self.membership
            .members
            .iter()
            .find(|member| member.key == *key)
    }

    /// The charter with every key written, sections in a fixed order. Reading it gives the same id.
    pub fn to_toml(&self) -> String {
        let others = self.canonical.keys().map(String::as_str);
        let others = others.filter(|name| !SECTIONS.contains(name));
        let texts = SECTIONS
            .into_iter()
            .chain(others)
            .map(|name| self.section_toml(name));
        texts
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// One section with every key written; empty if the charter has none of that name.
    pub fn section_toml(&self, name: &str) -> String {
        let section = self
            .canonical
            .get(name)
            .map(|section| (name.to_owned(), section.clone()));
        toml::to_string(&toml::Table::from_iter(section))
            .expect("tables of texts, numbers, flags and lists are TOML")
    }

    /// Names of the sections that differ from another charter's digests, or that only one of the
    /// two has.
    pub fn differing_sections(&self, other: &BTreeMap<String, Digest>) -> Vec<String> {
        let missing = other
            .keys()
            .filter(|name| !self.sections.contains_key(*name));
        let differing = self
            .sections
            .iter()
            .filter(|(name, digest)| other.get(*name) != Some(digest))
            .map(|(name, _)| name);
        let mut names: Vec<String> = differing.chain(missing).cloned().collect();
        names.sort_unstable();
        names
    }
}

/// Rounds in which peers train. Of a charter of very many rounds, those beyond the first million
/// all count.
fn rounds_that_train(topology: &TopologySection, rounds: u64) -> u64 {
    const COUNTED: u64 = 1 << 20;
    let counted = (0..rounds.min(COUNTED)).filter(|round| topology.trains(*round));
    counted.count() as u64 + rounds.saturating_sub(COUNTED)
}

/// The members in the order of their keys, however they are listed.
fn sort_members(canonical: &mut toml::Table) {
    let Some(toml::Value::Table(membership)) = canonical.get_mut("membership") else {
        return;
    };
    if let Some(toml::Value::Array(members)) = membership.get_mut("member") {
        members.sort_by_cached_key(|member| {
            member
                .get("key")
                .and_then(toml::Value::as_str)?
                .parse::<PeerId>()
                .ok()
        });
    }
}
