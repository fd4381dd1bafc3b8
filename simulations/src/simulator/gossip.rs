//! Gossip: what concerns everyone goes from peer to peer over connections.
//!
//! As gossipsub does, a peer takes a message in once, looks whether it is genuine, and only then
//! hands it on to the peers that it is connected with. A receiver hears it from the peer that handed
//! it on, not from its author.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kith_consensus::{Digest, Genesis};
use kith_gossip::envelope::Authenticator;
use kith_gossip::{Packet, Roster, may_be_passed_on};

use super::carrier;
use super::entry::Entry;
use super::member::Process;
use super::{Observer, Simulation};

/// Peers to which a message is handed on at once: gossipsub's mesh (its default `mesh_n`). The
/// others hear of it at the next heartbeat. An author sends to everybody at once.
const MESH: usize = 6;

/// Gossipsub's default interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Messages that wait until somebody is connected, as the carrier keeps them.
const UNPUBLISHED_MAX: usize = 16;

/// What the carrier of a federation knows in order to judge gossip.
pub(super) struct Judge {
    pub(super) verifier: Authenticator,
    pub(super) federation: Genesis,
    /// The keys that may sign; `None` in open membership.
    pub(super) allowed: Option<Roster>,
}

impl Judge {
    /// Whether the carrier hands gossip on.
    fn accepts(&self, bytes: &[u8]) -> bool {
        may_be_passed_on(bytes, &self.verifier, self.federation, |sender| {
            let allowed = self.allowed.as_ref();
            allowed.is_none_or(|allowed| allowed.index(sender).is_some())
        })
    }
}

/// Every message that was announced, once.
#[derive(Default)]
pub(super) struct Messages {
    known: BTreeMap<Digest, u32>,
    all: Vec<(Packet, Option<bool>)>,
}

impl Messages {
    fn number(&mut self, bytes: &Packet) -> u32 {
        let number = self.all.len() as u32;
        let known = *self.known.entry(bytes.name()).or_insert(number);
        if known == number {
            self.all.push((bytes.clone(), None));
        }
        known
    }

    /// The message, and whether it is handed on.
    fn judged(&mut self, number: u32, judge: &Judge) -> (Packet, bool) {
        let (bytes, verdict) = &mut self.all[number as usize];
        let verdict = *verdict.get_or_insert_with(|| judge.accepts(bytes));
        (bytes.clone(), verdict)
    }
}

/// One peer's part.
#[derive(Default)]
pub(super) struct Heard {
    seen: BTreeSet<u32>,
    unpublished: Vec<u32>,
}

impl<O: Observer> Simulation<O> {
    pub(super) fn announce(&mut self, from: usize, bytes: &Packet) {
        if self.network.carrier.gossip == carrier::Gossip::Direct {
            return self.announce_to_all(from, bytes);
        }
        let number = self.gossip.number(bytes);
        let heard = &mut self.members[from].heard;
        if !heard.seen.insert(number) {
            return;
        }
        if self.members[from].connections.is_empty() {
            let unpublished = &mut self.members[from].heard.unpublished;
            if unpublished.len() == UNPUBLISHED_MAX {
                unpublished.remove(0);
            }
            return unpublished.push(number);
        }
        self.hand_on(from, number, None);
    }

    /// A peer has a connection: what it could not tell anybody goes over it.
    pub(super) fn publish_waiting(&mut self, member: usize) {
        for number in std::mem::take(&mut self.members[member].heard.unpublished) {
            self.hand_on(member, number, None);
        }
    }

    fn hand_on(&mut self, from: usize, number: u32, source: Option<usize>) {
        let (bytes, _) = self.gossip.judged(number, &self.judge);
        let connections = self.members[from].connections.values();
        let receivers = connections.map(|to| (to.member as usize, to.newest(), to.opens));
        let receivers: Vec<_> = receivers
            .filter(|(to, ..)| Some(*to) != source && !self.network.is_cut(from, *to))
            .collect();
        let count = receivers.len();
        for (to, link, opens) in receivers {
            self.observer.sent(from, to, bytes.len());
            if self.network.copies() == 0 {
                continue;
            }
            let (_, at) = self.network.arrival(self.now, from, to, bytes.len());
            let waits = source.is_some() && self.chance.place(count) >= MESH;
            let pause = if waits { HEARTBEAT } else { Duration::ZERO };
            let at = at + self.chance.time(pause);
            let entry = Entry::Gossip {
                to: to as u32,
                life: self.members[to].life,
                from: from as u32,
                link,
                number,
            };
            self.queue.push(at.max(opens), entry);
        }
    }

