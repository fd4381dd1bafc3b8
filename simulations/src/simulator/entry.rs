//! The entries of the queue.

use kith_gossip::{Input, Packet, Record, Timer};

use super::work::Job;

/// Something that will happen.
pub(super) enum Entry {
    Start(usize),
    /// Messages that arrive at one peer at one time come together, in the order in which they were
    /// sent.
    Deliver {
        to: u32,
        life: u32,
        messages: Vec<(u32, Packet)>,
    },
    Input {
        member: u32,
        life: u32,
        input: Box<Input>,
    },
    Timer {
        member: u32,
        life: u32,
        timer: Timer,
    },
    Trained(Job),
    /// A liar that waits for others' results has waited long enough.
    Patience(Job),
    Evaluated(Job),
    Judged(Job),
    Durable {
        member: u32,
        life: u32,
        record: Box<Record>,
    },
    PullTimeout {
        request: u64,
    },
    Fault(usize),
    /// The end of a fault that lasts for some time.
    FaultEnds(usize),
    /// Connections across a cut are noticed to be broken.
    CutNoticed(usize),
}

impl Entry {
    /// The member whose process takes this in.
    pub(super) fn process(&self) -> Option<(usize, u32)> {
        match self {
            Entry::Deliver {
                to: member, life, ..
            }
            | Entry::Input { member, life, .. }
            | Entry::Timer { member, life, .. }
            | Entry::Durable { member, life, .. } => Some((*member as usize, *life)),
            Entry::Trained(job)
            | Entry::Patience(job)
            | Entry::Evaluated(job)
            | Entry::Judged(job) => Some((job.member as usize, job.life)),
            _ => None,
        }
    }

    /// The work whose result nobody needs if this is dropped.
    pub(super) fn job(&self) -> Option<u64> {
        match self {
            Entry::Trained(job) | Entry::Evaluated(job) | Entry::Judged(job) => Some(job.number),
            _ => None,
        }
    }
}
