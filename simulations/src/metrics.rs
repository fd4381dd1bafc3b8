//! What a run measures: a row for every peer and round, a row for every round, and totals. All of
//! it comes from the peers' events and records; nothing is counted twice.

mod mixing;
mod retransmitted;

use std::collections::BTreeMap;

use kith_gossip::effect::Checkpoint;
use kith_gossip::event::{Closed, DroppedShare};
use kith_gossip::{Effect, Event, Input, Record};
use serde::{Deserialize, Serialize};

use crate::simulator::Moment;
pub use mixing::GAP_PEERS_MAX;
pub(crate) use mixing::Mixing;
use retransmitted::Retransmissions;

/// Rows for every peer are kept in worlds of at most this many peers; larger ones keep a row a
/// round (a guess at the most that a spreadsheet opens).
pub const PEER_ROWS_MAX: usize = 1024;

/// Bytes of a run, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bytes {
    /// Encoded bodies of updates that were accepted.
    pub payload: u64,
    /// Whole replicas that had to be pulled instead.
    pub keyframes: u64,
    /// Envelopes of updates, without their bodies.
    pub envelope: u64,
    /// Bytes sent again to a peer that had been sent them before; not counted if no row is kept for
    /// every peer.
    pub retransmitted: Option<u64>,
    /// Everything that was put on the wire: also headers shown to neighbours, handshakes,
    /// repetitions, and lost messages.
    pub wire: u64,
    /// The same deliveries uncompressed.
    pub dense_equivalent: u64,
}

/// One peer's round.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PeerRow {
    /// Rounds completed, this one among them: the first is 1, as in [`RoundRow`].
    pub round: u64,
    /// The peer's number.
    pub peer: usize,
    /// Whether it lies.
    pub lies: bool,
    /// Virtual time at which its round closed.
    pub virtual_seconds: f64,
    /// Mean training loss in the round.
    pub train_loss: Option<f64>,
    /// Loss on the held-out rows after the round.
    pub loss: Option<f64>,
    /// Accuracy on the held-out rows after the round.
    pub accuracy: Option<f64>,
    /// Updates that were in when the round closed, of those that it may mix.
    pub have: usize,
    /// Number of updates that the round waited for.
    pub awaited: usize,
    /// Updates mixed, the peer's own model not counted.
    pub mixed: usize,
    /// Whether the deadline closed it.
    pub by_deadline: bool,
    /// Whether too few contributions left it its own step.
    pub mixing_skipped: bool,
    /// Root mean square distance of the models it combined to their mean.
    pub spread: Option<f64>,
    /// Mean share of its neighbours' contributions that the rule left out.
    pub filtered: Option<f64>,
    /// Mean staleness of the updates it accepted, in rounds.
    pub staleness: f64,
    /// Number of updates it accepted.
    pub accepted: u64,
    /// Bytes of bodies it accepted.
    pub payload_bytes: u64,
    /// Bytes of keyframes it pulled.
    pub keyframe_bytes: u64,
    /// Bytes of those updates' envelopes.
    pub envelope_bytes: u64,
    /// Bytes of its updates that it sent once more to a peer that had been sent them before, while
    /// it was in this round.
    pub retransmitted_bytes: u64,
    /// What was spent of its privacy budget by then, ε at the charter's δ.
    pub epsilon: Option<f64>,
    #[serde(skip)]
    staleness_sum: u64,
}

impl PeerRow {
    /// Notes an event of the row's peer, while the row is its newest.
    fn note(&mut self, moment: &Moment<'_>, event: &Event) {
        match event {
            Event::Trained { loss, .. } => self.train_loss = *loss,
            Event::PrivacySpent { epsilon, .. } | Event::BudgetExhausted { epsilon, .. } => {
                self.epsilon = Some(*epsilon)
            }
            Event::LedgerBehind { charged, .. } => self.epsilon = Some(*charged),
            Event::Accepted {
                staleness,
                payload_bytes,
                keyframe_bytes,
                envelope_bytes,
                ..
            } => {
                self.accepted += 1;
                self.staleness_sum += staleness;
                self.payload_bytes += *payload_bytes as u64;
                self.keyframe_bytes += *keyframe_bytes as u64;
                self.envelope_bytes += *envelope_bytes as u64;
            }
            Event::RoundClosed {
                why, have, awaited, ..
            } => {
                (self.have, self.awaited, self.by_deadline) =
                    (*have, *awaited, *why == Closed::Deadline);
                self.virtual_seconds = moment.now.as_secs_f64();
            }
            Event::Aggregated {
                models,
                dropped,
                spread,
                ..
            } => {
                self.mixed = models - 1;
                self.spread = Some(*spread);
                let mut mean = Mean::default();
                dropped.iter().for_each(|dropped| mean.add(dropped.share));
                self.filtered = mean.get();
            }
            Event::MixingSkipped { .. } => self.mixing_skipped = true,
            _ => {}
        }
    }
}

