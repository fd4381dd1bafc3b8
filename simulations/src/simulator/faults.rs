//! The faults, and how they end.

use std::time::Duration;

use super::connections::DETECTION;
use super::entry::Entry;
use super::member::Process;
use super::network::Cut;
use super::{Observer, Simulation, nanoseconds};

/// Something that goes wrong at a time.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variant's line says what its fields are")]
pub enum Fault {
    /// A process dies; it starts again after `back`, if it does, with its disk or without.
    Crash {
        peer: usize,
        back: Option<Duration>,
        keeps_disk: bool,
    },
    /// A process dies; it starts again after `back` with its newest intent and the checkpoint
    /// before its newest one.
    Rollback { peer: usize, back: Duration },
    /// A process stands still (SIGSTOP) for `lasts`.
    Pause { peer: usize, lasts: Duration },
    /// Peers cannot reach each other for `lasts`.
    Partition { cut: Cut, lasts: Duration },
    /// More messages are lost for `lasts`.
    Loss { share: f64, lasts: Duration },
    /// A disk takes `write` for every record, for `lasts`.
    SlowDisk {
        peer: usize,
        write: Duration,
        lasts: Duration,
    },
    /// A clock runs at this rate from now on (1 is right).
    Clock { peer: usize, rate: f64 },
    /// Every process that is down starts again, cuts heal, disks and clocks are right: from now on everything
    /// works.
    Heal,
}

impl<O: Observer> Simulation<O> {
    /// Lets something go wrong at a time.
    pub fn fault_at(&mut self, at: Duration, fault: Fault) {
        self.queue
            .push(nanoseconds(at), Entry::Fault(self.faults.len()));
        self.rolls_back |= matches!(fault, Fault::Rollback { .. });
        self.faults.push(fault);
    }

    /// Lets a peer's process die at a time and start again at once, with its disk or without.
    pub fn restart_at(&mut self, peer: usize, at: Duration, keeps_disk: bool) {
        self.fault_at(
            at,
            Fault::Crash {
                peer,
                back: Some(Duration::ZERO),
                keeps_disk,
            },
        );
    }

    pub(super) fn fault(&mut self, number: usize) {
        match self.faults[number].clone() {
            Fault::Crash {
                peer,
                back,
                keeps_disk,
            } => {
                if self.members[peer].process == Process::Up {
                    self.crash(peer, keeps_disk);
                    match back {
                        Some(back) => self.ends_after(number, back),
                        None => self.is_gone(peer),
                    }
                }
            }
            Fault::Rollback { peer, back } => {
                if self.members[peer].process == Process::Up {
                    self.crash(peer, true);
                    let state = &mut self.members[peer];
                    state.checkpoint = state.before.take();
                    state.intent = state.promised.clone();
                    self.ends_after(number, back);
                }
            }
            Fault::Pause { peer, lasts } => {
                let until = &mut self.members[peer].paused_until;
                *until = (*until).max(self.now + nanoseconds(lasts));
                self.ends_after(number, lasts);
            }
            Fault::Partition { cut, lasts } => {
                self.network.cut(number, &cut);
                let noticed = self.now + nanoseconds(DETECTION);
                self.queue.push(noticed, Entry::CutNoticed(number));
                self.ends_after(number, lasts);
            }
            Fault::Loss { share, lasts } => {
                self.network.extra_loss = share;
                self.ends_after(number, lasts);
            }
            Fault::SlowDisk { peer, write, lasts } => {
                self.members[peer].write = nanoseconds(write);
                self.ends_after(number, lasts);
            }
            Fault::Clock { peer, rate } => self.members[peer].clock = rate,
            Fault::Heal => self.heal(),
        }
    }

    fn ends_after(&mut self, number: usize, lasts: Duration) {
        let end = self.now + nanoseconds(lasts);
        self.queue.push(end, Entry::FaultEnds(number));
    }

    /// A dead process will not start again.
    fn is_gone(&mut self, peer: usize) {
        self.members[peer].process = Process::Gone;
        self.running -= 1;
        self.let_in();
    }

    pub(super) fn fault_ends(&mut self, number: usize) {
        match self.faults[number].clone() {
            Fault::Crash { peer, .. } | Fault::Rollback { peer, .. }
                if self.members[peer].process == Process::Down =>
            {
                self.revive(peer);
            }
            Fault::Partition { .. } => self.network.heal(number),
            Fault::Pause { peer, .. } => self.wake(peer),
            Fault::Loss { .. } => self.network.extra_loss = 0.0,
            Fault::SlowDisk { peer, .. } => self.members[peer].write = 0,
            _ => {}
        }
    }

    fn crash(&mut self, member: usize, keeps_disk: bool) {
        let moment = self.members[member].moment(self.now, member);
        self.observer.crashed(&moment);
        self.hang_up(member);
        let state = &mut self.members[member];
        state.life += 1;
        state.process = Process::Down;
        state.disk_free = 0;
        state.paused_until = 0;
        if !keeps_disk {
            (state.checkpoint, state.before) = (None, None);
            (state.intent, state.promised) = (None, None);
            state.evidence.clear();
        }
        self.wake(member); // no held entry is meant for another life
        self.drop_results(member);
    }

    /// A process that no longer stands still first takes the entries that came meanwhile.
    fn wake(&mut self, member: usize) {
        let state = &mut self.members[member];
        if state.paused_until <= self.now {
            for entry in state.held.drain(..) {
                self.queue.push(self.now, entry);
            }
        }
    }

    fn revive(&mut self, member: usize) {
        let state = &mut self.members[member];
        state.peer = state.reborn();
        self.start(member);
    }

    fn heal(&mut self) {
        self.network.heal_all();
        for member in 0..self.members.len() {
            let state = &mut self.members[member];
            (state.write, state.clock) = (0, 1.0);
            state.paused_until = state.paused_until.min(self.now);
            self.wake(member);
            let state = &mut self.members[member];
            if state.process == Process::Gone {
                self.running += 1;
            }
            if matches!(state.process, Process::Down | Process::Gone) {
                self.revive(member);
            }
        }
    }
}
