//! Bodies by name: each pull goes through its sources twice, asks one at a time for one body at a
//! time, and resumes where a transfer broke.
//!
//! The asker's half and the server's live in their own processes and die with them. So a source
//! that dies takes its transfer with it, and an asker that is gone holds its source's places until
//! the source notices.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId};
use kith_gossip::Input;
use kith_gossip::limits::{
    BODY_STREAMS_MAX, BYTES_PER_SECOND_MIN, CHUNK_BYTES, PASS_PAUSE, PASSES, SERVED_MAX,
    SILENCE_MAX,
};

use super::entry::Entry;
use super::queue::Nanoseconds;
use super::{Observer, Simulation, nanoseconds};

/// A request: a name, an offset, and their frame.
const REQUEST_BYTES: usize = 64;

/// How often a connection tries again to carry what a cut keeps.
const SENT_AGAIN: Duration = Duration::from_secs(1);

/// One try of a pull at one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    asker: u32,
    life: u32,
    pull: u64,
    attempt: u32,
    source: u32,
    link: u32,
}

impl Try {
    /// The process that pulls.
    pub(super) fn asker(&self) -> (usize, u32) {
        (self.asker as usize, self.life)
    }

    /// The member that is asked.
    pub(super) fn source(&self) -> usize {
        self.source as usize
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    digest: Digest,
    offset: usize,
    length: usize,
}

/// What comes back of a try.
#[derive(Debug)]
pub(super) enum Answer {
    /// The body up to here.
    Part { body: Arc<Vec<u8>>, until: usize },
    /// The stream ends, and why.
    Ended(&'static str),
}

#[derive(Debug)]
struct Pull {
    digest: Digest,
    length: usize,
    sources: Vec<PeerId>,
    attempt: u32,
    /// Bytes that are here.
    filled: usize,
    /// The try that is under way, when it began and when it last made progress.
    trying: Option<(Try, Nanoseconds, Nanoseconds)>,
    why: &'static str,
}

#[derive(Debug)]
struct Service {
    of: Try,
    question: Question,
    /// What is being sent, and up to where it is.
    sending: Option<(Arc<Vec<u8>>, usize)>,
    /// Whether it holds one of the turns.
    has_turn: bool,
    /// Whether the asker has given up.
    abandoned: bool,
}

/// The pulls and services of one process.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    pulls: BTreeMap<u64, Pull>,
    /// By source, the pulls that want to ask it: the first one does.
    turns: BTreeMap<u32, VecDeque<u64>>,
    services: BTreeMap<u64, Service>,
    /// Services that wait for their turn.
    waiting: VecDeque<u64>,
    served: usize,
}

impl Bodies {
    pub(super) fn is_idle(&self) -> bool {
        self.pulls.is_empty() && self.services.is_empty()
    }
}

/// The queue in which pulls from a source wait for each other: its own.
fn queue_of(source: u32) -> u32 {
    if planted(Mutant::SharePulls) {
        return 0;
    }
    source
}

impl<O: Observer> Simulation<O> {
    // --- asking ---

    pub(super) fn pull(
        &mut self,
        asker: usize,
        digest: Digest,
        length: usize,
        sources: Vec<PeerId>,
    ) {
        let number = self.next_request;
        self.next_request += 1;
        let pull = Pull {
            digest,
            length,
            sources,
            attempt: 0,
            filled: 0,
            trying: None,
            why: "nobody to ask",
        };
        self.members[asker].bodies.pulls.insert(number, pull);
        self.try_next(asker, number);
    }

    /// The source that a pull asks at this attempt; `None` when all were asked often enough.
    fn source_of(&self, asker: usize, number: u64) -> Option<u32> {
        let pull = self.members[asker].bodies.pulls.get(&number)?;
        if pull.attempt as usize >= pull.sources.len() * PASSES {
            return None;
        }
        let source = pull.sources[pull.attempt as usize % pull.sources.len()];
        // Nobody is at an unknown place: its own is never connected with itself.
        Some(self.member_of(&source).unwrap_or(asker) as u32)
    }

