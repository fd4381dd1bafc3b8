//! Which parts of a charter do not go together.
//!
//! A part says what it is or needs: a rule reads losses, a method keeps a balance, a codec is
//! exact. [`MISFITS`] lists every combination of these that cannot work, one row each, with the key
//! to change and the reason. [`neighbourhoods`] checks what depends on the size of neighbourhoods.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Aggregation, Declared, RoundSection, Space, Unit, Weighting};
use crate::aggregate::{AggregateError, Rule};
use crate::mode::Mode;
use crate::optimization::Method;
use crate::section::Section;
use crate::selection::Selection;
use crate::topology::{Graph, TopologyError, TopologySection, connected_together};

/// Draws of a re-drawn random graph that are checked before anything starts. A guess: each draw is
/// of the same kind.
const DRAWS_CHECKED: u64 = 4;

/// The parts of a charter that can conflict with each other.
pub(super) struct Parts<'a> {
    pub(super) topology: &'a TopologySection,
    pub(super) peers: usize,
    pub(super) round: &'a RoundSection,
    pub(super) aggregation: &'a Aggregation,
    pub(super) declared: &'a Declared,
    /// What the guarantee of releases protects; `None` without one.
    pub(super) protects: Option<Unit>,
}

impl Parts<'_> {
    fn is_in_step(&self) -> bool {
        self.round.mode == Mode::Synchronous
    }

    fn has_stages(&self) -> bool {
        self.topology.has_stages(self.peers)
    }

    fn chooses(&self) -> bool {
        !self.round.selection.is_everyone()
    }

    fn is_directed(&self) -> bool {
        self.topology
            .graph(self.peers, 0)
            .is_ok_and(|graph| graph.is_directed())
    }

    fn method(&self) -> Method {
        self.aggregation.method
    }

    fn sends_corrections(&self) -> bool {
        matches!(
            self.method(),
            Method::GradientTracking | Method::Scaffold { .. }
        )
    }

    fn is_private(&self) -> bool {
        self.protects.is_some()
    }

    fn is_scaffold(&self) -> bool {
        matches!(self.method(), Method::Scaffold { .. })
    }

    /// A message with this charter's names filled in.
    fn words(&self, text: &str) -> String {
        let method = match self.method() {
            Method::GradientTracking => "gradient tracking",
            _ => "scaffold",
        };
        text.replace("RULE", &format!("{:?}", self.aggregation.rule.name()))
            .replace("SELECTION", &format!("{:?}", self.round.selection.name()))
            .replace("TOPOLOGY", self.topology.kind.name())
            .replace("METHOD", method)
            .replace("MECHANISM", self.protects.map_or("none", Unit::mechanism))
    }
}

