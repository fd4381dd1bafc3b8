//! The charter: all that the members of a federation must agree on, and nothing that is private to
//! one.
//!
//! [`Charter::resolve`] reads `charter.toml` once: it checks every section, writes out every
//! default, and names the result by its hash, the federation id. Sections that other crates own
//! (`[data] [model] [training] [codec]`) are read by the resolvers they hand in. Not here:
//! amendments, signatures, and what is local to a member (`kith.toml`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::aggregate::{AggregateError, Rule, rule_from_section};
use crate::identity::{Digest, PeerId};
use crate::mode::MODES;
use crate::optimization::METHODS;
use crate::optimization::staleness::StalenessWeight;
use crate::section::{Document, Problem, Section};
use crate::selection::{self, Selection};
use crate::topology::{Graph, TopologyError, TopologySection, connected_together};

/// A resolved charter. Equal ids mean equal agreements.
#[derive(Debug)]
pub struct Charter {
    /// The federation's name, for people.
    pub name: String,
    /// Version of the agreement, for people.
    pub version: u64,
    /// Rounds to train.
    pub rounds: u64,
    /// Whether this is a testnet's charter: only then may a real process be told to lie.
    pub testnet: bool,
    /// What shared randomness of the protocol is derived from.
    pub seed: u64,
    /// `[topology]`
    pub topology: TopologySection,
    /// `[round]`
    pub round: RoundSection,
    /// `[aggregation]`
    pub aggregation: Aggregation,
    /// `[membership]`
    pub membership: Membership,
    /// The federation id: hash of all sections, defaults written out.
    pub id: Digest,
    /// Hash of each section by name.
    pub sections: BTreeMap<String, Digest>,
    /// All sections, every default written out.
    pub canonical: toml::Table,
}

/// When a round opens and closes.
#[derive(Clone, Debug)]
pub struct RoundSection {
    /// How peers keep step.
    pub mode: Mode,
    /// Share of the awaited neighbours, in (0, 1], whose updates close the round before its
    /// deadline.
    pub quorum: f64,
    /// How long a round waits for updates.
    pub deadline: Duration,
    /// How long a peer waits for connections before round 0.
    pub start_deadline: Duration,
    /// Deadlines a neighbour may miss in a row before it is no longer awaited.
    pub patience: u64,
    /// Other peers that have to be connected, or heard, for a round to begin and to close: a peer
    /// that meets nobody waits instead of training alone. 0 lets a peer go on alone.
    pub neighbours_min: usize,
    /// An update this many rounds old still advances its sender's replica; an older one is refused.
    pub staleness: u64,
    /// Whose updates a round waits for and mixes.
    pub selection: Arc<dyn Selection>,
}

/// How peers keep step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Each round waits for the neighbourhood, up to its deadline.
    Synchronous,
    /// Nobody waits: a peer trains, tells its neighbours, merges what has come meanwhile weighed by
    /// its staleness, and goes on.
    Asynchronous(StalenessWeight),
    /// A peer trains, averages with one neighbour that is drawn for it, and goes on; who is asked
    /// answers at once (AD-PSGD).
    Pairwise,
}

/// How models become one.
#[derive(Debug)]
pub struct Aggregation {
    /// The rule.
    pub rule: Box<dyn Rule>,
    /// Arbitrary models to tolerate in every neighbourhood.
    pub byzantine: usize,
    /// What a contribution weighs.
    pub weighting: Weighting,
    /// What the rule gets to see.
    pub on: Space,
    /// What else peers exchange, so that unlike data do not pull them apart.
    pub method: Method,
    /// How much of the last round's change is carried on (server momentum, at every peer); 0 is
    /// none.
    pub momentum: f64,
}