    pub(super) fn hear_gossip(&mut self, to: usize, from: usize, link: u32, number: u32) {
        let direct = self.network.carrier.gossip == carrier::Gossip::Direct;
        let gone = self.broken.contains(&link) || (self.links_end && !self.holds(to, from, link));
        if (gone && !direct) || !self.members[to].heard.seen.insert(number) {
            return;
        }
        let (bytes, accepted) = self.gossip.judged(number, &self.judge);
        if accepted && !direct {
            self.hand_on(to, number, Some(from));
        }
        self.hand_over(to, from, bytes);
    }

    /// Gossip as if everybody were connected with everybody; its bytes are counted once for each.
    fn announce_to_all(&mut self, from: usize, bytes: &Packet) {
        for to in (0..self.members.len()).filter(|to| *to != from) {
            if self.members[to].process != Process::Up {
                continue;
            }
            self.observer.sent(from, to, bytes.len());
            if self.network.is_cut(from, to) {
                continue;
            }
            for _ in 0..self.network.copies() {
                let (_, at) = self.network.arrival(self.now, from, to, bytes.len());
                let entry = Entry::Gossip {
                    to: to as u32,
                    life: self.members[to].life,
                    from: from as u32,
                    link: 0, // over none
                    number: self.gossip.number(bytes),
                };
                self.queue.push(at, entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bare::{Inputs, peers};
    use super::super::{Carrier, Line, Links, Reach};
    use super::*;
    use kith_consensus::PeerId;
    use kith_gossip::Input;
    use kith_gossip::envelope::{Envelope, Header, Kind, PROTOCOL_VERSION};

    /// Peers 0 and 2 are connected with 1, and not with each other.
    fn three_in_a_row(gossip: carrier::Gossip) -> Simulation<Inputs> {
        let links = Links {
            latency: 1_000_000,
            carrier: Carrier {
                gossip,
                ..Carrier::default()
            },
            ..Links::clear()
        };
        let mut simulation = peers(3, links, Line::default());
        // Peers dial all their neighbours, and these two cannot be dialled.
        for member in [0, 2] {
            simulation.members[member].reach = Reach::BehindRouter;
        }
        for member in [0, 2] {
            simulation.connect_two(member, 1);
        }
        simulation
    }

    /// A goodbye that says that its sender has finished, if that is its kind.
    const FINISHED: &[u8] = &[0xa1, 0, 0xf5];

    fn goodbye(simulation: &Simulation<Inputs>, kind: Kind) -> Packet {
        let header = Header {
            version: PROTOCOL_VERSION,
            federation: simulation.judge.federation,
            kind,
            sender: simulation.id(0),
            incarnation: 1,
            round: 0,
            sequence: 0,
            state: Digest::default(),
            payload: Digest::of(FINISHED),
            spent: None,
        };
        let key = Authenticator::KeyedHash {
            peer: simulation.id(0),
            secret: [7; 32],
        };
        Packet::from(Envelope::seal(&key, header, FINISHED.to_vec()).to_bytes())
    }

    /// From which peers a member has heard a message.
    fn heard_from(simulation: &Simulation<Inputs>, member: usize, packet: &Packet) -> Vec<PeerId> {
        let inputs = simulation.observer.0.iter();
        let heard = inputs.filter_map(|(_, by, input)| match input {
            Input::Received { from, bytes } if *by == member && **bytes == **packet => Some(*from),
            _ => None,
        });
        heard.collect()
    }

    #[test]
    fn gossip_comes_from_its_forwarder_once() {
        for (gossip, forwarder) in [(carrier::Gossip::Flood, 1), (carrier::Gossip::Direct, 0)] {
            let mut simulation = three_in_a_row(gossip);
            let packet = goodbye(&simulation, Kind::Goodbye);
            simulation.announce(0, &packet);
            simulation.announce(0, &packet);
            simulation.pass(Duration::from_secs(5));
            let expected = [simulation.id(forwarder)];
            assert_eq!(heard_from(&simulation, 2, &packet), expected, "{gossip:?}");
        }
    }

    #[test]
    fn what_is_not_for_everyone_is_not_handed_on() {
        let mut simulation = three_in_a_row(carrier::Gossip::Flood);
        let packet = goodbye(&simulation, Kind::Update);
        simulation.announce(0, &packet);
        simulation.pass(Duration::from_secs(5));
        assert_eq!(heard_from(&simulation, 1, &packet), [simulation.id(0)]);
        assert!(heard_from(&simulation, 2, &packet).is_empty());
    }
}
