//! Everything that watches a run: what is measured, the invariants, and what an omniscient attack
//! overhears.

use std::sync::Arc;
use std::time::Duration;

use kith_gossip::effect::Record;
use kith_gossip::{Effect, Event, Input};

use crate::attack::Oracle;
use crate::check::Invariants;
use crate::metrics::{Metrics, Mixing};
use crate::simulator::{Moment, Observer};

/// What a [`Listener`] hears of a member.
#[derive(Debug)]
pub enum Happened<'a> {
    /// Its peer emitted an event.
    Event(&'a Event),
    /// Its process died.
    Crashed,
    /// The run is over; told once, of member 0.
    Ended,
}

/// Hears everything that people see of a run, in its order: virtual time, the number of the member,
/// and what happened to it.
pub type Listener = Box<dyn FnMut(Duration, usize, Happened<'_>)>;

/// Everything that watches a run.
pub(super) struct Watchers {
    pub(super) metrics: Metrics,
    pub(super) mixing: Mixing,
    pub(super) invariants: Invariants,
    pub(super) oracle: Option<Arc<Oracle>>,
    pub(super) listener: Option<Listener>,
}

impl Watchers {
    /// Tells the listener, if there is one.
    pub(super) fn tell(&mut self, now: Duration, member: usize, happened: Happened<'_>) {
        if let Some(listener) = &mut self.listener {
            listener(now, member, happened);
        }
    }
}

impl Observer for Watchers {
    fn event(&mut self, moment: &Moment<'_>, event: &Event) {
        let scope = self.invariants.scope();
        self.metrics.event(moment, event, |peer| scope.number(peer));
        self.mixing.event(scope, moment, event);
        self.invariants.event(moment, event);
        self.tell(moment.now, moment.member, Happened::Event(event));
    }

    fn input(&mut self, moment: &Moment<'_>, input: &Input) {
        if let (
            Some(oracle),
            Input::Trained {
                round, parameters, ..
            },
        ) = (&self.oracle, input)
            && !self.invariants.scope().lies[moment.member]
        {
            oracle.record(*round, moment.peer.id(), Arc::clone(parameters));
        }
        self.metrics.input(moment, input);
        self.invariants.input(moment, input);
    }

    fn effect(&mut self, moment: &Moment<'_>, effect: &Effect) {
        self.metrics.effect(moment, effect);
        self.invariants.effect(moment, effect);
    }

    fn stored(&mut self, moment: &Moment<'_>, record: &Record) {
        self.invariants.stored(moment, record);
    }

    fn crashed(&mut self, moment: &Moment<'_>) {
        self.invariants.crashed(moment);
        self.tell(moment.now, moment.member, Happened::Crashed);
    }

    fn sent(&mut self, _: usize, _: usize, bytes: usize) {
        self.metrics.bytes.wire += bytes as u64;
    }
}
