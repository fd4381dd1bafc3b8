//! `kith watch` in a real terminal, that of tmux. Skipped, and said so, where tmux is missing.

mod common;

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use common::{Federation, Folder, PATIENCE, kith, told};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

/// A terminal of tmux in which a command runs; it goes when this is dropped.
struct Screen {
    /// Holds tmux's socket.
    folder: Folder,
    /// Has an entry whenever something was written to the terminal.
    written: Receiver<()>,
}

impl Screen {
    /// Runs `kith` with these arguments; `None`, said aloud, without tmux.
    fn open(arguments: &[&str]) -> Option<Screen> {
        if Command::new("tmux").arg("-V").output().is_err() {
            // Written past the test's capture of output, so that it is seen.
            let _ = writeln!(
                std::io::stderr(),
                "!! SKIPPED: tmux is not installed: apt-get install tmux"
            );
            return None;
        }
        let folder = Folder::new();
        let pipe = folder.path("written");
        mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
        let (sender, written) = sync_channel(1);
        let screen = Screen { folder, written };
        let program = kith().get_program().to_string_lossy().into_owned();
        let words = [&[program.as_str()], arguments].concat();
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        // The shell stays, so that what is left on the terminal can be seen.
        let command = format!("{}; echo ended with $?; stty -a; cat", quoted.join(" "));
        screen.tmux(&["new-session", "-d", "-x", "120", "-y", "40", &command]);
        screen.tmux(&["pipe-pane", &format!("cat > '{}'", pipe.display())]);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            let mut pipe = std::fs::File::open(pipe).expect("a pipe");
            while let Ok(1..) = pipe.read(&mut bytes) {
                // One entry says as much as several.
                let _ = sender.try_send(());
            }
        });
        Some(screen)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.folder.path("tmux"))
            .args(arguments)
            .output();
        String::from_utf8_lossy(&output.expect("tmux starts").stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Waits for a screen: looks whenever something was written.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.tmux(&["capture-pane", "-p"]);
            if wanted(&shown) {
                return shown;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let written = self.written.recv_timeout(left);
            assert!(written.is_ok(), "{what} never came:\n{shown}");
        }
    }

    /// The process of the program in it.
    fn program(&self) -> Pid {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = format!("/proc/{shell}/task/{shell}/children");
        let children = common::text_of(Path::new(&children));
        Pid::from_raw(children.trim().parse().expect("one child"))
    }

    /// Presses a key that leaves, and looks at what is left on the terminal.
    fn leave_by(&self, key: &str) {
        self.press(key);
        self.is_given_back();
    }

    /// The program ends well, and the terminal is as it was before.
    fn is_given_back(&self) {
        let shown = self.until("the shell", |shown| shown.contains("icanon"));
        assert!(shown.contains("ended with 0"), "{shown}");
        assert!(
            !shown.contains("-icanon") && !shown.contains("-echo "),
            "still raw: {shown}"
        );
        assert_eq!(
            self.tmux(&["display-message", "-p", "#{alternate_on}"])
                .trim(),
            "0",
            "{shown}"
        );
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// The line of the table that begins with this peer, chosen or not.
fn row<'a>(shown: &'a str, peer: &str) -> Option<&'a str> {
    shown
        .lines()
        .find(|line| line.trim_start_matches(['>', ' ']).starts_with(peer))
}

fn is(shown: &str, peer: &str, state: &str) -> bool {
    row(shown, peer).is_some_and(|row| row.split_whitespace().any(|cell| cell == state))
}

/// A testnet in the background, stopped when this is dropped.
struct Testnet<'a>(&'a Path);

impl Testnet<'_> {
    fn start(dir: &Path) -> Testnet<'_> {
        let start = [
            "testnet",
            "--peers",
            "4",
            "--adversaries",
            "0",
            "--rounds",
            "1000000",
            "--detach",
            "--dir",
        ];
        let output = kith().args(start).arg(dir).output().expect("starts");
        assert!(output.status.success(), "{}", told(&output));
        Testnet(dir)
    }
}

impl Drop for Testnet<'_> {
    fn drop(&mut self) {
        let _ = kith()
            .args(["testnet", "down", "--dir"])
            .arg(self.0)
            .output();
    }
}

#[test]
fn a_key_kills_a_peer_of_a_testnet_and_another_starts_it_again() {
    let folder = Folder::new();
    let dir = folder.path("net");
    let testnet = Testnet::start(&dir);
    let Some(screen) = Screen::open(&["watch", "--dir", &dir.display().to_string()]) else {
        return;
    };
    let names: Vec<String> = (1..=4).map(|number| format!("peer-{number}")).collect();
    screen.until("four running peers in their rounds", |shown| {
        names.iter().all(|name| {
            is(shown, name, "running") && !row(shown, name).is_some_and(|row| row.contains(" 0/"))
        })
    });
    screen.press("Down");
    screen.until("the second as the chosen one", |shown| {
        shown.contains("> peer-2")
    });
    screen.press("k");
    let shown = screen.until("its end", |shown| is(shown, "peer-2", "ended"));
    assert!(shown.contains("peer-2 was killed"), "{shown}");
    for name in ["peer-1", "peer-3", "peer-4"] {
        assert!(is(&shown, name, "running"), "{name}: {shown}");
    }
    screen.press("r");
    screen.until("its return", |shown| is(shown, "peer-2", "running"));
    screen.leave_by("q");
    drop(testnet);
}

#[test]
fn a_peer_is_watched_while_it_runs_and_after_it_was_killed() {
    let federation = Federation::new(2, &["--rounds", "1000000"]);
    let [mut ada, mut bob] = ["ada", "bob"].map(|name| federation.start(name));
    ada.until_event("round-closed");
    let dir = federation.dir("ada").display().to_string();
    let Some(screen) = Screen::open(&["watch", "--dir", &dir]) else {
        return;
    };
    let shown = screen.until("a running peer", |shown| {
        is(shown, "ada", "running") && shown.contains("aggregated")
    });
    assert!(
        !shown.contains("k kill"),
        "only a testnet takes orders: {shown}"
    );
    ada.kill();
    screen.until("its end", |shown| is(shown, "ada", "ended"));
    bob.kill();
    screen.leave_by("C-c");
}

#[test]
fn the_terminal_is_given_back_when_the_program_is_ended_from_outside() {
    let federation = Federation::new(2, &["--rounds", "2"]);
    let peers = ["ada", "bob"].map(|name| federation.start(name));
    for mut peer in peers {
        assert_eq!(peer.end(), Some(0));
    }
    let dir = federation.dir("ada").display().to_string();
    let Some(screen) = Screen::open(&["watch", "--dir", &dir]) else {
        return;
    };
    screen.until("the peer", |shown| is(shown, "ada", "finished"));
    kill(screen.program(), Signal::SIGTERM).expect("it runs");
    screen.is_given_back();
}

#[test]
fn what_cannot_be_watched_is_refused_in_one_line() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("empty")).expect("made");
    folder.write("rows.csv", "a,b\n1,2\n");
    folder.refused(
        &["watch", "--dir", "empty"],
        &["empty is neither a peer's folder nor a testnet's"],
    );
    folder.refused(&["watch", "--dir", "nowhere"], &["nowhere", "No such file"]);
    folder.refused(
        &["watch", "rows.csv"],
        &["rows.csv does not begin with an event"],
    );
    let federation = Federation::new(2, &[]);
    let dir = federation.dir("ada").display().to_string();
    folder.refused(
        &["watch", "--dir", &dir],
        &["stdout is no terminal", "kith status"],
    );
}