    /// Waits for its turn to ask the next source.
    pub(super) fn try_next(&mut self, asker: usize, number: u64) {
        let Some(source) = self.source_of(asker, number) else {
            return self.pull_fails(asker, number);
        };
        if !self.network.carrier.pull_limits {
            return self.ask(asker, number, source);
        }
        let turns = &mut self.members[asker].bodies.turns;
        let turn = turns.entry(queue_of(source)).or_default();
        turn.push_back(number);
        if turn.len() == 1 {
            self.ask(asker, number, source);
        }
    }

    fn ask(&mut self, asker: usize, number: u64, source: u32) {
        let to = source as usize;
        let (now, life, from) = (self.now, self.members[asker].life, self.id(asker));
        let connection = self.members[asker].connections.get(&self.ids[to]);
        let link = connection.map(|connection| (connection.newest(), connection.opens));
        let lost = self.network.is_lost();
        let Some(pull) = self.members[asker].bodies.pulls.get_mut(&number) else {
            return;
        };
        let of = Try {
            asker: asker as u32,
            life,
            pull: number,
            attempt: pull.attempt,
            source,
            link: link.map_or(0, |(link, _)| link),
        };
        pull.trying = Some((of, now, now));
        let question = Question {
            digest: pull.digest,
            offset: pull.filled,
            length: pull.length,
        };
        let Some((_, opens)) = link else {
            return self.try_fails(of, "not connected");
        };
        if lost {
            return self.try_fails(of, "the stream broke");
        }
        self.queue.push(
            now + nanoseconds(SILENCE_MAX),
            Entry::PullSilent(Box::new(of)),
        );
        if !self.network.is_cut(asker, to) {
            let (_, at) = self.network.arrival(now, asker, to, REQUEST_BYTES);
            let life = self.members[to].life;
            let entry = Entry::Asked(Box::new((of, life, from, question)));
            self.queue.push(at.max(opens), entry);
        }
    }

    fn is_under_way(&mut self, of: &Try) -> Option<&mut Pull> {
        let bodies = &mut self.members[of.asker as usize].bodies;
        let pull = bodies.pulls.get_mut(&of.pull)?;
        pull.trying
            .is_some_and(|(trying, ..)| trying == *of)
            .then_some(pull)
    }

    /// A try has had no progress for a while; or, altogether, it is too slow.
    pub(super) fn pull_is_silent(&mut self, of: Try) {
        let now = self.now;
        let Some(pull) = self.is_under_way(&of) else {
            return;
        };
        let Some((_, began, progress)) = pull.trying else {
            return;
        };
        let whole = Duration::from_secs(pull.length as u64 / BYTES_PER_SECOND_MIN);
        let longest = began + nanoseconds(SILENCE_MAX + whole);
        let silent = progress + nanoseconds(SILENCE_MAX);
        if now >= silent.min(longest) {
            return self.try_fails(of, "it stopped answering");
        }
        self.queue
            .push(silent.min(longest), Entry::PullSilent(Box::new(of)));
    }

    /// Something comes back over the stream of a try.
    pub(super) fn answered(&mut self, of: Try, answer: Answer) {
        let (asker, source) = (of.asker as usize, of.source as usize);
        let gone = self.broken.contains(&of.link)
            || (self.links_end && !self.holds(asker, source, of.link));
        if gone && self.network.carrier.chunks {
            return; // the end of the connection ends the try
        }
        let now = self.now;
        let Some(pull) = self.is_under_way(&of) else {
            return;
        };
        match answer {
            Answer::Ended(why) => self.try_fails(of, why),
            Answer::Part { body, until } => {
                pull.filled = until;
                pull.trying.iter_mut().for_each(|trying| trying.2 = now);
                if until == pull.length {
                    let digest = pull.digest;
                    self.members[asker].bodies.pulls.remove(&of.pull);
                    self.turn_ends(asker, of.source, of.pull);
                    let fetched = Input::Fetched {
                        digest,
                        bytes: body,
                    };
                    self.take_in(asker, fetched, None);
                }
            }
        }
    }

