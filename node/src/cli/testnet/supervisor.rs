//! Starts the peers' processes, listens to their events, and makes sure that none outlives the
//! testnet.
//!
//! Every child holds the read end of a pipe as stdin and leaves when that ends, so even a killed
//! supervisor leaves no orphans. Orders to a running peer are lines in that pipe.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};

use super::super::output::{Failure, print, tell};
use super::answer::{Answer, NodeStatus, Status};
use super::control::{self, Request};
use super::directory::{Places, set_attack};
use super::ending::Ending;
use super::live::{Live, ready_table, role};
use super::partition::Partition;
use super::plan::{Plan, check_attack};
use super::record::Record;
use super::show;
use super::stdin::Stdin;
use super::tally::{State, Tally, heard};
use crate::cli::THREADS;
use crate::cli::run::orders::Order as ToPeer;
use crate::config::{CONFIG_FILE, cores};
use crate::page::recording::Noticed;
use crate::page::server::Order;
use crate::telemetry::Line;

/// Lines of all peers that wait to be counted.
const LINES_MAX: usize = 4096;
/// Time between asking the peers to leave and killing them; a peer takes at most 10 s.
const GRACE: Duration = Duration::from_secs(12);
/// Time between two measurements of the peers' memory.
const SAMPLE: Duration = Duration::from_millis(1500);

/// A message to the supervisor.
enum Message {
    Line(usize, Box<Line>),
    Exited(usize, Option<ExitStatus>),
    Control(Request, oneshot::Sender<Answer>),
}

/// Where the table of connected peers goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableTo {
    Stdout,
    /// Stdout is for data.
    Stderr,
}

struct Supervisor<'a> {
    plan: &'a Plan,
    places: &'a Places,
    tally: Tally,
    live: Live,
    record: &'a mut Record,
    messages: mpsc::Sender<Message>,
    /// The pipes that keep the children alive.
    stdins: Vec<Option<Stdin>>,
    partition: Partition,
    started: Instant,
    ready_after: Option<Duration>,
    stopping: bool,
    interrupted: bool,
    /// A peer that could not even begin: the others would only wait for it.
    stillborn: Option<String>,
    table: TableTo,
    /// The askers that asked to stop it.
    down: Vec<oneshot::Sender<Answer>>,
}

/// How the processes ended.
pub(super) struct Ended {
    pub(super) tally: Tally,
    pub(super) interrupted: bool,
    /// From the first process' start to the last peer's end.
    pub(super) wall: Duration,
    /// When all peers were connected, if they ever were.
    pub(super) ready_after: Option<Duration>,
}

/// Where the supervisor tells what happens, and where orders come from besides the socket in the
/// folder.
pub(super) struct Ends<'a> {
    pub(super) table: TableTo,
    pub(super) record: &'a mut Record,
    /// Orders from a page, if there is one.
    pub(super) orders: Option<&'a mut mpsc::Receiver<Order>>,
}

/// Runs the peers' processes to their end.
///
/// # Errors
/// When a process cannot be started, or a peer could not even begin.
pub(super) fn supervise(
    plan: &Plan,
    places: &Places,
    folder: &Path,
    ends: Ends<'_>,
    ending: &Ending,
) -> Result<Ended, Failure> {
    let runtime = super::super::runtime(1)?;
    let ended = runtime.block_on(async {
        let (messages, inbox) = mpsc::channel(LINES_MAX);
        let supervisor = Supervisor {
            plan,
            places,
            tally: Tally::new(plan),
            live: Live::new(plan.agreement.charter.rounds),
            record: ends.record,
            messages,
            stdins: (0..plan.members.len()).map(|_| None).collect(),
            partition: Partition::default(),
            started: Instant::now(),
            ready_after: None,
            stopping: false,
            interrupted: false,
            stillborn: None,
            table: ends.table,
            down: Vec::new(),
        };
        supervisor.run(folder, inbox, ends.orders, ending).await
    })?;
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(ended)
}

