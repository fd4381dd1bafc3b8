//! Messages on their way over connections.
//!
//! A message waits for the sender's line, travels, and is read when its receiver has room. What
//! waits for one slow line or one busy reader is bounded: one message more cuts the connection. In a
//! cut nothing arrives, and what was sent is sent again when it heals, if the connection has lasted
//! until then.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kith_consensus::PeerId;
use kith_gossip::Packet;
use kith_gossip::envelope::ENVELOPE_BYTES_MAX;
use kith_gossip::limits::{EVENT_QUEUE_MAX, SEND_QUEUE_MAX, STREAM_WINDOW_BYTES};

use super::connections::End;
use super::entry::Entry;
use super::member::Process;
use super::queue::Nanoseconds;
use super::{Observer, Simulation};

/// Longest pause of a connection between two attempts to send again what a cut has kept (guess: the
/// pause doubles from about a second, and pings end the connection before it grows to more).
const SENT_AGAIN_MAX: Duration = Duration::from_secs(8);

/// What waits at one end of a connection to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// When each message that waits for the line has left, in order.
    leaves: VecDeque<Nanoseconds>,
    /// Messages and bytes that a cut keeps.
    kept: (usize, usize),
    /// Messages that were sent before this go to a stream that the other side has ended.
    ended_until: Nanoseconds,
}

/// A message that a cut keeps.
pub(super) struct Kept {
    from: u32,
    to: u32,
    link: u32,
    since: Nanoseconds,
    bytes: Packet,
}

/// A message that arrives: from which member, over which connection.
pub(super) struct Message {
    pub(super) from: u32,
    pub(super) link: u32,
    pub(super) bytes: Packet,
}

impl<O: Observer> Simulation<O> {
    pub(super) fn send(&mut self, from: usize, receiver: &PeerId, bytes: Packet) {
        let Some(connection) = self.members[from].connections.get(receiver) else {
            return; // the carrier drops messages for a peer that is not connected
        };
        let (to, link) = (connection.member as usize, connection.newest());
        let outbox = connection.outbox.as_ref();
        let ended = outbox.is_some_and(|outbox| outbox.ended_until > self.now);
        // Mostly nothing waits at either end.
        let waits = outbox.is_some() || !self.members[to].unread.is_empty();
        if waits && self.network.carrier.outboxes && self.waiting(from, to) >= SEND_QUEUE_MAX {
            return self.disconnect(from, to, End::Reset);
        }
        self.observer.sent(from, to, bytes.len());
        if self.network.is_cut(from, to) {
            return self.keep(from, to, link, bytes);
        }
        if ended {
            return;
        }
        let (bytes, oversize) = match self.network.carrier.oversize {
            true => truncated(bytes),
            false => (bytes, false),
        };
        for _ in 0..self.network.copies() {
            let at = self.travel(from, receiver, to, bytes.len());
            let message = Message {
                from: from as u32,
                link,
                bytes: bytes.clone(),
            };
            self.deliver(to, at, message);
            if oversize {
                let ended_until = at + self.network.latency(to, from);
                self.outbox(from, to).ended_until = ended_until;
            }
        }
    }

    /// When a message over the newest connection arrives. It takes its place in the outbox if it
    /// has to wait.
    fn travel(&mut self, from: usize, receiver: &PeerId, to: usize, bytes: usize) -> Nanoseconds {
        let (leaves, mut at) = self.network.arrival(self.now, from, to, bytes);
        let keeps_order = self.network.keeps_order();
        let Some(connection) = self.members[from].connections.get_mut(receiver) else {
            return at;
        };
        if leaves > self.now && self.network.carrier.outboxes {
            let outbox = connection.outbox.get_or_insert_default();
            outbox.leaves.push_back(leaves);
        }
        at = at.max(connection.opens);
        if keeps_order {
            at = at.max(connection.last);
        }
        connection.last = at.max(connection.last);
        at
    }

    fn outbox(&mut self, from: usize, to: usize) -> &mut Outbox {
        let connection = self.members[from].connections.get_mut(&self.ids[to]);
        let connection = connection.expect("only a connected peer is sent to");
        connection.outbox.get_or_insert_default()
    }

