//! The observers of a simulation, and what they are shown.

use std::time::Duration;

use kith_consensus::PeerId;
use kith_gossip::{Effect, Event, Input, Peer, Record};

/// Watches a simulation. Everything is shown in the order in which it happens.
pub trait Observer {
    /// A peer emitted an event.
    fn event(&mut self, moment: &Moment<'_>, event: &Event);

    /// An input goes into a peer, before the peer handles it.
    fn input(&mut self, _moment: &Moment<'_>, _input: &Input) {}

    /// An effect came out of a peer, before it is carried out.
    fn effect(&mut self, _moment: &Moment<'_>, _effect: &Effect) {}

    /// A record is durable now.
    fn stored(&mut self, _moment: &Moment<'_>, _record: &Record) {}

    /// A peer's process died; anything not durable is gone.
    fn crashed(&mut self, _moment: &Moment<'_>) {}

    /// A message of `bytes` bytes was put on the wire.
    fn sent(&mut self, _from: usize, _to: usize, _bytes: usize) {}
}

/// When and where something happens.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Virtual time since the start.
    pub now: Duration,
    /// Number of the member.
    pub member: usize,
    /// How often its process has died.
    pub life: u32,
    /// Its peer, as it is now.
    pub peer: &'a Peer,
}

/// Keeps every event.
#[derive(Debug, Default)]
pub struct Recorder {
    /// When it happened, at which peer, and the event.
    pub events: Vec<(Duration, PeerId, Event)>,
}

impl Observer for Recorder {
    fn event(&mut self, moment: &Moment<'_>, event: &Event) {
        self.events
            .push((moment.now, moment.peer.id(), event.clone()));
    }
}

/// The observer that ignores everything.
impl Observer for () {
    fn event(&mut self, _: &Moment<'_>, _: &Event) {}
}
