//! A peer's rounds as spans, made from its lines: one pure fold.
//!
//! No context travels between peers. The id of a trace follows from federation and round, and the
//! id of a span from the peer and the phase of its round, so the spans of all members meet in one
//! trace for each round without a byte on the wire.
//!
//! | phase | from | to |
//! |---|---|---|
//! | round | its opening | the new model |
//! | train | its opening | the end of local training |
//! | promise | that | the update left, after it was stored |
//! | collect | that | the close of the round |
//! | mix | that | the new model |

use std::time::{Duration, SystemTime};

use kith_consensus::{Genesis, PeerId};
use kith_gossip::Event;

use super::line::{Line, What, unix_seconds};

/// A phase of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Round,
    Train,
    Promise,
    Collect,
    Mix,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Round => "round",
            Phase::Train => "train",
            Phase::Promise => "promise",
            Phase::Collect => "collect",
            Phase::Mix => "mix",
        }
    }
}

/// A phase that is over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) phase: Phase,
    pub(crate) round: u64,
    pub(crate) trace: [u8; 16],
    pub(crate) id: [u8; 8],
    /// The round's span; `None` for that itself.
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) start: SystemTime,
    pub(crate) end: SystemTime,
}

/// The round that is open.
#[derive(Clone, Copy, Debug)]
struct Open {
    round: u64,
    opened: f64,
    /// When the last phase ended.
    since: f64,
}

/// Adds up a peer's lines.
#[derive(Debug)]
pub(crate) struct Spans {
    federation: Genesis,
    peer: PeerId,
    open: Option<Open>,
    /// Time of day at the start of the node, in seconds since 1970.
    started: Option<f64>,
}

impl Spans {
    pub(crate) fn new(federation: Genesis, peer: PeerId) -> Spans {
        Spans {
            federation,
            peer,
            open: None,
            started: None,
        }
    }

    /// Adds a line. The phases that it ends.
    pub(crate) fn add(&mut self, line: &Line) -> Vec<Span> {
        let at = line.at_seconds;
        // Lines have milliseconds of the day and microseconds since the start.
        let started = unix_seconds(&line.time).map(|now| now - at);
        self.started = self.started.or(started);
        let What::Peer(event) = &line.what else {
            return Vec::new();
        };
        match event {
            Event::RoundOpened { round, .. } => {
                self.open = Some(Open {
                    round: *round,
                    opened: at,
                    since: at,
                });
                Vec::new()
            }
            Event::Trained { round, .. } => self.ends(Phase::Train, *round, at),
            Event::Published { round, .. } => self.ends(Phase::Promise, *round, at),
            Event::RoundClosed { round, .. } => self.ends(Phase::Collect, *round, at),
            Event::Aggregated { round, .. }
            | Event::MixingSkipped { round, .. }
            | Event::Adopted { round, .. }
            | Event::Kept { round, .. } => {
                let mut ended = self.ends(Phase::Mix, *round, at);
                if let Some(open) = self.open.take_if(|open| open.round == *round) {
                    ended.push(self.span(Phase::Round, *round, (open.opened, at)));
                }
                ended
            }
            _ => Vec::new(),
        }
    }

    fn ends(&mut self, phase: Phase, round: u64, at: f64) -> Vec<Span> {
        let Some(open) = self.open.as_mut().filter(|open| open.round == round) else {
            return Vec::new();
        };
        let since = std::mem::replace(&mut open.since, at);
        vec![self.span(phase, round, (since, at))]
    }

    fn span(&self, phase: Phase, round: u64, (start, end): (f64, f64)) -> Span {
        let started = self.started.unwrap_or_default();
        let time = |seconds: f64| {
            let since = Duration::try_from_secs_f64(started + seconds);
            SystemTime::UNIX_EPOCH + since.unwrap_or_default()
        };
        let parent = (phase != Phase::Round).then(|| self.id(Phase::Round));
        Span {
            phase,
            round,
            trace: trace_id(self.federation, round),
            id: self.id(phase),
            parent,
            start: time(start),
            end: time(end),
        }
    }

    /// BLAKE3 of peer and phase.
    fn id(&self, phase: Phase) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new_derive_key("kith.v1 span");
        hasher.update(&self.peer.0).update(phase.name().as_bytes());
        first(&hasher.finalize())
    }
}

/// BLAKE3 of federation and round.
fn trace_id(federation: Genesis, round: u64) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("kith.v1 trace");
    hasher.update(&federation.0.0).update(&round.to_le_bytes());
    first(&hasher.finalize())
}

fn first<const N: usize>(hash: &blake3::Hash) -> [u8; N] {
    let bytes = hash.as_bytes();
    std::array::from_fn(|place| bytes[place])
}

#[cfg(test)]
mod tests {
    use kith_consensus::Digest;
    use kith_gossip::event::Closed;

    use super::*;

    fn lines(node: u8) -> Vec<Line> {
        let events = [
            Event::RoundOpened {
                round: 3,
                neighbours: 1,
                selected: 1,
            },
            Event::Trained {
                round: 3,
                loss: None,
                samples: 1,
                local_steps: 1,
            },
            Event::Published {
                round: 3,
                sequence: 3,
                state: Digest::default(),
                body_bytes: 0,
                receivers: 1,
            },
            Event::RoundClosed {
                round: 3,
                why: Closed::Quorum,
                have: 1,
                awaited: 1,
                missing: Vec::new(),
            },
            Event::MixingSkipped {
                round: 3,
                have: 1,
                need: 3,
            },
            // Of a round that is not open.
            Event::Trained {
                round: 2,
                loss: None,
                samples: 1,
                local_steps: 1,
            },
        ];
        let line = |(place, event)| Line {
            time: format!("2026-01-02T03:04:0{place}.000Z"),
            at_seconds: place as f64 + 0.25,
            node: PeerId([node; 32]),
            what: What::Peer(event),
        };
        events.into_iter().enumerate().map(line).collect()
    }

    fn spans(federation: &[u8], node: u8) -> Vec<Span> {
        let federation = Genesis(Digest::of(federation));
        let mut spans = Spans::new(federation, PeerId([node; 32]));
        lines(node)
            .iter()
            .flat_map(|line| spans.add(line))
            .collect()
    }

    #[test]
    fn a_round_has_its_phases_one_after_the_other() {
        let spans = spans(b"f", 1);
        let phases: Vec<Phase> = spans.iter().map(|span| span.phase).collect();
        let expected = [
            Phase::Train,
            Phase::Promise,
            Phase::Collect,
            Phase::Mix,
            Phase::Round,
        ];
        assert_eq!(phases, expected);
        let seconds = |span: &Span| span.end.duration_since(span.start).unwrap().as_secs();
        assert_eq!(
            spans.iter().map(seconds).collect::<Vec<_>>(),
            [1, 1, 1, 1, 4]
        );
        let round = spans[4].id;
        assert!(spans[..4].iter().all(|span| span.parent == Some(round)));
        assert_eq!(spans[4].parent, None);
        let start = spans[0].start.duration_since(SystemTime::UNIX_EPOCH);
        assert_eq!(start.unwrap().as_secs(), 1_767_323_040);
    }

    #[test]
    fn peers_of_a_federation_share_traces_and_no_spans() {
        let [one, two, other] = [(b"f", 1), (b"f", 2), (b"g", 1)].map(|(f, node)| spans(f, node));
        assert_eq!(one[0].trace, two[0].trace);
        assert_ne!(one[0].trace, other[0].trace);
        assert!(one.iter().zip(&two).all(|(one, two)| one.id != two.id));
    }
}
