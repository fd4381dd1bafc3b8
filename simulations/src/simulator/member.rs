//! One peer with its process and its disk: it starts, waits, stores and stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::{PeerId, Sorted};
use kith_gossip::{Checkpoint, Input, Intent, Peer, Record, Setup, Stored};

use super::connections::Connection;
use super::entry::Entry;
use super::queue::Nanoseconds;
use super::{Device, Local, Moment, Observer, Participant, Simulation, nanoseconds};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    /// Not started yet.
    Waiting,
    Up,
    /// Dead, and will start again.
    Down,
    /// Dead for good, unless everything heals.
    Gone,
    Stopped,
}

pub(super) struct Member {
    pub(super) peer: Peer,
    pub(super) setup: Box<dyn Fn() -> Setup>,
    pub(super) local: Arc<dyn Local>,
    pub(super) device: Device,
    /// See [`Participant::waits`].
    pub(super) waits: Option<Nanoseconds>,
    /// The newest round that it has trained in.
    pub(super) trained: Option<u64>,
    pub(super) checkpoint: Option<Box<Checkpoint>>,
    /// The one before; kept only if a rollback is to come.
    pub(super) before: Option<Box<Checkpoint>>,
    /// The newest intent, also of a round that is complete; kept only if a rollback is to come.
    pub(super) promised: Option<Box<Intent>>,
    pub(super) intent: Option<Box<Intent>>,
    /// Proofs against others, on its disk.
    pub(super) evidence: BTreeMap<PeerId, Vec<u8>>,
    /// Counts deaths: entries for an earlier life are dropped.
    pub(super) life: u32,
    pub(super) process: Process,
    pub(super) paused_until: Nanoseconds,
    /// Entries that come for it while it stands still, in order.
    pub(super) held: Vec<Entry>,
    pub(super) write: Nanoseconds,
    /// When the disk has finished its writes so far: writes are done in order.
    pub(super) disk_free: Nanoseconds,
    pub(super) clock: f64,
    /// Its connections, by peer.
    pub(super) connections: Sorted<PeerId, Connection>,
    /// The newest entry of the queue that delivers to it: time, life, slot.
    pub(super) delivery: Option<(Nanoseconds, u32, u32)>,
    /// By peer, when it hears last that a connection began or ended: such news arrives in this
    /// order.
    pub(super) news: BTreeMap<u32, Nanoseconds>,
}

impl Member {
    pub(super) fn new(participant: Participant) -> Member {
        Member {
            peer: Peer::new(Setup {
                incarnation: 1,
                ..(participant.setup)()
            }),
            setup: participant.setup,
            local: participant.local,
            device: participant.device,
            waits: participant.waits.map(nanoseconds),
            trained: None,
            checkpoint: None,
            before: None,
            promised: None,
            intent: None,
            evidence: BTreeMap::new(),
            life: 0,
            process: Process::Waiting,
            paused_until: 0,
            held: Vec::new(),
            write: 0,
            disk_free: 0,
            clock: 1.0,
            connections: Sorted::default(),
            delivery: None,
            news: BTreeMap::new(),
        }
    }

    /// The peer anew, in the life that now begins, with what its disk holds against others.
    pub(super) fn reborn(&self) -> Peer {
        Peer::new(Setup {
            incarnation: u64::from(self.life) + 1,
            evidence: self.evidence.values().cloned().collect(),
            ..(self.setup)()
        })
    }

    /// The moment that an observer is shown, with the member's number.
    pub(super) fn moment(&self, now: Nanoseconds, member: usize) -> Moment<'_> {
        Moment {
            now: Duration::from_nanos(now),
            member,
            life: self.life,
            peer: &self.peer,
        }
    }
}

impl<O: Observer> Simulation<O> {
    pub(super) fn start(&mut self, member: usize) {
        self.stranded.clear(); // somebody is back
        let state = &mut self.members[member];
        state.process = Process::Up;
        let (checkpoint, intent) = (state.checkpoint.clone(), state.intent.clone());
        self.push_input(member, Input::Start { checkpoint, intent }, 0);
        self.meet(member);
    }

    /// A peer has stopped by itself.
    pub(super) fn stopped(&mut self, member: usize) {
        self.members[member].process = Process::Stopped;
        self.stranded.remove(&member);
        self.running -= 1;
        self.hang_up(member);
        self.let_in();
    }

    /// Notes that a member has said that it waits for neighbours.
    pub(super) fn waits_for_neighbours(&mut self, member: usize) {
        let mut neighbours = self.members[member].peer.neighbours();
        if neighbours.is_empty() {
            // In this round it exchanges with nobody; it waits for anybody.
            neighbours.extend(self.ids.iter().filter(|id| **id != self.ids[member]));
        }
        let gone = |peer: &PeerId| {
            let neighbour = self
                .member_of(peer)
                .map(|number| self.members[number].process);
            matches!(neighbour, Some(Process::Stopped | Process::Gone))
        };
        if !neighbours.is_empty() && neighbours.iter().all(gone) {
            self.stranded.insert(member);
        }
    }

    /// A record goes to the disk, after the earlier ones.
    pub(super) fn persist(&mut self, member: usize, record: Record) {
        let state = &mut self.members[member];
        state.disk_free = state.disk_free.max(self.now) + state.write;
        let entry = Entry::Durable {
            member: member as u32,
            life: state.life,
            record: Box::new(record),
        };
        if state.disk_free == self.now {
            self.at_once.push_back(entry);
        } else {
            self.queue.push(state.disk_free, entry);
        }
    }

    pub(super) fn durable(&mut self, member: usize, record: Record) {
        let rolls_back = self.rolls_back;
        let state = &mut self.members[member];
        let moment = state.moment(self.now, member);
        self.observer.stored(&moment, &record);
        let stored = match record {
            Record::Intent(intent) => {
                let round = intent.round;
                if rolls_back {
                    state.promised = Some(intent.clone());
                }
                state.intent = Some(intent);
                Stored::Intent { round }
            }
            Record::Checkpoint(checkpoint) => {
                let round = checkpoint.round;
                // A promise for a round that is complete is never needed again.
                state.intent = state.intent.take().filter(|intent| intent.round >= round);
                let newest = state.checkpoint.replace(checkpoint);
                if rolls_back {
                    state.before = newest;
                }
                Stored::Checkpoint { round }
            }
            Record::Evidence { peer, proof } => {
                state.evidence.insert(peer, proof);
                Stored::Evidence { peer }
            }
        };
        self.handle(member, Input::Stored(stored));
    }
}