/// All honest peers' round.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RoundRow {
    /// Number of rounds completed, this one included.
    pub round: u64,
    /// Honest peers that completed it.
    pub peers: u64,
    /// Virtual time at which the last of them did.
    pub virtual_seconds: f64,
    /// Mean training loss of the honest peers.
    pub train_loss: Option<f64>,
    /// Mean loss on the held-out rows.
    pub loss: Option<f64>,
    /// Mean accuracy on the held-out rows.
    pub accuracy: Option<f64>,
    /// Lowest accuracy of an honest peer.
    pub accuracy_min: Option<f64>,
    /// Highest accuracy of an honest peer.
    pub accuracy_max: Option<f64>,
    /// Root mean square distance of the honest peers' models to their mean.
    pub consensus_distance: Option<f64>,
    /// Root mean square distance of the honest peers' models to the optimum of the honest peers'
    /// objectives, if that is known.
    pub optimum_distance: Option<f64>,
    /// Share of the liars' contributions that honest peers left out.
    pub filtered_liars: Option<f64>,
    /// Share of honest peers' contributions that honest peers left out.
    pub filtered_honest: Option<f64>,
    /// Honest peers that had too few contributions.
    pub mixing_skipped: u64,
    /// Honest peers whose deadline passed.
    pub by_deadline: u64,
    /// Bytes of bodies, keyframes and envelopes that honest peers accepted in the round.
    pub update_bytes: u64,
    /// Bytes of the round's updates that honest peers sent once more; empty in large worlds, see
    /// [`Bytes::retransmitted`].
    pub retransmitted_bytes: Option<u64>,
    /// Spectral gap of the mixing that was in force among the honest peers that made the round;
    /// empty in worlds of more than [`GAP_PEERS_MAX`] peers.
    pub spectral_gap: Option<f64>,
    /// The most that an honest peer had spent of its privacy budget, ε at the charter's δ.
    pub epsilon: Option<f64>,
}

/// Sums from which a [`RoundRow`] is made.
#[derive(Clone, Debug, Default)]
struct RoundSums {
    row: RoundRow,
    train_loss: Mean,
    loss: Mean,
    accuracy: Mean,
    liars: Mean,
    honest: Mean,
    /// Sum over peers of (model − reference), the sum of its squared norms, and the reference: the
    /// first peer's model, so that nearly equal models do not cancel.
    reference: Vec<f32>,
    sum: Vec<f64>,
    squares: f64,
    models: u64,
    optimum_squares: f64,
    /// The consensus distance of a round whose vectors were dropped.
    folded: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Measures a run.
#[derive(Debug)]
pub struct Metrics {
    lies: Vec<bool>,
    anybody_lies: bool,
    optimum: Option<Vec<f64>>,
    /// Measure consensus every this many rounds.
    consensus_every: u64,
    /// The unfinished rows; empty if no rows are kept.
    current: Vec<PeerRow>,
    rows: Vec<PeerRow>,
    /// Peer and round to its row.
    places: BTreeMap<(usize, u64), usize>,
    rounds: BTreeMap<u64, RoundSums>,
    retransmissions: Option<Retransmissions>,
    /// Of each peer's contributions the share that honest peers left out; empty if no row is kept
    /// for every peer.
    filtered: Vec<Mean>,
    /// Totals, liars included.
    pub bytes: Bytes,
    /// Rounds completed by all peers together.
    pub peer_rounds: u64,
    /// Newest evaluation of each peer: (rounds completed, loss, accuracy).
    pub evaluated: Vec<Option<(u64, f64, f64)>>,
    /// Per honest neighbour seen by honest peers: refusals by name.
    pub refused: BTreeMap<&'static str, u64>,
    /// Peers that honest peers suspect: how many suspect each.
    pub suspected: BTreeMap<usize, u64>,
    /// Peers convicted of contradicting themselves, by how many.
    pub convicted: BTreeMap<usize, u64>,
    /// Rounds in which an honest peer had too few contributions.
    pub mixing_skipped: u64,
    /// Rounds of honest peers that the deadline closed.
    pub by_deadline: u64,
    /// Rounds that honest peers left out because the others were far ahead.
    pub rounds_jumped: u64,
}

impl Metrics {
    /// Rounds whose vectors are kept for late peers. A peer that is further behind no longer counts
    /// in that round's consensus distance.
    const ROUNDS_OPEN: u64 = 64;

