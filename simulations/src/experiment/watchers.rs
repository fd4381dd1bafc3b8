//! Everything that watches a run: what is measured, the invariants, and what an omniscient attack
//! overhears.

use std::sync::Arc;

use kith_gossip::effect::Record;
use kith_gossip::{Effect, Event, Input};

use crate::attack::Oracle;
use crate::check::Promises;
use crate::metrics::{Metrics, Mixing};
use crate::simulator::{Moment, Observer};

/// Everything that watches a run.
pub(super) struct Watchers {
    pub(super) metrics: Metrics,
    pub(super) mixing: Mixing,
    pub(super) promises: Promises,
    pub(super) oracle: Option<Arc<Oracle>>,
}

impl Observer for Watchers {
    fn event(&mut self, moment: &Moment<'_>, event: &Event) {
        let scope = self.promises.scope();
        self.metrics.event(moment, event, |peer| scope.number(peer));
        self.mixing.event(scope, moment, event);
        self.promises.event(moment, event);
    }

    fn input(&mut self, moment: &Moment<'_>, input: &Input) {
        if let (
            Some(oracle),
            Input::Trained {
                round, parameters, ..
            },
        ) = (&self.oracle, input)
            && !self.promises.scope().lies[moment.member]
        {
            oracle.record(*round, moment.peer.id(), Arc::clone(parameters));
        }
        self.metrics.input(moment, input);
        self.promises.input(moment, input);
    }

    fn effect(&mut self, moment: &Moment<'_>, effect: &Effect) {
        self.metrics.effect(moment, effect);
        self.promises.effect(moment, effect);
    }

    fn stored(&mut self, moment: &Moment<'_>, record: &Record) {
        self.promises.stored(moment, record);
    }

    fn crashed(&mut self, moment: &Moment<'_>) {
        self.promises.crashed(moment);
    }

    fn sent(&mut self, _: usize, _: usize, bytes: usize) {
        self.metrics.bytes.wire += bytes as u64;
    }
}
