//! Rounds in which a peer says nothing: it is behind the others, or its training failed.
//!
//! A peer that was away for long, or comes back without its state, has an old model or the initial
//! one. It would pull everybody towards that, and in the last round it would be the result. So in
//! the first round after such a jump it listens: it does not train, tells its neighbours that it
//! publishes nothing, and takes what the rule makes of their models, of at least 2f + 1 where it
//! has so many neighbours. Only where the rule cannot do without another model is its own counted
//! as one of them. A rule that judges others by the peer's own model, or by its rows, would judge
//! by what is to be left behind: there the coordinate-wise median takes its place. From there the
//! peer goes on as everybody else.
//!
//! Where nobody keeps step a peer that is behind is only slow, unless it has just been started or
//! was alone, and is behind by more than `staleness`: then it listens, too, until so many
//! neighbours have published. It goes on with its own rounds, or, where it has lost some that
//! others know, past them.
//!
//! Under push-sum a model is a share of a sum that has to stay what it is. A peer that has its
//! shares goes on with them, however old; one that has lost what it had published begins with none,
//! and listens until it is given some.

use std::sync::Arc;

use kith_consensus::aggregate::{Context, Contribution, rule_from_text};
use kith_consensus::charter::Method;
use kith_consensus::{Digest, PeerId, Rule, Seed};

use super::window::Arrived;
use super::{Peer, stage};
use crate::effect::{Effect, Parameters};
use crate::envelope::Kind;
use crate::event::{Event, Refusal};
use crate::message::Skip;
use crate::packet::Opened;
use crate::wire;

impl Peer {
    /// The peer goes forward by so many rounds. Where its model is older than an update may be, or
    /// the initial one, the next rounds are for listening, until enough was heard, or as many of
    /// them have passed as a neighbour may miss. A peer that is only slow trains on.
    pub(super) fn pass_over(&mut self, rounds: u64) {
        self.history.passed_over += rounds;
        if self.untaught || rounds > self.charter.round.staleness {
            self.listen();
        }
    }

    /// The next rounds are for listening.
    pub(super) fn listen(&mut self) {
        if self.is_asynchronous() && self.listens() {
            return; // a jump does not begin it again
        }
        let lost = self.untaught && self.published_before.is_some();
        if lost || !self.holds_shares() {
            self.listening = self.charter.round.patience;
            self.method.lose_all();
        }
    }

    /// Where nobody keeps step: whether the peer has just been started, or was alone, and the
    /// others have gone far since.
    pub(super) fn has_been_away(&self) -> bool {
        let credible = || {
            self.overlay
                .credible_round(self.round, self.charter.aggregation.byzantine, self.ahead)
        };
        self.returned
            && credible().is_some_and(|round| {
                round > self.round.saturating_add(self.charter.round.staleness)
            })
    }

    /// Whether models are shares of a sum.
    pub(super) fn holds_shares(&self) -> bool {
        self.charter.aggregation.method == Method::PushSum
    }

