//! Talking to a testnet in the background: JSON lines over a socket in its folder.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::super::done;
use super::super::output::{Failure, Verdict, print, print_json, table};
use super::Up;
use super::answer::{Answer, NodeStatus, Status};

const SOCKET: &str = "control.sock";
const RESULT: &str = "result.json";
const LOG: &str = "testnet.log";
/// Most bytes of a request.
const REQUEST_BYTES_MAX: u64 = 4096;
/// Longest wait for an answer; stopping every peer takes up to 12 s.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// Longest wait, at the end, until askers have read their answers.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Longest wait until a testnet in the background is ready.
const READY_DEADLINE: Duration = Duration::from_secs(120);
/// Pause between two checks whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(50);

/// What may be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub(super) enum Request {
    Status,
    Kill {
        node: String,
    },
    Restart {
        node: String,
    },
    Pause {
        node: String,
    },
    Resume {
        node: String,
    },
    Attack {
        node: String,
        attack: String,
    },
    Honest {
        node: String,
    },
    /// Cut these peers off from all others.
    Partition {
        nodes: Vec<String>,
    },
    /// End the partition.
    Heal,
    Down,
}

/// The socket, while it is served.
pub(super) struct Served {
    folder: PathBuf,
    listening: JoinHandle<()>,
    asking: TaskTracker,
}

impl Served {
    /// Stops listening and waits until askers have their answers: the process may end right
    /// afterwards.
    pub(super) async fn end(self) {
        self.listening.abort();
        // It is only a name by now.
        let _ = std::fs::remove_file(self.folder.join(SOCKET));
        self.asking.close();
        // A program that asks and then does not read the answer is not waited for any longer.
        let _ = tokio::time::timeout(LAST_ANSWERS, self.asking.wait()).await;
    }
}

/// Serves the socket in `folder`.
pub(super) fn serve<M: Send + 'static>(
    folder: &Path,
    messages: mpsc::Sender<M>,
    wrap: fn(Request, oneshot::Sender<Answer>) -> M,
) -> Result<Served, Failure> {
    let path = folder.join(SOCKET);
    let listener = UnixListener::bind(&path).map_err(|error| {
        Failure::with_help(
            format!("cannot listen at {}: {error}", path.display()),
            "choose a shorter --dir",
        )
    })?;
    let asking = TaskTracker::new();
    let asked = asking.clone();
    let listening = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let messages = messages.clone();
            asked.spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let mut lines = tokio::io::BufReader::new(reader.take(REQUEST_BYTES_MAX)).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer = match serde_json::from_str::<Request>(&line) {
                        Ok(request) => {
                            let (sender, answer) = oneshot::channel();
                            if messages.send(wrap(request, sender)).await.is_err() {
                                return;
                            }
                            let ended = |_| Answer::refused("the testnet has ended");
                            answer.await.unwrap_or_else(ended)
                        }
                        Err(error) => Answer::refused(format!("not a request: {error}")),
                    };
                    if writer
                        .write_all(format!("{}\n", answer.to_line()).as_bytes())
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    Ok(Served {
        folder: folder.to_owned(),
        listening,
        asking,
    })
}

/// What can be done to a peer of a testnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Order {
    /// Kill its process at once.
    Kill,
    /// Start its process again.
    Restart,
}

impl Order {
    fn of(self, node: &str) -> Request {
        let node = node.to_owned();
        match self {
            Order::Kill => Request::Kill { node },
            Order::Restart => Request::Restart { node },
        }
    }
}

/// Does something to a peer of the testnet in `folder`, and tells what happened.
///
/// # Errors
/// When none runs there, or it refuses.
pub(in crate::cli) fn carry_out(
    folder: &Path,
    order: Order,
    node: &str,
) -> Result<String, Failure> {
    match ask(folder, &order.of(node))? {
        Answer::Done { what, .. } => Ok(what),
        _ => Ok("done".to_owned()),
    }
}

/// Asks the testnet in `folder`.
///
/// # Errors
/// When none runs there, or it refuses.
fn ask(folder: &Path, request: &Request) -> Result<Answer, Failure> {
    let no_testnet = |error: std::io::Error| {
        Failure::with_help(
            format!("no testnet runs in {}: {error}", folder.display()),
            format!(
                "start one with `kith testnet --dir {} --detach`",
                folder.display()
            ),
        )
    };
    let mut stream = UnixStream::connect(folder.join(SOCKET)).map_err(no_testnet)?;
    stream
        .set_read_timeout(Some(ANSWER_DEADLINE))
        .map_err(no_testnet)?;
    let text = serde_json::to_string(request).map_err(|error| Failure::new(error.to_string()))?;
    stream
        .write_all(format!("{text}\n").as_bytes())
        .map_err(no_testnet)?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .map_err(no_testnet)?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Refused { why, .. }) => Err(Failure::new(why)),
        Ok(answer) => Ok(answer),
        Err(_) => Err(Failure::new("the testnet ended while it was asked")),
    }
}

