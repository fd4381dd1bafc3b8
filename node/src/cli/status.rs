//! `kith status`: asks the running peer over its own HTTP server.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::done;
use super::output::{Failure, Verdict, bytes, print};
use crate::config::{CONFIG_FILE, Config};
use crate::error::NodeError;
use crate::identity::Identity;
use crate::node::STATUS_ADDRESS_FILE;
use crate::telemetry::{self, Budget, Unreached};
use crate::token::Token;

/// Longest wait for a running peer's answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// Names shown in one line.
const NAMES_MAX: usize = 8;
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Show the state of a running peer
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kith status --dir ada
  kith status --dir ada --json | jq .round
  kith status --dir ada --ready      for a container's probe: exit code 0 or 1")]
pub(crate) struct Status {
    /// The peer's folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Ask only whether it answers
    #[arg(long, conflicts_with_all = ["json", "ready"])]
    live: bool,
    /// Ask only whether it takes part: its first round has begun, and a neighbour is connected
    #[arg(long, conflicts_with = "json")]
    ready: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> Verdict {
        let config = Config::load(&self.dir.join(CONFIG_FILE))?;
        let probes = [(self.live, "/live"), (self.ready, "/ready")];
        if let Some((_, path)) = probes.iter().find(|(asked, _)| *asked) {
            print(&get(&config, path)?)?;
            return done();
        }
        let answer = get(&config, "/status")?;
        let status: telemetry::Status = serde_json::from_str(&answer)
            .map_err(|error| Failure::new(format!("the answer is not JSON: {error}")))?;
        let own = Identity::load(&config.key)
            .map_err(NodeError::from)?
            .peer()
            .to_string();
        if status.peer != own {
            return Err(Failure::with_help(
                format!(
                    "{} does not run: at the address that it left behind another peer answers, {} ({})",
                    config.name, status.name, status.peer
                ),
                format!("start it with `kith run --dir {}`", self.dir.display()),
            ));
        }
        if self.json {
            print(&format!("{}\n", answer.trim()))?;
        } else {
            let lines = lines(&status).into_iter();
            print(
                &lines
                    .map(|(name, value)| format!("{name:<12}{value}\n"))
                    .collect::<String>(),
            )?;
        }
        done()
    }
}

/// The state as lines for people.
fn lines(status: &telemetry::Status) -> Vec<(&'static str, String)> {
    let (round, rounds) = (status.round, status.rounds);
    let mut lines = vec![
        ("name", status.name.clone()),
        ("peer", status.peer.clone()),
        ("federation", status.federation.clone()),
        (
            "round",
            format!("{round} of {rounds}, {} completed", status.completed),
        ),
        (
            "connected",
            format!(
                "{} peers: {}",
                status.connected.len(),
                named(status, &status.connected)
            ),
        ),
        ("waiting for", named(status, &status.missing)),
    ];
    if !status.last_closed.is_empty() {
        lines.push(("last closed", status.last_closed.clone()));
    }
    if !status.no_longer_awaited.is_empty() {
        let given_up = named(status, &status.no_longer_awaited);
        lines.push(("given up", format!("rounds no longer wait for {given_up}")));
    }
    lines.extend(status.unreached.iter().map(unreached));
    lines.extend(status.privacy.map(privacy));
    lines.extend(counts(status));
    let free = status.state_free_bytes;
    lines.extend(free.map(|free| ("disk", format!("{} free for the state", bytes(free)))));
    lines
}

fn privacy(privacy: Budget) -> (&'static str, String) {
    let rest = match privacy.exhausted {
        true => "; another release would exceed it, so nothing more is released",
        false => "",
    };
    let Budget {
        epsilon, budget, ..
    } = privacy;
    (
        "privacy",
        format!("epsilon {epsilon:.4} of {budget} is spent{rest}"),
    )
}

fn unreached(unreached: &Unreached) -> (&'static str, String) {
    let address = unreached.address.as_deref().unwrap_or_default();
    let who: Vec<&str> = [unreached.name.as_str(), address]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let (who, why, since) = (who.join(" at "), &unreached.why, &unreached.since);
    ("unreached", format!("{who}: {why} (since {since})"))
}