/// What peers exchange beside their models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Nothing: D-PSGD, or FedAvg among neighbours.
    Plain,
    /// Their mean corrected gradient of the round, from which each corrects its next one.
    GradientTracking,
    /// Models as if everybody had taken `reference_steps` local steps.
    FedNova {
        /// Local steps of a round that everybody's change is scaled to.
        reference_steps: u64,
    },
    /// Their control, the mean gradient of the round, from whose mean each corrects its next one.
    Scaffold {
        /// How much of the change that local training made a peer sends and mixes: the paper's
        /// global step size; 1 is all of it.
        global_learning_rate: f64,
    },
    /// Sums of the shares of model and mass that they gave so far, over edges that may carry
    /// updates one way.
    PushSum,
}

impl Method {
    /// Values of what a peer sends for a model of `dimension` values: the model first, then what
    /// the method adds.
    pub fn row_len(self, dimension: usize) -> usize {
        match self {
            Method::Plain | Method::FedNova { .. } => dimension,
            Method::GradientTracking | Method::Scaffold { .. } => 2 * dimension,
            // The mass in two parts, and when the account was opened.
            Method::PushSum => dimension + 3,
        }
    }

    /// Vectors of the model's length that a peer with so many senders keeps for the method beside
    /// model and row.
    pub fn carried_vectors(self, senders: usize) -> usize {
        match self {
            Method::Plain | Method::FedNova { .. } => 0,
            Method::GradientTracking => 2, // the correction, and the row's second half
            Method::PushSum => 1 + senders, // what it gave, and what it took from each
            // The control, the controls' mean, the correction, and the row's second half.
            Method::Scaffold { .. } => 4,
        }
    }
}

/// What a rule gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The models.
    Models,
    /// Each model minus the aggregating peer's model at the start of the round; the result is added
    /// to that.
    Updates,
}

/// What a contribution weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// The topology's mixing weight.
    Mixing,
    /// The topology's mixing weight times min(1, claimed samples / cap); the rest goes to the own
    /// model. The cap bounds what a liar can weigh.
    Samples {
        /// Samples at which a claim counts in full.
        cap: u64,
    },
}

/// Who takes part.
#[derive(Clone, Debug, PartialEq)]
pub struct Membership {
    /// Members only, or anyone.
    pub mode: Admission,
    /// How many peers the federation has.
    pub peers: usize,
    /// The members in the order of their keys; empty where anyone may join.
    pub members: Vec<Member>,
}

/// Who may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Only the keys on the roster.
    Members,
    /// Anyone with the federation id. `byzantine` is then an assumption: one person may hold many
    /// keys.
    Open,
}

/// A member of the federation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unique name, for people.
    pub name: String,
    /// The organisation it belongs to; may be empty.
    pub organisation: String,
    /// Its key.
    pub key: PeerId,
}

/// Reads one section that another crate owns.
pub type Resolver<'r> = (&'static str, &'r mut dyn FnMut(&mut Section<'_>));

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

/// Draws of a re-drawn random graph that are checked before anything starts. A guess: each draw is
/// of the same kind.
const DRAWS_CHECKED: u64 = 4;

