//! Threads that train while the queue continues. Their results enter the simulation at their
//! virtual time, so nothing depends on how many threads there are or which is first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// candle's backward pass recurses through the graph; on a default stack a deep model overflows it.
const STACK_BYTES: usize = 64 << 20;

type Work<R> = Box<dyn FnOnce() -> R + Send>;

struct State<R> {
    waiting: VecDeque<(u64, Work<R>)>,
    done: BTreeMap<u64, std::thread::Result<R>>,
    closed: bool,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    /// Signals that work waits, or that the pool closes.
    work: Condvar,
    /// Signals that a piece of work is done.
    done: Condvar,
}

/// Computes `R`s. With 0 threads the collector computes everything.
pub(crate) struct Pool<R> {
    shared: Arc<Shared<R>>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
}

impl<R: Send + 'static> Pool<R> {
    /// A pool with `threads` threads besides the collecting one.
    pub(crate) fn new(threads: usize) -> Pool<R> {
        let state = State {
            waiting: VecDeque::new(),
            done: BTreeMap::new(),
            closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new()
                .name(format!("training {index}"))
                .stack_size(STACK_BYTES);
            builder.spawn(move || work(&shared))
        };
        // A machine that gives no more threads gives a slower pool, not another result.
        let threads = (0..threads).map_while(|index| spawn(index).ok()).collect();
        Pool {
            shared,
            threads,
            next: 0,
        }
    }

    /// Hands work over; returns the number under which its result is collected.
    pub(crate) fn submit(&mut self, work: impl FnOnce() -> R + Send + 'static) -> u64 {
        let number = self.next;
        self.next += 1;
        self.lock().waiting.push_back((number, Box::new(work)));
        if !self.threads.is_empty() {
            self.shared.work.notify_one();
        }
        number
    }

    /// The result of work that was handed over; waits for it, and does the work itself if no thread
    /// has begun.
    ///
    /// # Panics
    /// When the work panicked, or was collected before.
    pub(crate) fn collect(&mut self, number: u64) -> R {
        let mut state = self.lock();
        if let Ok(place) = state
            .waiting
            .binary_search_by_key(&number, |(number, _)| *number)
        {
            let (_, work) = state
                .waiting
                .remove(place)
                .expect("the place was just found");
            drop(state);
            return work();
        }
        loop {
            if let Some(result) = state.done.remove(&number) {
                return result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
            state = self
                .shared
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Forgets work whose result nobody will collect.
    pub(crate) fn forget(&mut self, number: u64) {
        let mut state = self.lock();
        if let Ok(place) = state
            .waiting
            .binary_search_by_key(&number, |(number, _)| *number)
        {
            state.waiting.remove(place);
        }
        state.done.remove(&number);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<R>> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn work<R>(shared: &Shared<R>) {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    while !state.closed {
        let Some((number, work)) = state.waiting.pop_front() else {
            state = shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(state);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done.insert(number, result);
        shared.done.notify_all();
    }
}

impl<R> Drop for Pool<R> {
    fn drop(&mut self) {
        {
            let mut state = self
                .shared
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            state.closed = true;
            state.waiting.clear();
        }
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // its panics were handed to the collector
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_the_same_for_any_number_of_threads_and_any_order_of_collecting() {
        for threads in [0, 1, 3] {
            let mut pool = Pool::new(threads);
            let numbers: Vec<u64> = (0..100u64)
                .map(|value| pool.submit(move || value * value))
                .collect();
            pool.forget(numbers[50]);
            for index in (0..100).rev().filter(|index| *index != 50) {
                assert_eq!(
                    pool.collect(numbers[index]),
                    (index * index) as u64,
                    "{threads} threads"
                );
            }
        }
    }
}
