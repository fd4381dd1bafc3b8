//! `kith run`: one peer, until it has finished or is asked to leave.

pub(super) mod orders;
#[cfg(feature = "otel")]
mod otel;
mod page;
mod service;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use kith_consensus::{Charter, PeerId, Problem};
use kith_gossip::{Conduct, Event, Refusal};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinHandle;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::output::{Failure, Verdict};
use crate::config::{CONFIG_FILE, Config};
use crate::error::NodeError;
use crate::node::{Node, NodeHandle, NodeSettings, Outcome};
use crate::telemetry::{Line, NodeEvent, What};

/// Time for a goodbye; with what comes after it, a peer that is asked to leave is gone within 10 s.
const LEAVE_DEADLINE: Duration = Duration::from_secs(8);

/// Longest wait, at the end, for the reader of the lines to take one more.
const SHOW_DEADLINE: Duration = Duration::from_secs(2);

/// The same if the reader started this peer: it counts the lines, and its end ends this peer.
const PARENT_DEADLINE: Duration = Duration::from_secs(60);

/// Open files that a peer may need: each connection is one; redials, files and the status server
/// add more (guess).
const DESCRIPTORS_WANTED: u64 = 65_536;

/// Run a peer
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kith run --dir ada
  kith run --dir ada --json | jq 'select(.event == \"evaluated\")'

SIGINT and SIGTERM make it say goodbye, keep its state and exit with 0. Killed in any other way it goes on, when started
again, after its last completed round.

As a service of systemd (deploy/systemd) it counts as started when it listens; the service's status line names the peers that it
waits for.")]
pub(crate) struct Run {
    /// The peer's folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Its configuration, if it is not kith.toml in that folder
    #[arg(long)]
    config: Option<PathBuf>,
    /// Its key file, if it is not the one that the configuration names: for a key that a service
    /// manager hands over
    #[arg(long)]
    key: Option<PathBuf>,
    /// Print each event as one JSON line on stdout
    #[arg(long)]
    json: bool,
    /// How to log on stderr
    #[arg(long, value_enum, default_value = "human")]
    log_format: LogFormat,
    /// Leave when stdin ends: the process that started this peer is gone. A testnet's peer takes
    /// its orders there
    #[arg(long)]
    end_with_parent: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

impl Run {
    fn config_path(&self) -> PathBuf {
        self.config
            .clone()
            .unwrap_or_else(|| self.dir.join(CONFIG_FILE))
    }

    /// Threads that the configuration asks for; problems of the configuration are reported later.
    pub(crate) fn threads(&self) -> usize {
        Config::load(&self.config_path()).map_or(1, |config| config.threads)
    }

    pub(crate) fn run(self) -> Verdict {
        // Held to the end, so that the last lines are written.
        let _log = start_logging(self.log_format);
        raise_descriptors();
        let mut config = Config::load(&self.config_path())?;
        if let Some(key) = &self.key {
            config.key.clone_from(key);
        }
        let settings = NodeSettings::of_config(config, attack)?;
        let charter = &settings.agreement.charter;
        let page = page::Wanted::of(&settings.config, charter, &settings.identity)?;
        let runtime = super::runtime(2)?;
        let verdict = runtime.block_on(self.drive(settings, page));
        // Work in progress (a training step) is not waited for: everything that counts is on disk.
        runtime.shutdown_timeout(Duration::from_millis(200));
        verdict
    }