    fn try_fails(&mut self, of: Try, why: &'static str) {
        let Some(pull) = self.is_under_way(&of) else {
            return;
        };
        (pull.attempt, pull.trying, pull.why) = (pull.attempt + 1, None, why);
        let pass_ends = (pull.attempt as usize).is_multiple_of(pull.sources.len());
        let asker = of.asker as usize;
        self.turn_ends(asker, of.source, of.pull);
        self.abandon(of);
        // Also a first pass that fails at once waits: a peer that asks again at once would never
        // stop.
        let pause = if pass_ends {
            PASS_PAUSE
        } else {
            Duration::ZERO
        };
        let (life, at) = (of.life, self.now + nanoseconds(pause));
        let entry = Entry::PullGoesOn {
            member: of.asker,
            life,
            pull: of.pull,
        };
        self.queue.push(at, entry);
    }

    /// The next pull may ask that source.
    fn turn_ends(&mut self, asker: usize, source: u32, number: u64) {
        let turns = &mut self.members[asker].bodies.turns;
        let queue = queue_of(source);
        let Some(turn) = turns.get_mut(&queue) else {
            return;
        };
        turn.retain(|waiting| *waiting != number);
        match turn.front().copied() {
            Some(next) => {
                let source = self.source_of(asker, next).unwrap_or(source);
                self.ask(asker, next, source);
            }
            None => drop(turns.remove(&queue)),
        }
    }

    fn pull_fails(&mut self, asker: usize, number: u64) {
        if let Some(pull) = self.members[asker].bodies.pulls.remove(&number) {
            let failed = Input::FetchFailed {
                digest: pull.digest,
                sources: pull.sources,
                why: pull.why.to_owned(),
            };
            self.push_input(asker, failed, 0);
        }
    }

    /// A member no longer waits for a body: its pull ends without an answer, and with its turn.
    pub(super) fn give_up(&mut self, asker: usize, digest: Digest, source: &PeerId) {
        let pulls = &self.members[asker].bodies.pulls;
        let is_of = |pull: &Pull| pull.digest == digest && pull.sources.first() == Some(source);
        let found = pulls.iter().find(|(_, pull)| is_of(pull));
        let Some(number) = found.map(|(number, _)| *number) else {
            return;
        };
        let pull = self.members[asker].bodies.pulls.remove(&number);
        if let Some((of, ..)) = pull.and_then(|pull| pull.trying) {
            self.abandon(of);
            self.turn_ends(asker, of.source, number);
        } else if let Some(source) = self.member_of(source) {
            self.turn_ends(asker, source as u32, number);
        }
    }

    /// Lets the source know that nobody reads any more.
    fn abandon(&mut self, of: Try) {
        let (asker, source) = (of.asker as usize, of.source as usize);
        if source != asker && !self.network.is_cut(asker, source) {
            let at = self.now + self.network.latency(asker, source);
            let life = self.members[source].life;
            self.queue.push(at, Entry::Abandoned(Box::new((of, life))));
        }
    }

    // --- serving ---

    pub(super) fn asked(&mut self, of: Try, from: PeerId, question: Question) {
        let (asker, source) = (of.asker as usize, of.source as usize);
        if self.links_end && !self.holds(source, asker, of.link) {
            return self.reset_back(asker, source, of.link);
        }
        if self.broken.contains(&of.link) {
            return;
        }
        let carrier = self.network.carrier;
        let services = &mut self.members[source].bodies.services;
        let taken = planted(Mutant::DropRequests) && !services.is_empty();
        let streams = services
            .values()
            .filter(|service| (service.of.asker, service.of.link) == (of.asker, of.link));
        if taken || carrier.stream_limits && streams.count() >= BODY_STREAMS_MAX {
            self.answer_after(of, 0, Answer::Ended("it dropped the stream"));
            return;
        }
        let request = self.next_request;
        self.next_request += 1;
        let bodies = &mut self.members[source].bodies;
        let has_turn = !carrier.pull_limits || bodies.served < SERVED_MAX;
        let service = Service {
            of,
            question,
            sending: None,
            has_turn,
            abandoned: false,
        };
        bodies.services.insert(request, service);
        if has_turn {
            bodies.served += 1;
            self.request_body(source, from, question.digest, request);
        } else {
            bodies.waiting.push_back(request);
        }
    }

