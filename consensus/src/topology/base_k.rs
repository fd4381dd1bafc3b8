//! Base-(k + 1) graph: a sequence of graphs of degree at most k after which everyone holds the
//! exact average, for any n.
//!
//! Takezawa et al. 2023, arXiv 2305.11420. At most 2 log₍ₖ₊₁₎ n + 2 rounds, then again. Two parts:
//! averaging over groups of at most k + 1 peers whose numbers differ in one digit (mixed radix),
//! which is exact if n has no prime factor above k + 1. For the rest, n is written in base k + 1 as
//! parts of aₗ (k + 1)^pₗ peers. Each part averages inside. Then every peer of the later parts
//! exchanges with one peer of each of the aₗ blocks of part l, with a weight that makes the mean of
//! each block the mean of all. Then the blocks average inside while the later parts continue among
//! themselves. The factor of n without its small primes is done that way, in copies side by side,
//! and then the copies average; unless one pass over all of n is shorter.
//!
//! All matrices are symmetric and doubly stochastic. Between two neighbourhoods of one or two peers
//! robust rules have little to compare; a peer that is absent breaks exactness, though not the
//! mean.

use super::{Graph, Topology, TopologyEntry, TopologyError, check_size};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "base-k",
    help: "at most k neighbours a round, the exact average after about 2 log n rounds for any n; key k",
    source: "Takezawa et al. 2023, arXiv 2305.11420",
    main_key: Some("k"),
    new: |section| {
        Box::new(BaseK {
            degree: section.integer("k", Some(1), 1..=65_535) as usize,
        })
    }, // one neighbour: the cheapest
};

#[derive(Debug)]
struct BaseK {
    /// Most neighbours in a round, k.
    degree: usize,
}

impl Topology for BaseK {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        check_size(ENTRY.name, peers, self.degree.min(peers))?;
        let mut out_edges: Vec<Vec<(usize, f64)>> = vec![Vec::new(); peers];
        let schedule = schedule(peers, self.degree + 1);
        let steps = schedule.get((round % self.period(peers)) as usize);
        for step in steps.into_iter().flatten() {
            step.edges(|a, b, weight| {
                out_edges[a].push((b, weight));
                out_edges[b].push((a, weight));
            });
        }
        Graph::new_directed(&out_edges)
    }

    fn changes(&self) -> bool {
        true
    }

    fn period(&self, peers: usize) -> u64 {
        (schedule(peers, self.degree + 1).len() as u64).max(1)
    }
}

/// What some of the peers do in one round. Peers are numbered from 0; a step happens in each of
/// `copies` places, `size` apart.
#[derive(Clone, Debug)]
struct Step {
    kind: Kind,
    copies: usize,
    size: usize,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Of `count` peers from `first`, those average whose numbers differ only in the digit of place
    /// value `stride`.
    Average {
        first: usize,
        count: usize,
        stride: usize,
        radix: usize,
    },
    /// The i-th of `rest` peers after the blocks exchanges with the i-th of each of `blocks` blocks
    /// of `block` peers from `first`.
    Exchange {
        first: usize,
        block: usize,
        blocks: usize,
        rest: usize,
    },
}

impl Step {
    /// Calls `visit(a, b, weight)` for every edge.
    fn edges(&self, mut visit: impl FnMut(usize, usize, f64)) {
        for start in (0..self.copies).map(|copy| copy * self.size) {
            match self.kind {
                Kind::Average {
                    first,
                    count,
                    stride,
                    radix,
                } => {
                    for low in 0..count {
                        let digit = low / stride % radix;
                        let others = (digit + 1..radix).map(|other| low + (other - digit) * stride);
                        others.for_each(|high| {
                            visit(
                                start + first + low,
                                start + first + high,
                                1.0 / radix as f64,
                            )
                        });
                    }
                }
                Kind::Exchange {
                    first,
                    block,
                    blocks,
                    rest,
                } => {
                    let weight = block as f64 / (blocks * block + rest) as f64;
                    for peer in 0..rest {
                        let later = start + first + blocks * block + peer;
                        (0..blocks).for_each(|number| {
                            visit(start + first + number * block + peer, later, weight)
                        });
                    }
                }
            }
        }
    }
}

type Schedule = Vec<Vec<Step>>;

fn add(schedule: &mut Schedule, round: usize, kind: Kind) {
    schedule.resize(schedule.len().max(round + 1), Vec::new());
    schedule[round].push(Step {
        kind,
        copies: 1,
        size: 0,
    });
}

/// The steps of each round; no rounds for a lone peer.
fn schedule(peers: usize, base: usize) -> Schedule {
    let whole = parts(peers, base);
    let (smooth, rough) = split(peers, base);
    let mut copies = parts(rough, base);
    copies
        .iter_mut()
        .flatten()
        .for_each(|step| (step.copies, step.size) = (smooth, rough));
    let after = copies.len();
    average(
        &mut copies,
        after,
        Digits {
            first: 0,
            count: peers,
            stride: rough,
        },
        base,
    );
    if copies.len() < whole.len() {
        copies
    } else {
        whole
    }
}

/// `peers` as (product of its prime factors up to `base`, the rest).
fn split(peers: usize, base: usize) -> (usize, usize) {
    let mut rough = peers.max(1);
    for factor in 2..=base.min(peers) {
        while rough.is_multiple_of(factor) {
            rough /= factor;
        }
    }
    (peers.max(1) / rough, rough)
}

/// `count` peers from `first`, of which every `stride` are one unit.
struct Digits {
    first: usize,
    count: usize,
    stride: usize,
}

/// Averaging over the units, from `round` on, one digit a round. All prime factors of their number
/// are at most `base`.
fn average(schedule: &mut Schedule, mut round: usize, digits: Digits, base: usize) {
    let Digits {
        first,
        count,
        mut stride,
    } = digits;
    while stride < count {
        let units = count / stride;
        let Some(radix) = (2..=base.min(units))
            .rev()
            .find(|radix| units.is_multiple_of(*radix))
        else {
            return;
        };
        add(
            schedule,
            round,
            Kind::Average {
                first,
                count,
                stride,
                radix,
            },
        );
        stride *= radix;
        round += 1;
    }
}

/// The sequence over the digits of `peers` in base `base`.
fn parts(peers: usize, base: usize) -> Schedule {
    let mut schedule = Schedule::new();
    // (first peer, size of a block, number of blocks), the largest block first.
    let mut parts = Vec::new();
    let (mut first, mut block) = (0, 1);
    while block <= peers / base {
        block *= base;
    }
    while block > 0 && first < peers {
        let blocks = (peers - first) / block;
        if blocks > 0 {
            parts.push((first, block, blocks));
            first += blocks * block;
        }
        block /= base;
    }
    for (first, block, blocks) in &parts {
        average(
            &mut schedule,
            0,
            Digits {
                first: *first,
                count: block * blocks,
                stride: 1,
            },
            base,
        );
    }
    let start = schedule.len();
    let last = parts.len().saturating_sub(1);
    for (number, (first, block, blocks)) in parts[..last].iter().enumerate() {
        let rest = peers - first - blocks * block;
        add(
            &mut schedule,
            start + number,
            Kind::Exchange {
                first: *first,
                block: *block,
                blocks: *blocks,
                rest,
            },
        );
        // All blocks at once: place values below a block's size.
        let (mut stride, mut round) = (1, start + number + 1);
        while stride < *block {
            let count = blocks * block;
            add(
                &mut schedule,
                round,
                Kind::Average {
                    first: *first,
                    count,
                    stride,
                    radix: base,
                },
            );
            (stride, round) = (stride * base, round + 1);
        }
    }
    schedule
}