impl Charter {
    /// Reads and checks a charter. The resolvers are called in their order, one per section that
    /// another crate owns.
    ///
    /// # Errors
    /// Every problem found, with line and column where it has one.
    pub fn resolve(text: &str, resolvers: &mut [Resolver<'_>]) -> Result<Charter, Vec<Problem>> {
        let document = Document::parse(text).map_err(|problem| vec![problem])?;
        Charter::read(document, resolvers, &mut []).map(|(charter, _)| charter)
    }

    /// Reads a charter from a file that holds other sections beside it, an experiment's world for
    /// instance: those are read by `beside`, are no part of the agreement, and come back with every
    /// default written out.
    ///
    /// # Errors
    /// Every problem found in either.
    pub fn read(
        mut document: Document,
        resolvers: &mut [Resolver<'_>],
        beside: &mut [Resolver<'_>],
    ) -> Result<(Charter, toml::Table), Vec<Problem>> {
        let (name, version, rounds, testnet, seed) = document.section("federation", |section| {
            (
                section.text("name", None),
                section.integer("version", Some(1), 1..=u64::from(u32::MAX)),
                // Guess: enough for a first look.
                section.integer("rounds", Some(20), 1..=1_000_000_000),
                section.flag("testnet", Some(false)),
                section.integer("seed", Some(0), 0..=i64::MAX as u64),
            )
        });
        for (name, read) in resolvers {
            document.section(name, |section| read(section));
        }
        let mut others = Vec::new();
        for (name, read) in beside {
            document.section(name, |section| read(section));
            others.push(*name);
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
            Aggregation::read(section, &topology, &graphs, round.selection.as_ref())
        });
        if let Some(aggregation) = &aggregation {
            let mut misfits = aggregation.misfits(&round, &topology);
            misfits.extend(aggregation.misfits_of(&topology, peers, &round));
            let codec = |key: &str| document.value("codec", key);
            let exact = codec("kind")
                .and_then(toml::Value::as_str)
                .is_none_or(|kind| kind == "identity")
                && codec("replica").and_then(toml::Value::as_bool) != Some(true);
            if aggregation.method == Method::PushSum && !exact {
                let what = "push-sum sends sums over all rounds, of which a codec has to say every bit; expected codec.kind = \
                            \"identity\" without replica";
                misfits.push(("aggregation.method", what.to_owned()));
            }
            for (key, what) in misfits {
                document.note(key, what);
            }
        }
        document.section("privacy", |section| {
            section.choice("mechanism", Some("none"), &["none"])
        });
        let (others, mut canonical): (toml::Table, toml::Table) = document
            .finish()?
            .into_iter()
            .partition(|(name, _)| others.contains(&name.as_str()));
        if let Some(members) = canonical
            .get_mut("membership")
            .and_then(|table| table.get_mut("member")?.as_array_mut())
        {
            members.sort_by_cached_key(|member| {
                member
                    .get("key")
                    .and_then(toml::Value::as_str)?
                    .parse::<PeerId>()
                    .ok()
            });
        }
        let aggregation = aggregation.expect("a charter without problems has its rule");
        let sections: BTreeMap<String, Digest> = canonical
            .iter()
            .map(|(name, table)| (name.clone(), digest_of(table)))
            .collect();
        let id = federation_id(&sections);
        let charter = Charter {
            name,
            version,
            rounds,
            testnet,
            seed,
            topology,
            round,
            aggregation,
            membership,
            id,
            sections,
            canonical,
        };
        Ok((charter, others))
    }

    /// The members' keys in canonical order; empty where anyone may join.
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
        let others = self
            .canonical
            .keys()
            .map(String::as_str)
            .filter(|name| !SECTIONS.contains(name));
        let mut text = String::new();
        for name in SECTIONS.into_iter().chain(others) {
            if let Some(section) = self.canonical.get(name) {
                let table = toml::Table::from_iter([(name.to_owned(), section.clone())]);
                let section = toml::to_string(&table)
                    .expect("tables of texts, numbers, flags and lists are TOML");
                text.push_str(if text.is_empty() { "" } else { "\n" });
                text.push_str(&section);
            }
        }
        text
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

    /// Why a federation of `peers` peers cannot work under this charter: no such graph, a graph
    /// that falls apart, or a neighbourhood too small for the rule. For rosters that are not
    /// written in the charter.
    pub fn neighbourhood_problems(&self, peers: usize) -> Vec<Problem> {
        let problem = |key: &str, what| Problem {
            key: key.to_owned(),
            line: 0,
            column: 0,
            span: None,
            what,
        };
        match graphs_of(&self.topology, peers) {
            Err(error) => vec![problem("topology.kind", error.to_string())],
            Ok(graphs) => {
                let apart = disconnection(&self.topology, &graphs)
                    .map(|what| problem("topology.kind", what));
                let selection = self.round.selection.as_ref();
                let small = unfit(
                    self.aggregation.rule.as_ref(),
                    &self.topology,
                    selection,
                    &graphs,
                )
                .map(|(key, what)| problem(&format!("aggregation.{key}"), what));
                apart.into_iter().chain(small).collect()
            }
        }
    }
}

impl RoundSection {
    fn read(section: &mut Section<'_>) -> RoundSection {
        let mode = MODES
            .choose(section, "mode", Some(MODES[0].name))
            .unwrap_or(&MODES[0]);
        let mode = (mode.new)(section);
        RoundSection {
            mode,
            // All that are awaited: nobody's update is wasted.
            quorum: section.number("quorum", Some(1.0), 0.01..=1.0),
            deadline: Duration::from_secs_f64(section.number(
                "deadline_seconds",
                Some(30.0),
                0.01..=604_800.0,
            )), // guess
            start_deadline: Duration::from_secs_f64(section.number(
                "start_deadline_seconds",
                Some(60.0),
                0.01..=604_800.0,
            )), // guess
            patience: section.integer("patience", Some(2), 1..=1_000_000), // guess
            // Written out only where it stands, so that older charters keep their ids. 1: alone is
            // no federation.
            neighbours_min: match section.has("neighbours_min") {
                true => section.integer("neighbours_min", Some(1), 0..=1_000_000) as usize,
                false => 1,
            },
            staleness: section.integer("staleness", Some(8), 0..=1_000_000), // guess
            selection: selection::selection(section),
        }
    }
}

impl Aggregation {
    fn read(
        section: &mut Section<'_>,
        topology: &TopologySection,
        graphs: &[Arc<Graph>],
        selection: &dyn Selection,
    ) -> Option<Aggregation> {
        let rule = rule_from_section(section);
        let weighting = match section
            .choice("weighting", Some("mixing"), &["mixing", "samples"])
            .as_str()
        {
            "samples" => Weighting::Samples {
                cap: section.integer("sample_cap", None, 1..=1_000_000_000_000),
            },
            _ => Weighting::Mixing,
        };
        let on = match section
            .choice("on", Some("models"), &["models", "updates"])
            .as_str()
        {
            "updates" => Space::Updates,
            _ => Space::Models,
        };
        let method = METHODS.choose(section, "method", Some(METHODS[0].name));
        let method = (method.unwrap_or(&METHODS[0]).new)(section);
        let momentum = section.number("momentum", Some(0.0), 0.0..=0.9999);
        let rule = rule?;
        match (rule.needs_updates(), rule.needs_models(), on) {
            (true, true, _) => section.note(
                "rule",
                format!(
                    "one part of rule {:?} can judge updates only, another models only; expected parts that fit",
                    rule.name()
                ),
            ),
            (true, _, Space::Models) => section.note(
                "rule",
                format!(
                    "rule {:?} judges how long updates are, which models do not show; expected on = \"updates\" beside it",
                    rule.name()
                ),
            ),
            (_, true, Space::Updates) => {
                section.note("on", format!("rule {:?} judges models and not updates; expected on = \"models\"", rule.name()));
            }
            _ => {}
        }
        if weighting != Weighting::Mixing && !rule.uses_weights() {
            section.note(
                "weighting",
                format!(
                    "rule {:?} gives every model the same weight; expected \"mixing\"",
                    rule.name()
                ),
            );
        }
        if let Some((key, what)) = unfit(rule.as_ref(), topology, selection, graphs) {
            section.note(key, what);
        }
        Some(Aggregation {
            byzantine: rule.byzantine(),
            rule,
            weighting,
            on,
            method,
            momentum,
        })
    }
}

impl Aggregation {
    /// What does not go together.
    fn misfits(
        &self,
        round: &RoundSection,
        topology: &TopologySection,
    ) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let asynchronous = round.mode != Mode::Synchronous;
        let mut misfit = |key, what: &str| found.push((key, what.to_owned()));
        match self.method {
            Method::Plain | Method::FedNova { .. } => {}
            Method::GradientTracking => {
                if asynchronous {
                    misfit(
                        "aggregation.method",
                        "gradient tracking keeps the mean of the corrections at zero only where everybody mixes the same round; \
                         expected round.mode = \"synchronous\"",
                    );
                }
                if self.on == Space::Updates || self.rule.needs_losses() {
                    misfit(
                        "aggregation.method",
                        "gradient tracking needs a rule on models that looks at nothing but vectors",
                    );
                }
            }
            Method::PushSum => self.push_sum_misfits(asynchronous, topology, &mut misfit),
            Method::Scaffold { .. } => {
                if asynchronous {
                    misfit(
                        "aggregation.method",
                        "scaffold corrects towards the mean of the whole neighbourhood, of which asynchronous rounds hear a part; \
                         expected round.mode = \"synchronous\"",
                    );
                }
                if self.on == Space::Updates || self.rule.needs_losses() {
                    misfit(
                        "aggregation.method",
                        "scaffold needs a rule on models that looks at nothing but vectors",
                    );
                }
            }
        }
        let chosen = !round.selection.is_everyone();
        if chosen && asynchronous {
            let what = format!(
                "selection {:?} chooses whom a round waits for, and asynchronous rounds wait for nobody; expected \"all\"",
                round.selection.name()
            );
            found.push(("round.selection", what));
        }
        if chosen && !matches!(self.method, Method::Plain | Method::FedNova { .. }) {
            let what = format!(
                "what peers exchange beside their models keeps its balance only where every neighbour is mixed; expected \"all\", or \
                 aggregation.method = \"plain\", found {:?}",
                round.selection.name()
            );
            found.push(("round.selection", what));
        }
        if asynchronous && !self.rule.uses_weights() {
            let what = format!(
                "rule {:?} gives every model the same weight, however old; rounds that are not synchronous need one that uses \
                 weights, for example \"mean\"",
                self.rule.name()
            );
            found.push(("round.mode", what));
        }
        found
    }

    /// What does not go together with the topology.
    fn misfits_of(
        &self,
        topology: &TopologySection,
        peers: usize,
        round: &RoundSection,
    ) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let (kind, stages) = (topology.kind.name(), topology.has_stages(peers));
        if stages && round.mode != Mode::Synchronous {
            let what = format!(
                "in a {kind} topology a round builds on what others did in the round before, so that all must keep step; expected \
                 \"synchronous\""
            );
            found.push(("round.mode", what));
        }
        let one_way = || {
            topology
                .graph(peers, 0)
                .is_ok_and(|graph| graph.is_directed())
        };
        if round.mode == Mode::Pairwise && (topology.changes() || one_way()) {
            let what = format!(
                "pairwise rounds need a graph that stays the same and carries updates both ways; this {kind} one does not; expected \
                 for example topology.kind = \"ring\", or \"asynchronous\""
            );
            found.push(("round.mode", what));
        }
        if self.method == Method::GradientTracking && !topology.kind.doubly_stochastic() {
            let what = format!(
                "gradient tracking needs a topology whose mixing keeps the mean of all models, in every round; a {kind} one does \
                 not; expected another topology.kind, for example \"ring\", or method = \"plain\""
            );
            found.push(("aggregation.method", what));
        }
        if !round.selection.is_everyone() && stages {
            let what = format!(
                "in a {kind} topology every round has its own senders, among whom there is nothing to choose; expected \"all\", found {:?}",
                round.selection.name()
            );
            found.push(("round.selection", what));
        }
        if matches!(self.method, Method::Scaffold { .. }) && stages {
            let what = format!(
                "scaffold corrects towards the mean of the neighbourhood, which in some rounds of a {kind} topology is nobody but a \
                 head; expected another topology.kind, for example \"complete\", or method = \"plain\""
            );
            found.push(("aggregation.method", what));
        }
        if self.rule.needs_updates() && stages && topology.exchanges_combine(peers) {
            let what = format!(
                "rule {:?} judges what a round's training changed, and in some rounds of a {kind} topology models are combined \
                 without training; expected a rule on models, for example \"trimmed-mean\"",
                self.rule.name()
            );
            found.push(("aggregation.rule", what));
        }
        found
    }
}