    async fn drive(&self, settings: NodeSettings, page: Option<page::Wanted>) -> Verdict {
        #[cfg(feature = "otel")]
        let (traced, sending) = otel::begin(
            settings.agreement.charter.genesis,
            settings.identity.peer(),
            &settings.config.name,
        )?
        .unzip();
        let mut node = Node::start(settings).await?;
        let leave = Arc::new(Notify::new());
        leave_on_signals(&leave)?;
        tokio::spawn(service::report(node.telemetry().clone()));
        if self.end_with_parent {
            orders::follow(node.testnet_handle(), leave.clone());
        }
        let shown = Arc::new(AtomicU64::new(0));
        let page = match page {
            Some(page) => Some(page.serve(leave.clone()).await?),
            None => None,
        };
        let watcher = {
            let mut reader = Reader {
                json: self.json,
                page,
                #[cfg(feature = "otel")]
                traced,
                leave: leave.clone(),
                shown: shown.clone(),
            };
            let lines = node.lines();
            // On a thread of its own, since the reader may be slow.
            tokio::task::spawn_blocking(move || watch(lines, &mut reader))
        };
        let ended = wait_or_leave(node, &leave).await;
        let patience = if self.end_with_parent {
            PARENT_DEADLINE
        } else {
            SHOW_DEADLINE
        };
        let hopeless = last_lines(watcher, &shown, patience)
            .await
            .and_then(|watched| watched.hopeless);
        #[cfg(feature = "otel")]
        if let Some(sending) = sending {
            sending.end().await;
        }
        match (ended?, hopeless) {
            (_, Some(why)) => Err(why.into()),
            (Some(outcome), None) if !outcome.finished => {
                tracing::info!(
                    "{} rounds done; `kith run` goes on from there",
                    outcome.rounds
                );
                Ok(ExitCode::SUCCESS)
            }
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

/// The conduct of a testnet's liar, fitted to the charter.
pub(super) fn attack(text: &str, charter: &Arc<Charter>) -> Result<Box<dyn Conduct>, String> {
    let list = |problems: Vec<Problem>| {
        problems
            .iter()
            .map(|problem| problem.what.clone())
            .collect::<Vec<_>>()
            .join("; ")
    };
    let attack = kith_simulations::attack::attack_from_text(text).map_err(list)?;
    Ok(Box::new(
        kith_simulations::attack::Attacker::new(attack, None).under(charter),
    ))
}

/// Lines of the log that wait for the reader of stderr. Later ones are dropped: a reader that is
/// slow, stopped or gone costs lines, never the peer's time or life.
const LOG_LINES_MAX: usize = 4096;

/// Logs on a thread of its own, until the returned guard is dropped. Carriers log only errors; the
/// telemetry counts what strangers do to them.
fn start_logging(format: LogFormat) -> WorkerGuard {
    let filter = EnvFilter::try_from_env("KITH_LOG").unwrap_or_else(|_| {
        EnvFilter::new("error,kith_node=info,kith_gossip=info,kith_models=warn,kameo=off")
    });
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES_MAX)
        .finish(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false);
    match format {
        LogFormat::Human => builder
            .with_ansi(use_colour())
            .log_internal_errors(false)
            .compact()
            .init(),
        LogFormat::Json => builder.log_internal_errors(false).json().init(),
    }
    guard
}

/// A peer with many neighbours, a store and a status server needs more descriptors than shells
/// usually allow, and the system usually allows more than the shell.
fn raise_descriptors() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = hard.min(DESCRIPTORS_WANTED);
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_err() {
        tracing::debug!("the limit of {soft} open files could not be raised to {wanted}");
    }
}

fn use_colour() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn leave_on_signals(leave: &Arc<Notify>) -> Result<(), Failure> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind)
            .map_err(|error| Failure::new(format!("signals cannot be received: {error}")))?;
        let leave = leave.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                leave.notify_one();
            }
        });
    }
    Ok(())
}

async fn wait_or_leave(node: NodeHandle, leave: &Notify) -> Result<Option<Outcome>, NodeError> {
    let leave_handle = node.leave_handle();
    let ended = node.wait();
    tokio::pin!(ended);
    tokio::select! {
        outcome = &mut ended => {
            service::stopping();
            return outcome.map(Some);
        }
        () = leave.notified() => {
            service::stopping();
            leave_handle.leave().await;
        }
    }
    match tokio::time::timeout(LEAVE_DEADLINE, ended).await {
        Ok(outcome) => outcome.map(Some),
        Err(_) => {
            tracing::warn!(
                "the goodbye took longer than {} s; what was promised is on disk",
                LEAVE_DEADLINE.as_secs()
            );
            Ok(None)
        }
    }
}

/// Notes from a node's lines.
#[derive(Default)]
struct Watched {
    /// Why it makes no sense to continue, if so.
    hopeless: Option<NodeError>,
}

fn write_line(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush())
}

/// Waits until the last line is shown, as long as lines are shown: on a busy machine a reader that
/// counts them misses none, and a reader that has stopped delays nobody.
async fn last_lines(
    mut watcher: JoinHandle<Watched>,
    shown: &AtomicU64,
    patience: Duration,
) -> Option<Watched> {
    let mut before = shown.load(Ordering::Relaxed);
    loop {
        if let Ok(watched) = tokio::time::timeout(patience, &mut watcher).await {
            return watched.ok();
        }
        let now = shown.load(Ordering::Relaxed);
        if now == before {
            return None;
        }
        before = now;
    }
}

