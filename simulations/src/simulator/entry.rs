//! The entries of the queue.

use kith_consensus::PeerId;
use kith_gossip::{Effect, Input, Record, Timer};

use super::pulls::{Answer, Question, Try};
use super::transfers::Message;
use super::work::Job;

/// Something that will happen.
pub(super) enum Entry {
    Start(usize),
    /// Messages that arrive at one peer at one time come together, in the order in which they were
    /// sent.
    Deliver {
        to: u32,
        life: u32,
        messages: Vec<Message>,
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
    /// A peer has done with an input and takes the next.
    Ready {
        member: u32,
        life: u32,
    },
    /// Gossip arrives, by its number.
    Gossip {
        to: u32,
        life: u32,
        from: u32,
        link: u32,
        number: u32,
    },
    /// A dial has an answer, or gets none.
    DialEnds {
        member: u32,
        life: u32,
        other: u32,
    },
    /// A member hears that a connection is over.
    LinkEnds {
        member: u32,
        life: u32,
        other: u32,
        link: u32,
    },
    /// A member's pings have had their time to be answered.
    Unanswered {
        member: u32,
        life: u32,
        other: u32,
        link: u32,
    },
    /// A peer that was sent away has had its time to read why.
    FarewellEnds {
        member: u32,
        life: u32,
        other: u32,
    },
    /// A pull asks the next source.
    PullGoesOn {
        member: u32,
        life: u32,
        pull: u64,
    },
    /// A try of a pull may have had no progress for too long.
    PullSilent(Box<Try>),
    /// A source, in this life, is asked for a body.
    Asked(Box<(Try, u32, PeerId, Question)>),
    /// A try of a pull gets an answer.
    Answered(Box<(Try, Answer)>),
    /// A source, in this life, is told that nobody reads any more.
    Abandoned(Box<(Try, u32)>),
    /// The line is free for the next part of a body.
    SendPart {
        member: u32,
        life: u32,
        request: u64,
    },
    /// Time has passed for a member with an adversary.
    Tick {
        member: u32,
        life: u32,
    },
    /// An adversary does what it has put off.
    Act {
        member: u32,
        life: u32,
        effect: Box<Effect>,
    },
    Fault(usize),
    /// The end of a fault that lasts for some time.
    FaultEnds(usize),
}

impl Entry {
    /// The member whose process takes this in.
    pub(super) fn process(&self) -> Option<(usize, u32)> {
        match self {
            Entry::Deliver {
                to: member, life, ..
            }
            | Entry::Gossip {
                to: member, life, ..
            }
            | Entry::Input { member, life, .. }
            | Entry::Timer { member, life, .. }
            | Entry::Tick { member, life }
            | Entry::Act { member, life, .. }
            | Entry::Ready { member, life }
            | Entry::DialEnds { member, life, .. }
            | Entry::LinkEnds { member, life, .. }
            | Entry::Unanswered { member, life, .. }
            | Entry::FarewellEnds { member, life, .. }
            | Entry::PullGoesOn { member, life, .. }
            | Entry::SendPart { member, life, .. }
            | Entry::Durable { member, life, .. } => Some((*member as usize, *life)),
            Entry::PullSilent(of) => Some(of.asker()),
            Entry::Answered(answered) => Some(answered.0.asker()),
            Entry::Asked(asked) => Some((asked.0.source(), asked.1)),
            Entry::Abandoned(abandoned) => Some((abandoned.0.source(), abandoned.1)),
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