/// Where the testnet in `folder` stands.
///
/// # Errors
/// When none runs there.
pub(in crate::cli) fn ask_status(folder: &Path) -> Result<Status, Failure> {
    match ask(folder, &Request::Status)? {
        Answer::Status { status, .. } => Ok(status),
        _ => Err(Failure::new("the testnet did not answer with its status")),
    }
}

/// `kith testnet kill`, `down` and the other orders.
pub(super) fn order(folder: &Path, request: &Request, json: bool) -> Verdict {
    let answer = ask(folder, request)?;
    match answer {
        _ if json => print(&format!("{}\n", answer.to_line()))?,
        Answer::Done { what, .. } => print(&format!("{what}\n"))?,
        _ => print("done\n")?,
    }
    done()
}

/// `kith testnet status`: of the running testnet, or the result of the last one.
pub(super) fn status(folder: &Path, json: bool) -> Verdict {
    let ended = std::fs::read_to_string(folder.join(RESULT))
        .ok()
        .filter(|text| !text.trim().is_empty());
    if let (Some(result), false) = (ended, folder.join(SOCKET).exists()) {
        print(&if json {
            result
        } else {
            format!("this testnet has ended; its result:\n{result}")
        })?;
        return done();
    }
    let status = ask_status(folder)?;
    if json {
        print_json(&json!(Answer::status(status)))?;
        return done();
    }
    let mut shown = table(&[
        "name", "role", "pid", "state", "rounds", "accuracy", "accepted", "refused", "restarts",
    ]);
    for node in &status.nodes {
        shown.add_row(row(node));
    }
    print(&format!(
        "{shown}\nround {} of {}\n",
        status.round, status.rounds
    ))?;
    done()
}

fn row(node: &NodeStatus) -> [String; 9] {
    let dash = || "–".to_owned();
    [
        node.name.clone(),
        node.role.clone(),
        node.pid.map_or_else(dash, |pid| pid.to_string()),
        node.state.name().to_owned(),
        node.rounds.to_string(),
        // As in JSON: 1 is written 1.0.
        node.accuracy
            .map_or_else(dash, |accuracy| json!(accuracy).to_string()),
        node.updates_accepted.to_string(),
        node.updates_refused.to_string(),
        node.restarts.to_string(),
    ]
}

/// `kith testnet --detach`: the same command in the background.
pub(super) fn detach(up: &Up) -> Verdict {
    let Some(folder) = &up.dir else {
        return Err(Failure::with_help(
            "a testnet in the background needs a folder by which to find it again",
            "for example: kith testnet --dir net --detach",
        ));
    };
    if folder.join(SOCKET).exists() && ask(folder, &Request::Status).is_ok() {
        return Err(Failure::new(format!(
            "a testnet runs in {} already; `kith testnet down --dir …` stops it",
            folder.display()
        )));
    }
    let io = |error: std::io::Error| {
        Failure::new(format!(
            "cannot start a testnet in {}: {error}",
            folder.display()
        ))
    };
    let mut supervisor = in_background(folder, up.json).map_err(io)?;
    let started = std::time::Instant::now();
    while started.elapsed() < READY_DEADLINE {
        if let Some(status) = supervisor.try_wait().map_err(io)? {
            let log = std::fs::read_to_string(folder.join(LOG)).unwrap_or_default();
            return Err(Failure::new(format!(
                "the testnet ended before it was ready ({status}):\n{log}"
            )));
        }
        if folder.join(SOCKET).exists()
            && let Ok(status) = ask_status(folder)
            && status.ready
        {
            show_ready(folder, status, up.json)?;
            return done();
        }
        std::thread::sleep(READY_INTERVAL);
    }
    // Its peers end with it: each holds a pipe to it.
    supervisor
        .kill()
        .and_then(|()| supervisor.wait().map(drop))
        .map_err(io)?;
    Err(Failure::new(format!(
        "the testnet was not ready within {} s and was stopped; see {}",
        READY_DEADLINE.as_secs(),
        folder.join(LOG).display()
    )))
}

fn show_ready(folder: &Path, status: Status, json: bool) -> Result<(), Failure> {
    let count = status.nodes.len();
    if json {
        return print_json(&json!(Answer::status(status)));
    }
    print(&format!(
        "{count} peers are connected; see `kith testnet status --dir {0}`, stop with `kith testnet down --dir {0}`\n",
        folder.display()
    ))
}

/// This very command without `--detach`, its result and log in the folder.
fn in_background(folder: &Path, json_already: bool) -> std::io::Result<Child> {
    std::fs::create_dir_all(folder)?;
    let result = std::fs::File::create(folder.join(RESULT))?;
    let log = std::fs::File::create(folder.join(LOG))?;
    let arguments = std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--detach");
    Command::new(std::env::current_exe()?)
        .args(arguments)
        .args((!json_already).then_some("--json"))
        .stdin(Stdio::null())
        .stdout(result)
        .stderr(log)
        .process_group(0)
        .spawn()
}