/// Who reads a node's lines.
struct Reader {
    /// Whether somebody does on stdout.
    json: bool,
    page: Option<page::Shown>,
    #[cfg(feature = "otel")]
    traced: Option<otel::Traced>,
    leave: Arc<Notify>,
    /// The number of lines that were shown.
    shown: Arc<AtomicU64>,
}

/// Shows the lines until the report, and asks to leave if it makes no sense to continue.
fn watch(mut lines: broadcast::Receiver<Line>, reader: &mut Reader) -> Watched {
    let json = reader.json;
    let mut watched = Watched::default();
    let mut joining = Joining::default();
    let mut heard = true;
    loop {
        let line = match lines.blocking_recv() {
            Ok(line) => line,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!("{missed} events were not shown: whoever reads stdout is too slow");
                reader.page.iter().for_each(|page| page.misses(missed));
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return watched,
        };
        reader.page.iter().for_each(|page| page.add(&line));
        #[cfg(feature = "otel")]
        reader
            .traced
            .iter_mut()
            .for_each(|traced| traced.add(&line));
        // The reader may be slow or gone. That costs lines, but never the federation's work.
        if json
            && heard
            && let Ok(text) = serde_json::to_string(&line)
            && let Err(error) = write_line(&text)
        {
            heard = false;
            tracing::warn!("events are no longer shown: stdout cannot be written: {error}");
        }
        reader.shown.fetch_add(1, Ordering::Relaxed);
        match &line.what {
            What::Node(NodeEvent::Listening { address }) if !json => {
                tracing::info!("others reach this peer with: bootstrap = [\"{address}\"]");
            }
            What::Node(NodeEvent::Report { .. }) => return watched,
            what if watched.hopeless.is_none() => {
                watched.hopeless = match what {
                    What::Peer(event) => joining.refusal(event),
                    // A peer that is at work continues, and says so: the other process is the
                    // newcomer.
                    What::Node(NodeEvent::OwnKeyElsewhere { address }) if !joining.completed => {
                        Some(NodeError::KeyElsewhere {
                            address: address.clone(),
                        })
                    }
                    _ => None,
                };
                if watched.hopeless.is_some() {
                    reader.leave.notify_one();
                }
            }
            _ => {}
        }
    }
}

/// How the federation received this peer before its first round.
#[derive(Default)]
struct Joining {
    connected: bool,
    /// Whether it has completed a round since it was started.
    completed: bool,
    missing: Vec<PeerId>,
    dismissed: BTreeMap<PeerId, String>,
}

