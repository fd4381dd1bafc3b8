//! How well a round mixed: the spectral gap of the matrix that was in force, among the honest peers
//! that made the round.
//!
//! A row says which share of a peer's new model comes from which peer: the mixing weight, if
//! everything came and the rule is a mean. A liar's share counts as the peer's own, as if the liar
//! were away. So lost messages, crashes, deadlines and dropped models all show next to the gap of
//! the topology.

use std::collections::BTreeMap;

use kith_consensus::topology::spectral_gap;
use kith_gossip::Event;

use crate::check::Scope;
use crate::simulator::Moment;

/// Larger worlds have no gap in their tables: it takes n³ steps a round (64 peers: some
/// milliseconds).
pub const GAP_PEERS_MAX: usize = 64;

/// Rounds that are kept open for peers that have not made them yet.
const ROUNDS_OPEN: usize = 64;

/// The (sender, weight) of every model that a peer combined with its own.
type Row = Vec<(usize, f64)>;

/// Measures every round's gap.
#[derive(Debug, Default)]
pub(crate) struct Mixing {
    /// By round and peer.
    rounds: BTreeMap<u64, BTreeMap<usize, Row>>,
    gaps: BTreeMap<u64, f64>,
    /// The matrix of the round before, which mostly is this round's too.
    last: Option<(Vec<Vec<f64>>, f64)>,
}

impl Mixing {
    /// Notes an event.
    pub(crate) fn event(&mut self, scope: &Scope, moment: &Moment<'_>, event: &Event) {
        let member = moment.member;
        if scope.ids.len() > GAP_PEERS_MAX || scope.lies[member] {
            return;
        }
        let honest = |peer| scope.number(peer).filter(|number| !scope.lies[*number]);
        let (round, row) = match event {
            Event::Aggregated { round, dropped, .. } => {
                let influence = dropped
                    .iter()
                    .filter_map(|one| honest(&one.peer).map(|number| (number, one.influence)));
                (*round, influence.collect())
            }
            Event::Adopted { round, peer, .. } => (
                *round,
                honest(peer)
                    .into_iter()
                    .map(|number| (number, 1.0))
                    .collect(),
            ),
            Event::Kept { round, .. } | Event::MixingSkipped { round, .. } => (*round, Row::new()),
            _ => return,
        };
        if self.gaps.contains_key(&round) {
            return; // somebody begins anew, and makes a round once more
        }
        let rows = self.rounds.entry(round).or_default();
        rows.insert(member, row);
        if rows.len() == scope.lies.iter().filter(|lies| !**lies).count() {
            self.measure(round);
        } else if self.rounds.len() > ROUNDS_OPEN {
            self.measure_first();
        }
    }

    /// The gap of every round that two honest peers or more have made.
    pub(crate) fn gaps(mut self) -> BTreeMap<u64, f64> {
        while !self.rounds.is_empty() {
            self.measure_first();
        }
        self.gaps
    }

    fn measure_first(&mut self) {
        if let Some(round) = self.rounds.keys().next() {
            self.measure(*round);
        }
    }

    fn measure(&mut self, round: u64) {
        let rows = self.rounds.remove(&round).unwrap_or_default();
        if rows.len() < 2 {
            return;
        }
        let places: BTreeMap<usize, usize> = rows
            .keys()
            .enumerate()
            .map(|(place, peer)| (*peer, place))
            .collect();
        let mut matrix = vec![vec![0.0; rows.len()]; rows.len()];
        for (own, row) in rows.values().enumerate() {
            for (place, weight) in row
                .iter()
                .filter_map(|(peer, weight)| Some((*places.get(peer)?, *weight)))
            {
                matrix[own][place] = weight;
            }
            matrix[own][own] = 1.0 - matrix[own].iter().sum::<f64>();
        }
        let gap = match &self.last {
            Some((last, gap)) if *last == matrix => *gap,
            _ => spectral_gap(&matrix),
        };
        self.gaps.insert(round, gap);
        self.last = Some((matrix, gap));
    }
}