    /// Metrics for these peers: `lies` says which ones lie; `optimum` is given if it is known.
    pub fn new(lies: Vec<bool>, optimum: Option<Vec<f64>>, consensus_every: u64) -> Metrics {
        let peers = lies.len();
        let retransmissions = (peers <= PEER_ROWS_MAX).then(|| Retransmissions::new(peers));
        Metrics {
            bytes: Bytes {
                retransmitted: retransmissions.is_some().then_some(0),
                ..Bytes::default()
            },
            filtered: vec![Mean::default(); if retransmissions.is_some() { peers } else { 0 }],
            retransmissions,
            anybody_lies: lies.contains(&true),
            lies,
            optimum,
            consensus_every: consensus_every.max(1),
            current: vec![PeerRow::default(); if peers <= PEER_ROWS_MAX { peers } else { 0 }],
            rows: Vec::new(),
            places: BTreeMap::new(),
            rounds: BTreeMap::new(),
            peer_rounds: 0,
            evaluated: vec![None; peers],
            refused: BTreeMap::new(),
            suspected: BTreeMap::new(),
            convicted: BTreeMap::new(),
            mixing_skipped: 0,
            by_deadline: 0,
            rounds_jumped: 0,
        }
    }

    /// A row for every peer and round, in the order in which rounds ended; empty in large worlds.
    pub fn peer_rows(&self) -> &[PeerRow] {
        &self.rows
    }

    /// The mean share of a peer's contributions that honest peers left out, by its number, if there
    /// were any; empty in large worlds.
    pub fn filtered(&self) -> impl Iterator<Item = (usize, f64)> {
        self.filtered
            .iter()
            .enumerate()
            .filter_map(|(peer, mean)| Some((peer, mean.get()?)))
    }

    /// A row for every round.
    pub fn round_rows(&self) -> Vec<RoundRow> {
        self.rounds.values().map(RoundSums::row).collect()
    }

    /// Notes an event; `number_of` returns a peer's number.
    pub fn event(
        &mut self,
        moment: &Moment<'_>,
        event: &Event,
        number_of: impl Fn(&kith_consensus::PeerId) -> Option<usize>,
    ) {
        let member = moment.member;
        let honest = !self.lies[member];
        if let Some(row) = self.current.get_mut(member) {
            if let Event::RoundOpened { round, .. } = event {
                *row = PeerRow {
                    round: *round + 1,
                    peer: member,
                    lies: !honest,
                    ..PeerRow::default()
                };
            }
            row.note(moment, event);
        }
        match event {
            Event::Started { resumed: false, .. } => {
                self.retransmissions
                    .iter_mut()
                    .for_each(|watched| watched.forgets(member));
            }
            Event::Accepted { .. } => self.accepted(event, honest),
            Event::Evaluated {
                round,
                loss,
                accuracy,
                ..
            } => {
                self.evaluated[member] = Some((*round, *loss, *accuracy));
                if let Some(place) = self.places.get(&(member, *round)) {
                    let row = &mut self.rows[*place];
                    (row.loss, row.accuracy) = (Some(*loss), Some(*accuracy));
                }
                if honest {
                    self.round(*round).evaluated(*loss, *accuracy);
                }
            }
            _ if honest => self.honest_event(event, number_of),
            _ => {}
        }
    }

    /// An update was accepted.
    fn accepted(&mut self, event: &Event, honest: bool) {
        let Event::Accepted {
            round,
            payload_bytes,
            keyframe_bytes,
            envelope_bytes,
            dense_bytes,
            ..
        } = event
        else {
            return;
        };
        self.bytes.payload += *payload_bytes as u64;
        self.bytes.keyframes += *keyframe_bytes as u64;
        self.bytes.envelope += *envelope_bytes as u64;
        self.bytes.dense_equivalent += *dense_bytes as u64;
        if honest {
            let update = (payload_bytes + keyframe_bytes + envelope_bytes) as u64;
            self.round(*round + 1).row.update_bytes += update;
        }
    }

