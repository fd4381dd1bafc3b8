//! Which peers are connected, over how many connections, and when each end hears of it.
//!
//! A connection has a number, and each end knows its own connections: after one end has died the
//! other still holds it, until it is reset or pings stay unanswered. Two peers may have several, for
//! instance when both have dialled. Messages travel over the newest.

use std::sync::Arc;
use std::time::Duration;

use kith_consensus::PeerId;
use kith_consensus::charter::Charter;
use kith_gossip::limits::{BAN, CONNECTIONS_PER_PEER_MAX, DIALS_MAX, FAREWELL, HANDSHAKE_MAX};
use kith_gossip::{Input, Scope};

use super::carrier::UNANSWERED_MIN;
use super::entry::Entry;
use super::member::Process;
use super::queue::Nanoseconds;
use super::transfers::Outbox;
use super::{Observer, Simulation, nanoseconds};

/// Which peers are connected from the start.
#[derive(Clone, Debug)]
pub enum Meeting {
    /// Everyone with everyone.
    Everyone,
    /// Each with its neighbours of the round it starts in; others connect when they ask.
    Neighbours(Arc<Charter>),
}

/// What answers at a peer's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The peer.
    #[default]
    Open,
    /// A process with another key.
    OtherKey,
    /// Nothing, though the peer can dial: it is behind a router that lets nobody in.
    BehindRouter,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// One end closes it: what it has sent arrives before the other end hears of it.
    Closed,
    /// It is reset: what is on its way is lost.
    Reset,
    /// Nothing is heard any more.
    Silence,
}

const LINKS_MAX: usize = CONNECTIONS_PER_PEER_MAX as usize;

/// What one end knows of its connections with another peer.
#[derive(Debug)]
pub(super) struct Connection {
    /// The member at the other end.
    pub(super) member: u32,
    /// Their numbers, oldest first.
    links: [u32; LINKS_MAX],
    count: u8,
    /// When the other end has the newest one: nothing arrives before that.
    pub(super) opens: Nanoseconds,
    /// When the last message over the newest one arrives.
    pub(super) last: Nanoseconds,
    /// Messages that wait, if any had to.
    pub(super) outbox: Option<Box<Outbox>>,
}

impl Connection {
    fn links(&self) -> &[u32] {
        &self.links[..self.count as usize]
    }

    /// The number of the newest one.
    pub(super) fn newest(&self) -> u32 {
        self.links[self.count as usize - 1]
    }

    pub(super) fn has(&self, link: u32) -> bool {
        self.links().contains(&link)
    }

    fn add(&mut self, link: u32, opens: Nanoseconds) {
        self.links[self.count as usize] = link;
        self.count += 1;
        self.begin_outbox(opens);
    }

    /// Whether it was there.
    fn remove(&mut self, link: u32, now: Nanoseconds) -> bool {
        let Some(place) = self.links().iter().position(|known| *known == link) else {
            return false;
        };
        self.links
            .copy_within(place + 1..self.count as usize, place);
        self.count -= 1;
        if place == self.count as usize {
            self.begin_outbox(now);
        }
        true
    }

    /// Messages go over another connection from now on, in an order of their own.
    fn begin_outbox(&mut self, opens: Nanoseconds) {
        (self.opens, self.last, self.outbox) = (opens, opens, None);
    }
}

/// What becomes of a dial.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Connected,
    OtherKey,
    Refused,
    Silence,
}

/// Where a member can be dialled.
fn address_of(member: usize) -> String {
    format!("/memory/{member}")
}