    /// A round in which the peer says nothing and takes what the others say.
    pub(super) fn listen_now(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::Emit(Event::CatchingUp { round: self.round }));
        self.own = self.row(Arc::clone(&self.parameters), &self.parameters, 0.0);
        (self.own_samples, self.own_local_steps) = (0, 0);
        self.history.listened += 1;
        self.skip(out);
        self.collect(out);
    }

    /// Tells those that would wait for it that no update of this round comes.
    pub(super) fn skip(&mut self, out: &mut Vec<Effect>) {
        if self.is_asynchronous() {
            return; // nobody waits for a round of another peer
        }
        self.skipped = Some(self.round);
        let bytes = self.skip_of(self.round);
        for to in self
            .listeners(self.round)
            .into_iter()
            .filter(|peer| self.overlay.is_ready(peer))
            .collect::<Vec<_>>()
        {
            out.push(Effect::Send {
                to,
                bytes: bytes.clone(),
            });
        }
    }

    /// The message that says so of a round.
    pub(super) fn skip_of(&self, round: u64) -> crate::packet::Packet {
        self.seal(Kind::Skip, Digest::default(), wire::encode(&Skip { round }))
    }

    /// Whether no update of that round will ever be had of this peer.
    pub(super) fn has_none_of(&self, round: u64) -> bool {
        let over = round < self.round || self.skipped == Some(round);
        over && round <= self.round && self.exchange.outgoing(round).is_none()
    }

    /// A neighbour has no update of a round.
    pub(super) fn skipped(
        &mut self,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let Skip { round } = wire::decode(envelope.payload())?;
        let sender = envelope.header.sender();
        if round < self.round
            || round > self.round.saturating_add(self.ahead)
            || !self.overlay.is_neighbour(&sender, round)
        {
            return Ok(()); // nobody waits for that
        }
        if self.window.contains(&sender) || self.exchange.is_on_its_way(&sender, round) {
            return Ok(()); // it has lost its state; what it said before holds
        }
        out.push(Effect::Emit(Event::Skipped {
            peer: sender,
            round,
        }));
        self.silent_in(sender, round, out);
        Ok(())
    }

    /// Nothing comes of a neighbour in that round: it is not waited for, now or when the round
    /// opens.
    pub(super) fn silent_in(&mut self, sender: PeerId, round: u64, out: &mut Vec<Effect>) {
        self.turned_away.insert((round, sender));
        if round == self.round {
            self.window.release(&sender);
            self.close_if_complete(out);
        }
    }

    /// How many models a listening peer has to hear for the rule to leave liars out, of those that
    /// can come.
    pub(super) fn needs_to_hear(&self) -> usize {
        let minimum = match self.median() {
            Some(median) => median.minimum(),
            None => self.charter.aggregation.rule.minimum(),
        };
        let wanted = minimum.max(2 * self.charter.aggregation.byzantine + 1);
        let there = self.overlay.receives_from(self.round).into_iter();
        wanted.min(
            there
                .filter(|peer| self.overlay.is_awaited(peer) || self.window.contains(peer))
                .count(),
        )
    }

    /// What a listening peer asks in the place of a rule that would judge by what is to be left
    /// behind.
    fn median(&self) -> Option<Box<dyn Rule>> {
        let aggregation = &self.charter.aggregation;
        let rule = &aggregation.rule;
        let trusts_own = rule.needs_own() || rule.needs_losses() || rule.needs_updates();
        trusts_own.then(|| {
            rule_from_text("median", aggregation.byzantine, &[]).expect("a rule that there is")
        })
    }

    /// What the rule makes of the neighbours' models; the peer's own where that is not to be had
    /// yet.
    pub(super) fn catch_up(&mut self, out: &mut Vec<Effect>) -> Parameters {
        let (round, dimension, charter) =
            (self.round, self.parameters.len(), Arc::clone(&self.charter));
        let median = self.median();
        let rule = median
            .as_deref()
            .unwrap_or(charter.aggregation.rule.as_ref());
        let mut rows: Vec<(PeerId, Arrived)> = self
            .window
            .counted()
            .map(|(peer, arrived)| (*peer, arrived.clone()))
            .collect();
        let (heard, need) = (rows.len(), self.needs_to_hear().max(1));
        if heard < rule.minimum() {
            rows = self.rows();
        }
        let window = std::mem::take(&mut self.window);
        let mut weights: Vec<f64> = rows
            .iter()
            .map(|(peer, _)| self.overlay.mixing_weight(peer, round))
            .collect();
        stage::share_out(&mut weights, 0);
        let contributions: Vec<Contribution<'_>> = rows
            .iter()
            .zip(&weights)
            .map(|((peer, arrived), weight)| Contribution {
                mixing_weight: *weight,
                samples: arrived.samples,
                local_steps: arrived.local_steps,
                is_finite: true, // checked on arrival
                ..Contribution::of(*peer, &arrived.values[..dimension])
            })
            .collect();
        let context = Context {
            round,
            rounds: charter.rounds,
            seed: Seed(charter.id.0),
            ..Context::offline()
        };
        match rule.aggregate(&context, &contributions) {
            Ok(aggregate) if heard >= need => {
                let parameters = Arc::new(aggregate.parameters);
                let state = Arc::clone(&parameters).into();
                self.listening = 0;
                (self.untaught, self.returned) = (false, false);
                self.history.mixed(rows.len());
                out.push(Effect::Emit(Event::CaughtUp {
                    round,
                    models: heard,
                    state,
                }));
                parameters
            }
            _ => {
                self.listening -= 1;
                self.returned &= self.listens(); // it has waited long enough
                if self.is_asynchronous() {
                    // What has come is nobody's round's, and counts with what is still to come.
                    self.window = window;
                }
                self.history.mixed(1);
                out.push(Effect::Emit(Event::MixingSkipped {
                    round,
                    have: heard,
                    need: need.max(rule.minimum()),
                }));
                Arc::clone(&self.parameters)
            }
        }
    }

    /// Under push-sum: the model of what the peer was given, where it was given anything.
    pub(super) fn take_shares(&mut self, out: &mut Vec<Effect>) -> Parameters {
        let (round, heard) = (self.round, self.window.counted().count());
        let parameters = self.combine(None, out);
        if parameters == self.parameters {
            self.listening -= 1;
            self.returned &= self.listens();
            self.untaught = true;
        } else {
            self.listening = 0;
            out.push(Effect::Emit(Event::CaughtUp {
                round,
                models: heard,
                state: Arc::clone(&parameters).into(),
            }));
        }
        parameters
    }

    /// Whether the peer says nothing in the round that it is in.
    pub(super) fn listens(&self) -> bool {
        self.listening > 0
    }

    /// Whether the round has to wait on though nobody is awaited any more or its deadline has
    /// passed: the charter wants so many others, who are connected, or whose update came, or who
    /// have said that they have none. (Have, need).
    pub(super) fn too_few(&self) -> Option<(usize, usize)> {
        let need = self.others_needed();
        // In asynchronous rounds a peer that is alone does not open its next round.
        if self.is_asynchronous() || self.overlay.everyone_ready().len() >= need {
            return None;
        }
        let silent = self
            .turned_away
            .iter()
            .filter(|(round, peer)| *round == self.round && !self.window.contains(peer))
            .count();
        let have = self.window.counted().count() + silent;
        (have < need).then_some((have, need))
    }
}