impl Joining {
    /// Why it makes no sense to continue: everyone awaited runs another charter or another program,
    /// the roster is full, or all have finished.
    fn refusal(&mut self, event: &Event) -> Option<NodeError> {
        let mut alone = false;
        match event {
            Event::Over { round } => return Some(NodeError::Over { rounds: *round }),
            Event::Aggregated { .. } | Event::Adopted { .. } => self.completed = true,
            Event::Connected { .. } => self.connected = true,
            Event::Waiting { missing, ready, .. } => {
                alone = *ready == 0 && !self.dismissed.is_empty();
                self.missing.clone_from(missing);
            }
            Event::Ready { connected: 0, .. } => alone = true,
            Event::Dismissed {
                peer,
                reason:
                    reason @ (Refusal::WrongFederation { .. }
                    | Refusal::OtherCharter { .. }
                    | Refusal::Layout { .. }
                    | Refusal::Version { .. }
                    | Refusal::Roster),
            } => {
                self.dismissed.insert(*peer, reason.to_string());
            }
            _ => return None,
        }
        let nobody_left = !self.missing.is_empty()
            && self
                .missing
                .iter()
                .all(|peer| self.dismissed.contains_key(peer));
        if self.connected || self.dismissed.is_empty() || !(alone || nobody_left) {
            return None;
        }
        let reasons: Vec<String> = self
            .dismissed
            .iter()
            .map(|(peer, reason)| format!("{} {reason}", peer.short()))
            .collect();
        Some(NodeError::RefusedByFederation {
            why: reasons.join("; "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_testnets_liar_knows_the_charter_as_a_simulated_one_does() {
        let charter = "[federation]\nname = \"t\"\n[topology]\nkind = \"complete\"\n[membership]\nmode = \"open\"\npeers = 9\n\
                       [aggregation]\nrule = \"trimmed-mean\"\nbyzantine = 3\n";
        let charter = Arc::new(Charter::resolve(charter, &mut []).unwrap());
        let roster: Vec<PeerId> = (0..9).map(|peer| PeerId([peer; 32])).collect();
        let rows: Vec<[f32; 1]> = (0..9u8).map(|peer| [f32::from(peer)]).collect();
        let neighbours: Vec<(PeerId, &[f32])> =
            (1..9).map(|peer| (roster[peer], &rows[peer][..])).collect();
        let graph = charter.topology.graph(9, 0).unwrap();
        let view = kith_gossip::View {
            own: roster[0],
            round: 0,
            start: &[0.0],
            trained: &rows[0],
            neighbours: &neighbours,
            roster: &roster,
            graph: &graph,
        };
        // With three liars among nine the largest z that hides is above 0; with the one that is
        // assumed without a charter it is 0, and the liar sends the mean, 4.
        let mut liar = attack("alie:0", &charter).unwrap();
        let published = liar.publish(
            &view,
            &mut kith_consensus::Seed::from_number(0).stream("test"),
        );
        let kith_gossip::Publication::Same(vector) = published else {
            panic!("{published:?}")
        };
        assert!(vector[0] < 3.5, "{vector:?}");
    }

    #[test]
    fn a_peer_gives_up_when_all_it_waits_for_run_another_charter() {
        let (one, two) = (PeerId([1; 32]), PeerId([2; 32]));
        let dismissed = |peer| Event::Dismissed {
            peer,
            reason: Refusal::WrongFederation {
                sections: vec!["training".to_owned()],
            },
        };
        let mut joining = Joining::default();
        assert!(
            joining
                .refusal(&Event::Waiting {
                    ready: 0,
                    needed: 2,
                    missing: vec![one, two]
                })
                .is_none()
        );
        assert!(joining.refusal(&dismissed(one)).is_none());
        assert!(
            joining
                .refusal(&dismissed(two))
                .is_some_and(|why| why.to_string().contains("training"))
        );
        // Nothing is known of one, and when the time to wait is over nobody else is there.
        let mut joining = Joining::default();
        let waiting = Event::Waiting {
            ready: 0,
            needed: 2,
            missing: vec![one, two],
        };
        assert!(joining.refusal(&waiting).is_none() && joining.refusal(&dismissed(one)).is_none());
        assert!(joining.refusal(&waiting).is_some());
    }

    #[test]
    fn a_peer_stays_where_somebody_shares_its_charter() {
        let (one, two) = (PeerId([1; 32]), PeerId([2; 32]));
        let mut joining = Joining::default();
        joining.refusal(&Event::Waiting {
            ready: 0,
            needed: 2,
            missing: vec![one, two],
        });
        joining.refusal(&Event::Connected { peer: one });
        let reason = Refusal::WrongFederation {
            sections: Vec::new(),
        };
        assert!(
            joining
                .refusal(&Event::Dismissed { peer: two, reason })
                .is_none()
        );
        assert!(
            joining
                .refusal(&Event::Ready {
                    neighbours: 2,
                    connected: 0
                })
                .is_none()
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_last_lines_are_waited_for_as_long_as_somebody_takes_them() {
        const PATIENCE: Duration = Duration::from_millis(800);
        let shown = Arc::new(AtomicU64::new(0));
        let slow = shown.clone();
        let watcher = tokio::spawn(async move {
            for _ in 0..8 {
                tokio::time::sleep(PATIENCE / 4).await;
                slow.fetch_add(1, Ordering::Relaxed);
            }
            Watched {
                hopeless: Some(NodeError::Over { rounds: 1 }),
            }
        });
        assert!(
            last_lines(watcher, &shown, PATIENCE)
                .await
                .is_some_and(|watched| watched.hopeless.is_some())
        );
        let stuck = tokio::spawn(std::future::pending());
        assert!(
            last_lines(stuck, &shown, PATIENCE).await.is_none(),
            "nobody is kept by a reader that has stopped"
        );
    }
}
