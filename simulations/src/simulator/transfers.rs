//! What goes over connections: messages, which can be lost one by one, and pulls of bodies, which
//! fail as a whole.

use std::sync::Arc;
use std::time::Duration;

use kith_consensus::{Digest, PeerId};
use kith_gossip::{Input, Packet};

use super::entry::Entry;
use super::member::Process;
use super::queue::Nanoseconds;
use super::{Observer, Simulation, nanoseconds};

/// A pull that makes no progress fails after this, as the carrier's does.
const PULL_TIMEOUT: Duration = Duration::from_secs(10);

/// A body that somebody pulls.
#[derive(Clone, Copy)]
pub(super) struct Pull {
    asker: usize,
    life: u32,
    source: usize,
    digest: Digest,
}

impl<O: Observer> Simulation<O> {
    pub(super) fn send(&mut self, from: usize, receiver: &PeerId, bytes: Packet) {
        let Some(connection) = self.members[from].connections.get(receiver) else {
            return; // the carrier drops messages for a peer that is not connected
        };
        let to = connection.member as usize;
        self.observer.sent(from, to, bytes.len());
        if self.network.is_cut(from, to) {
            return;
        }
        for _ in 0..self.network.copies() {
            let mut at = self.network.arrival(self.now, from, to, bytes.len());
            if self.network.keeps_order() {
                let connection = self.members[from]
                    .connections
                    .get_mut(receiver)
                    .expect("it was just looked up");
                at = at.max(connection.last);
                connection.last = at;
            }
            self.deliver(from, to, at, bytes.clone());
        }
    }

    /// Gossip reaches every peer that runs; its bytes are counted once for each.
    pub(super) fn announce(&mut self, from: usize, bytes: &Packet) {
        for to in (0..self.members.len()).filter(|to| *to != from) {
            if self.members[to].process != Process::Up {
                continue;
            }
            self.observer.sent(from, to, bytes.len());
            if self.network.is_cut(from, to) {
                continue;
            }
            for _ in 0..self.network.copies() {
                let at = self.network.arrival(self.now, from, to, bytes.len());
                self.deliver(from, to, at, bytes.clone());
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, at: Nanoseconds, bytes: Packet) {
        let state = &mut self.members[to];
        let message = (from as u32, bytes);
        if let Some((when, life, slot)) = state.delivery
            && (when, life) == (at, state.life)
            && let Some(Entry::Deliver { messages, .. }) = self.queue.waiting(slot)
        {
            return messages.push(message);
        }
        let entry = Entry::Deliver {
            to: to as u32,
            life: state.life,
            messages: vec![message],
        };
        state.delivery = Some((at, state.life, self.queue.push(at, entry)));
    }

    /// A pull is a reliable stream that can fail as a whole, after a while.
    pub(super) fn pull(&mut self, asker: usize, digest: Digest, sources: &[PeerId]) {
        const REQUEST_BYTES: usize = 64;
        let Some(source) = sources.first().and_then(|source| self.member_of(source)) else {
            let failed = Input::FetchFailed {
                digest,
                sources: sources.to_vec(),
                why: "nobody to ask".into(),
            };
            return self.push_input(asker, failed, 0);
        };
        let pull = Pull {
            asker,
            life: self.members[asker].life,
            source,
            digest,
        };
        if !self.is_connected(asker, source) || self.network.is_lost() {
            return self.pull_failed(pull, "the stream broke");
        }
        let request = self.next_request;
        self.next_request += 1;
        self.requests.insert(request, pull);
        let timeout = self.now + nanoseconds(PULL_TIMEOUT);
        self.queue.push(timeout, Entry::PullTimeout { request });
        if !self.network.is_cut(asker, source) {
            let at = self.network.arrival(self.now, asker, source, REQUEST_BYTES);
            let requested = Input::BodyRequested {
                from: self.id(asker),
                digest,
                request,
            };
            self.push_input(source, requested, at - self.now);
        }
    }

    fn pull_failed(&mut self, pull: Pull, why: &str) {
        const PAUSE: Duration = Duration::from_millis(10);
        if self.members[pull.asker].life == pull.life {
            let failed = Input::FetchFailed {
                digest: pull.digest,
                sources: vec![self.id(pull.source)],
                why: why.to_owned(),
            };
            self.push_input(pull.asker, failed, nanoseconds(PAUSE));
        }
    }

    pub(super) fn provide(&mut self, source: usize, request: u64, body: Option<Arc<Vec<u8>>>) {
        let Some(pull) = self.requests.remove(&request) else {
            return;
        };
        // The peer that serves it, whichever was asked.
        let pull = Pull { source, ..pull };
        let Some(bytes) = body else {
            return self.pull_failed(pull, "it does not have it");
        };
        let Pull { asker, digest, .. } = pull;
        self.observer.sent(source, asker, bytes.len());
        if self.network.is_cut(source, asker) {
            return self.pull_failed(pull, "the stream broke");
        }
        let at = self.network.arrival(self.now, source, asker, bytes.len());
        if self.members[asker].life == pull.life {
            let fetched = Input::Fetched { digest, bytes };
            self.push_input(asker, fetched, at - self.now);
        }
    }

    /// A member no longer waits for a body: its pull ends without an answer.
    pub(super) fn abandon(&mut self, asker: usize, digest: Digest, source: &PeerId) {
        let source = self.member_of(source);
        self.requests.retain(|_, pull| {
            pull.asker != asker || pull.digest != digest || Some(pull.source) != source
        });
    }

    pub(super) fn pull_times_out(&mut self, request: u64) {
        if let Some(pull) = self.requests.remove(&request) {
            self.pull_failed(pull, "it stopped answering");
        }
    }

    /// Fails the pulls in which a disconnecting member takes part.
    pub(super) fn break_pulls(&mut self, member: usize) {
        let broken = |(_, pull): &(&u64, &Pull)| pull.source == member || pull.asker == member;
        let broken: Vec<(u64, Pull)> = self
            .requests
            .iter()
            .filter(broken)
            .map(|(request, pull)| (*request, *pull))
            .collect();
        for (request, pull) in broken {
            self.requests.remove(&request);
            self.pull_failed(pull, "the connection ended");
        }
    }
}
