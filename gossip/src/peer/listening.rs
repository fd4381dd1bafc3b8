//! Rounds in which a peer says nothing: it is behind the others, or its training failed.
//!
//! A peer that was away for long, or comes back without its state, has an old model or the initial
//! one. It would pull everybody towards that, and in the last round that would be the result. So in
//! the first round after such a jump it listens. It does not train, tells its neighbours that it
//! publishes nothing, and takes what the rule makes of their models: of at least 2f + 1, if it has
//! that many neighbours. Only if the rule cannot do without another model does its own count as one
//! of them. A rule that judges others by the peer's own model, or by its rows, would judge by the
//! model that is to be replaced. The coordinate-wise median takes its place. From there the peer
//! continues as everybody else.
//!
//! At a free pace a peer that is behind is only slow, unless it has just been started or was alone,
//! and is behind by more than `staleness`. Then it listens too, until enough neighbours have
//! published. It resumes at its own round, or, if it has lost rounds that others know, after them.
//!
//! Under push-sum a model is a share of a sum that has to stay what it is. A peer that has its
//! shares resumes with them, however old. One that has lost what it had published begins with none,
//! and listens until it is given some.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_consensus::aggregate::{Context, Contribution, rule_from_text};
use kith_consensus::optimization::Method;
use kith_consensus::{Digest, PeerId, Rule};

use super::Peer;
use super::mixing::{Rows, share_out};
use super::mode::Pace;
use super::window::Arrived;
use crate::Parameters;
use crate::effect::Effect;
use crate::envelope::Kind;
use crate::event::Event;
use crate::message::Skip;
use crate::packet::{Opened, Packet};
use crate::refusal::Refusal;
use crate::wire;

/// Where a peer stands compared to the others: what it has lost, and whether it listens.
#[derive(Debug)]
pub(super) struct Standing {
    /// Whether its model is still the initial one, with nothing of anybody else's.
    is_untaught: bool,
    /// Whether it has mixed nothing since it was started, or since it was alone.
    has_returned: bool,
    /// Rounds that it may still spend listening before it resumes with what it has.
    listening: u64,
    /// The last round in which it published nothing.
    skipped: Option<u64>,
    /// Highest round of which others hold a header signed by it that its own store does not know.
    signed: Option<u64>,
    /// By neighbour, the highest such round that it has shown.
    shown: BTreeMap<PeerId, u64>,
}

impl Standing {
    /// The standing of a peer that starts with the initial model.
    pub(super) fn new() -> Standing {
        Standing {
            is_untaught: true,
            has_returned: true,
            listening: 0,
            skipped: None,
            signed: None,
            shown: BTreeMap::new(),
        }
    }

    /// The peer resumes from a checkpoint.
    pub(super) fn resume(&mut self) {
        self.is_untaught = false;
    }

    /// It is alone, and opens no round.
    pub(super) fn is_alone(&mut self) {
        self.has_returned = true;
    }

    /// Whether the peer says nothing in the round that it is in.
    pub(super) fn listens(&self) -> bool {
        self.listening > 0
    }

    /// `models` models were combined, its own included.
    pub(super) fn mixed(&mut self, models: usize) {
        self.is_untaught &= models == 1;
        self.has_returned &= models == 1;
    }

    /// It has a model made of the others', and no more need to listen.
    pub(super) fn caught_up(&mut self) {
        (self.is_untaught, self.has_returned, self.listening) = (false, false, 0);
    }

    /// It listened for a round and has not heard enough.
    pub(super) fn listened(&mut self) {
        self.listening = self.listening.saturating_sub(1);
        self.has_returned &= self.listens(); // it has waited long enough
    }

    /// `from` holds an update of `round` that this peer signed and no longer knows. It is believed
    /// once `needed` peers show as much.
    pub(super) fn learn_signed(&mut self, from: PeerId, round: u64, needed: usize) {
        let shown = self.shown.entry(from).or_default();
        *shown = (*shown).max(round);
        let mut rounds: Vec<u64> = self.shown.values().copied().collect();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        self.signed = self.signed.max(rounds.get(needed - 1).copied());
    }

    /// It has promised an update of `round` whose vectors it no longer has.
    pub(super) fn has_promised(&mut self, round: u64) {
        self.signed = self.signed.max(Some(round));
    }

