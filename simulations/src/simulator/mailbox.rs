//! What waits for a peer that is busy: each input takes its time, and the others wait in order.
//!
//! An input has its effects at the beginning of its time, so a peer that has nothing to do answers
//! at once and only a flood is slowed down.

use kith_gossip::{Input, Packet};

use super::entry::Entry;
use super::queue::Nanoseconds;
use super::{Observer, Simulation};

/// An input that waits.
pub(super) struct Waiting {
    input: Input,
    /// The sender and the bytes of a message, which hold a place in its sender's window.
    unread: Option<(u32, usize)>,
}

impl<O: Observer> Simulation<O> {
    /// A message has come to its receiver's reader.
    pub(super) fn hand_over(&mut self, to: usize, from: usize, bytes: Packet) {
        let state = &self.members[to];
        if !state.dismissed.is_empty() && state.dismissed.contains(&(from as u32)) {
            return;
        }
        let unread = Some((from as u32, bytes.len()));
        let from = self.id(from);
        self.take_in(to, Input::Received { from, bytes }, unread);
    }

    /// A peer handles an input, when it is not busy with another.
    pub(super) fn take_in(&mut self, member: usize, input: Input, unread: Option<(u32, usize)>) {
        if self.network.carrier.work == 0.0 {
            return self.handle(member, input);
        }
        let state = &mut self.members[member];
        if state.busy_until <= self.now && state.mailbox.is_empty() {
            return self.work_on(member, input);
        }
        if let Some((from, bytes)) = unread {
            state.not_read(from, bytes);
        }
        state.mailbox.push_back(Waiting { input, unread });
        if state.mailbox.len() == 1 {
            let at = state.busy_until.max(self.now);
            self.is_ready_at(member, at);
        }
    }

    fn is_ready_at(&mut self, member: usize, at: Nanoseconds) {
        let entry = Entry::Ready {
            member: member as u32,
            life: self.members[member].life,
        };
        self.queue.push(at, entry);
    }

    fn work_on(&mut self, member: usize, input: Input) {
        let slowness = self.members[member].slowness;
        let takes = self.network.carrier.takes(&input, slowness);
        self.members[member].busy_until = self.now + takes;
        self.handle(member, input);
    }

    /// A peer has done with one input and takes the next.
    pub(super) fn ready(&mut self, member: usize) {
        let state = &mut self.members[member];
        let input = loop {
            let Some(Waiting { input, unread }) = state.mailbox.pop_front() else {
                return;
            };
            let Some((from, bytes)) = unread else {
                break input;
            };
            state.read(from, bytes);
            // The carrier hands nothing over any more of a peer that was sent away.
            if !state.dismissed.contains(&from) {
                break input;
            }
        };
        let life = state.life;
        self.work_on(member, input);
        let state = &self.members[member];
        if state.life == life && !state.mailbox.is_empty() {
            let at = state.busy_until;
            self.is_ready_at(member, at);
        }
    }
}