/// A combination that cannot work.
struct Misfit {
    /// The key to change.
    key: &'static str,
    holds: fn(&Parts<'_>) -> bool,
    /// Why, and what is expected. RULE, SELECTION, TOPOLOGY, METHOD and MECHANISM stand for the
    /// charter's.
    what: &'static str,
}

/// Every combination that cannot work.
static MISFITS: &[Misfit] = &[
    Misfit {
        key: "aggregation.rule",
        holds: |of| of.aggregation.rule.needs_updates() && of.aggregation.rule.needs_models(),
        what: "one part of rule RULE can judge updates only, another models only; expected parts \
               that fit",
    },
    Misfit {
        key: "aggregation.rule",
        holds: |of| {
            let rule = &of.aggregation.rule;
            rule.needs_updates() && !rule.needs_models() && of.aggregation.on == Space::Models
        },
        what: "rule RULE judges how long updates are, which models do not show; expected on = \
               \"updates\" beside it",
    },
    Misfit {
        key: "aggregation.on",
        holds: |of| {
            let rule = &of.aggregation.rule;
            rule.needs_models() && !rule.needs_updates() && of.aggregation.on == Space::Updates
        },
        what: "rule RULE judges models and not updates; expected on = \"models\"",
    },
    Misfit {
        key: "aggregation.weighting",
        holds: |of| {
            let aggregation = of.aggregation;
            aggregation.weighting != Weighting::Mixing && !aggregation.rule.uses_weights()
        },
        what: "rule RULE gives every model the same weight; expected \"mixing\"",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| of.method() == Method::GradientTracking && !of.is_in_step(),
        what: "gradient tracking keeps the mean of the corrections at zero only where everybody \
               mixes the same round; expected round.mode = \"synchronous\"",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| of.is_scaffold() && !of.is_in_step(),
        what: "scaffold corrects towards the mean of the whole neighbourhood, of which asynchronous \
               rounds hear a part; expected round.mode = \"synchronous\"",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| {
            let aggregation = of.aggregation;
            of.sends_corrections()
                && (aggregation.on == Space::Updates || aggregation.rule.needs_losses())
        },
        what: "METHOD needs a rule on models that looks at nothing but vectors",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| of.method() == Method::PushSum && !of.is_in_step(),
        what: "push-sum gives shares round by round; expected round.mode = \"synchronous\"",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| of.method() == Method::PushSum && of.topology.changes(),
        what: "push-sum sends every receiver one sum over all rounds, which holds what a receiver \
               is owed only where it is one in every round; expected a graph that stays",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| of.method() == Method::PushSum && of.aggregation.rule.name() != "mean",
        what: "push-sum is an average by mass, which no other rule is; expected rule = \"mean\", \
               found RULE",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| {
            let aggregation = of.aggregation;
            let is_plain = aggregation.on == Space::Models
                && aggregation.weighting == Weighting::Mixing
                && aggregation.momentum == 0.0;
            of.method() == Method::PushSum && !is_plain
        },
        what: "push-sum has weights and a balance of its own; expected on = \"models\", weighting = \
               \"mixing\", momentum = 0",
    },
    Misfit {
        key: "round.selection",
        holds: |of| of.chooses() && !of.is_in_step(),
        what: "selection SELECTION chooses whom a round waits for, and asynchronous rounds wait for \
               nobody; expected \"all\"",
    },
    Misfit {
        key: "round.selection",
        holds: |of| of.chooses() && of.method().has_balance(),
        what: "what peers exchange beside their models keeps its balance only where every \
               neighbour is mixed; expected \"all\", or aggregation.method = \"plain\", found \
               SELECTION",
    },
    Misfit {
        key: "round.mode",
        holds: |of| !of.is_in_step() && !of.aggregation.rule.uses_weights(),
        what: "rule RULE gives every model the same weight, however old; rounds that are not \
               synchronous need one that uses weights, for example \"mean\"",
    },
    Misfit {
        key: "round.mode",
        holds: |of| of.has_stages() && !of.is_in_step(),
        what: "in a TOPOLOGY topology a round builds on what others did in the round before, so \
               that all must keep step; expected \"synchronous\"",
    },
    Misfit {
        key: "round.mode",
        holds: |of| {
            let is_steady = !of.topology.changes() && !of.is_directed();
            of.round.mode == Mode::Pairwise && !is_steady
        },
        what: "pairwise rounds need a graph that stays the same and carries updates both ways; this \
               TOPOLOGY one does not; expected for example topology.kind = \"ring\", or \
               \"asynchronous\"",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| {
            of.method() == Method::GradientTracking && !of.topology.kind.doubly_stochastic()
        },
        what: "gradient tracking needs a topology whose mixing keeps the mean of all models, in \
               every round; a TOPOLOGY one does not; expected another topology.kind, for example \
               \"ring\", or method = \"plain\"",
    },
    Misfit {
        key: "round.selection",
        holds: |of| of.chooses() && of.has_stages(),
        what: "in a TOPOLOGY topology every round has its own senders, among whom there is nothing \
               to choose; expected \"all\", found SELECTION",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| of.is_scaffold() && of.has_stages(),
        what: "scaffold corrects towards the mean of the neighbourhood, which in some rounds of a \
               TOPOLOGY topology is nobody but a head; expected another topology.kind, for example \
               \"complete\", or method = \"plain\"",
    },
    Misfit {
        key: "aggregation.rule",
        holds: |of| {
            let needs_updates = of.aggregation.rule.needs_updates();
            needs_updates && of.has_stages() && of.topology.exchanges_combine(of.peers)
        },
        what: "rule RULE judges what a round's training changed, and in some rounds of a TOPOLOGY \
               topology models are combined without training; expected a rule on models, for \
               example \"trimmed-mean\"",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| of.method() == Method::PushSum && !of.declared.codec_is_exact,
        what: "push-sum sends sums over all rounds, of which a codec has to say every bit; expected \
               codec.kind = \"identity\" without replica",
    },
    Misfit {
        key: "aggregation.method",
        holds: |of| of.is_private() && of.method() == Method::PushSum,
        what: "under push-sum a peer whose privacy budget is spent would take shares and give none; \
               expected another method, or privacy.mechanism = \"none\"",
    },
    Misfit {
        key: "training.local_epochs",
        holds: |of| of.is_private() && of.declared.local_steps.is_none(),
        what: "under privacy.mechanism = \"MECHANISM\" the number of steps may not tell how many \
               rows a peer has; expected local_steps, and local_epochs = 0",
    },
    Misfit {
        key: "training.clip_norm",
        holds: |of| of.protects == Some(Unit::Row) && of.declared.clips_batches,
        what: "under privacy.mechanism = \"MECHANISM\" each row's gradient is clipped, to \
               privacy.clip_norm; expected 0",
    },
    Misfit {
        key: "training.momentum_scope",
        holds: |of| of.protects == Some(Unit::Peer) && of.declared.optimizer.is_lasting,
        what: "under privacy.mechanism = \"MECHANISM\" only the parameters are noised, and what the \
               optimizer keeps beside them would carry bare gradients into later rounds; expected \
               \"round\"",
    },
    Misfit {
        key: "aggregation.rule",
        holds: |of| of.is_private() && of.aggregation.rule.needs_losses(),
        what: "rule RULE chooses models by their losses on a peer's own rows, which privacy.mechanism \
               = \"MECHANISM\" does not cover; expected a rule that looks at models alone",
    },
    Misfit {
        key: "round.selection",
        holds: |of| of.is_private() && of.round.selection.needs_losses(),
        what: "selection SELECTION has peers tell the losses on their own rows, which \
               privacy.mechanism = \"MECHANISM\" does not cover; expected \"all\"",
    },
    Misfit {
        key: "aggregation.weighting",
        holds: |of| of.is_private() && of.aggregation.weighting != Weighting::Mixing,
        what: "weights by samples tell how many rows a peer has, which privacy.mechanism = \
               \"MECHANISM\" does not cover; expected \"mixing\"",
    },
];

/// Key and reason of every combination that cannot work.
pub(super) fn misfits(of: &Parts<'_>) -> Vec<(&'static str, String)> {
    let found = MISFITS.iter().filter(|misfit| (misfit.holds)(of));
    found
        .map(|misfit| (misfit.key, of.words(misfit.what)))
        .collect()
}

/// The graphs that represent all rounds: one period of a kind that changes by itself, the first
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

pub(super) fn checked_graphs(
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

/// The message for peers that cannot all reach each other: within each draw, or within the period
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

/// The key and the message if a neighbourhood's models, the peer's own included, are fewer than the
/// rule's minimum or do not fit its parameters; names the smallest such neighbourhood. The rule is
/// not asked if a peer adopts the model that it receives, or if by design nobody sends to it.
pub(super) fn neighbourhoods(
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
