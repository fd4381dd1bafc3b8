//! `kith status`: asks the running peer over its own HTTP server.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::done;
use super::output::{Failure, Verdict, bytes, print};
use crate::config::{CONFIG_FILE, Config};
use crate::error::NodeError;
use crate::identity::Identity;
use crate::node::{OWNER_TOKEN_FILE, STATUS_ADDRESS_FILE};

/// Longest wait for a running peer's answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// Names shown in one line.
const NAMES_MAX: usize = 8;
/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Ask a running peer where it stands
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kith status --dir ada\n  kith status --dir ada --json | jq .round"
)]
pub(crate) struct Status {
    /// The peer's folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> Verdict {
        let config = Config::load(&self.dir.join(CONFIG_FILE))?;
        let answer = get(&config.state, "/status")?;
        let status: Value = serde_json::from_str(&answer)
            .map_err(|error| Failure::new(format!("the answer is not JSON: {error}")))?;
        let own = Identity::load(&config.key)
            .map_err(NodeError::from)?
            .peer()
            .to_string();
        if status["peer"] != own.as_str() {
            let name = status["name"].as_str().unwrap_or("another peer");
            return Err(Failure::with_help(
                format!(
                    "{} does not run: at the address that it left behind another peer answers, {name} ({})",
                    config.name,
                    status["peer"].as_str().unwrap_or("?")
                ),
                format!("start it with `kith run --dir {}`", self.dir.display()),
            ));
        }
        if self.json {
            print(&format!("{}\n", answer.trim()))?;
            return done();
        }
        let text = |key: &str| match &status[key] {
            Value::String(text) => text.clone(),
            Value::Null => "–".to_owned(),
            other => other.to_string(),
        };
        let named = |key: &str| {
            let ids = status[key]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            let names: Vec<&str> = ids
                .map(|id| status["names"][id].as_str().unwrap_or(id))
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
        };
        let count = |key: &str| status[key].as_array().map_or(0, Vec::len);
        let sum = |key: &str| status["bytes"][key].as_u64().unwrap_or(0);
        let refused: u64 = status["refused"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(reason, _)| *reason != "denied")
            .filter_map(|(_, count)| count.as_u64())
            .sum();
        let mut shown = String::new();
        let mut line = |name: &str, value: String| shown.push_str(&format!("{name:<12}{value}\n"));
        line("name", text("name"));
        line("peer", text("peer"));
        line("federation", text("federation"));
        line(
            "round",
            format!(
                "{} of {}, {} completed",
                text("round"),
                text("rounds"),
                text("completed")
            ),
        );
        line(
            "connected",
            format!("{} peers: {}", count("connected"), named("connected")),
        );
        line("waiting for", named("missing"));
        if count("no_longer_awaited") > 0 {
            line(
                "given up",
                format!("rounds no longer wait for {}", named("no_longer_awaited")),
            );
        }
        for unreached in status["unreached"].as_array().into_iter().flatten() {
            let part = |key: &str| unreached[key].as_str().unwrap_or_default();
            let who = [part("name"), part("address")]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" at ");
            line(
                "unreached",
                format!("{who}: {} (since {})", part("why"), part("since")),
            );
        }
        line("accuracy", text("accuracy"));
        line(
            "updates",
            format!(
                "{} accepted, {refused} messages refused",
                text("updates_accepted")
            ),
        );
        line("denied", format!("{} connections", text("denied")));
        line(
            "bytes",
            format!(
                "{} payload, {} on the wire",
                bytes(sum("payload")),
                bytes(sum("wire"))
            ),
        );
        print(&shown)?;
        done()
    }
}

/// The body of the running peer's answer.
///
/// # Errors
/// When no peer runs on this state.
pub(super) fn get(state: &Path, path: &str) -> Result<String, Failure> {
    ask(state, "GET", path, "")
}

/// The body of the answer to an order, which only the state's owner can give.
///
/// # Errors
/// When no peer runs on this state, or it refuses.
pub(super) fn order(state: &Path, path: &str) -> Result<String, Failure> {
    let file = state.join(OWNER_TOKEN_FILE);
    let token = std::fs::read_to_string(&file).map_err(|error| {
        Failure::new(format!(
            "the running peer cannot be asked: {}: {error}",
            file.display()
        ))
    })?;
    ask(
        state,
        "POST",
        path,
        &format!(
            "Authorization: Bearer {}\r\nContent-Length: 0\r\n",
            token.trim()
        ),
    )
}

fn ask(state: &Path, method: &str, path: &str, headers: &str) -> Result<String, Failure> {
    let not_running = |why: String| {
        Failure::with_help(
            format!("no peer runs on {}: {why}", state.display()),
            "start it with `kith run --dir …`",
        )
    };
    let file = state.join(STATUS_ADDRESS_FILE);
    let address = std::fs::read_to_string(&file)
        .map_err(|error| not_running(format!("{}: {error}", file.display())))?;
    let address: std::net::SocketAddr = address
        .trim()
        .parse()
        .map_err(|_| not_running(format!("{} holds no address", file.display())))?;
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&reachable(address), ANSWER_DEADLINE)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n"
        )?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| not_running(format!("{address}: {error}")))?;
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

/// Where to dial a server that listens on every address.
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