impl Aggregation {
    /// What push-sum cannot do: it is the mean, in step, over one graph.
    fn push_sum_misfits(
        &self,
        asynchronous: bool,
        topology: &TopologySection,
        misfit: &mut dyn FnMut(&'static str, &str),
    ) {
        if asynchronous {
            misfit(
                "aggregation.method",
                "push-sum gives shares round by round; expected round.mode = \"synchronous\"",
            );
        }
        if topology.changes() {
            misfit(
                "aggregation.method",
                "push-sum sends every receiver one sum over all rounds, which holds what a receiver is owed only where it is one in \
                 every round; expected a graph that stays",
            );
        }
        if self.rule.name() != "mean" {
            let what = format!(
                "push-sum is an average by mass, which no other rule is; expected rule = \"mean\", found {:?}",
                self.rule.name()
            );
            misfit("aggregation.method", &what);
        }
        if self.on == Space::Updates || self.weighting != Weighting::Mixing || self.momentum > 0.0 {
            misfit(
                "aggregation.method",
                "push-sum has weights and a balance of its own; expected on = \"models\", weighting = \"mixing\", momentum = 0",
            );
        }
    }
}

impl Membership {
    fn read(section: &mut Section<'_>) -> Membership {
        if section.choice("mode", Some("members"), &["members", "open"]) == "open" {
            let peers = section.integer("peers", None, 1..=1_000_000) as usize;
            return Membership {
                mode: Admission::Open,
                peers,
                members: Vec::new(),
            };
        }
        let read: Vec<Option<Member>> = section.tables("member", |member| {
            let name = member.text("name", None);
            let organisation = member.text("organisation", Some(""));
            let key = member.text("key", None);
            let key = key
                .parse()
                .map_err(|error: crate::identity::NotAPeerId| member.note("key", error.to_string()))
                .ok()?;
            Some(Member {
                name,
                organisation,
                key,
            })
        });
        let written = read.len();
        let mut members: Vec<Member> = read.into_iter().flatten().collect();
        if written == 0 {
            section.note(
                "member",
                "no member is listed; expected at least one [[membership.member]]",
            );
        }
        let mut names = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for member in &members {
            if names.insert(&member.name, ()).is_some() {
                section.note("member", format!("two members are named {:?}", member.name));
            }
            if let Some(first) = keys.insert(member.key, &member.name) {
                section.note(
                    "member",
                    format!("members {first:?} and {:?} have the same key", member.name),
                );
            }
        }
        // However they are listed it is the same federation.
        members.sort_by_key(|member| member.key);
        Membership {
            mode: Admission::Members,
            peers: written,
            members,
        }
    }
}

/// The graphs that stand for all rounds: one period of a kind that changes by itself, the first
/// draws of a random one.
fn graphs_of(topology: &TopologySection, peers: usize) -> Result<Vec<Arc<Graph>>, TopologyError> {
    let rounds: Vec<u64> = if topology.kind.changes() {
        (0..topology.kind.period(peers)).collect()
    } else if topology.redraw_every > 0 {
        (0..DRAWS_CHECKED)
            .map(|draw| draw * topology.redraw_every)
            .collect()
    } else {
        vec![0]
    };
    rounds
        .into_iter()
        .map(|round| topology.graph(peers, round))
        .collect()
}

fn checked_graphs(
    topology: &TopologySection,
    peers: usize,
    section: &mut Section<'_>,
) -> Vec<Arc<Graph>> {
    // Without peers the membership has its own problem; a graph over nobody would only add noise.
    if peers == 0 {
        return Vec::new();
    }
    match graphs_of(topology, peers) {
        Err(error) => {
            section.note("kind", error.to_string());
            Vec::new()
        }
        Ok(graphs) => {
            if let Some(what) = disconnection(topology, &graphs) {
                section.note("kind", what);
            }
            graphs
        }
    }
}

/// The message where the peers cannot all reach each other: within each draw, or within the period
/// of a kind that changes.
fn disconnection(topology: &TopologySection, graphs: &[Arc<Graph>]) -> Option<String> {
    let connected = if topology.kind.changes() {
        connected_together(graphs)
    } else {
        graphs.chunks(1).all(connected_together)
    };
    (!connected).then(|| {
        format!(
            "a {} topology leaves peers that no update can reach",
            topology.kind.name()
        )
    })
}

/// The key and the message where what a neighbourhood mixes, the own model included, is less than
/// the rule's minimum or does not fit its parameters; names the smallest of those. Nothing is asked
/// of the rule where a peer adopts what it receives, and where by design nobody sends to it.
fn unfit(
    rule: &dyn Rule,
    topology: &TopologySection,
    selection: &dyn Selection,
    graphs: &[Arc<Graph>],
) -> Option<(&'static str, String)> {
    let stages = graphs
        .first()
        .is_some_and(|graph| topology.has_stages(graph.peers()));
    let combines = |graph: &Graph, peer: usize| {
        !(graph.adopts(peer) || stages && graph.receives_from(peer).is_empty())
    };
    let neighbourhoods = graphs
        .iter()
        .flat_map(|graph| (0..graph.peers()).map(move |peer| (graph, peer)));
    let combined = neighbourhoods.filter(|(graph, peer)| combines(graph, *peer));
    let degrees = combined.map(|(graph, peer)| (graph.models_received(peer), peer));
    // The first peer of each number of models.
    let mut sizes: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    degrees.for_each(|(degree, peer)| {
        _ = sizes
            .entry(selection.mixed_of(degree))
            .or_insert((degree, peer))
    });
    sizes.into_iter().find_map(|(mixed, (degree, peer))| {
        let (needed, found) = (rule.minimum(), mixed + 1);
        let (key, what) = match rule.fits(found) {
            Err(AggregateError::InvalidParameter { parameter, reason, rule }) => (parameter, format!("rule {rule:?}: {reason}")),
            Err(error) => ("byzantine", error.to_string()),
            Ok(()) if found < needed => {
                let what = format!(
                    "rule {:?} with byzantine = {} needs {needed} models, this neighbourhood has {found}",
                    rule.name(),
                    rule.byzantine()
                );
                ("byzantine", what)
            }
            Ok(()) => return None,
        };
        let chosen =
            if mixed < degree { format!(", of whom selection {:?} mixes {mixed}", selection.name()) } else { String::new() };
        Some((key, format!("{what}: peer {peer} receives from {degree}{chosen}")))
    })
}

fn federation_id(sections: &BTreeMap<String, Digest>) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("kith.v1 federation id");
    for (name, digest) in sections {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&digest.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

fn digest_of(value: &toml::Value) -> Digest {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    Digest(blake3::derive_key("kith.v1 charter section", &bytes))
}

/// Types tagged, lengths before contents, keys sorted, floats as bits: no two tables have the same
/// bytes.
fn encode(value: &toml::Value, bytes: &mut Vec<u8>) {
    let text = |tag: u8, text: &str, bytes: &mut Vec<u8>| {
        bytes.push(tag);
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    match value {
        toml::Value::String(string) => text(b's', string, bytes),
        toml::Value::Integer(integer) => {
            bytes.push(b'i');
            bytes.extend(integer.to_le_bytes());
        }
        toml::Value::Float(float) => {
            bytes.push(b'f');
            bytes.extend(float.to_bits().to_le_bytes());
        }
        toml::Value::Boolean(flag) => bytes.extend([b'b', u8::from(*flag)]),
        toml::Value::Datetime(date) => text(b'd', &date.to_string(), bytes),
        toml::Value::Array(items) => {
            bytes.push(b'a');
            bytes.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| encode(item, bytes));
        }
        toml::Value::Table(table) => {
            bytes.push(b't');
            bytes.extend((table.len() as u64).to_le_bytes());
            let sorted: BTreeMap<&String, &toml::Value> = table.iter().collect();
            for (key, value) in sorted {
                text(b'k', key, bytes);
                encode(value, bytes);
            }
        }
    }
}
