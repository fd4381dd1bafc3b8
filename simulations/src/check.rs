//! Invariants that a run must keep, evaluated while it runs. One file each.
//!
//! Safety invariants hold at every moment, under any fault. `heals` is the liveness invariant: once
//! faults have stopped, everybody finishes. Invariants cover honest peers only. The first breach of
//! each is kept, with when and where, so that the run's seed replays it.

use std::time::Duration;

use kith_consensus::PeerId;
use kith_consensus::charter::Charter;
use kith_consensus::registry::{Entry, Registry};
use kith_gossip::{Effect, Event, Input, Record, Roster};
use serde::{Deserialize, Serialize};

use crate::attack::{AttackEntry, Means};
use crate::simulator::Moment;

mod adopts_as_agreed;
mod awaited_again;
mod bans_end;
mod bodies_for_receivers;
mod bounded;
mod charged_first;
mod chooses_as_agreed;
mod contradictions_convict;
mod counted_once;
mod departures_are_true;
mod evidence_spreads;
mod expelled_is_out;
mod finds_back;
mod finite;
mod floods_are_cut;
mod free_pace_is_heard;
mod handshakes_are_answered;
mod heals;
mod honest_are_heard;
mod honest_keep_step;
mod inside_the_hull;
mod jumps_are_credible;
mod lateness_is_bounded;
mod mixes_as_agreed;
mod no_contradiction;
mod no_dismissal;
mod no_stall;
mod nobody_is_silenced;
mod not_too_early;
mod nothing_stale;
mod one_spelling;
mod over_is_true;
mod promise_kept;
mod promised_first;
mod pulls_make_room;
mod quorum_is_kept;
mod replicas_agree;
mod round_goes_on;
mod rule_has_enough;
mod true_addresses;

/// Begins to watch an invariant.
pub type NewCheck = fn(&Scope) -> Box<dyn Check>;

/// An invariant in the table; `new` begins to watch it.
pub type CheckEntry = Entry<NewCheck>;

/// Every invariant.
pub static CHECKS: Registry<NewCheck> = Registry::new(
    "check",
    &[
        round_goes_on::ENTRY,
        counted_once::ENTRY,
        nothing_stale::ENTRY,
        over_is_true::ENTRY,
        promised_first::ENTRY,
        charged_first::ENTRY,
        promise_kept::ENTRY,
        no_contradiction::ENTRY,
        expelled_is_out::ENTRY,
        evidence_spreads::ENTRY,
        honest_are_heard::ENTRY,
        replicas_agree::ENTRY,
        rule_has_enough::ENTRY,
        mixes_as_agreed::ENTRY,
        adopts_as_agreed::ENTRY,
        chooses_as_agreed::ENTRY,
        quorum_is_kept::ENTRY,
        not_too_early::ENTRY,
        awaited_again::ENTRY,
        jumps_are_credible::ENTRY,
        inside_the_hull::ENTRY,
        finite::ENTRY,
        bounded::ENTRY,
        no_dismissal::ENTRY,
        bans_end::ENTRY,
        no_stall::ENTRY,
        nobody_is_silenced::ENTRY,
        one_spelling::ENTRY,
        contradictions_convict::ENTRY,
        departures_are_true::ENTRY,
        true_addresses::ENTRY,
        floods_are_cut::ENTRY,
        free_pace_is_heard::ENTRY,
        lateness_is_bounded::ENTRY,
        honest_keep_step::ENTRY,
        bodies_for_receivers::ENTRY,
        handshakes_are_answered::ENTRY,
        pulls_make_room::ENTRY,
        finds_back::ENTRY,
        heals::ENTRY,
    ],
);