    fn request_body(&mut self, source: usize, from: PeerId, digest: Digest, request: u64) {
        let requested = Input::BodyRequested {
            from,
            digest,
            request,
        };
        self.take_in(source, requested, None);
    }

    pub(super) fn provide(&mut self, source: usize, request: u64, body: Option<Arc<Vec<u8>>>) {
        let Some(service) = self.members[source].bodies.services.get_mut(&request) else {
            return;
        };
        let (of, question) = (service.of, service.question);
        if service.abandoned {
            return self.service_ends(source, request);
        }
        let ended = match &body {
            None => Some("does not have it"),
            Some(body) if body.len() != question.length => Some("offers another length"),
            Some(_) => None,
        };
        if let Some(why) = ended {
            self.service_ends(source, request);
            self.answer_after(of, 0, Answer::Ended(why));
            return;
        }
        service.sending = body.map(|body| (body, question.offset));
        self.send_part(source, request);
    }

    /// Sends the next part of a body.
    pub(super) fn send_part(&mut self, source: usize, request: u64) {
        let Some(service) = self.members[source].bodies.services.get_mut(&request) else {
            return;
        };
        let of = service.of;
        let asker = of.asker as usize;
        if service.abandoned {
            return self.service_ends(source, request);
        }
        if self.network.is_cut(source, asker) {
            let at = self.now + nanoseconds(SENT_AGAIN);
            return self.part_follows(source, request, at);
        }
        let Some((body, from)) = service.sending.as_mut() else {
            return;
        };
        let rest = body.len() - *from;
        let bytes = match self.network.carrier.chunks {
            true => rest.min(CHUNK_BYTES),
            false => rest,
        };
        *from += bytes;
        let (until, body) = (*from, Arc::clone(body));
        let last = until == body.len();
        self.observer.sent(source, asker, bytes);
        let leaves = self.answer_after(of, bytes, Answer::Part { body, until });
        if last {
            self.service_ends(source, request);
        } else {
            self.part_follows(source, request, leaves);
        }
    }

    fn part_follows(&mut self, source: usize, request: u64, at: Nanoseconds) {
        let entry = Entry::SendPart {
            member: source as u32,
            life: self.members[source].life,
            request,
        };
        self.queue.push(at, entry);
    }

    /// Sends an answer of so many bytes; returns when it has left.
    fn answer_after(&mut self, of: Try, bytes: usize, answer: Answer) -> Nanoseconds {
        let (asker, source) = (of.asker as usize, of.source as usize);
        let (leaves, at) = self.network.arrival(self.now, source, asker, bytes);
        self.queue.push(at, Entry::Answered(Box::new((of, answer))));
        leaves
    }

    /// A service is over: the next one has its turn.
    fn service_ends(&mut self, source: usize, request: u64) {
        let bodies = &mut self.members[source].bodies;
        let Some(service) = bodies.services.remove(&request) else {
            return;
        };
        if !service.has_turn {
            return bodies.waiting.retain(|waiting| *waiting != request);
        }
        bodies.served -= 1;
        let Some(next) = bodies.waiting.pop_front() else {
            return;
        };
        let service = bodies.services.get_mut(&next);
        let service = service.expect("what waits is a service");
        service.has_turn = true;
        let (asker, digest) = (service.of.asker as usize, service.question.digest);
        bodies.served += 1;
        let from = self.id(asker);
        self.request_body(source, from, digest, next);
    }

    /// An asker has given up. What waits for its turn or for the peer notices when it writes.
    pub(super) fn abandoned(&mut self, of: Try) {
        let source = of.source as usize;
        let services = &mut self.members[source].bodies.services;
        let service = services.iter_mut().find(|(_, service)| service.of == of);
        if let Some((_, service)) = service {
            service.abandoned = true;
        }
    }

