//! The one queue of a simulation: what happens next, ordered by (virtual time, sequence).
//!
//! Entries of one time come out in the order in which they went in, so a run has one order of events and no other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time in nanoseconds since the start: integers, so that sums have one value on every machine.
pub(crate) type Nanoseconds = u64;

/// A queue of `T`. The heap holds small keys; entries lie still in their slots.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<(Nanoseconds, u64, u32)>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), sequence: 0 }
    }
}

impl<T> Queue<T> {
    /// Puts an entry in; its sequence is the number of entries before it. The slot in which it waits.
    pub(crate) fn push(&mut self, at: Nanoseconds, entry: T) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 entries wait at once: memory ends before")
        });
        self.slots[slot as usize] = Some(entry);
        self.heap.push(Reverse((at, self.sequence, slot)));
        self.sequence += 1;
        slot
    }

    /// What waits in a slot.
    pub(crate) fn waiting(&mut self, slot: u32) -> Option<&mut T> {
        self.slots[slot as usize].as_mut()
    }

    /// Takes the next entry out, with its time.
    pub(crate) fn pop(&mut self) -> Option<(Nanoseconds, T)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let entry = self.slots[slot as usize].take().expect("a key in the heap has its entry");
        Some((at, entry))
    }

    /// The time of the next entry.
    pub(crate) fn next_time(&self) -> Option<Nanoseconds> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
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
}