/// What the invariants of a run refer to.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The federation's charter.
    pub charter: std::sync::Arc<Charter>,
    /// The peers' ids by number.
    pub ids: Roster,
    /// Whether each peer lies, by number.
    pub lies: Vec<bool>,
    /// What the liars do, if there are any.
    pub attack: Option<&'static AttackEntry>,
    /// Whether links lose or spoil nothing and no fault is drawn: then stricter invariants hold.
    pub clear: bool,
    /// Whether links lose nothing and lines carry everything at once.
    pub prompt: bool,
    /// The values between which every coordinate of an honest model must stay, if the objectives
    /// bound it and the rule tolerates the liars.
    pub hull: Option<(f32, f32)>,
    /// When the last fault has ended.
    pub healed_at: Duration,
    /// How long after that everybody may take.
    pub heals_within: Duration,
    /// The latest round that each honest peer has ever been in.
    pub(crate) reached: Vec<u64>,
    /// The peer that was looked up last: every check asks about the peer that an event names.
    pub(crate) last: std::cell::Cell<Option<(PeerId, usize)>>,
}

impl Scope {
    /// The number of a peer.
    pub fn number(&self, peer: &PeerId) -> Option<usize> {
        if let Some((_, number)) = self.last.get().filter(|(last, _)| last == peer) {
            return Some(number);
        }
        let number = self.ids.index(peer)?;
        self.last.set(Some((*peer, number)));
        Some(number)
    }

    /// Whether a peer is an honest one of this world.
    pub fn is_honest(&self, peer: &PeerId) -> bool {
        self.number(peer).is_some_and(|number| !self.lies[number])
    }

    /// Whether the liars' attack is one that must not break this invariant.
    fn is_attacked(&self, check: &str) -> bool {
        self.attack.is_some_and(
            |attack| matches!(attack.new.means, Means::Messages { fails, .. } if fails == check),
        )
    }

    /// Whether the liars attack with messages.
    fn is_spoken_to(&self) -> bool {
        self.attack
            .is_some_and(|attack| matches!(attack.new.means, Means::Messages { .. }))
    }

    /// How many of the peers that `member` exchanges updates with in `round` can have said that
    /// they are in round `reached` or later. Liars may say anything.
    fn neighbours_in(&self, member: usize, round: u64, reached: u64) -> Option<usize> {
        let graph = self.charter.topology.graph(self.ids.len(), round).ok()?;
        let ends = graph
            .receives_from(member)
            .iter()
            .chain(graph.sends_to(member));
        let neighbours: std::collections::BTreeSet<usize> = ends.copied().collect();
        Some(
            neighbours
                .into_iter()
                .filter(|peer| self.lies[*peer] || self.reached[*peer] >= reached)
                .count(),
        )
    }

    fn note(&mut self, member: usize, event: &Event) {
        let reached = match event {
            Event::RoundOpened { round, .. } | Event::Finished { rounds: round, .. } => *round,
            // While it stores the result it is in the next round, and says so.
            Event::RoundClosed { round, .. } => round + 1,
            _ => return,
        };
        self.reached[member] = self.reached[member].max(reached);
    }
}

/// A breach of an invariant: what happened, in words.
pub type Breach = Option<String>;

/// Watches one invariant. Each method returns what broke it.
pub trait Check {
    /// An event of an honest peer.
    fn event(&mut self, _scope: &Scope, _moment: &Moment<'_>, _event: &Event) -> Breach {
        None
    }

    /// An input of an honest peer, before it is handled.
    fn input(&mut self, _scope: &Scope, _moment: &Moment<'_>, _input: &Input) -> Breach {
        None
    }

    /// An effect of an honest peer, before it is carried out.
    fn effect(&mut self, _scope: &Scope, _moment: &Moment<'_>, _effect: &Effect) -> Breach {
        None
    }

    /// A record of an honest peer is durable.
    fn stored(&mut self, _scope: &Scope, _moment: &Moment<'_>, _record: &Record) -> Breach {
        None
    }