    /// Whether it may have signed an update of this round which it no longer knows.
    pub(super) fn has_signed(&self, round: u64) -> bool {
        self.signed.is_some_and(|signed| round <= signed)
    }

    /// Whether others know rounds of it that it has lost.
    pub(super) fn has_lost_rounds(&self) -> bool {
        self.signed.is_some()
    }
}

impl Peer {
    /// The peer goes forward by `rounds` rounds. If its model is older than an update may be, or
    /// the initial one, the next rounds are for listening. That lasts until it has heard enough, or
    /// until as many rounds have passed as a neighbour may miss. A peer that is only slow continues
    /// to train.
    pub(super) fn pass_over(&mut self, rounds: u64) {
        self.history.passed_over += rounds;
        if self.standing.is_untaught || rounds > self.charter.round.staleness {
            self.listen();
        }
    }

    /// The next rounds are for listening.
    pub(super) fn listen(&mut self) {
        if self.mode.pace() == Pace::Free && self.standing.listens() {
            return; // a jump does not begin it again
        }
        let has_lost_all = self.standing.is_untaught && self.standing.has_lost_rounds();
        if has_lost_all || !self.holds_shares() {
            self.standing.listening = self.charter.round.patience;
            self.algorithm.lose_all();
        }
    }

    /// At a free pace: whether the peer has just been started, or was alone, and the others have
    /// gone far since.
    pub(super) fn has_been_away(&self) -> bool {
        let byzantine = self.charter.aggregation.byzantine;
        let far = self.round.saturating_add(self.charter.round.staleness);
        let credible = || {
            self.overlay
                .credible_round(self.round, byzantine, self.ahead)
        };
        self.standing.has_returned && credible().is_some_and(|round| round > far)
    }

    /// Whether models are shares of a sum.
    pub(super) fn holds_shares(&self) -> bool {
        self.charter.aggregation.method == Method::PushSum
    }

