//! A hint to the processor: the memory that the next entries of the queue will touch is asked for
//! while others are handled. It changes no bit and spares a tenth of the time of large worlds.

use kith_consensus::prefetch::prefetch;
use kith_gossip::Packet;

use super::entry::Entry;
use super::member::Member;
use super::{Observer, Simulation, queue};

impl<O: Observer> Simulation<O> {
    /// Asks for the memory that the next entries of the queue will touch: of each one pointer
    /// further than of the one after it. The queue itself has asked for the last of those it knows.
    pub(super) fn prefetch(&self) {
        for distance in 0..queue::AHEAD - 1 {
            let Some(entry) = self.queue.upcoming(distance) else {
                return;
            };
            let Some((number, _)) = entry.process() else {
                continue;
            };
            let member = &self.members[number];
            match entry {
                _ if distance == 4 => prefetch(member),
                Entry::Deliver { messages, .. } => {
                    self.prefetch_delivery(member, messages, distance)
                }
                Entry::Trained(_) => self.prefetch_update(member, distance),
                _ => {}
            }
        }
    }

    #[inline]
    fn prefetch_delivery(&self, member: &Member, messages: &[(u32, Packet)], distance: usize) {
        match distance {
            3 => {
                prefetch(messages);
                member.peer.prefetch(0);
            }
            0..3 => {
                messages
                    .iter()
                    .for_each(|(_, packet)| packet.prefetch(2 - distance));
                if distance == 2 {
                    messages
                        .iter()
                        .for_each(|(from, _)| prefetch(&self.ids[*from as usize]));
                    member.peer.prefetch(1);
                }
            }
            _ => {}
        }
    }

    /// Those to whom the update goes, and what is on its way to them.
    #[inline]
    fn prefetch_update(&self, member: &Member, distance: usize) {
        let receivers = || {
            member
                .connections
                .values()
                .map(|connection| connection.member as usize)
        };
        match distance {
            3 => {
                member.peer.prefetch(0);
                member.connections.prefetch();
                prefetch(&*member.local);
            }
            2 => {
                member.peer.prefetch(1);
                for to in receivers() {
                    prefetch(&self.members[to].life);
                    prefetch(&self.members[to].delivery);
                    self.network.prefetch(to);
                }
            }
            1 => receivers()
                .filter_map(|to| self.members[to].delivery)
                .for_each(|(.., slot)| prefetch(self.queue.slot(slot))),
            _ => {}
        }
    }
}
