//! `kith status`: asks the running peer over its own HTTP server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::done;
use super::output::{Failure, Verdict, bytes, print};
use crate::config::{CONFIG_FILE, Config};
use crate::node::STATUS_ADDRESS_FILE;

/// Longest wait for a running peer's answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Ask a running peer where it stands
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kith status --dir ada\n  kith status --dir ada --json | jq .round")]
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
        let state = state_folder(&self.dir)?;
        let answer = get(&state, "/status")?;
        if self.json {
            print(&format!("{}\n", answer.trim()))?;
            return done();
        }
        let status: Value =
            serde_json::from_str(&answer).map_err(|error| Failure::new(format!("the answer is not JSON: {error}")))?;
        let text = |key: &str| match &status[key] {
            Value::String(text) => text.clone(),
            Value::Null => "–".to_owned(),
            other => other.to_string(),
        };
        let count = |key: &str| status[key].as_array().map_or(0, Vec::len);
        let sum = |key: &str| status["bytes"][key].as_u64().unwrap_or(0);
        let refused: u64 =
            status["refused"].as_object().into_iter().flat_map(|reasons| reasons.values()).filter_map(Value::as_u64).sum();
        let mut shown = String::new();
        let mut line = |name: &str, value: String| shown.push_str(&format!("{name:<12}{value}\n"));
        line("name", text("name"));
        line("peer", text("peer"));
        line("federation", text("federation"));
        line("round", format!("{} of {}, {} completed", text("round"), text("rounds"), text("completed")));
        line("connected", format!("{} peers, waiting for {}", count("connected"), count("missing")));
        line("accuracy", text("accuracy"));
        line("updates", format!("{} accepted, {refused} messages refused", text("updates_accepted")));
        line("bytes", format!("{} payload, {} on the wire", bytes(sum("payload")), bytes(sum("wire"))));
        print(&shown)?;
        done()
    }
}

/// The state folder of the peer in `folder`.
pub(super) fn state_folder(folder: &Path) -> Result<PathBuf, Failure> {
    Ok(Config::load(&folder.join(CONFIG_FILE))?.state)
}

/// The body of the running peer's answer.
///
/// # Errors
/// When no peer runs on this state.
pub(super) fn get(state: &Path, path: &str) -> Result<String, Failure> {
    let not_running = |why: String| {
        Failure::with_help(format!("no peer runs on {}: {why}", state.display()), "start it with `kith run --dir …`")
    };
    let file = state.join(STATUS_ADDRESS_FILE);
    let address = std::fs::read_to_string(&file).map_err(|error| not_running(format!("{}: {error}", file.display())))?;
    let address: std::net::SocketAddr =
        address.trim().parse().map_err(|_| not_running(format!("{} holds no address", file.display())))?;
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_DEADLINE)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| not_running(format!("{address}: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| not_running("the answer is not HTTP".to_owned()))?;
    if !head.lines().next().unwrap_or_default().contains(" 200 ") {
        return Err(Failure::new(format!("the peer at {address} answered: {body}")));
    }
    Ok(body.to_owned())
}
