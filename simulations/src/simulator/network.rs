//! The links between peers: latency, bandwidth, loss, repetition, and cuts.
//!
//! A message leaves when the sender's line is free, takes its bytes over the line's rate, then the
//! link's latency, then the receiver's line. Loss is the loss of a whole message, which a real
//! connection shows only when it breaks: the protocol has to live with that, so worlds can ask for
//! it.

use kith_consensus::{Seed, Stream};

use super::carrier::Carrier;
use super::queue::Nanoseconds;

/// How a link's latency varies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Jitter {
    /// The latency does not vary.
    #[default]
    None,
    /// Up to this many nanoseconds more, uniformly.
    Uniform(Nanoseconds),
    /// More by an exponential time with this mean in nanoseconds: mostly little, sometimes much.
    Exponential(Nanoseconds),
    /// Times e^(σ·N), N standard normal: similar to paths over the internet.
    LogNormal(f64),
}

/// Bytes per second that a peer's line carries; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// Bytes per second from the peer.
    pub up: f64,
    /// Bytes per second to the peer.
    pub down: f64,
    /// Nanoseconds that every message from or to this peer takes besides the link's latency.
    pub latency: Nanoseconds,
}

/// What all links have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Links {
    /// Latency of a link, one way.
    pub latency: Nanoseconds,
    /// How it varies.
    pub jitter: Jitter,
    /// Share of messages that never arrive.
    pub loss: f64,
    /// Share of messages that arrive twice.
    pub duplication: f64,
    /// Whether messages of one connection may overtake each other if the jitter lets them; a real
    /// connection keeps order.
    pub reordering: bool,
    /// Seed of all draws.
    pub seed: u64,
    /// In what the carrier is unkind besides.
    pub carrier: Carrier,
}

impl Links {
    /// Everything arrives once, at once and in order.
    pub fn clear() -> Links {
        Links::default()
    }

    /// Messages are lost and repeated with these shares and take a uniform time up to `delay`,
    /// overtaking each other.
    pub fn bad(loss: f64, duplication: f64, delay: std::time::Duration, seed: u64) -> Links {
        let jitter = Jitter::Uniform(delay.as_nanos() as Nanoseconds);
        Links {
            latency: 0,
            jitter,
            loss,
            duplication,
            reordering: true,
            seed,
            carrier: Carrier::default(),
        }
    }
}

/// Peers that cannot reach each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// Numbers of the peers on one side.
    pub group: Vec<usize>,
    /// Whether only messages from the group to the others are lost.
    pub one_way: bool,
}

/// A peer's line, and when it has finished its transfers so far, in each direction.
#[derive(Debug)]
struct End {
    line: Line,
    up_free: Nanoseconds,
    down_free: Nanoseconds,
}

#[derive(Debug)]
pub(super) struct Network {
    links: Links,
    ends: Vec<End>,
    random: Stream,
    cuts: Vec<(usize, Vec<bool>, bool)>,
    /// Loss in addition to the links' own, while a fault lasts.
    pub(super) extra_loss: f64,
    pub(super) carrier: Carrier,
}

impl Network {
    pub(super) fn new(links: Links, lines: Vec<Line>) -> Network {
        let random = Seed::from_number(links.seed).stream("kith.v1 links");
        let ends = lines
            .into_iter()
            .map(|line| End {
                line,
                up_free: 0,
                down_free: 0,
            })
            .collect();
        Network {
            carrier: links.carrier,
            links,
            ends,
            random,
            cuts: Vec::new(),
            extra_loss: 0.0,
        }
    }

    pub(super) fn keeps_order(&self) -> bool {
        !self.links.reordering
    }

    /// How often a message arrives: 0, 1 or 2.
    pub(super) fn copies(&mut self) -> usize {
        if self.is_lost() {
            return 0;
        }
        let twice = self.links.duplication > 0.0 && self.random.unit() < self.links.duplication;
        if twice { 2 } else { 1 }
    }

    /// Draws whether a message is lost.
    pub(super) fn is_lost(&mut self) -> bool {
        let loss = self.links.loss + self.extra_loss;
        loss > 0.0 && self.random.unit() < loss
    }

    /// A draw of the link's latency.
    pub(super) fn latency(&mut self, from: usize, to: usize) -> Nanoseconds {
        let base = self.links.latency + self.ends[from].line.latency + self.ends[to].line.latency;
        match self.links.jitter {
            Jitter::None => base,
            Jitter::Uniform(most) => base + (most as f64 * self.random.unit()) as Nanoseconds,
            Jitter::Exponential(mean) => {
                base + (mean as f64 * -(1.0 - self.random.unit()).ln()) as Nanoseconds
            }
            Jitter::LogNormal(sigma) => {
                (base as f64 * (sigma * self.random.normal()).exp()) as Nanoseconds
            }
        }
    }

    /// When a message of `bytes` bytes that is ready `now` has left the sender's line, and when it
    /// has arrived.
    pub(super) fn arrival(
        &mut self,
        now: Nanoseconds,
        from: usize,
        to: usize,
        bytes: usize,
    ) -> (Nanoseconds, Nanoseconds) {
        let end = &mut self.ends[from];
        let sent = occupy(&mut end.up_free, end.line.up, now, bytes);
        let there = sent + self.latency(from, to);
        let end = &mut self.ends[to];
        let arrived = occupy(&mut end.down_free, end.line.down, there, bytes);
        (sent, arrived)
    }

    pub(super) fn cut(&mut self, number: usize, cut: &Cut) {
        let mut side = vec![false; self.ends.len()];
        cut.group.iter().for_each(|peer| side[*peer] = true);
        self.cuts.push((number, side, cut.one_way));
    }

    pub(super) fn heal(&mut self, number: usize) {
        self.cuts.retain(|(cut, ..)| *cut != number);
    }

    pub(super) fn heal_all(&mut self) {
        self.cuts.clear();
        self.extra_loss = 0.0;
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts
            .iter()
            .any(|(_, side, one_way)| side[from] != side[to] && (!one_way || side[from]))
    }
}

/// When a line that carries `rate` bytes a second has taken `bytes`, one message after the other.
fn occupy(free: &mut Nanoseconds, rate: f64, ready: Nanoseconds, bytes: usize) -> Nanoseconds {
    if rate <= 0.0 {
        return ready;
    }
    *free = (*free).max(ready) + (bytes as f64 / rate * 1e9) as Nanoseconds;
    *free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_one_message_after_the_other_and_latency_adds_up() {
        let links = Links {
            latency: 1_000_000,
            ..Links::clear()
        };
        let slow = Line {
            up: 1_000_000.0,
            down: 0.0,
            latency: 500_000,
        };
        let mut network = Network::new(links, vec![slow, Line::default()]);
        assert_eq!(
            network.arrival(0, 0, 1, 2_000),
            (2_000_000, 3_500_000),
            "2 ms on the line, 1.5 ms on the way"
        );
        assert_eq!(
            network.arrival(0, 0, 1, 2_000),
            (4_000_000, 5_500_000),
            "the second waits for the first"
        );
        assert_eq!(
            network.arrival(0, 1, 0, 2_000),
            (0, 1_500_000),
            "the other direction is free"
        );
    }

    #[test]
    fn a_one_way_cut_lets_answers_through() {
        let mut network = Network::new(Links::clear(), vec![Line::default(); 3]);
        network.cut(
            7,
            &Cut {
                group: vec![0],
                one_way: true,
            },
        );
        assert!(network.is_cut(0, 1) && !network.is_cut(1, 0) && !network.is_cut(1, 2));
        network.heal(7);
        assert!(!network.is_cut(0, 1));
    }
}
