//! Who exchanges updates with whom, and with which weight.
//!
//! [`TOPOLOGIES`] lists the kinds; a [`TopologySection`] is a charter's `[topology]`. A [`Graph`]
//! follows from kind, roster size, round and seed alone, never from which peers are alive, so that
//! every peer computes the same one without asking. [`Graph::analyse`] reports the properties of a
//! graph: degrees, diameter, connectivity, spectral gap.
//!
//! Not here: connections (the overlay), and what a peer does about an absent neighbour.

mod analysis;
mod base_k;
mod centralised;
mod complete;
mod dumbbell;
mod edges;
mod epidemic_local;
mod erdos_renyi;
mod exponential;
mod graph;
mod hierarchical;
mod hypercube;
mod lead;
mod random_regular;
mod remainder;
mod ring;
mod scale_free;
mod small_world;
mod star;
mod torus;
mod tree;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::random::Seed;
use crate::registry::{Entry, Registry};
use crate::section::Section;

pub use analysis::{Analysis, PeriodAnalysis, spectral_gap};
pub use edges::edges_from_text;
pub use graph::{Alternatives, Graph, connected_together};
pub use lead::LEAD_MAX;
pub use remainder::remainder;

/// A kind of graph with its parameters.
pub trait Topology: std::fmt::Debug + Send + Sync {
    /// The name under which a charter asks for it.
    fn name(&self) -> &'static str;

    /// The graph over `peers` peers. Kinds that change by themselves look at `round`; random kinds
    /// draw from `seed` and `round`.
    ///
    /// # Errors
    /// When there is no such graph over `peers` peers.
    fn graph(&self, peers: usize, round: u64, seed: &Seed) -> Result<Graph, TopologyError>;

    /// Whether the graph changes from round to round by itself.
    fn changes(&self) -> bool {
        false
    }

    /// After how many rounds a kind that changes by itself begins again, or, if it never does,
    /// within how many everybody's update reaches everybody. The peers need to be connected over
    /// that many rounds together.
    fn period(&self, _peers: usize) -> u64 {
        1
    }

    /// An earlier round with the same graph, if a kind that changes by itself has one; otherwise
    /// `round`.
    fn first_alike(&self, peers: usize, round: u64) -> u64 {
        if self.is_random() {
            round
        } else {
            round % self.period(peers)
        }
    }

    /// Whether peers train in this round. In a round in which they do not, each publishes the model
    /// that it has, and continues.
    fn trains(&self, _round: u64) -> bool {
        true
    }

    /// Whether columns of the mixing matrix sum to 1 as rows do, so that averaging keeps the mean
    /// of all models.
    fn doubly_stochastic(&self) -> bool {
        true
    }

    /// Whether the graph is drawn from the seed, so that drawing it again gives another one.
    fn is_random(&self) -> bool {
        false
    }
}

/// Why there is no such graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// The kind does not exist for this number of peers.
    #[error("a {kind} topology over {peers} peers is impossible: {reason}")]
    Impossible {
        /// The name of the kind.
        kind: &'static str,
        /// Number of peers asked for.
        peers: usize,
        /// Why, and what would be possible.
        reason: String,
    },
    /// An edge or weight that no graph can have.
    #[error("edge from {from} to {to}: {reason}")]
    BadEdge {
        /// Number of the sending peer.
        from: usize,
        /// Number of the receiving peer.
        to: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// Most edge ends of a graph, so that a typing error in a charter (a complete graph over a million
/// peers) gives an error and does not use up the machine's memory. 2²⁴ ends are some 400 MB (670 MB
/// if directed), or a complete graph over 4096 peers.
const EDGE_ENDS_MAX: usize = 1 << 24;

fn check_size(kind: &'static str, peers: usize, degree: usize) -> Result<(), TopologyError> {
    let ends = peers.saturating_mul(degree);
    let reason = || format!("it would have {ends} edge ends; at most {EDGE_ENDS_MAX} are accepted");
    if ends > EDGE_ENDS_MAX {
        Err(TopologyError::Impossible {
            kind,
            peers,
            reason: reason(),
        })
    } else {
        Ok(())
    }
}

/// Reads a topology's keys and builds it.
pub type NewTopology = fn(&mut Section<'_>) -> Box<dyn Topology>;

/// A kind in the table; `new` reads its keys of `[topology]`.
pub type TopologyEntry = Entry<NewTopology>;

/// Every kind there is.
pub static TOPOLOGIES: Registry<NewTopology> = Registry::new(
    "topology",
    &[
        ring::ENTRY,
        torus::ENTRY,
        complete::ENTRY,
        star::ENTRY,
        centralised::ENTRY,
        random_regular::ENTRY,
        exponential::ENTRY,
        exponential::ONE_PEER_ENTRY,
        base_k::ENTRY,
        hypercube::ENTRY,
        erdos_renyi::ENTRY,
        small_world::ENTRY,
        scale_free::ENTRY,
        epidemic_local::ENTRY,
        hierarchical::ENTRY,
        dumbbell::ENTRY,
        tree::ENTRY,
        edges::ENTRY,
    ],
);

/// A charter's `[topology]`.
#[derive(Debug)]
pub struct TopologySection {
    /// The kind with its parameters.
    pub kind: Box<dyn Topology>,
    /// A random kind is drawn anew every this many rounds; 0: drawn once.
    pub redraw_every: u64,
    /// Seed of random kinds.
    pub seed: u64,
    memo: Memo,
    /// The lead, with the number of peers that it is for, computed once.
    lead: OnceLock<(usize, u64)>,
}

/// Graphs drawn before, the most recently used last. A cache of a pure function: it changes the
/// cost of a graph, never the graph. So ten thousand peers of one process that share a charter
/// share each round's graph too.
#[derive(Debug, Default)]
struct Memo(Mutex<Vec<(GraphKey, Arc<Graph>)>>);

/// Number of peers, and which draw.
type GraphKey = (usize, u64);

impl Memo {
    /// Most graphs kept: the number of rounds that the peers of one process can be in at the same
    /// time. A guess.
    const GRAPHS_MAX: usize = 32;

    fn graph(
        &self,
        key: GraphKey,
        draw: impl FnOnce() -> Result<Graph, TopologyError>,
    ) -> Result<Arc<Graph>, TopologyError> {
        // The list is whole between any two statements, so a panic elsewhere spoils nothing. Others
        // wait while a graph is drawn: most of them need the same one.
        let mut graphs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, newest)) = graphs.last().filter(|(known, _)| *known == key) {
            return Ok(Arc::clone(newest));
        }
        let graph = match graphs.iter().position(|(known, _)| *known == key) {
            Some(place) => graphs.remove(place).1,
            None => Arc::new(draw()?),
        };
        graphs.push((key, Arc::clone(&graph)));
        let ends = |graphs: &[(GraphKey, Arc<Graph>)]| {
            graphs
                .iter()
                .map(|(_, graph)| graph.edge_ends())
                .sum::<usize>()
        };
        while graphs.len() > 1 && (graphs.len() > Memo::GRAPHS_MAX || ends(&graphs) > EDGE_ENDS_MAX)
        {
            graphs.remove(0);
        }
        Ok(graph)
    }
}

