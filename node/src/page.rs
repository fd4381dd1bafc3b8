//! The page of a testnet or of one peer: what happens there, in a browser on the same machine, live
//! or again.
//!
//! | file | what it holds |
//! |---|---|
//! | `recording` | `events.jsonl`: written while a testnet runs, read afterwards |
//! | `view` | what the entries add up to: one pure fold |
//! | `shown` | the fold as JSON for the page, and as plain tables |
//! | `curve` | values over rounds, in bounded memory |
//! | `growing` | lines of a file that is still being written |
//! | `server` | HTTP: the assets, the stream of snapshots, orders |
//!
//! A live page and a replay feed the same fold with the same entries, so they show the same
//! numbers. The scripts draw; they count nothing. A testnet's page knows who lies; a peer's knows
//! only what that peer saw.

mod curve;
pub(crate) mod growing;
pub(crate) mod recording;
pub(crate) mod server;
mod shown;
mod tables;
mod view;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use self::recording::{Entry, Header};
use self::shown::Snapshot;
use self::view::View;

/// What a page shows, fed by one writer and read by any number of browsers.
pub(crate) struct Page {
    view: Mutex<View>,
    /// The number of changes so far.
    changed: watch::Sender<u64>,
}

impl Page {
    /// A page before the first entry.
    pub(crate) fn new(header: Header) -> Page {
        Page {
            view: Mutex::new(View::new(header)),
            changed: watch::Sender::new(0),
        }
    }

    /// Adds what an entry says.
    pub(crate) fn add(&self, entry: &Entry) {
        self.lock().add(entry);
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Shows a remark about the recording itself, or none any more.
    pub(crate) fn remark(&self, text: Option<&str>) {
        self.lock().remark = text.map(str::to_owned);
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Where it stands, with the notable events after number `since`.
    fn snapshot(&self, since: u64) -> Snapshot {
        self.lock().snapshot(since)
    }

    /// Positions of the peers whose held-out loss has left the others'.
    #[cfg(test)]
    pub(crate) fn drifted(&self) -> Vec<usize> {
        let view = self.lock();
        let drifts = view.events.iter().filter_map(|event| match event.what {
            view::Told::Drift(_) => Some(event.peer),
            _ => None,
        });
        drifts.collect()
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        // It is only numbers and names: whole after any panic.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
