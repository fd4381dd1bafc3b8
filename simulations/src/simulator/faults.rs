//! The faults, and how they end.

use std::time::Duration;

use super::connections::{End, Reach};
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
    /// A process dies and its newest checkpoint is damaged; it starts again after `back` with the
    /// checkpoint before that one and with what is left of its newest promise.
    Rollback { peer: usize, back: Duration },
    /// A process dies, and all of its disk is gone but for an old copy of the privacy ledger of its
    /// rows, which lacks the newest `entries` entries; it starts again after `back`.
    RestoredLedger {
        peer: usize,
        entries: usize,
        back: Duration,
    },
    /// The disk takes `records` more records and fails at the next, which ends the process; it
    /// starts again `back` after that, on a disk that works.
    StoreFails {
        peer: usize,
        records: u64,
        back: Duration,
    },
    /// One of a peer's connections breaks: both ends are reset, or (`silent`) nothing arrives any
    /// more and they notice it by their pings.
    Break { peer: usize, silent: bool },
    /// For `lasts` something else answers at a peer's address, or nothing.
    Address {
        peer: usize,
        reach: Reach,
        lasts: Duration,
    },
    /// For `lasts` a peer takes `factor` times as long as usual for every input.
    Busy {
        peer: usize,
        factor: f64,
        lasts: Duration,
    },
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

impl Fault {
    /// How long after its beginning it has ended.
    pub fn lasts(&self) -> Duration {
        match self {
            Fault::Crash { back, .. } => back.unwrap_or(Duration::ZERO),
            Fault::Rollback { back, .. }
            | Fault::RestoredLedger { back, .. }
            | Fault::StoreFails { back, .. } => *back,
            Fault::Pause { lasts, .. }
            | Fault::Partition { lasts, .. }
            | Fault::Loss { lasts, .. }
            | Fault::Address { lasts, .. }
            | Fault::Busy { lasts, .. }
            | Fault::SlowDisk { lasts, .. } => *lasts,
            Fault::Clock { .. } | Fault::Break { .. } | Fault::Heal => Duration::ZERO,
        }
    }
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
                    let how = self.death();
                    self.crash(peer, keeps_disk, how);
                    match back {
                        Some(back) => self.ends_after(number, back),
                        None => self.is_gone(peer),
                    }
                }
            }
            Fault::Rollback { peer, back } => {
                if self.members[peer].process == Process::Up {
                    let how = self.death();
                    self.crash(peer, true, how);
                    // The node falls back to the checkpoint before.
                    let state = &mut self.members[peer];
                    state.checkpoint = state.before.take();
                    self.ends_after(number, back);
                }
            }
            Fault::RestoredLedger {
                peer,
                entries,
                back,
            } => {
                if self.members[peer].process == Process::Up {
                    let how = self.death();
                    self.crash(peer, false, how);
                    let state = &mut self.members[peer];
                    state.ledger = state.ledger.without(entries);
                    self.ends_after(number, back);
                }
            }
            Fault::StoreFails { peer, records, .. } => {
                self.members[peer].fails_after = Some((records, number));
            }
            Fault::Break { peer, silent } => {
                self.break_one(peer, if silent { End::Silence } else { End::Reset });
            }
            Fault::Address { peer, reach, lasts } => {
                self.members[peer].reach = reach;
                self.ends_after(number, lasts);
            }
            Fault::Busy {
                peer,
                factor,
                lasts,
            } => {
                self.members[peer].slowness = factor;
                self.ends_after(number, lasts);
            }
            Fault::Pause { peer, lasts } => {
                let until = &mut self.members[peer].paused_until;
                *until = (*until).max(self.now + nanoseconds(lasts));
                self.ends_after(number, lasts);
                self.notice_pause(peer, lasts);
            }
            Fault::Partition { cut, lasts } => {
                self.network.cut(number, &cut);
                self.notice_cut(&cut.group);
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
        self.running -= usize::from(self.members[peer].adversary.is_none());
        self.let_in();
    }

    pub(super) fn fault_ends(&mut self, number: usize) {
        let Some(fault) = self.faults.get(number).cloned() else {
            return;
        };
        match fault {
            Fault::Crash { peer, .. }
            | Fault::Rollback { peer, .. }
            | Fault::RestoredLedger { peer, .. }
            | Fault::StoreFails { peer, .. }
                if self.members[peer].process == Process::Down =>
            {
                self.revive(peer);
            }
            Fault::Partition { .. } => {
                self.network.heal(number);
                self.send_kept();
            }
            Fault::Address { peer, .. } => self.members[peer].reach = Reach::Open,
            Fault::Busy { peer, .. } => self.members[peer].slowness = 1.0,
            Fault::Pause { peer, .. } => self.wake(peer),
            Fault::Loss { .. } => self.network.extra_loss = 0.0,
            Fault::SlowDisk { peer, .. } => self.members[peer].write = 0,
            _ => {}
        }
    }

    /// How a process's death shows to others: its system resets its connections, or the machine is
    /// gone with it.
    fn death(&mut self) -> End {
        match self.chance.happens(self.network.carrier.silent_deaths) {
            true => End::Silence,
            false => End::Reset,
        }
    }

    fn crash(&mut self, member: usize, keeps_disk: bool, how: End) {
        let moment = self.members[member].moment(self.now, member);
        self.observer.crashed(&moment);
        self.hang_up(member, how);
        let held = std::mem::take(&mut self.members[member].held);
        // No held entry is meant for another life; the queue drops it, with its result.
        for entry in held {
            self.queue.push(self.now, entry);
        }
        let state = &mut self.members[member];
        state.forget_process();
        if !keeps_disk {
            (state.checkpoint, state.before) = (None, None);
            state.intent = None;
            state.evidence.clear();
        }
        self.drop_results(member);
    }

    /// A record could not be written: the process ends, as a node does.
    pub(super) fn store_fails(&mut self, member: usize, fault: usize) {
        self.members[member].fails_after = None;
        let back = self.faults[fault].lasts();
        self.crash(member, true, End::Reset);
        self.ends_after(fault, back);
    }

    /// A process that no longer stands still first takes the entries that came meanwhile.
    fn wake(&mut self, member: usize) {
        let state = &mut self.members[member];
        if state.paused_until <= self.now {
            for entry in std::mem::take(&mut state.held) {
                if let Entry::Deliver { messages, .. } = &entry {
                    let each = messages.iter();
                    each.for_each(|message| state.read(message.from, message.bytes.len()));
                }
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
        self.send_kept();
        for member in 0..self.members.len() {
            let state = &mut self.members[member];
            (state.write, state.clock, state.slowness) = (0, 1.0, 1.0);
            (state.reach, state.fails_after) = (Reach::Open, None);
            state.paused_until = state.paused_until.min(self.now);
            self.wake(member);
            let state = &mut self.members[member];
            if state.process == Process::Gone {
                self.running += usize::from(state.adversary.is_none());
            }
            if matches!(state.process, Process::Down | Process::Gone) {
                self.revive(member);
            }
        }
    }
}
