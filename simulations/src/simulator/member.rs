//! One peer with its process and its disk: it starts, waits, stores and stops.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::privacy::ledger::{Account, Ledger, Total};
use kith_consensus::{Digest, PeerId, Sorted};
use kith_gossip::{Behind, Checkpoint, Input, Intent, Peer, Record, Setup, Stored};

use super::connections::{Connection, End, Reach};
use super::entry::Entry;
use super::gossip::Heard;
use super::mailbox::Waiting;
use super::pulls::Bodies;
use super::queue::Nanoseconds;
use super::{Adversary, Device, Local, Moment, Observer, Participant, Simulation, nanoseconds};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    /// Not started yet.
    Waiting,
    Up,
    /// Dead, and will start again.
    Down,
    /// Dead for good, unless everything heals.
    Gone,
    Stopped,
}

pub(super) struct Member {
    pub(super) peer: Peer,
    pub(super) setup: Box<dyn Fn() -> Setup>,
    pub(super) local: Arc<dyn Local>,
    /// What it does besides its peer.
    pub(super) adversary: Option<Box<dyn Adversary>>,
    /// Lives before the first of this run.
    pub(super) lived: u64,
    pub(super) device: Device,
    /// See [`Participant::waits`].
    pub(super) waits: Option<Nanoseconds>,
    /// The newest round that it has trained in.
    pub(super) trained: Option<u64>,
    pub(super) checkpoint: Option<Box<Checkpoint>>,
    /// The one before; kept only if a rollback is to come.
    pub(super) before: Option<Box<Checkpoint>>,
    /// The newest intent; that of a round that is complete is kept only if a rollback is to come.
    pub(super) intent: Option<Box<Intent>>,
    /// Proofs against others, on its disk.
    pub(super) evidence: BTreeMap<PeerId, Vec<u8>>,
    /// The privacy ledger beside its rows: a crash does not touch it, and only
    /// [`super::Fault::RestoredLedger`] puts an older copy in its place.
    pub(super) ledger: Ledger,
    /// Whether an entry of the ledger is being written.
    pub(super) charging: bool,
    /// Whether the intent's vectors were in a file of their own, which is gone.
    pub(super) vectors_gone: bool,
    /// Counts deaths: entries for an earlier life are dropped.
    pub(super) life: u32,
    pub(super) process: Process,
    pub(super) paused_until: Nanoseconds,
    /// Entries that come for it while it stands still, in order.
    pub(super) held: Vec<Entry>,
    pub(super) write: Nanoseconds,
    /// When the disk has finished its writes so far: writes are done in order.
    pub(super) disk_free: Nanoseconds,
    pub(super) clock: f64,
    /// Its connections, by peer.
    pub(super) connections: Sorted<PeerId, Connection>,
    /// The newest entry of the queue that delivers to it: time, life, slot.
    pub(super) delivery: Option<(Nanoseconds, u32, u32)>,
    /// By peer, when it hears last that a connection began or ended: such news arrives in this
    /// order.
    pub(super) news: BTreeMap<u32, Nanoseconds>,
    /// What answers at its address.
    pub(super) reach: Reach,
    /// Members that it dials.
    pub(super) dialling: BTreeSet<u32>,
    /// Members that it has sent away, and that may still read why.
    pub(super) dismissed: BTreeSet<u32>,
    /// Members that it lets in again only then.
    pub(super) banned: BTreeMap<u32, Nanoseconds>,
    /// What it pulls and serves.
    pub(super) bodies: Bodies,
    /// What it has heard of gossip.
    pub(super) heard: Heard,
    /// When it has done with the input that it works on.
    pub(super) busy_until: Nanoseconds,
    /// Inputs that wait for that, in order.
    pub(super) mailbox: VecDeque<Waiting>,
    /// By sender, the messages and bytes that have come and are not read.
    pub(super) unread: BTreeMap<u32, (usize, usize)>,
    /// How many times as long as usual its inputs take.
    pub(super) slowness: f64,
    /// When its trainer has done its work so far.
    pub(super) trainer_free: Nanoseconds,
    /// Records that its disk still takes before one fails.
    pub(super) fails_after: Option<(u64, usize)>,
}

impl Member {
    pub(super) fn new(participant: Participant) -> Member {
        Member {
            peer: Peer::new(Setup {
                incarnation: participant.lived + 1,
                ..(participant.setup)()
            }),
            setup: participant.setup,
            local: participant.local,
            adversary: participant.adversary,
            lived: participant.lived,
            device: participant.device,
            waits: participant.waits.map(nanoseconds),
            trained: None,
            checkpoint: None,
            before: None,
            intent: None,
            evidence: BTreeMap::new(),
            ledger: Ledger::new(Digest::of(b"the rows of a simulated peer")),
            charging: false,
            vectors_gone: false,
            life: 0,
            process: Process::Waiting,
            paused_until: 0,
            held: Vec::new(),
            write: 0,
            disk_free: 0,
            clock: 1.0,
            connections: Sorted::default(),
            delivery: None,
            news: BTreeMap::new(),
            reach: Reach::Open,
            dialling: BTreeSet::new(),
            dismissed: BTreeSet::new(),
            banned: BTreeMap::new(),
            bodies: Bodies::default(),
            heard: Heard::default(),
            busy_until: 0,
            mailbox: VecDeque::new(),
            unread: BTreeMap::new(),
            slowness: 1.0,
            trainer_free: 0,
            fails_after: None,
        }
    }

