//! What `deploy/` holds does what it says, as far as this machine can try it: the service under a
//! stand-in for systemd's socket, and each file under the tool that its system has for checking it.
//! A check whose tool is missing says `SKIPPED`.

mod common;

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use common::{Federation, Folder, PATIENCE, Running, kith, text_of, told};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

/// What a command of this machine answers; `None`, said loudly, if the machine lacks it.
fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(name).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("SKIPPED: {name} cannot be started: {error}");
            None
        }
    }
}

/// Stands for the service manager: the socket to which a service reports, and reported lines that
/// nobody asked for yet.
struct Manager(UnixDatagram, VecDeque<String>);

impl Manager {
    fn at(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Manager(socket, VecDeque::new())
    }

    /// Takes lines until one is accepted.
    fn until(&mut self, wanted: impl Fn(&str) -> bool) {
        let (deadline, mut seen) = (Instant::now() + PATIENCE, Vec::new());
        let mut buffer = [0; 4096];
        while Instant::now() < deadline {
            while let Some(line) = self.1.pop_front() {
                if wanted(&line) {
                    return;
                }
                seen.push(line);
            }
            let Ok(length) = self.0.recv(&mut buffer) else {
                break;
            };
            let report = String::from_utf8_lossy(&buffer[..length]);
            self.1.extend(report.lines().map(str::to_owned));
        }
        panic!("waited in vain; reported were: {seen:#?}");
    }
}

#[test]
fn a_service_manager_hears_when_the_peer_listens_what_it_waits_for_and_that_it_stops() {
    let federation = Federation::new(2, &["--rounds", "100000"]);
    let mut manager = Manager::at(&federation.dir("ada").join("notify"));
    let mut command = kith();
    command.env("NOTIFY_SOCKET", federation.dir("ada").join("notify"));
    let mut ada = Running::with(command, &federation.dir("ada"));
    // Ready although nobody else is there: the others may start hours later.
    manager.until(|line| line == "READY=1");
    manager.until(|line| line.starts_with("STATUS=before round 0") && line.ends_with("for bob"));
    let bob = federation.start("bob");
    manager.until(|line| line.starts_with("STATUS=round ") && line.contains(" of 100000"));
    kill(Pid::from_raw(ada.child.id() as i32), Signal::SIGTERM).expect("a signal");
    manager.until(|line| line == "STOPPING=1");
    assert_eq!(ada.end(), Some(0));
    drop(bob);
}

#[test]
fn without_a_service_manager_nothing_is_reported_and_a_dead_one_stops_nobody() {
    let federation = Federation::new(2, &["--rounds", "3"]);
    let mut command = kith();
    command.env("NOTIFY_SOCKET", federation.dir("ada").join("nobody"));
    let mut ada = Running::with(command, &federation.dir("ada"));
    let mut bob = federation.start("bob");
    assert_eq!((ada.end(), bob.end()), (Some(0), Some(0)));
    let log = |name| text_of(&federation.dir(name).join("stderr.log"));
    assert!(log("ada").contains("the service manager cannot be told"));
    assert!(!log("bob").contains("service manager"));
}

#[test]
fn a_key_and_a_state_outside_the_folder_are_used() {
    let federation = Federation::new(1, &["--rounds", "2"]);
    let (dir, elsewhere) = (federation.dir("ada"), Folder::new());
    std::fs::rename(dir.join("identity.key"), elsewhere.path("credential")).expect("moved");
    let run = |key: &str| {
        let mut command = kith();
        command.arg("run").arg("--dir").arg(&dir);
        let command = command.arg("--key").arg(elsewhere.path(key));
        command.output().expect("the program starts")
    };
    let output = run("credential");
    assert!(output.status.success(), "{}", told(&output));
    let output = run("nothing");
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("cannot read the key file"));

    let state = elsewhere.path("state of fay");
    let state = state.to_str().expect("text");
    let output = elsewhere.kith(&["init", "--dir", "fay", "--name", "fay", "--state", state]);
    assert!(output.status.success(), "{}", told(&output));
    let written = text_of(&elsewhere.path("fay/kith.toml"));
    for folder in ["state", "checkpoints"] {
        let line = format!("{folder} = \"{state}/{folder}\"\n");
        assert!(written.contains(&line), "{written}");
    }
}

#[test]
fn systemd_finds_no_fault_with_the_service_and_little_exposed() {
    // systemd looks whether the program is there, so the test's own stands in its place.
    let folder = Folder::new();
    let unit = text_of(&deploy("systemd/kith@.service"));
    assert!(unit.contains("ExecStart=/usr/bin/kith run "));
    let unit = unit.replace("/usr/bin/kith", env!("CARGO_BIN_EXE_kith-under-test"));
    let path = folder.write("kith@.service", &unit);
    let path = path.to_str().expect("text");
    let Some(output) = tool("systemd-analyze", &["verify", "--man=no", path]) else {
        return;
    };
    let text = told(&output);
    assert!(output.status.success() && text.is_empty(), "{text}");
    let security = ["security", "--offline=true", "--threshold=15", path];
    let output = tool("systemd-analyze", &security).expect("it was there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