impl Supervisor<'_> {
    async fn run(
        mut self,
        folder: &Path,
        inbox: mpsc::Receiver<Message>,
        orders: Option<&mut mpsc::Receiver<Order>>,
        ending: &Ending,
    ) -> Result<Ended, Failure> {
        let socket = control::serve(folder, self.messages.clone(), Message::Control)?;
        let ended = self.drive(inbox, orders, &mut ending.signals()).await;
        self.live.end();
        self.record.flush();
        for answer in self.down.drain(..) {
            // The asker may be gone.
            let _ = answer.send(Answer::done("every peer has stopped"));
        }
        socket.end().await;
        ended?;
        if let Some(what) = self.stillborn.take() {
            return Err(Failure::new(what));
        }
        let end = self.tally.last_finished.unwrap_or_else(Instant::now);
        Ok(Ended {
            tally: self.tally,
            interrupted: self.interrupted,
            wall: end - self.started,
            ready_after: self.ready_after,
        })
    }

    async fn drive(
        &mut self,
        mut inbox: mpsc::Receiver<Message>,
        orders: Option<&mut mpsc::Receiver<Order>>,
        signals: &mut mpsc::Receiver<()>,
    ) -> Result<(), Failure> {
        let mut samples = tokio::time::interval(SAMPLE);
        for index in 0..self.plan.members.len() {
            if let Err(failure) = self.spawn(index) {
                self.stop(Signal::SIGKILL);
                return Err(failure);
            }
        }
        let (_never, mut none) = mpsc::channel(1);
        let orders = orders.unwrap_or(&mut none);
        let mut grace = std::pin::pin!(tokio::time::sleep(Duration::MAX / 4));
        while self.running() > 0 {
            tokio::select! {
                Some(message) = inbox.recv() => self.receive(message),
                Some(()) = signals.recv() => self.interrupt(),
                Some(order) = orders.recv() => self.order(order),
                _ = samples.tick() => self.sample_all(),
                () = &mut grace, if self.stopping => self.stop(Signal::SIGKILL),
            }
            if self.stopping && grace.deadline() > tokio::time::Instant::now() + GRACE {
                grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
            }
        }
        Ok(())
    }

    fn running(&self) -> usize {
        self.tally
            .nodes
            .iter()
            .filter(|node| node.pid.is_some())
            .count()
    }

    /// Starts the process of peer `index`: this very program, in the peer's folder.
    fn spawn(&mut self, index: usize) -> Result<(), Failure> {
        let name = &self.plan.members[index].name;
        let failed = |what: &str, error: std::io::Error| {
            Failure::new(format!("{name} cannot be started: {what}: {error}"))
        };
        let program = std::env::current_exe()
            .map_err(|error| failed("this program cannot be found", error))?;
        let folder = &self.places.nodes[index].folder;
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_path(folder))
            .map_err(|error| failed("its log", error))?;
        let mut child = self
            .command(&program, folder, log)
            .spawn()
            .map_err(|error| failed("its process", error))?;
        let node = &mut self.tally.nodes[index];
        node.pid = child.id();
        node.state = State::Starting;
        self.record.add(Noticed::Began(index));
        self.stdins[index] = child.stdin.take().map(Stdin::new);
        if !self.partition.is_whole() {
            self.keep_apart(index);
        }
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        tokio::spawn(listen(index, child, stdout, self.messages.clone()));
        Ok(())
    }

    fn command(&self, program: &Path, folder: &Path, log: File) -> Command {
        let threads = (cores() / self.plan.members.len()).max(1);
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg("--dir")
            .arg(folder)
            .arg("--config")
            .arg(folder.join(CONFIG_FILE))
            .args(["--json", "--end-with-parent"])
            .env(THREADS, threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // A group of its own: Ctrl-C in the terminal reaches only the supervisor, which stops
            // the children in order.
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Line(index, line) => {
                let finished = self.tally.nodes[index].state == State::Finished;
                if self.tally.add(index, &line) && self.ready_after.is_some() {
                    self.live.round(&self.tally);
                }
                if !finished && self.tally.nodes[index].state == State::Finished {
                    self.sample(index);
                }
                self.record.add(Noticed::Line(*line));
                self.notice_ready();
            }
            Message::Exited(index, status) => self.exited(index, status),
            Message::Control(request, answer) => self.control(request, answer),
        }
    }

    fn notice_ready(&mut self) {
        if self.ready_after.is_some()
            || self
                .tally
                .nodes
                .iter()
                .any(|node| node.state == State::Starting)
        {
            return;
        }
        let after = self.started.elapsed();
        self.ready_after = Some(after);
        let text = format!(
            "{}\n{} peers connected after {:.1} s; {} rounds of rule {} over {} begin\n",
            ready_table(self.plan, self.places),
            self.plan.members.len(),
            after.as_secs_f64(),
            self.plan.agreement.charter.rounds,
            self.plan.agreement.charter.aggregation.rule.name(),
            self.plan.agreement.charter.topology.kind.name(),
        );
        match self.table {
            TableTo::Stderr => tell(&text),
            TableTo::Stdout if print(&text).is_err() => self.interrupt(),
            TableTo::Stdout => {}
        }
    }

    fn exited(&mut self, index: usize, status: Option<ExitStatus>) {
        let name = &self.plan.members[index].name;
        self.record.add(Noticed::Gone(index));
        let node = &mut self.tally.nodes[index];
        node.pid = None;
        self.stdins[index] = None;
        if node.state == State::Finished {
            return;
        }
        node.state = State::Ended;
        if !self.stopping {
            let how = status.map_or("in an unknown way".to_owned(), |status| status.to_string());
            let log = last_lines(&log_path(&self.places.nodes[index].folder));
            let what = format!("{name} ended before its last round ({how}){log}");
            if self.ready_after.is_none() {
                self.stillborn = Some(what);
                self.stopping = true;
                self.stop(Signal::SIGTERM);
            } else {
                self.live.note(&what);
            }
        }
    }

    /// An order from the page.
    fn order(&mut self, order: Order) {
        if let Some((request, answer)) = show::read(order) {
            self.control(request, answer);
        }
    }

    fn control(&mut self, request: Request, answer: oneshot::Sender<Answer>) {
        let reply = match request {
            Request::Status => Answer::status(self.status()),
            Request::Down => {
                self.down.push(answer);
                // A second request is answered as well, and does not make it kill processes that
                // are just stopping.
                if !self.stopping {
                    self.interrupt();
                }
                return;
            }
            Request::Kill { node } => self.with_node(&node, Self::kill),
            Request::Restart { node } => self.with_node(&node, Self::restart),
            Request::Pause { node } => self.with_node(&node, Self::pause),
            Request::Resume { node } => self.with_node(&node, Self::resume),
            Request::Attack { node, attack } => {
                self.with_node(&node, |this, index| this.attack(index, Some(&attack)))
            }
            Request::Honest { node } => {
                self.with_node(&node, |this, index| this.attack(index, None))
            }
            Request::Partition { nodes } => answer_of(self.part(&nodes)),
            Request::Heal => answer_of(self.heal()),
        };
        // The asker may be gone.
        let _ = answer.send(reply);
    }

    fn kill(&mut self, index: usize) -> Result<String, String> {
        let node = &self.plan.members[index].name;
        if !self.signal(index, Signal::SIGKILL) {
            return Err(format!("{node} does not run"));
        }
        Ok(format!(
            "{node} was killed; `kith testnet restart {node}` starts it again"
        ))
    }

    fn restart(&mut self, index: usize) -> Result<String, String> {
        let node = &self.plan.members[index].name;
        if self.tally.nodes[index].pid.is_some() {
            return Err(format!("{node} runs already"));
        }
        self.spawn(index).map_err(|failure| failure.to_string())?;
        self.tally.nodes[index].processes_restarted += 1;
        Ok(format!("{node} was started again"))
    }

    fn pause(&mut self, index: usize) -> Result<String, String> {
        let node = &self.plan.members[index].name;
        if !self.signal(index, Signal::SIGSTOP) {
            return Err(format!("{node} does not run"));
        }
        self.record.add(Noticed::Paused(index));
        Ok(format!("{node} is paused"))
    }

    fn resume(&mut self, index: usize) -> Result<String, String> {
        let node = &self.plan.members[index].name;
        if !self.signal(index, Signal::SIGCONT) {
            return Err(format!("{node} does not run"));
        }
        self.record.add(Noticed::Resumed(index));
        Ok(format!("{node} runs again"))
    }

    /// A peer that runs is told, and all its later starts go by its configuration.
    fn attack(&mut self, index: usize, attack: Option<&str>) -> Result<String, String> {
        let node = &self.plan.members[index].name;
        if self.tally.nodes[index].state == State::Finished {
            return Err(format!("{node} has finished"));
        }
        let failed = |failure: Failure| failure.to_string();
        attack.map_or(Ok(()), check_attack).map_err(failed)?;
        set_attack(&self.places.nodes[index].folder, attack).map_err(failed)?;
        self.record.add(Noticed::Conduct {
            peer: index,
            attack: attack.map(str::to_owned),
        });
        let attack = attack.map(str::to_owned);
        let what = match &attack {
            Some(attack) => format!("{node} does {attack} from its next update on"),
            None => format!("{node} is honest from its next update on"),
        };
        self.tell(index, &ToPeer::Behave { attack });
        Ok(what)
    }

    /// Cuts the named peers off from all others.
    fn part(&mut self, names: &[String]) -> Result<String, String> {
        let named: Result<BTreeSet<usize>, String> =
            names.iter().map(|name| self.place(name)).collect();
        self.partition = Partition::new(named?, self.plan.members.len())?;
        self.record.add(Noticed::Parted {
            side: self.partition.side(),
        });
        (0..self.plan.members.len()).for_each(|index| self.keep_apart(index));
        Ok(format!(
            "{} of {} peers are cut off from the others; `kith testnet heal` ends it",
            self.partition.side().len(),
            self.plan.members.len()
        ))
    }

    fn heal(&mut self) -> Result<String, String> {
        if self.partition.is_whole() {
            return Err("there is no partition".to_owned());
        }
        self.partition = Partition::default();
        self.record.add(Noticed::Healed);
        (0..self.plan.members.len()).for_each(|index| self.keep_apart(index));
        Ok("every peer may reach every other again".to_owned())
    }

    /// Tells a peer whom the partition cuts it off from.
    fn keep_apart(&self, index: usize) {
        let members = self.plan.members.iter().enumerate();
        let others = members.filter(|(other, _)| self.partition.separates(index, *other));
        let peers = others.map(|(_, member)| member.peer).collect();
        self.tell(index, &ToPeer::KeepApart { peers });
    }

    /// Gives an order to a peer, if it runs.
    fn tell(&self, index: usize, order: &ToPeer) {
        if let Some(stdin) = &self.stdins[index]
            && !stdin.send(order)
        {
            let name = &self.plan.members[index].name;
            self.live.note(&format!("{name} reads no orders"));
        }
    }

    fn place(&self, name: &str) -> Result<usize, String> {
        let names = self.plan.members.iter().map(|member| member.name.as_str());
        let names: Vec<&str> = names.collect();
        let place = names.iter().position(|known| *known == name);
        place.ok_or_else(|| kith_consensus::section::unknown("peer", name, &names))
    }

    fn with_node(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Self, usize) -> Result<String, String>,
    ) -> Answer {
        let place = self.place(name);
        answer_of(place.and_then(|index| act(self, index)))
    }

    fn status(&self) -> Status {
        let node = |(member, node): (&super::plan::Member, &super::tally::NodeTally)| NodeStatus {
            name: member.name.clone(),
            peer_id: member.peer.to_string(),
            role: role(member.lies).to_owned(),
            pid: node.pid,
            state: node.state,
            round: node.known.round.unwrap_or_default(),
            rounds: node.known.completed,
            accuracy: node.known.accuracy,
            updates_accepted: node.known.accepted,
            updates_refused: node.refused(),
            restarts: node.restarts(),
        };
        Status {
            ready: self.ready_after.is_some(),
            ready_seconds: self.ready_after.map(|after| after.as_secs_f64()),
            seconds: self.started.elapsed().as_secs_f64(),
            round: self.tally.common_round,
            rounds: self.plan.agreement.charter.rounds,
            nodes: self
                .plan
                .members
                .iter()
                .zip(&self.tally.nodes)
                .map(node)
                .collect(),
        }
    }

    /// The first time asks the children to leave; the second time does not ask.
    fn interrupt(&mut self) {
        self.interrupted = true;
        if self.stopping {
            self.stop(Signal::SIGKILL);
            return;
        }
        self.stopping = true;
        self.live.note("stopping every peer …");
        self.stop(Signal::SIGTERM);
    }

    fn stop(&mut self, with: Signal) {
        for index in 0..self.plan.members.len() {
            self.signal(index, with);
            // A paused process hears it when it runs again.
            self.signal(index, Signal::SIGCONT);
        }
    }

    /// Whether there was a process to signal.
    fn signal(&self, index: usize, with: Signal) -> bool {
        // A pid is forgotten when its process has been waited for, so it cannot be somebody else's.
        let pid = self.tally.nodes[index]
            .pid
            .and_then(|pid| i32::try_from(pid).ok());
        pid.is_some_and(|pid| kill(Pid::from_raw(pid), with).is_ok())
    }

    /// Measures every peer's memory, and hands on what is recorded.
    fn sample_all(&mut self) {
        self.record.flush();
        (0..self.plan.members.len()).for_each(|index| self.sample(index));
    }

    /// The peer's memory: its own pages and its part of shared ones.
    fn sample(&mut self, index: usize) {
        let node = &mut self.tally.nodes[index];
        let Some(pid) = node.pid else { return };
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            return;
        };
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kibibytes =
            line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        node.pss_bytes = node.pss_bytes.max(kibibytes.unwrap_or(0) * 1024);
    }
}

fn answer_of(result: Result<String, String>) -> Answer {
    match result {
        Ok(what) => Answer::done(what),
        Err(why) => Answer::refused(why),
    }
}

/// Passes on the lines that a process writes, and in the end how it ended.
async fn listen(
    index: usize,
    mut child: Child,
    stdout: ChildStdout,
    messages: mpsc::Sender<Message>,
) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        if let Some(line) = heard(&text)
            && messages
                .send(Message::Line(index, Box::new(line)))
                .await
                .is_err()
        {
            return;
        }
    }
    let status = child.wait().await.ok();
    let _ = messages.send(Message::Exited(index, status)).await;
}

fn log_path(folder: &Path) -> std::path::PathBuf {
    folder.join("node.log")
}

/// The end of a log, to be shown below a message.
fn last_lines(path: &Path) -> String {
    const LINES: usize = 12;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..]
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect()
}