    /// A round in which the peer says nothing and takes what the others say.
    pub(super) fn listen_now(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::Emit(Event::CatchingUp { round: self.round }));
        self.own = self.untrained();
        self.history.listened += 1;
        self.skip(out);
        self.collect(out);
    }

    // --- having no update of a round ---

    /// Tells those that would wait for it that no update of this round comes.
    pub(super) fn skip(&mut self, out: &mut Vec<Effect>) {
        if self.mode.pace() == Pace::Free {
            return; // nobody waits for a round of another peer
        }
        self.standing.skipped = Some(self.round);
        let bytes = self.skip_of(self.round);
        for to in self.audience() {
            if self.overlay.is_ready(&to) {
                out.push(Effect::Send {
                    to,
                    bytes: bytes.clone(),
                });
            }
        }
    }

    /// The message that says that this peer has no update of a round.
    pub(super) fn skip_of(&self, round: u64) -> Packet {
        self.seal(Kind::Skip, Digest::default(), wire::encode(&Skip { round }))
    }

    /// Whether this peer will never have an update of that round.
    pub(super) fn has_none_of(&self, round: u64) -> bool {
        let is_over = round < self.round || self.standing.skipped == Some(round);
        is_over && round <= self.round && self.exchange.outgoing(round).is_none()
    }

    /// A neighbour has no update of a round.
    pub(super) fn skipped(
        &mut self,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let Skip { round } = wire::decode(envelope.payload())?;
        let peer = envelope.header.sender;
        let is_over = round < self.round || round > self.round.saturating_add(self.ahead);
        if is_over || !self.overlay.is_neighbour(&peer, round) {
            return Ok(()); // nobody waits for that
        }
        if self.window.contains(&peer) || self.exchange.is_on_its_way(&peer, round) {
            return Ok(()); // it has lost its state; what it said before still counts
        }
        out.push(Effect::Emit(Event::Skipped { peer, round }));
        self.silent_in(peer, round, out);
        Ok(())
    }

    /// Nothing comes from a neighbour in that round: nobody waits for it, now or when the round
    /// opens.
    pub(super) fn silent_in(&mut self, sender: PeerId, round: u64, out: &mut Vec<Effect>) {
        self.turned_away.insert((round, sender));
        if round == self.round {
            self.window.release(&sender);
            self.close_if_complete(out);
        }
    }

    // --- hearing enough ---

    /// How many models a listening peer has to hear for the rule to leave liars out, of those that
    /// can come.
    pub(super) fn needs_to_hear(&self) -> usize {
        let minimum = match self.median() {
            Some(median) => median.minimum(),
            None => self.charter.aggregation.rule.minimum(),
        };
        let wanted = minimum.max(2 * self.charter.aggregation.byzantine + 1);
        let can_come = |peer: &PeerId| self.overlay.is_awaited(peer) || self.window.contains(peer);
        let neighbours = self.overlay.receives_from(self.round);
        wanted.min(neighbours.iter().filter(|peer| can_come(peer)).count())
    }

    /// The rule that a listening peer uses in place of one that would judge by the model that is to
    /// be replaced.
    fn median(&self) -> Option<Box<dyn Rule>> {
        let aggregation = &self.charter.aggregation;
        let rule = &aggregation.rule;
        let trusts_own = rule.needs_own() || rule.needs_losses() || rule.needs_updates();
        trusts_own.then(|| {
            rule_from_text("median", aggregation.byzantine, &[]).expect("a rule that there is")
        })
    }

    /// What the rule makes of the neighbours' models; the peer's own model while there is no such
    /// result.
    pub(super) fn catch_up(&mut self, out: &mut Vec<Effect>) -> Parameters {
        let (round, charter) = (self.round, Arc::clone(&self.charter));
        let median = self.median();
        let rule = median
            .as_deref()
            .unwrap_or(charter.aggregation.rule.as_ref());
        let arrived = self.window.counted();
        let mut rows: Vec<(PeerId, Arrived)> = arrived
            .map(|(peer, arrived)| (*peer, arrived.clone()))
            .collect();
        let (heard, need) = (rows.len(), self.needs_to_hear().max(1));
        if heard < rule.minimum() {
            Rows { rows, .. } = self.rows();
        }
        let window = std::mem::take(&mut self.window);
        if heard >= need
            && let Some(parameters) = self.ask(rule, &rows)
        {
            self.standing.caught_up();
            self.history.mixed(rows.len());
            let state = Arc::clone(&parameters).into();
            out.push(Effect::Emit(Event::CaughtUp {
                round,
                models: heard,
                state,
            }));
            return parameters;
        }
        self.standing.listened();
        if self.mode.pace() == Pace::Free {
            // The updates that came belong to no round of this peer, and count along with those
            // still to come.
            self.window = window;
        }
        self.history.mixed(1);
        let need = need.max(rule.minimum());
        out.push(Effect::Emit(Event::MixingSkipped {
            round,
            have: heard,
            need,
        }));
        Arc::clone(&self.parameters)
    }

    /// What a rule makes of models alone; `None` if it cannot combine them.
    fn ask(&self, rule: &dyn Rule, rows: &[(PeerId, Arrived)]) -> Option<Parameters> {
        let (round, dimension) = (self.round, self.parameters.len());
        let weight = |(peer, _): &(PeerId, Arrived)| self.overlay.mixing_weight(peer, round);
        let mut weights: Vec<f64> = rows.iter().map(weight).collect();
        share_out(&mut weights, 0);
        let contributions: Vec<Contribution<'_>> = rows
            .iter()
            .zip(&weights)
            .map(|((peer, arrived), weight)| Contribution {
                mixing_weight: *weight,
                is_finite: true, // checked on arrival
                ..Contribution::of(*peer, &arrived.values[..dimension])
            })
            .collect();
        let (rounds, seed) = (self.charter.rounds, self.charter.genesis.seed());
        let context = Context {
            round,
            rounds,
            seed,
            ..Context::offline()
        };
        Some(Arc::new(
            rule.aggregate(&context, &contributions).ok()?.parameters,
        ))
    }

    /// Under push-sum: the model of what the peer was given, if it was given anything.
    pub(super) fn take_shares(&mut self, out: &mut Vec<Effect>) -> Parameters {
        let (round, heard) = (self.round, self.window.counted().count());
        let parameters = self.combine(None, out);
        if parameters == self.parameters {
            self.standing.listened();
            self.standing.is_untaught = true;
        } else {
            self.standing.listening = 0;
            let state = Arc::clone(&parameters).into();
            out.push(Effect::Emit(Event::CaughtUp {
                round,
                models: heard,
                state,
            }));
        }
        parameters
    }
}