impl<O: Observer> Simulation<O> {
    pub(super) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.members[a].connections.contains(&self.ids[b])
    }

    /// Whether an end still has a connection.
    pub(super) fn holds(&self, own: usize, other: usize, link: u32) -> bool {
        let connection = self.members[own].connections.get(&self.ids[other]);
        connection.is_some_and(|connection| connection.has(link))
    }

    fn is_up(&self, member: usize) -> bool {
        self.members[member].process == Process::Up
    }

    /// Every connection of a member: (the other end, number).
    fn links_of(&self, member: usize) -> Vec<(usize, u32)> {
        let connections = self.members[member].connections.values();
        let each = connections.flat_map(|connection| {
            let links = connection.links().iter();
            links.map(|link| (connection.member as usize, *link))
        });
        each.collect()
    }

    // --- they begin ---

    pub(super) fn dial(&mut self, member: usize, peer: &PeerId) {
        let Some(other) = self.member_of(peer).filter(|other| *other != member) else {
            return;
        };
        let places = self.members[member].dialling.len() < DIALS_MAX as usize;
        if !self.is_connected(member, other) && places {
            self.begin_dial(member, other);
        }
    }

    pub(super) fn begin_dial(&mut self, member: usize, other: usize) {
        if self.is_shut_to(member, other) || self.members[member].dialling.contains(&(other as u32))
        {
            return;
        }
        let answer = self.answer(member, other);
        if !self.network.carrier.dialling {
            if answer == Answer::Connected {
                let after = self.network.latency(member, other);
                self.establish(member, other, [after, after]);
            }
            return;
        }
        // Both transports' handshakes take about two round trips, and a refusal takes one.
        let latency = self.network.latency(member, other);
        let after = match answer {
            Answer::Connected | Answer::OtherKey => 4 * latency,
            Answer::Refused => 2 * latency,
            Answer::Silence => nanoseconds(HANDSHAKE_MAX),
        };
        let state = &mut self.members[member];
        state.dialling.insert(other as u32);
        let entry = Entry::DialEnds {
            member: member as u32,
            life: state.life,
            other: other as u32,
        };
        self.queue.push(self.now + after, entry);
    }

    /// A dial has its answer, or has waited for one long enough.
    pub(super) fn dial_ends(&mut self, member: usize, other: usize) {
        self.members[member].dialling.remove(&(other as u32));
        match self.answer(member, other) {
            Answer::Connected => {
                let after = self.network.latency(member, other);
                self.establish(member, other, [0, after]);
            }
            Answer::OtherKey => {
                let (peer, address) = (self.id(other), address_of(other));
                self.push_input(member, Input::AnotherKeyAt { peer, address }, 0);
            }
            Answer::Refused | Answer::Silence => {}
        }
    }

    fn answer(&self, member: usize, other: usize) -> Answer {
        if self.network.is_cut(member, other) || self.network.is_cut(other, member) {
            return Answer::Silence;
        }
        match self.members[other].reach {
            Reach::BehindRouter => Answer::Silence,
            Reach::OtherKey => Answer::OtherKey,
            Reach::Open if self.is_up(other) => Answer::Connected,
            Reach::Open => Answer::Refused,
        }
    }

    /// A peer has dialled another: both have one more connection, and hear of it after these times.
    fn establish(&mut self, dialler: usize, listener: usize, after: [Nanoseconds; 2]) {
        let full = |own: usize, other: usize| {
            let connection = self.members[own].connections.get(&self.ids[other]);
            connection.is_some_and(|connection| connection.count as usize == LINKS_MAX)
        };
        if full(dialler, listener) {
            return;
        }
        let refused = full(listener, dialler) || self.is_shut_to(listener, dialler);
        let link = self.next_link;
        self.next_link += 1;
        let opens = self.now + after[0].max(after[1]);
        self.begins(dialler, listener, link, opens, after[0]);
        if refused {
            // A listener looks at the key after the handshake, so the dialler takes it for made.
            let latency = self.network.latency(listener, dialler);
            self.schedule_end(dialler, listener, link, self.now + 2 * latency);
        } else {
            self.begins(listener, dialler, link, opens, after[1]);
        }
    }

    fn begins(
        &mut self,
        own: usize,
        other: usize,
        link: u32,
        opens: Nanoseconds,
        after: Nanoseconds,
    ) {
        let peer = self.id(other);
        let connection = || Connection {
            member: other as u32,
            links: [0; LINKS_MAX],
            count: 0,
            opens,
            last: opens,
            outbox: None,
        };
        let connections = &mut self.members[own].connections;
        connections.entry(peer, connection).add(link, opens);
        // If everybody can reach everybody, addresses need not be exchanged.
        let addresses = match self.meeting {
            Meeting::Everyone => vec![address_of(other)],
            Meeting::Neighbours(_) => Vec::new(),
        };
        let late = self.chance.overtaken(self.network.carrier.overtaking);
        let scope = Scope::default();
        let up = Input::PeerUp {
            peer,
            addresses,
            scope,
        };
        self.hear(own, other, up, after + late);
        self.publish_waiting(own);
    }

    /// Connects a member that has just started.
    pub(super) fn meet(&mut self, member: usize) {
        for other in self.met_at_start(member) {
            if other == member || !self.is_up(other) || self.is_connected(member, other) {
                continue;
            }
            self.begin_dial(member, other);
            if self.chance.happens(self.network.carrier.parallel) {
                self.begin_dial(other, member);
            }
        }
    }

    fn met_at_start(&self, member: usize) -> Vec<usize> {
        let Meeting::Neighbours(charter) = &self.meeting else {
            return (0..self.members.len()).collect();
        };
        let checkpoint = self.members[member].checkpoint.as_ref();
        let round = checkpoint.map_or(0, |checkpoint| checkpoint.round);
        let round = round.min(charter.rounds.saturating_sub(1));
        let graph = charter.topology.graph(self.members.len(), round);
        let graph =
            graph.expect("the charter was refused unless its topology can be drawn for its peers");
        let place = self
            .place_of(&self.id(member))
            .expect("every member has its place");
        let both = graph
            .receives_from(place)
            .iter()
            .chain(graph.sends_to(place));
        both.map(|place| self.member_at[*place] as usize).collect()
    }

    /// Tells a member that a connection began or ended, never before the news of an earlier one.
    fn hear(&mut self, own: usize, other: usize, input: Input, after: Nanoseconds) {
        let last = self.members[own].news.entry(other as u32).or_default();
        *last = (*last).max(self.now + after);
        let after = *last - self.now;
        self.push_input(own, input, after);
    }

    // --- they end ---

    pub(super) fn part_from(&mut self, member: usize, peer: &PeerId) {
        let Some(other) = self.member_of(peer) else {
            return;
        };
        if !self.network.carrier.farewell {
            return self.disconnect(member, other, End::Closed);
        }
        let state = &mut self.members[member];
        if state.dismissed.insert(other as u32) {
            let entry = Entry::FarewellEnds {
                member: member as u32,
                life: state.life,
                other: other as u32,
            };
            self.queue.push(self.now + nanoseconds(FAREWELL), entry);
        }
    }

    /// A peer that was sent away has had its time to read why.
    pub(super) fn farewell_ends(&mut self, member: usize, other: usize) {
        let state = &mut self.members[member];
        state.dismissed.remove(&(other as u32));
        let until = self.now + nanoseconds(BAN);
        state.banned.insert(other as u32, until);
        self.disconnect(member, other, End::Closed);
    }

    /// Whether a member lets nothing of another one in.
    fn is_shut_to(&self, member: usize, other: usize) -> bool {
        let until = self.members[member].banned.get(&(other as u32));
        until.is_some_and(|until| *until > self.now)
    }

    /// One end ends all its connections with another.
    pub(super) fn disconnect(&mut self, own: usize, other: usize, how: End) {
        let Some(connection) = self.members[own].connections.remove(&self.ids[other]) else {
            return;
        };
        for link in connection.links() {
            self.streams_end(own, other, *link);
        }
        self.tell(own, &connection, how);
        let peer = self.id(other);
        self.hear(own, other, Input::PeerDown { peer }, 0);
    }

    /// Lets the other end of connections know that they are over.
    fn tell(&mut self, own: usize, connection: &Connection, how: End) {
        self.links_end = true;
        let other = connection.member as usize;
        let arrives = self.now + self.network.latency(own, other);
        for link in connection.links() {
            let cut = self.network.is_cut(own, other);
            match how {
                _ if cut => self.unanswered_later(other, own, *link),
                End::Silence => self.unanswered_later(other, own, *link),
                End::Reset => self.schedule_end(other, own, *link, arrives),
                End::Closed => {
                    self.schedule_end(other, own, *link, arrives.max(connection.last));
                }
            }
        }
    }

    fn schedule_end(&mut self, own: usize, other: usize, link: u32, at: Nanoseconds) {
        let entry = Entry::LinkEnds {
            member: own as u32,
            life: self.members[own].life,
            other: other as u32,
            link,
        };
        self.queue.push(at, entry);
    }

    /// An end looks, when its pings have stayed unanswered for long enough, whether the other end is
    /// there.
    fn unanswered_later(&mut self, own: usize, other: usize, link: u32) {
        let entry = Entry::Unanswered {
            member: own as u32,
            life: self.members[own].life,
            other: other as u32,
            link,
        };
        self.queue.push(self.now + self.chance.unanswered(), entry);
    }

    /// One end hears that a connection is over.
    pub(super) fn link_ends(&mut self, own: usize, other: usize, link: u32) {
        let (peer, now) = (self.id(other), self.now);
        let connections = &mut self.members[own].connections;
        let Some(connection) = connections.get_mut(&peer) else {
            return;
        };
        if !connection.remove(link, now) {
            return;
        }
        let input = match connection.count {
            0 => {
                connections.remove(&peer);
                Input::PeerDown { peer }
            }
            // Messages on the one that ended may be lost, so the handshake is repeated.
            _ => Input::PeerUp {
                peer,
                addresses: Vec::new(),
                scope: Scope::default(),
            },
        };
        self.links_end = true;
        self.hear(own, other, input, 0);
        self.streams_end(own, other, link);
    }

    /// One end's pings are not answered: it ends the connection.
    pub(super) fn unanswered(&mut self, own: usize, other: usize, link: u32) {
        let cut = self.network.is_cut(own, other) || self.network.is_cut(other, own);
        let still = self.members[other].paused_until > self.now;
        let there = self.holds(other, own, link);
        if there && !cut && !still {
            return;
        }
        self.link_ends(own, other, link);
        if there && cut {
            self.unanswered_later(other, own, link);
        } else if there {
            let at = self.now + self.network.latency(own, other);
            self.schedule_end(other, own, link, at);
        }
    }

    /// Something came over a connection that its receiver no longer has: a reset goes back.
    pub(super) fn reset_back(&mut self, sender: usize, receiver: usize, link: u32) {
        if self.is_up(receiver) && !self.network.is_cut(receiver, sender) {
            let at = self.now + self.network.latency(receiver, sender);
            self.schedule_end(sender, receiver, link, at);
        }
    }

    /// Ends all connections of a member that ends itself.
    pub(super) fn hang_up(&mut self, member: usize, how: End) {
        let connections = std::mem::take(&mut self.members[member].connections);
        for connection in connections.values() {
            self.tell(member, connection, how);
        }
        self.drop_streams(member);
    }

    /// One connection of a member breaks, which both ends notice: at once, or when pings stay
    /// unanswered.
    pub(super) fn break_one(&mut self, member: usize, how: End) {
        let links = self.links_of(member);
        if links.is_empty() {
            return;
        }
        let (other, link) = links[self.chance.place(links.len())];
        self.broken.insert(link);
        self.links_end = true;
        for (own, other) in [(member, other), (other, member)] {
            match how {
                End::Silence => {
                    let at = self.now + self.chance.unanswered();
                    self.schedule_end(own, other, link, at);
                }
                _ => self.schedule_end(own, other, link, self.now),
            }
        }
    }

    /// Peers cannot reach each other: those that are connected notice after a while.
    pub(super) fn notice_cut(&mut self, group: &[usize]) {
        for member in group {
            for (other, link) in self.links_of(*member) {
                let cut = |a: usize, b: usize| self.network.is_cut(a, b);
                if cut(*member, other) || cut(other, *member) {
                    self.unanswered_later(*member, other, link);
                    self.unanswered_later(other, *member, link);
                }
            }
        }
    }

    /// A process stands still and answers no pings.
    pub(super) fn notice_pause(&mut self, member: usize, lasts: Duration) {
        if lasts < UNANSWERED_MIN {
            return;
        }
        for (other, link) in self.links_of(member) {
            self.unanswered_later(other, member, link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bare::{Inputs, peers};
    use super::super::{Carrier, Fault, Line, Links};
    use super::*;

    fn two(carrier: Carrier) -> Simulation<Inputs> {
        let links = Links {
            latency: 1_000_000,
            carrier,
            ..Links::clear()
        };
        peers(2, links, Line::default())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_message_is_lost_with_its_connection_and_not_without() {
        for messages_die in [true, false] {
            let carrier = Carrier {
                messages_die,
                ..Carrier::default()
            };
            let mut simulation = two(carrier);
            simulation.connect_two(0, 1);
            simulation.say(0, 1, vec![0; 5]);
            simulation.disconnect(1, 0, End::Reset);
            simulation.pass(SECOND);
            let expected = if messages_die { vec![] } else { vec![5] };
            assert_eq!(simulation.heard(1, 0), expected, "{messages_die}");
        }
    }

    #[test]
    fn what_was_sent_before_a_connection_is_closed_arrives_before_the_news_of_it() {
        let mut simulation = two(Carrier::default());
        simulation.connect_two(0, 1);
        simulation.say(0, 1, vec![0; 5]);
        simulation.disconnect(0, 1, End::Closed);
        simulation.pass(SECOND);
        assert_eq!(simulation.heard(1, 0), [5]);
        assert!(!simulation.is_connected(1, 0));
    }

    #[test]
    fn a_death_shows_at_once_or_when_pings_stay_unanswered() {
        for silent_deaths in [0.0, 1.0] {
            let carrier = Carrier {
                silent_deaths,
                ..Carrier::default()
            };
            let mut simulation = two(carrier);
            simulation.connect_two(0, 1);
            let at = simulation.now();
            let (peer, back, keeps_disk) = (0, None, true);
            simulation.fault_at(
                at,
                Fault::Crash {
                    peer,
                    back,
                    keeps_disk,
                },
            );
            simulation.pass(60 * SECOND);
            let (down, _) = simulation.news(1)[1];
            let after = (down - at).as_secs_f64();
            match silent_deaths > 0.0 {
                false => assert!(after < 0.1, "{after}"),
                true => assert!((10.0..=24.0).contains(&after), "{after}"),
            }
        }
    }

    #[test]
    fn a_further_connection_is_news_and_so_is_the_end_of_one_of_several() {
        let mut simulation = two(Carrier::default());
        for _ in 0..CONNECTIONS_PER_PEER_MAX + 1 {
            simulation.connect_two(0, 1);
        }
        let up = |count: usize| vec![true; count];
        let told = |simulation: &Simulation<Inputs>| -> Vec<bool> {
            simulation.news(1).iter().map(|(_, up)| *up).collect()
        };
        assert_eq!(told(&simulation), up(4), "there are at most four");
        simulation.break_one(0, End::Reset);
        simulation.pass(SECOND);
        assert_eq!(told(&simulation), up(5), "three are left");
        simulation.disconnect(0, 1, End::Closed);
        simulation.pass(SECOND);
        assert_eq!(told(&simulation).last(), Some(&false));
    }

    #[test]
    fn who_cannot_be_dialled_can_dial() {
        let mut simulation = two(Carrier::default());
        simulation.members[1].reach = Reach::BehindRouter;
        simulation.connect_two(0, 1);
        simulation.pass(10 * SECOND);
        assert_eq!(simulation.news(0), []);
        simulation.connect_two(1, 0);
        assert!(simulation.is_connected(0, 1));
        simulation.disconnect(0, 1, End::Closed);
        simulation.pass(SECOND);
        simulation.members[1].reach = Reach::OtherKey;
        simulation.connect_two(0, 1);
        assert!(!simulation.is_connected(0, 1));
    }

    #[test]
    fn a_peer_that_is_sent_away_is_not_read_and_comes_back_after_its_ban() {
        let mut simulation = two(Carrier::default());
        simulation.connect_two(0, 1);
        let peer = simulation.id(1);
        simulation.part_from(0, &peer);
        simulation.say(1, 0, vec![0; 3]);
        simulation.say(0, 1, vec![0; 4]);
        simulation.pass(FAREWELL / 2);
        assert_eq!(
            (simulation.heard(0, 1), simulation.heard(1, 0)),
            (vec![], vec![4])
        );
        assert!(simulation.is_connected(0, 1), "it may still read why");
        simulation.pass(SECOND);
        simulation.connect_two(1, 0);
        assert!(!simulation.is_connected(1, 0));
        simulation.pass(BAN);
        simulation.connect_two(1, 0);
        assert!(simulation.is_connected(1, 0));
    }
}
