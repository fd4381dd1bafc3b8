//! The pipe to a peer's process: it keeps the process alive, and orders go through it.

use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::mpsc;

use crate::cli::run::orders::Order;

/// Orders that wait until the process reads them, as that of a paused peer does not.
const WAITING_MAX: usize = 16;

/// The pipe. Dropped, it ends, and with it the process.
pub(super) struct Stdin(mpsc::Sender<String>);

impl Stdin {
    /// Writes orders on a task of its own, so that a process that does not read holds up nothing.
    pub(super) fn new(mut pipe: ChildStdin) -> Stdin {
        let (sender, mut lines) = mpsc::channel::<String>(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                // A process that is gone needs no orders; its end is noticed elsewhere.
                let _ = pipe.write_all(line.as_bytes()).await;
            }
        });
        Stdin(sender)
    }

    /// Gives an order. `false` if too many wait already.
    pub(super) fn send(&self, order: &Order) -> bool {
        self.0.try_send(order.to_line()).is_ok()
    }
}
