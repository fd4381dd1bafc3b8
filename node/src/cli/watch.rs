//! `kith watch`: a screen in the terminal that follows a peer, a testnet or a file of events.
//!
//! All numbers are those of [`Known`](crate::telemetry::Known), the one fold of a peer's lines.
//! `source` reads the lines on a thread of its own, since a peer may be slow to answer; `draw` makes
//! a screen of a [`View`] and of nothing else.

mod draw;
mod source;

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::done;
use super::output::{Failure, Verdict};
use super::testnet::Order;
use source::{Seen, Source};

/// Longest wait for a key before the screen is drawn again; short enough to seem immediate.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Pause between two looks at what is watched: a person does not read faster.
const INTERVAL: Duration = Duration::from_millis(500);

/// Follow a peer, a testnet or a file of events in the terminal
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: ↑ ↓ choose a peer, q or Ctrl-C leaves. In a testnet that runs: k kills the chosen peer, r starts it again.
A file holds events as JSON lines, as `kith run --json` and `kith log --json` write them, or is a testnet's events.jsonl.
One that still grows is followed.

Examples:
  kith watch --dir ada             one peer, running or stopped
  kith watch --dir net             every peer of a testnet
  kith log --dir ada --json --count 100000 > ada.jsonl && kith watch ada.jsonl")]
pub(crate) struct Watch {
    /// A file of events
    #[arg(conflicts_with = "dir")]
    file: Option<PathBuf>,
    /// The folder of a peer or of a testnet
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// What is on the screen.
#[derive(Default)]
struct View {
    seen: Seen,
    /// Place of the chosen peer.
    chosen: usize,
}

/// An order and the name of the peer that it is for.
type Named = (Order, String);

impl Watch {
    pub(crate) fn run(self) -> Verdict {
        let mut source = match &self.file {
            Some(file) => Source::file(file)?,
            None => Source::folder(&self.dir)?,
        };
        if !std::io::stdout().is_terminal() {
            return Err(Failure::new(
                "stdout is no terminal, and `kith watch` draws on one; `kith status` and `kith testnet status` print where a peer or a testnet stands",
            ));
        }
        let runtime = super::runtime(1)?;
        let ended = ended_by_signal(&runtime)?;
        let (seen, chosen) = (source.look(), 0);
        let mut view = View { seen, chosen };
        let (orders, asked) = sync_channel(1);
        let (looks, seen) = sync_channel(1);
        // Not joined: it may be waiting for a peer's answer, and holds nothing that must be kept.
        let reader = std::thread::Builder::new().name("watch".to_owned());
        reader
            .spawn(move || follow(source, &asked, &looks))
            .map_err(|error| Failure::new(format!("no thread could be started: {error}")))?;
        on_screen(|terminal| show(terminal, &mut view, &orders, &seen, &ended))
            .map_err(|error| Failure::new(format!("the terminal failed: {error}")))?;
        done()
    }
}

/// Takes over the terminal for `body`. It is given back at the end, after an error and, by the hook
/// that `try_init` sets, before a panic is reported.
fn on_screen(
    body: impl FnOnce(&mut DefaultTerminal) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let ended = body(&mut terminal);
    let restored = ratatui::try_restore();
    ended.and(restored)
}

/// Carries out orders and looks at the source, until the screen is gone.
fn follow(mut source: Source, orders: &Receiver<Named>, looks: &SyncSender<Seen>) {
    loop {
        if let Ok((order, peer)) = orders.recv_timeout(INTERVAL) {
            source.carry_out(order, &peer);
        }
        if looks.send(source.look()).is_err() {
            return;
        }
    }
}

fn show(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    orders: &SyncSender<Named>,
    looks: &Receiver<Seen>,
    ended: &AtomicBool,
) -> std::io::Result<()> {
    while !ended.load(Ordering::Relaxed) {
        terminal.draw(|frame| draw::draw(frame, view))?;
        if event::poll(KEY_WAIT)?
            && let Event::Key(key) = event::read()?
        {
            match view.press(key) {
                ControlFlow::Break(()) => return Ok(()),
                // If an earlier one still waits, the key is ignored: orders do not pile up.
                ControlFlow::Continue(order) => drop(order.map(|order| orders.try_send(order))),
            }
        }
        match looks.try_recv() {
            Ok(seen) => view.seen = seen,
            Err(TryRecvError::Empty) => {}
            Err(gone) => return Err(std::io::Error::other(gone)),
        }
    }
    Ok(())
}

/// Becomes true when somebody ends this process by a signal (SIGTERM, or SIGHUP where the terminal
/// is gone), so that the terminal is given back first.
fn ended_by_signal(runtime: &Runtime) -> Result<Arc<AtomicBool>, Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    let _entered = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind)
            .map_err(|error| Failure::new(format!("signals cannot be received: {error}")))?;
        let ended = ended.clone();
        runtime.spawn(async move {
            signals.recv().await;
            ended.store(true, Ordering::Relaxed);
        });
    }
    Ok(ended)
}

impl View {
    /// What a key asks for: to leave, or an order if it is one.
    fn press(&mut self, key: KeyEvent) -> ControlFlow<(), Option<Named>> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let last = self.seen.peers.len().saturating_sub(1);
        let order = match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return ControlFlow::Break(()),
            KeyCode::Char('c') if control => return ControlFlow::Break(()),
            KeyCode::Char('k') => Some(Order::Kill),
            KeyCode::Char('r') => Some(Order::Restart),
            _ => None,
        };
        match key.code {
            KeyCode::Up => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down => self.chosen = (self.chosen + 1).min(last),
            _ => {}
        }
        let peer = self.seen.peers.get(self.chosen);
        let peer = peer.filter(|_| self.seen.takes_orders);
        ControlFlow::Continue(order.zip(peer.map(|peer| peer.name.clone())))
    }
}

#[cfg(test)]
mod tests;