    /// Its process is gone, and all that was only in memory.
    pub(super) fn forget_process(&mut self) {
        self.life += 1;
        if std::mem::take(&mut self.charging) {
            self.tear();
        }
        self.process = Process::Down;
        self.disk_free = 0;
        self.paused_until = 0;
        (self.busy_until, self.trainer_free) = (0, 0);
        self.heard = Heard::default();
        self.dialling.clear();
        self.dismissed.clear();
        self.banned.clear();
        self.mailbox.clear();
        self.unread.clear();
        self.held.clear();
    }

    /// Messages that have come for it and that nobody reads yet.
    pub(super) fn not_read(&mut self, from: u32, bytes: usize) {
        let (count, sum) = self.unread.entry(from).or_default();
        (*count, *sum) = (*count + 1, *sum + bytes);
    }

    /// One of them is read.
    pub(super) fn read(&mut self, from: u32, bytes: usize) {
        if let Some((count, sum)) = self.unread.get_mut(&from) {
            (*count, *sum) = (count.saturating_sub(1), sum.saturating_sub(bytes));
            if *count == 0 {
                self.unread.remove(&from);
            }
        }
    }

    /// The process died while it wrote an entry of the ledger, if there was one to write.
    fn tear(&mut self) {
        let account = self.local.account();
        let verdict = account.map(|account| account.charge(&self.ledger, 0));
        if verdict.is_some_and(|verdict| !verdict.entries.is_empty()) {
            self.ledger.tear();
        }
    }

    /// Charges the training of a round to the ledger of its rows.
    fn charge(&mut self, round: u64) -> Stored {
        let verdict = self.account().charge(&self.ledger, round);
        for entry in verdict.entries {
            self.ledger.append(entry);
        }
        self.charging = false;
        Stored::Charge {
            round,
            decision: verdict.decision,
            spent: verdict.spent,
        }
    }

    /// Charges what its ledger lacks of a total that a header states.
    fn cover(&mut self, round: u64, stated: Total) -> Stored {
        let before = self.account().spent(&self.ledger);
        let entries = self.account().cover(&self.ledger, round, stated);
        let is_behind = !entries.is_empty();
        for entry in entries {
            self.ledger.append(entry);
        }
        self.charging = false;
        let after = self.account().spent(&self.ledger);
        Stored::Covered {
            round,
            behind: is_behind.then_some(Behind {
                stated,
                before,
                after,
            }),
        }
    }

    fn account(&self) -> &Account {
        let account = self.local.account();
        account.expect("a peer under a guarantee trains on rows that have an account")
    }

    /// Which life it is in, counting those of earlier runs.
    pub(super) fn incarnation(&self) -> u64 {
        self.lived + u64::from(self.life) + 1
    }

    /// The peer anew, in the life that now begins, with what its disk holds against others.
    pub(super) fn reborn(&self) -> Peer {
        Peer::new(Setup {
            incarnation: self.incarnation(),
            evidence: self.evidence.values().cloned().collect(),
            ..(self.setup)()
        })
    }

    /// The moment that an observer is shown, with the member's number.
    pub(super) fn moment(&self, now: Nanoseconds, member: usize) -> Moment<'_> {
        Moment {
            now: Duration::from_nanos(now),
            member,
            life: self.life,
            peer: &self.peer,
        }
    }
}