    /// A connection is over at one end, and with it the streams over it.
    pub(super) fn streams_end(&mut self, own: usize, other: usize, link: u32) {
        let bodies = &self.members[own].bodies;
        if bodies.is_idle() || !self.network.carrier.chunks {
            return;
        }
        let with = |of: &Try, peer: u32| peer as usize == other && of.link == link;
        let tries = bodies.pulls.values().filter_map(|pull| pull.trying);
        let tries: Vec<Try> = tries
            .map(|(of, ..)| of)
            .filter(|of| with(of, of.source))
            .collect();
        let services = bodies.services.iter();
        let services: Vec<u64> = services
            .filter(|(_, service)| with(&service.of, service.of.asker))
            .map(|(request, _)| *request)
            .collect();
        for of in tries {
            self.try_fails(of, "the connection ended");
        }
        for request in services {
            self.service_ends(own, request);
        }
    }

    /// A process ends, and with it all its streams.
    pub(super) fn drop_streams(&mut self, member: usize) {
        self.members[member].bodies = Bodies::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::bare::{Inputs, peers};
    use super::super::connections::End;
    use super::super::{Carrier, Line, Links};
    use super::*;

    /// A megabyte a second.
    fn sources(count: usize, carrier: Carrier) -> Simulation<Inputs> {
        let links = Links {
            latency: 1_000_000,
            carrier,
            ..Links::clear()
        };
        let line = Line {
            up: 1e6,
            ..Line::default()
        };
        let mut simulation = peers(count, links, line);
        for source in 1..count {
            simulation.connect_two(0, source);
        }
        simulation
    }

    fn body(simulation: &Simulation<Inputs>, member: usize) -> Option<u64> {
        let services = &simulation.members[member].bodies.services;
        services.keys().next().copied()
    }

    /// Lets a source that was asked send so many bytes.
    fn serve(simulation: &mut Simulation<Inputs>, source: usize, bytes: usize) {
        // A bare peer has no bodies and has answered so: the test answers in its place.
        let request = body(simulation, source).expect("it was asked");
        simulation.provide(source, request, Some(Arc::new(vec![1; bytes])));
    }

    fn ask(simulation: &mut Simulation<Inputs>, sources: &[usize], bytes: usize) {
        let sources = sources
            .iter()
            .map(|source| simulation.id(*source))
            .collect();
        simulation.pull(0, Digest([9; 32]), bytes, sources);
        // Until it is asked, and before it answers.
        while body(simulation, 1).is_none() {
            let (at, entry) = simulation.queue.pop().expect("a request is on its way");
            simulation.now = at;
            match simulation.taken(entry) {
                Some(Entry::Asked(asked)) => simulation.hold_request(*asked),
                Some(entry) => simulation.happen(entry),
                None => {}
            }
        }
    }

    impl Simulation<Inputs> {
        /// As when a source is asked, but its peer has not answered yet.
        fn hold_request(&mut self, (of, _, _, question): (Try, u32, PeerId, Question)) {
            let service = Service {
                of,
                question,
                sending: None,
                has_turn: true,
                abandoned: false,
            };
            let bodies = &mut self.members[of.source()].bodies;
            bodies.served += 1;
            bodies.services.insert(self.next_request, service);
            self.next_request += 1;
        }

        fn outcomes(&self) -> Vec<Result<usize, String>> {
            let inputs = self.observer.0.iter().filter(|(_, member, _)| *member == 0);
            let outcomes = inputs.filter_map(|(_, _, input)| match input {
                Input::Fetched { bytes, .. } => Some(Ok(bytes.len())),
                Input::FetchFailed { why, .. } => Some(Err(why.clone())),
                _ => None,
            });
            outcomes.collect()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_source_that_dies_takes_its_transfer_with_it() {
        for chunks in [true, false] {
            let carrier = Carrier {
                chunks,
                ..Carrier::default()
            };
            let mut simulation = sources(2, carrier);
            ask(&mut simulation, &[1], 3_000_000);
            serve(&mut simulation, 1, 3_000_000);
            simulation.pass(SECOND);
            simulation.hang_up(1, End::Reset);
            simulation.pass(60 * SECOND);
            let expected = match chunks {
                true => Err("not connected".to_owned()),
                false => Ok(3_000_000),
            };
            assert_eq!(simulation.outcomes(), [expected]);
        }
    }

    #[test]
    fn a_transfer_resumes_elsewhere_where_it_broke() {
        let mut simulation = sources(3, Carrier::default());
        ask(&mut simulation, &[1, 2], 3_000_000);
        serve(&mut simulation, 1, 3_000_000);
        simulation.pass(SECOND);
        simulation.disconnect(0, 1, End::Reset);
        while body(&simulation, 2).is_none() {
            let (at, entry) = simulation.queue.pop().expect("the other is asked");
            simulation.now = at;
            match simulation.taken(entry) {
                Some(Entry::Asked(asked)) => simulation.hold_request(*asked),
                Some(entry) => simulation.happen(entry),
                None => {}
            }
        }
        let request = body(&simulation, 2).expect("it was asked");
        let offset = simulation.members[2].bodies.services[&request]
            .question
            .offset;
        assert!(offset >= CHUNK_BYTES, "{offset} bytes were there");
        serve(&mut simulation, 2, 3_000_000);
        simulation.pass(10 * SECOND);
        assert_eq!(simulation.outcomes(), [Ok(3_000_000)]);
    }

    #[test]
    fn a_body_of_another_length_is_refused() {
        let mut simulation = sources(2, Carrier::default());
        ask(&mut simulation, &[1], 1_000);
        serve(&mut simulation, 1, 2_000);
        simulation.pass(SECOND);
        // The second pass asks again, and the bare peer has nothing.
        assert_eq!(simulation.outcomes(), [Err("does not have it".to_owned())]);
        assert_eq!(simulation.members[1].bodies.served, 0);
    }

    #[test]
    fn a_source_that_says_nothing_is_given_up_after_the_time_for_silence() {
        let mut simulation = sources(2, Carrier::default());
        simulation.members[1].paused_until = Nanoseconds::MAX;
        let source = simulation.id(1);
        simulation.pull(0, Digest([9; 32]), 1_000, vec![source]);
        simulation.pass(19 * SECOND);
        assert_eq!(simulation.outcomes(), []);
        simulation.pass(3 * SECOND);
        let expected = Err("it stopped answering".to_owned());
        assert_eq!(simulation.outcomes(), [expected], "two passes");
    }

    #[test]
    fn a_source_is_asked_for_one_body_at_a_time() {
        for (pull_limits, asked) in [(true, 1), (false, 3)] {
            let carrier = Carrier {
                pull_limits,
                ..Carrier::default()
            };
            let mut simulation = sources(2, carrier);
            simulation.members[1].paused_until = Nanoseconds::MAX;
            for name in 0..3 {
                let source = simulation.id(1);
                simulation.pull(0, Digest([name; 32]), 1_000, vec![source]);
            }
            let pulls = simulation.members[0].bodies.pulls.values();
            let trying = pulls.filter(|pull| pull.trying.is_some()).count();
            assert_eq!(trying, asked);
        }
    }

    #[test]
    fn a_stream_above_the_number_of_a_connection_is_dropped() {
        for (stream_limits, served) in [(true, BODY_STREAMS_MAX), (false, BODY_STREAMS_MAX + 1)] {
            let carrier = Carrier {
                stream_limits,
                pull_limits: false,
                work: 1e6, // the peer is busy and answers none of them
                ..Carrier::default()
            };
            let mut simulation = sources(2, carrier);
            for name in 0..=BODY_STREAMS_MAX as u8 {
                let source = simulation.id(1);
                simulation.pull(0, Digest([name; 32]), 1_000, vec![source]);
            }
            simulation.members[1].busy_until = Nanoseconds::MAX;
            simulation.pass(Duration::from_millis(100));
            assert_eq!(simulation.members[1].bodies.services.len(), served);
        }
    }
}