    /// Notes events that count at honest peers alone.
    fn honest_event(
        &mut self,
        event: &Event,
        number_of: impl Fn(&kith_consensus::PeerId) -> Option<usize>,
    ) {
        match event {
            Event::Trained {
                round,
                loss: Some(loss),
                ..
            } => self.round(*round + 1).train_loss.add(*loss),
            Event::PrivacySpent { round, epsilon, .. }
            | Event::BudgetExhausted { round, epsilon, .. } => {
                let most = &mut self.round(*round + 1).row.epsilon;
                *most = Some(most.map_or(*epsilon, |most| most.max(*epsilon)));
            }
            Event::RoundClosed {
                round,
                why: Closed::Deadline,
                ..
            } => {
                self.by_deadline += 1;
                self.round(*round + 1).row.by_deadline += 1;
            }
            Event::Aggregated { round, dropped, .. } => self.dropped(*round, dropped, number_of),
            Event::Jumped { from, to } => self.rounds_jumped += to - from,
            Event::MixingSkipped { round, .. } => {
                self.mixing_skipped += 1;
                self.round(*round + 1).row.mixing_skipped += 1;
            }
            Event::Refused { reason, .. } => *self.refused.entry(reason.name()).or_default() += 1,
            Event::Suspected { peer, .. } => {
                number_of(peer)
                    .into_iter()
                    .for_each(|peer| *self.suspected.entry(peer).or_default() += 1);
            }
            Event::Equivocated { peer, .. } => {
                number_of(peer)
                    .into_iter()
                    .for_each(|peer| *self.convicted.entry(peer).or_default() += 1);
            }
            _ => {}
        }
    }

    /// What an honest peer left out in a round.
    fn dropped(
        &mut self,
        round: u64,
        dropped: &[DroppedShare],
        number_of: impl Fn(&kith_consensus::PeerId) -> Option<usize>,
    ) {
        // In large worlds no peer is looked up if nobody lies.
        let looks = self.anybody_lies || !self.filtered.is_empty();
        for dropped in dropped {
            let number = if looks {
                number_of(&dropped.peer)
            } else {
                None
            };
            let lies = number.is_some_and(|number| self.lies[number]);
            if let Some(mean) = number.and_then(|number| self.filtered.get_mut(number)) {
                mean.add(dropped.share);
            }
            let sums = self.round(round + 1);
            if lies {
                sums.liars.add(dropped.share)
            } else {
                sums.honest.add(dropped.share)
            }
        }
    }

    /// Notes an input, before it is handled.
    pub fn input(&mut self, moment: &Moment<'_>, input: &Input) {
        if let (
            Some(watched),
            Input::BodyRequested {
                from,
                digest,
                request,
            },
        ) = (&mut self.retransmissions, input)
        {
            watched.requested(moment, from, *digest, *request);
        }
    }

    /// Notes an effect, before it is carried out.
    pub fn effect(&mut self, moment: &Moment<'_>, effect: &Effect) {
        let repeated = match (effect, &mut self.retransmissions) {
            (Effect::Persist(record), _) => return self.persisted(moment, record),
            (Effect::Send { to, bytes }, Some(watched)) => watched
                .sent(moment, to, bytes)
                .map(|round| (round, bytes.len())),
            (
                Effect::Provide {
                    request,
                    body: Some(body),
                },
                Some(watched),
            ) => watched.provided(*request).map(|round| (round, body.len())),
            _ => None,
        };
        let Some((round, bytes)) = repeated else {
            return;
        };
        let (member, bytes) = (moment.member, bytes as u64);
        self.bytes.retransmitted = self.bytes.retransmitted.map(|sum| sum + bytes);
        if let Some(row) = self.current.get_mut(member) {
            row.retransmitted_bytes += bytes;
        }
        if !self.lies[member] {
            let row = &mut self.round(round + 1).row;
            row.retransmitted_bytes = Some(row.retransmitted_bytes.unwrap_or(0) + bytes);
        }
    }