impl TopologySection {
    /// Reads keys `kind`, `redraw_every`, `seed` and those of the kind.
    pub fn read(section: &mut Section<'_>) -> TopologySection {
        // A ring connects any number of peers; `kith topology explain` shows what it costs in
        // speed.
        let entry = TOPOLOGIES
            .choose(section, "kind", Some("ring"))
            .unwrap_or(&TOPOLOGIES[0]);
        let kind = (entry.new)(section);
        let redraw_every = section.integer("redraw_every", Some(0), 0..=1_000_000_000);
        if redraw_every > 0 && kind.changes() {
            section.note(
                "redraw_every",
                format!(
                    "a topology of kind {:?} is another one in each round by itself; expected 0",
                    kind.name()
                ),
            );
        } else if redraw_every > 0 && !kind.is_random() {
            section.note(
                "redraw_every",
                format!(
                    "a {} topology is the same at every draw; expected 0",
                    kind.name()
                ),
            );
        }
        let seed = section.integer("seed", Some(0), 0..=i64::MAX as u64);
        TopologySection {
            kind,
            redraw_every,
            seed,
            memo: Memo::default(),
            lead: OnceLock::new(),
        }
    }

    /// The graph of `round` over `peers` peers. Rounds with the same graph get the same allocation,
    /// as long as it is remembered.
    ///
    /// # Errors
    /// When the kind does not exist for `peers` peers.
    pub fn graph(&self, peers: usize, round: u64) -> Result<Arc<Graph>, TopologyError> {
        let draw = match self.kind.changes() {
            true => self.kind.first_alike(peers, round),
            false => round.checked_div(self.redraw_every).unwrap_or(0),
        };
        self.memo.graph((peers, draw), || {
            self.kind.graph(peers, draw, &Seed::from_number(self.seed))
        })
    }

    /// How many rounds a peer can be ahead of one that it sends to while nobody fails, from 1 to
    /// [`LEAD_MAX`].
    pub fn lead(&self, peers: usize) -> u64 {
        let (of, lead) = *self.lead.get_or_init(|| (peers, lead::lead(self, peers)));
        if of == peers {
            lead
        } else {
            lead::lead(self, peers)
        }
    }

    /// Whether peers train in this round.
    pub fn trains(&self, round: u64) -> bool {
        self.kind.trains(round)
    }

    /// Whether there are rounds in which nobody trains. Then a peer's work in one round builds on
    /// the others' work in earlier rounds, and by design some peers receive from nobody in some
    /// rounds.
    pub fn has_stages(&self, peers: usize) -> bool {
        self.kind.changes() && (0..self.kind.period(peers)).any(|round| !self.kind.trains(round))
    }

    /// Whether models are combined by the rule in a round in which nobody trains.
    pub fn exchanges_combine(&self, peers: usize) -> bool {
        let rounds = (0..self.kind.period(peers)).filter(|round| !self.kind.trains(*round));
        let combines = |graph: &Graph, peer: usize| {
            !graph.receives_from(peer).is_empty() && !graph.adopts(peer)
        };
        rounds
            .filter_map(|round| self.graph(peers, round).ok())
            .any(|graph| (0..peers).any(|peer| combines(&graph, peer)))
    }

    /// Whether two rounds can have different graphs.
    pub fn changes(&self) -> bool {
        self.kind.changes() || self.redraw_every > 0
    }
}
