//! How a testnet ends when it is interrupted, at any point: the peers stop, and a temporary folder
//! is removed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::super::output::Failure;

/// Exit code of an interrupted program.
const INTERRUPTED: i32 = 130;

/// Receives the signals that end a program. While peers run, their supervisor hears of it. Before
/// and afterwards there is no peer to stop, and the program ends at once.
pub(super) struct Ending {
    shared: Arc<Mutex<Shared>>,
    /// Its one thread waits for signals.
    _runtime: Runtime,
}

#[derive(Default)]
struct Shared {
    /// Removed when the program ends at once.
    temporary: Option<PathBuf>,
    supervisor: Option<mpsc::Sender<()>>,
}

impl Ending {
    /// Receives signals from now on.
    ///
    /// # Errors
    /// When the operating system does not allow it.
    pub(super) fn new() -> Result<Ending, Failure> {
        let runtime = super::super::runtime(1)?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let entered = runtime.enter();
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ] {
            if kind == SignalKind::hangup() && hangup_is_ignored() {
                continue;
            }
            let mut signals = signal(kind)
                .map_err(|error| Failure::new(format!("signals cannot be received: {error}")))?;
            let shared = shared.clone();
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    end(&shared);
                }
            });
        }
        drop(entered);
        Ok(Ending {
            shared,
            _runtime: runtime,
        })
    }

    /// A folder that goes with the program.
    pub(super) fn remove_at_end(&self, folder: PathBuf) {
        lock(&self.shared).temporary = Some(folder);
    }

    /// Reports every signal, until it is dropped.
    pub(super) fn signals(&self) -> mpsc::Receiver<()> {
        let (sender, signals) = mpsc::channel(4);
        lock(&self.shared).supervisor = Some(sender);
        signals
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    // Two options, each whole after any panic.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(shared: &Mutex<Shared>) {
    let shared = lock(shared);
    match &shared.supervisor {
        // Four signals that nobody has taken yet say no more than three.
        Some(supervisor) if !supervisor.is_closed() => drop(supervisor.try_send(())),
        _ => {
            if let Some(folder) = &shared.temporary {
                // If left behind, it costs some megabytes in the temporary folder.
                let _ = std::fs::remove_dir_all(folder);
            }
            std::process::exit(INTERRUPTED);
        }
    }
}

/// Whether this program was started to survive its terminal, as `nohup` does.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}