fn counts(status: &telemetry::Status) -> [(&'static str, String); 4] {
    let accuracy = status.accuracy;
    let refused = status.refused.iter();
    let refused = refused.filter(|(reason, _)| *reason != "denied");
    let refused: u64 = refused.map(|(_, count)| count).sum();
    let accepted = status.updates_accepted;
    let [payload, wire] = [status.bytes.payload, status.bytes.wire].map(bytes);
    [
        (
            "accuracy",
            accuracy.map_or("–".to_owned(), |accuracy| format!("{accuracy:?}")),
        ),
        (
            "updates",
            format!("{accepted} accepted, {refused} messages refused"),
        ),
        ("denied", format!("{} connections", status.denied)),
        ("bytes", format!("{payload} payload, {wire} on the wire")),
    ]
}

/// The names of some peers, as many as fit in a line.
pub(super) fn named(status: &telemetry::Status, peers: &[String]) -> String {
    let names: Vec<&str> = peers
        .iter()
        .map(|id| status.names.get(id).unwrap_or(id).as_str())
        .collect();
    match names.len() {
        0 => "nobody".to_owned(),
        count if count <= NAMES_MAX => names.join(", "),
        count => format!(
            "{} and {} more",
            names[..NAMES_MAX].join(", "),
            count - NAMES_MAX
        ),
    }
}

/// The body of the running peer's answer.
///
/// # Errors
/// When no peer runs on this state, or it refuses.
pub(super) fn get(config: &Config, path: &str) -> Result<String, Failure> {
    ask(config, Ask::Read, path)
}

/// The body of the answer to an order, which only the state's owner can give.
///
/// # Errors
/// When no peer runs on this state, or it refuses.
pub(super) fn order(config: &Config, path: &str) -> Result<String, Failure> {
    ask(config, Ask::Order, path)
}

/// What is asked of the running peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Read,
    Order,
}

fn ask(config: &Config, ask: Ask, path: &str) -> Result<String, Failure> {
    let not_running = |why: String| {
        Failure::with_help(
            format!("no peer runs on {}: {why}", config.state.display()),
            "start it with `kith run --dir …`",
        )
    };
    let served = served_at(config).map_err(&not_running)?;
    // Shown only where it is needed: the address may be another program's by now.
    let token = match (ask, served.ip().is_loopback()) {
        (Ask::Read, true) => None,
        _ => Some(
            Token::read(&config.token_file())
                .map_err(NodeError::from)?
                .header(),
        ),
    };
    let token = token.as_deref().map_or("", String::as_str);
    let address = reachable(served);
    let head = match ask {
        Ask::Read => format!("GET {path} HTTP/1.0\r\n"),
        Ask::Order => format!("POST {path} HTTP/1.0\r\nContent-Length: 0\r\n"),
    };
    let head = format!("{head}Host: {address}\r\nConnection: close\r\n{token}\r\n");
    let answer =
        exchange(address, &head).map_err(|error| not_running(format!("{address}: {error}")))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| not_running("the answer is not HTTP".to_owned()))?;
    if !head.lines().next().unwrap_or_default().contains(" 200 ") {
        return Err(Failure::new(format!(
            "the peer at {address} answered: {}",
            body.trim()
        )));
    }
    Ok(body.to_owned())
}

/// Where the running peer serves its status; the error says why no peer runs.
fn served_at(config: &Config) -> Result<SocketAddr, String> {
    let file = config.state.join(STATUS_ADDRESS_FILE);
    let address =
        std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let address = address.trim().parse();
    address.map_err(|_| format!("{} holds no address", file.display()))
}

/// The whole answer to a request.
fn exchange(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_DEADLINE)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The address to dial for a server that listens on every address.
fn reachable(served: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = if served.is_ipv4() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    };
    SocketAddr::new(
        if served.ip().is_unspecified() {
            loopback
        } else {
            served.ip()
        },
        served.port(),
    )
}