impl<O: Observer> Simulation<O> {
    pub(super) fn start(&mut self, member: usize) {
        self.stranded.clear(); // somebody is back
        let state = &mut self.members[member];
        state.process = Process::Up;
        let checkpoint = state.checkpoint.clone();
        let next = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.round);
        let intent = state.intent.clone();
        let intent = intent.and_then(|intent| found(intent, next, state.vectors_gone));
        self.push_input(member, Input::Start { checkpoint, intent }, 0);
        self.meet(member);
        self.ticks(member);
    }

    /// A peer has stopped by itself.
    pub(super) fn stopped(&mut self, member: usize) {
        self.members[member].process = Process::Stopped;
        self.stranded.remove(&member);
        self.running -= usize::from(self.members[member].adversary.is_none());
        self.hang_up(member, End::Closed);
        self.let_in();
    }

    /// Notes that a member has said that it waits for neighbours.
    pub(super) fn waits_for_neighbours(&mut self, member: usize) {
        let mut neighbours = self.members[member].peer.neighbours();
        let for_anybody = neighbours.is_empty();
        if for_anybody {
            // In this round it exchanges with nobody; it waits for anybody, but dials neighbours of
            // later rounds only.
            neighbours.extend(self.ids.iter().filter(|id| **id != self.ids[member]));
        }
        let has_stopped =
            |state: &Member| matches!(state.process, Process::Stopped | Process::Gone);
        // Nobody can tell when a liar lets a peer go on that has nobody else.
        let mut others = (0..self.members.len()).filter(|other| *other != member);
        let has_liars_only = others.all(|other| {
            let state = &self.members[other];
            state.adversary.is_some() || has_stopped(state)
        });
        let gone = |peer: &PeerId| {
            let number = self.member_of(peer).expect("it is on the roster");
            has_stopped(&self.members[number])
                || has_liars_only
                || (for_anybody && self.stranded.contains(&number))
        };
        let counts = self.members[member].adversary.is_none();
        if counts && !neighbours.is_empty() && neighbours.iter().all(gone) {
            self.stranded.insert(member);
        }
    }

    /// A record goes to the disk, after the earlier ones.
    pub(super) fn persist(&mut self, member: usize, record: Record) {
        let state = &mut self.members[member];
        state.disk_free = state.disk_free.max(self.now) + state.write;
        state.charging |= matches!(record, Record::Charge { .. });
        let entry = Entry::Durable {
            member: member as u32,
            life: state.life,
            record: Box::new(record),
        };
        if state.disk_free == self.now {
            self.at_once.push_back(entry);
        } else {
            self.queue.push(state.disk_free, entry);
        }
    }

    pub(super) fn durable(&mut self, member: usize, record: Record) {
        if let Some((records, fault)) = self.members[member].fails_after {
            match records.checked_sub(1) {
                None => return self.store_fails(member, fault),
                Some(left) => self.members[member].fails_after = Some((left, fault)),
            }
        }
        let rolls_back = self.rolls_back;
        let state = &mut self.members[member];
        let moment = state.moment(self.now, member);
        self.observer.stored(&moment, &record);
        let stored = match record {
            Record::Charge { round } => state.charge(round),
            Record::Cover { round, stated } => state.cover(round, stated),
            Record::Intent(intent) => {
                let round = intent.round;
                (state.intent, state.vectors_gone) = (Some(intent), false);
                Stored::Intent { round }
            }
            Record::Checkpoint(checkpoint) => {
                let round = checkpoint.round;
                let newest = state.checkpoint.replace(checkpoint);
                if rolls_back {
                    state.before = newest;
                    let mixed = state.intent.as_ref().filter(|intent| intent.round < round);
                    state.vectors_gone |= mixed.is_some_and(|intent| has_own_file(intent));
                } else {
                    // A promise for a round that is complete is never needed again.
                    state.intent = state.intent.take().filter(|intent| intent.round >= round);
                }
                Stored::Checkpoint { round }
            }
            Record::Evidence { peer, proof } => {
                state.evidence.insert(peer, proof);
                Stored::Evidence { peer }
            }
        };
        self.take_in(member, Input::Stored(stored), None);
    }
}

/// Bytes from which a promise's vectors are in a file of their own, which goes once a checkpoint has
/// taken them in; as in the node's store.
const OWN_FILE_BYTES: usize = 64 << 10;

fn has_own_file(intent: &Intent) -> bool {
    let carried = intent.carried.values().map(|values| values.len());
    let values = intent.own.len() + carried.sum::<usize>();
    4 * values + intent.body.len() >= OWN_FILE_BYTES
}

/// What a node that opens round `next` finds of its newest promise: the whole of it, if it is for
/// that round and its vectors are there, otherwise only that it must not be contradicted.
fn found(intent: Box<Intent>, next: u64, vectors_gone: bool) -> Option<Box<Intent>> {
    if intent.round < next {
        return None;
    }
    if intent.round == next && !vectors_gone {
        return Some(intent);
    }
    Some(Box::new(Intent {
        round: intent.round + u64::from(intent.round == next),
        body: Arc::default(),
        own: Arc::default(),
        carried: Default::default(),
        ..*intent
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(round: u64, values: usize) -> Box<Intent> {
        Box::new(Intent {
            round,
            sequence: round,
            state: Digest::default(),
            announcement: vec![1].into(),
            body: Arc::default(),
            own: Arc::new(vec![1.0; values]),
            carried: Default::default(),
        })
    }

    #[test]
    fn a_promise_is_sent_again_only_in_its_round_and_with_its_vectors() {
        let of = |intent: Option<Box<Intent>>| intent.map(|of| (of.round, of.own.len()));
        assert_eq!(of(found(intent(3, 8), 4, false)), None, "it is mixed");
        assert_eq!(of(found(intent(3, 8), 3, false)), Some((3, 8)));
        assert_eq!(
            of(found(intent(3, 8), 3, true)),
            Some((4, 0)),
            "nothing is said in 3"
        );
        assert_eq!(
            of(found(intent(3, 8), 2, false)),
            Some((3, 0)),
            "nor before"
        );
        assert!(has_own_file(&intent(3, OWN_FILE_BYTES / 4)) && !has_own_file(&intent(3, 8)));
    }
}
