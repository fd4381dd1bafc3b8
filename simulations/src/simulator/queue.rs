//! The one queue of a simulation: what happens next, ordered by (virtual time, sequence).
//!
//! Entries of one time come out in the order in which they went in, so a run has one order of
//! events and no other.
//!
//! Waiting entries lie unsorted in spans of time, and a span is sorted when nothing before it is
//! left. So pushes and pops touch neighbouring memory. A heap of all entries, most of them
//! deadlines far ahead, would be walked through from end to end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Virtual time in nanoseconds since the start: integers, so that sums have one value on every
/// machine.
pub(crate) type Nanoseconds = u64;

/// Nanoseconds of a span, as a power of two: a millisecond (guess: shorter than most links'
/// latency, so that most new entries belong to a later span).
const SPAN_BITS: u32 = 20;

/// Time, sequence number, slot.
type Key = (Nanoseconds, u64, u32);

/// A queue of `T`. The heap holds small keys; entries lie still in their slots.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// The first of all keys, once its time was asked for.
    next: Option<Key>,
    /// The others of spans up to `span`: those that were there when it began, the last first, and
    /// those that came since.
    sorted: Vec<Key>,
    heap: BinaryHeap<Reverse<Key>>,
    span: u64,
    /// Those of later spans.
    later: BTreeMap<u64, Vec<Key>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            next: None,
            sorted: Vec::new(),
            heap: BinaryHeap::new(),
            span: 0,
            later: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            sequence: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Puts an entry in; its sequence is the number of entries before it. Returns the slot in which
    /// it waits.
    pub(crate) fn push(&mut self, at: Nanoseconds, entry: T) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1)
                .expect("fewer than 2^32 entries wait at once: memory ends before")
        });
        self.slots[slot as usize] = Some(entry);
        let key = (at, self.sequence, slot);
        self.sequence += 1;
        if let Some(first) = self.next.filter(|first| key < *first) {
            self.heap.push(Reverse(first));
            self.next = Some(key);
        } else if at >> SPAN_BITS <= self.span {
            self.heap.push(Reverse(key));
        } else {
            self.later.entry(at >> SPAN_BITS).or_default().push(key);
        }
        slot
    }

    /// Takes out the first key but `next`; sorts the next span if nothing is left before it.
    fn first(&mut self) -> Option<Key> {
        if self.sorted.is_empty()
            && self.heap.is_empty()
            && let Some((span, keys)) = self.later.pop_first()
        {
            (self.span, self.sorted) = (span, keys);
            self.sorted.sort_unstable_by(|a, b| b.cmp(a));
        }
        match (self.sorted.last(), self.heap.peek()) {
            (Some(old), Some(Reverse(new))) if old < new => self.sorted.pop(),
            (Some(_), None) => self.sorted.pop(),
            _ => self.heap.pop().map(|Reverse(key)| key),
        }
    }

    /// The entry that waits in a slot.
    pub(crate) fn waiting(&mut self, slot: u32) -> Option<&mut T> {
        self.slots[slot as usize].as_mut()
    }

    /// Takes the next entry out, with its time.
    pub(crate) fn pop(&mut self) -> Option<(Nanoseconds, T)> {
        let next = self.next.take();
        let (at, _, slot) = next.or_else(|| self.first())?;
        self.free.push(slot);
        let entry = self.slots[slot as usize]
            .take()
            .expect("a key has its entry until it is taken out");
        Some((at, entry))
    }

    /// The time of the next entry.
    pub(crate) fn next_time(&mut self) -> Option<Nanoseconds> {
        if self.next.is_none() {
            self.next = self.first();
        }
        self.next.map(|(at, ..)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_the_order_of_time_and_then_of_arrival() {
        let mut queue = Queue::default();
        for (at, name) in [(5, 'a'), (3, 'b'), (5, 'c'), (3, 'd'), (0, 'e')] {
            queue.push(at, name);
        }
        assert_eq!(queue.next_time(), Some(0));
        let mut order = Vec::new();
        while let Some((_, name)) = queue.pop() {
            order.push(name);
            if name == 'b' {
                queue.push(3, 'f'); // slots are used again
            }
        }
        assert_eq!(order, ['e', 'b', 'd', 'f', 'a', 'c']);
        assert_eq!(queue.next_time(), None);
    }

    #[test]
    fn asking_for_the_next_time_changes_no_order_whatever_comes_between() {
        let mut random = kith_consensus::Seed::from_number(1).stream("test");
        let (mut queue, mut expected, mut number, mut now) =
            (Queue::default(), std::collections::BTreeSet::new(), 0, 0);
        for _ in 0..20_000 {
            if random.bounded(2) == 0 {
                let spans = if random.bounded(4) == 0 {
                    random.bounded(4)
                } else {
                    0
                };
                let at = now + random.bounded(8) + (spans << SPAN_BITS);
                queue.push(at, number);
                expected.insert((at, number));
                number += 1;
            } else {
                let next = expected.pop_first();
                if random.bounded(2) == 0 {
                    assert_eq!(queue.next_time(), next.map(|(at, _)| at));
                }
                assert_eq!(queue.pop(), next);
                now = next.map_or(now, |(at, _)| at);
            }
        }
    }
}
