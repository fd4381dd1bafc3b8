//! What the end-to-end tests share: the program under test, and a federation of hospitals made with
//! its own commands.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file uses a part of this module of its own"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use kith_models::{DATASETS, DatasetOptions};
use serde_json::Value;

/// Longest wait for anything; a machine under load is slow, and a test that fails says what it
/// waited for.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The program, built beside these tests.
pub fn kith() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kith-under-test"));
    command
        .env("NO_COLOR", "1")
        .env("RAYON_NUM_THREADS", "1")
        .stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    kith().args(arguments).output().expect("the program starts")
}

/// Everything on stderr with line breaks and box drawing folded away, so that wrapped messages can
/// be searched.
pub fn told(output: &Output) -> String {
    fold(&String::from_utf8_lossy(&output.stderr))
}

/// See [`told`].
pub fn fold(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| {
            if "│×╰─┬╭·".contains(c) {
                ' '
            } else {
                c
            }
        })
        .collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A variant's name as JSON has it.
pub fn kebab(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// A folder of a test's own, in which the program runs.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).expect("written");
        self.path(name)
    }

    /// Runs `kith` in the folder.
    pub fn kith(&self, arguments: &[&str]) -> Output {
        kith()
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .expect("the program starts")
    }

    /// Runs it and reads the one JSON document that it must print.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.kith(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        one_document(&output)
    }

    pub fn refused(&self, arguments: &[&str], expected: &[&str]) {
        let output = self.kith(arguments);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(
            output.stdout.is_empty(),
            "{arguments:?}: data on stdout though it failed"
        );
        for part in expected {
            assert!(
                text.contains(part),
                "{arguments:?}: expected {part:?} in: {text}"
            );
        }
    }
}

/// The one JSON document on stdout.
pub fn one_document(output: &Output) -> Value {
    let mut documents = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let first = documents.next().expect("a document").expect("JSON");
    assert!(
        documents.next().is_none(),
        "one document: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    first
}

/// The text of a file.
pub fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A port that was free a moment ago. Below those that the system gives to outgoing connections
/// (32,768 and above by Linux's default): one of these could take it before the peer does.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    const FIRST: u32 = 16_000;
    const COUNT: u32 = 16_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let of_process = std::process::id().wrapping_mul(97);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports = std::iter::repeat_with(|| {
        let number = of_process.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        (FIRST + number % COUNT) as u16
    });
    ports.take(1_000).find(is_free).expect("a free port")
}

/// Folders of peers that share a charter, each with one hospital's rows.
pub struct Federation {
    pub folder: tempfile::TempDir,
    pub names: Vec<&'static str>,
    pub ports: Vec<u16>,
}

/// There are four hospitals; further peers have the rows of the first ones once more.
pub const NAMES: [&str; 8] = ["ada", "bob", "cyd", "dan", "eve", "fay", "gil", "hal"];

impl Federation {
    /// Made with `kith init` and `kith charter new`; `options` go to the latter.
    pub fn new(peers: usize, options: &[&str]) -> Federation {
        let addresses = vec![String::from("127.0.0.1"); peers];
        Federation::at(&addresses, options)
    }

    /// One peer at each of these IPv4 addresses.
    pub fn at(addresses: &[String], options: &[&str]) -> Federation {
        let peers = addresses.len();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let heart = DATASETS
            .iter()
            .find(|entry| entry.name == "heart")
            .expect("embedded");
        let loaded = (heart.new.load)(&DatasetOptions::default()).expect("embedded");
        let sites = loaded.sites.as_ref().expect("hospitals");
        let names: Vec<&'static str> = NAMES[..peers].to_vec();
        let ports: Vec<u16> = names.iter().map(|_| free_port()).collect();
        let mut members = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let rows = loaded
                .source
                .select(&sites[index % sites.len()].rows)
                .write(folder.path(), name)
                .expect("rows are written");
            let dir = folder.path().join(name);
            let listen = format!("/ip4/{}/tcp/{}", addresses[index], ports[index]);
            let bootstrap = format!("/ip4/{}/tcp/{}", addresses[0], ports[0]);
            let mut command = kith();
            command
                .args(["init", "--name", name, "--listen", &listen, "--dir"])
                .arg(&dir)
                .arg("--data")
                .arg(rows);
            if index > 0 {
                command.args(["--bootstrap", &bootstrap]);
            }
            let output = command.output().expect("the program starts");
            assert!(output.status.success(), "{}", told(&output));
            let member = folder.path().join(format!("{name}.member"));
            std::fs::write(&member, &output.stdout).expect("written");
            members.push(member);
        }
        let federation = Federation {
            folder,
            names,
            ports,
        };
        let mut command = kith();
        command
            .args(["charter", "new", "--name", "test", "--dataset", "heart"])
            .args(options);
        for member in &members {
            command.arg("--member-file").arg(member);
        }
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{}", told(&output));
        for name in &federation.names {
            std::fs::write(federation.dir(name).join("charter.toml"), &output.stdout)
                .expect("written");
        }
        federation
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts `kith run` for a member.
    pub fn start(&self, name: &str) -> Running {
        Running::start(&self.dir(name))
    }

    /// Replaces text in a file of a member.
    pub fn edit(&self, name: &str, file: &str, from: &str, to: &str) {
        let path = self.dir(name).join(file);
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.contains(from), "{from:?} is in {file}");
        std::fs::write(path, text.replace(from, to)).expect("written");
    }
}

/// A `kith run --json` whose events are read as they come; killed when dropped.
pub struct Running {
    pub child: Child,
    lines: Receiver<Value>,
    pub seen: Vec<Value>,
}

impl Running {
    pub fn start(dir: &Path) -> Running {
        Running::with(kith(), dir)
    }

    /// Started by a command to which `run` and its arguments are still to be added.
    pub fn with(mut kith: Command, dir: &Path) -> Running {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("stderr.log"))
            .expect("a log");
        let mut child = kith
            .args(["run", "--json", "--dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = sync_channel(100_000);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(value) = serde_json::from_str(&line) else {
                    break;
                };
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        Running {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for an event that `wanted` accepts.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(value) => {
                    self.seen.push(value.clone());
                    if wanted(&value) {
                        return value;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("waited in vain for {what}; seen: {:#?}", self.tail())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the peer ended before {what}; seen: {:#?}", self.tail())
                }
            }
        }
    }

    /// Waits for an event of this name.
    pub fn until_event(&mut self, name: &str) -> Value {
        self.until(name, |value| value["event"] == name)
    }

    /// Reads what it has told so far.
    pub fn read(&mut self) {
        while let Ok(value) = self.lines.try_recv() {
            self.seen.push(value);
        }
    }

    /// Waits for the process to end; its exit code.
    pub fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            if let Some(status) = self.child.try_wait().expect("a child") {
                while let Ok(value) = self.lines.recv() {
                    self.seen.push(value);
                }
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "the peer does not end; seen: {:#?}",
                self.tail()
            );
            std::thread::yield_now();
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.seen.iter().any(|value| value["event"] == name)
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("gone");
    }

    fn tail(&self) -> &[Value] {
        &self.seen[self.seen.len().saturating_sub(8)..]
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