    /// A round's result is about to be stored.
    fn persisted(&mut self, moment: &Moment<'_>, record: &Record) {
        let Record::Checkpoint(checkpoint) = record else {
            return;
        };
        self.peer_rounds += 1;
        let member = moment.member;
        if !self.lies[member] {
            self.completed(moment, checkpoint);
        }
        if let Some(row) = self.current.get_mut(member) {
            let mut row = std::mem::take(row);
            row.staleness = if row.accepted > 0 {
                row.staleness_sum as f64 / row.accepted as f64
            } else {
                0.0
            };
            self.places
                .insert((member, checkpoint.round), self.rows.len());
            self.rows.push(row);
        }
    }

    fn completed(&mut self, moment: &Moment<'_>, checkpoint: &Checkpoint) {
        let measured = checkpoint.round.is_multiple_of(self.consensus_every);
        let optimum = self.optimum.take();
        let sums = self.round(checkpoint.round);
        sums.row.peers += 1;
        sums.row.virtual_seconds = sums.row.virtual_seconds.max(moment.now.as_secs_f64());
        if measured {
            sums.add_model(&checkpoint.parameters);
            if let Some(optimum) = &optimum {
                let squares = |(value, at): (&f32, &f64)| (f64::from(*value) - at).powi(2);
                sums.optimum_squares += checkpoint
                    .parameters
                    .iter()
                    .zip(optimum)
                    .map(squares)
                    .sum::<f64>();
            }
        }
        sums.row.optimum_distance = (optimum.is_some() && sums.models > 0)
            .then(|| (sums.optimum_squares / sums.models as f64).sqrt());
        self.optimum = optimum;
        self.fold_before(checkpoint.round.saturating_sub(Metrics::ROUNDS_OPEN));
    }

    /// Drops the vectors of old rounds.
    fn fold_before(&mut self, round: u64) {
        let old = self.rounds.range_mut(..round).rev().map(|(_, sums)| sums);
        old.take_while(|sums| !sums.reference.is_empty())
            .for_each(RoundSums::fold);
    }

    fn round(&mut self, round: u64) -> &mut RoundSums {
        let sums = self.rounds.entry(round).or_default();
        sums.row.round = round;
        sums
    }
}

impl RoundSums {
    fn evaluated(&mut self, loss: f64, accuracy: f64) {
        self.loss.add(loss);
        self.accuracy.add(accuracy);
        let row = &mut self.row;
        let (least, most) = (row.accuracy_min, row.accuracy_max);
        row.accuracy_min = Some(least.map_or(accuracy, |least| least.min(accuracy)));
        row.accuracy_max = Some(most.map_or(accuracy, |most| most.max(accuracy)));
    }

    fn fold(&mut self) {
        self.folded = self.consensus_distance();
        (self.reference, self.sum) = (Vec::new(), Vec::new());
    }

    fn add_model(&mut self, model: &[f32]) {
        if self.folded.is_some() {
            return;
        }
        if self.reference.is_empty() {
            self.reference = model.to_vec();
            self.sum = vec![0.0; model.len()];
        }
        // Several sums of squares at once, since a single one would wait for itself at every value.
        let mut squares = [0.0; 8];
        let blocks = self
            .sum
            .chunks_mut(squares.len())
            .zip(model.chunks(squares.len()));
        for ((sums, values), references) in blocks.zip(self.reference.chunks(squares.len())) {
            for (((sum, square), value), reference) in sums
                .iter_mut()
                .zip(&mut squares)
                .zip(values)
                .zip(references)
            {
                let difference = f64::from(*value) - f64::from(*reference);
                *sum += difference;
                *square += difference * difference;
            }
        }
        self.squares += squares.iter().sum::<f64>();
        self.models += 1;
    }

    fn consensus_distance(&self) -> Option<f64> {
        if self.folded.is_some() {
            return self.folded;
        }
        let count = self.models as f64;
        let mean_squares: f64 = self.sum.iter().map(|sum| (sum / count).powi(2)).sum();
        (self.models > 0).then(|| (self.squares / count - mean_squares).max(0.0).sqrt())
    }

    fn row(&self) -> RoundRow {
        RoundRow {
            train_loss: self.train_loss.get(),
            loss: self.loss.get(),
            accuracy: self.accuracy.get(),
            consensus_distance: self.consensus_distance(),
            filtered_liars: self.liars.get(),
            filtered_honest: self.honest.get(),
            ..self.row.clone()
        }
    }
}