    /// How many messages wait to be sent to a connected peer.
    fn waiting(&mut self, from: usize, to: usize) -> usize {
        let now = self.now;
        let blocked = self.blocked(from, to);
        let connection = self.members[from].connections.get_mut(&self.ids[to]);
        let Some(outbox) = connection.and_then(|connection| connection.outbox.as_mut()) else {
            return blocked;
        };
        while outbox.leaves.front().is_some_and(|leaves| *leaves <= now) {
            outbox.leaves.pop_front();
        }
        outbox.leaves.len() + beyond_window(outbox.kept) + blocked
    }

    /// How many messages that have left wait because their reader waits: the receiver is busy, or
    /// stands still.
    fn blocked(&self, from: usize, to: usize) -> usize {
        let state = &self.members[to];
        let reads = state.mailbox.len() < EVENT_QUEUE_MAX && state.paused_until <= self.now;
        if reads || state.unread.is_empty() {
            return 0;
        }
        let unread = state.unread.get(&(from as u32));
        unread.map_or(0, |unread| beyond_window(*unread))
    }

    pub(super) fn deliver(&mut self, to: usize, at: Nanoseconds, message: Message) {
        let state = &mut self.members[to];
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

    pub(super) fn receive(&mut self, to: usize, messages: Vec<Message>) {
        for message in messages {
            // A message may be the last that it takes.
            if self.members[to].process == Process::Up && self.arrives(to, &message) {
                let from = message.from as usize;
                self.hand_over(to, from, message.bytes);
            }
        }
    }

    /// Whether the connection that a message came over is still there.
    fn arrives(&mut self, to: usize, message: &Message) -> bool {
        if !self.links_end || !self.network.carrier.messages_die {
            return true;
        }
        let (from, link) = (message.from as usize, message.link);
        if self.broken.contains(&link) {
            return false;
        }
        let holds = self.holds(to, from, link);
        if !holds {
            self.reset_back(from, to, link);
        }
        holds
    }

    // --- cuts ---

    fn keep(&mut self, from: usize, to: usize, link: u32, bytes: Packet) {
        if !self.network.carrier.messages_die {
            return;
        }
        let kept = &mut self.outbox(from, to).kept;
        *kept = (kept.0 + 1, kept.1 + bytes.len());
        self.kept.push(Kept {
            from: from as u32,
            to: to as u32,
            link,
            since: self.now,
            bytes,
        });
    }

    /// Cuts have healed: connections that have lasted send again what was kept.
    pub(super) fn send_kept(&mut self) {
        let mut pauses: BTreeMap<u32, Nanoseconds> = BTreeMap::new();
        for kept in std::mem::take(&mut self.kept) {
            let (from, to) = (kept.from as usize, kept.to as usize);
            if self.network.is_cut(from, to) {
                self.kept.push(kept);
                continue;
            }
            if !self.holds(from, to, kept.link) {
                continue;
            }
            let pause = *pauses.entry(kept.link).or_insert_with(|| {
                let most = SENT_AGAIN_MAX.min(Duration::from_nanos(self.now - kept.since));
                self.chance.time(most)
            });
            if let Some(connection) = self.members[from].connections.get_mut(&self.ids[to]) {
                connection.opens = connection.opens.max(self.now + pause);
                if let Some(outbox) = &mut connection.outbox {
                    outbox.kept = (0, 0);
                }
            }
            let receiver = self.id(to);
            let at = self.travel(from, &receiver, to, kept.bytes.len());
            let message = Message {
                from: kept.from,
                link: kept.link,
                bytes: kept.bytes,
            };
            self.deliver(to, at, message);
        }
    }
}

/// Of so many messages and bytes that nobody reads, how many messages do not fit into the window
/// that a stream has on its way.
fn beyond_window((messages, bytes): (usize, usize)) -> usize {
    match bytes.checked_sub(STREAM_WINDOW_BYTES) {
        Some(beyond) if bytes > 0 => messages * beyond / bytes,
        _ => 0,
    }
}

/// What a reader takes of a message that is too long: enough to refuse it by name. After it the
/// reader ends the stream.
fn truncated(bytes: Packet) -> (Packet, bool) {
    match bytes.get(..=ENVELOPE_BYTES_MAX) {
        Some(read) if bytes.len() > ENVELOPE_BYTES_MAX => (Packet::from(read.to_vec()), true),
        _ => (bytes, false),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bare::{Inputs, peers};
    use super::super::{Carrier, Cut, Fault, Line, Links};
    use super::*;

    fn two(carrier: Carrier, up: f64) -> Simulation<Inputs> {
        let links = Links {
            latency: 1_000_000,
            carrier,
            ..Links::clear()
        };
        let line = Line {
            up,
            ..Line::default()
        };
        let mut simulation = peers(2, links, line);
        simulation.connect_two(0, 1);
        simulation.pass(Duration::from_secs(60)); // handshakes have left the line
        simulation
    }

    #[test]
    fn one_message_more_than_an_outbox_holds_cuts_the_connection() {
        for (outboxes, connected) in [(true, false), (false, true)] {
            let carrier = Carrier {
                outboxes,
                ..Carrier::default()
            };
            let mut simulation = two(carrier, 1_000.0);
            for _ in 0..=SEND_QUEUE_MAX {
                assert!(simulation.is_connected(0, 1));
                simulation.say(0, 1, vec![0; 1_000]);
            }
            assert_eq!(simulation.is_connected(0, 1), connected, "{outboxes}");
        }
    }

    #[test]
    fn a_process_that_stands_still_fills_its_senders_outboxes() {
        let mut simulation = two(Carrier::default(), 0.0);
        simulation.members[1].paused_until = Nanoseconds::MAX;
        let beyond = STREAM_WINDOW_BYTES / 8_192 + SEND_QUEUE_MAX;
        for _ in 0..beyond - 1 {
            simulation.say(0, 1, vec![0; 8_192]);
            simulation.pass(Duration::from_millis(2));
        }
        assert!(simulation.is_connected(0, 1));
        for _ in 0..3 {
            simulation.say(0, 1, vec![0; 8_192]);
            simulation.pass(Duration::from_millis(2));
        }
        assert!(!simulation.is_connected(0, 1));
    }

    #[test]
    fn a_message_above_the_limit_is_truncated_and_those_behind_it_are_lost() {
        let mut simulation = two(Carrier::default(), 0.0);
        simulation.say(0, 1, vec![0; 2 * ENVELOPE_BYTES_MAX]);
        simulation.say(0, 1, vec![0; 7]);
        simulation.pass(Duration::from_secs(1));
        simulation.say(0, 1, vec![0; 8]);
        simulation.pass(Duration::from_secs(1));
        assert_eq!(simulation.heard(1, 0), [ENVELOPE_BYTES_MAX + 1, 8]);
    }

    #[test]
    fn what_a_short_cut_keeps_arrives_after_it_in_order() {
        let mut simulation = two(Carrier::default(), 0.0);
        let cut = Cut {
            group: vec![0],
            one_way: false,
        };
        let lasts = Duration::from_secs(5);
        simulation.fault_at(simulation.now(), Fault::Partition { cut, lasts });
        simulation.pass(Duration::from_secs(1));
        simulation.say(0, 1, vec![0; 5]);
        simulation.say(0, 1, vec![0; 6]);
        simulation.pass(Duration::from_secs(3));
        assert!(simulation.heard(1, 0).is_empty());
        simulation.pass(Duration::from_secs(20));
        assert_eq!(simulation.heard(1, 0), [5, 6]);
    }

    #[test]
    fn a_busy_peer_takes_one_message_after_the_other() {
        let carrier = Carrier {
            work: 1e4, // about half a second for each
            ..Carrier::default()
        };
        let mut simulation = two(carrier, 0.0);
        for _ in 0..3 {
            simulation.say(0, 1, vec![0; 5]);
        }
        simulation.pass(Duration::from_millis(700));
        assert_eq!(simulation.heard(1, 0).len(), 2);
        simulation.pass(Duration::from_secs(1));
        assert_eq!(simulation.heard(1, 0).len(), 3);
    }
}