    /// An honest peer's process died.
    fn crashed(&mut self, _scope: &Scope, _moment: &Moment<'_>) {}

    /// The run is over; `unfinished` are the honest peers that run and did not go through every
    /// round.
    fn ended(&mut self, _scope: &Scope, _now: Duration, _unfinished: &[usize]) -> Breach {
        None
    }
}

/// An invariant that was broken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// The invariant's name.
    pub check: String,
    /// When, in virtual seconds.
    pub virtual_seconds: f64,
    /// Number of the peer; `None` for the run as a whole.
    pub peer: Option<usize>,
    /// What happened, in words.
    pub what: String,
}

impl Failure {
    /// Where it was broken, in words.
    pub fn place(&self) -> String {
        place(self.peer)
    }
}

/// A peer, or the run as a whole.
pub fn place(peer: Option<usize>) -> String {
    peer.map_or("the run".to_owned(), |peer| format!("peer {peer}"))
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Failure {
            check,
            virtual_seconds,
            what,
            ..
        } = self;
        let place = self.place();
        write!(
            formatter,
            "invariant {check} broken by {place} at {virtual_seconds:.6} s: {what}"
        )
    }
}

/// All invariants of a run.
pub struct Invariants {
    scope: Scope,
    watching: Vec<(&'static str, Box<dyn Check>)>,
    /// The first breach of each, in the order in which they happened.
    pub failures: Vec<Failure>,
}

impl Invariants {
    /// Watches every invariant of the table.
    pub fn new(scope: Scope) -> Invariants {
        let watching = CHECKS
            .iter()
            .map(|entry| (entry.name, (entry.new)(&scope)))
            .collect();
        Invariants {
            scope,
            watching,
            failures: Vec::new(),
        }
    }

    /// What the invariants refer to.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Number of invariants that are watched.
    pub fn count(&self) -> usize {
        self.watching.len()
    }

    fn each(&mut self, moment: &Moment<'_>, mut ask: impl FnMut(&mut dyn Check, &Scope) -> Breach) {
        if self.scope.lies[moment.member] {
            return;
        }
        for (name, check) in &mut self.watching {
            if let Some(what) = ask(check.as_mut(), &self.scope) {
                fail(
                    &mut self.failures,
                    name,
                    moment.now,
                    Some(moment.member),
                    what,
                );
            }
        }
    }

    /// See [`Check::event`].
    pub fn event(&mut self, moment: &Moment<'_>, event: &Event) {
        self.scope.note(moment.member, event);
        self.each(moment, |check, scope| check.event(scope, moment, event));
    }

    /// See [`Check::input`].
    pub fn input(&mut self, moment: &Moment<'_>, input: &Input) {
        self.each(moment, |check, scope| check.input(scope, moment, input));
    }

    /// See [`Check::effect`].
    pub fn effect(&mut self, moment: &Moment<'_>, effect: &Effect) {
        self.each(moment, |check, scope| check.effect(scope, moment, effect));
    }

    /// See [`Check::stored`].
    pub fn stored(&mut self, moment: &Moment<'_>, record: &Record) {
        self.each(moment, |check, scope| check.stored(scope, moment, record));
    }

    /// See [`Check::crashed`].
    pub fn crashed(&mut self, moment: &Moment<'_>) {
        self.each(moment, |check, scope| {
            check.crashed(scope, moment);
            None
        });
    }

    /// See [`Check::ended`].
    pub fn ended(&mut self, now: Duration, unfinished: &[usize]) {
        for (name, check) in &mut self.watching {
            if let Some(what) = check.ended(&self.scope, now, unfinished) {
                fail(&mut self.failures, name, now, None, what);
            }
        }
    }
}

fn fail(
    failures: &mut Vec<Failure>,
    check: &'static str,
    now: Duration,
    peer: Option<usize>,
    what: String,
) {
    if failures.iter().all(|failure| failure.check != check) {
        failures.push(Failure {
            check: check.to_owned(),
            virtual_seconds: now.as_secs_f64(),
            peer,
            what,
        });
    }
}
