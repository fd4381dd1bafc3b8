//! What `deploy/` holds does what it says, as far as this machine can try it: the service under a
//! stand-in for systemd's socket, and each file under the tool that its system has for checking it.
//! A check whose tool is missing says `SKIPPED`.

mod common;

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
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

/// Says that something is not tested, past the test's capture of output, so that it is seen.
fn skip(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "!! SKIPPED: {what}");
}

/// What a command of this machine answers; `None`, said loudly, if the machine lacks it.
fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(name).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            skip(&format!("{name} cannot be started: {error}"));
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
            let length = match self.0.recv(&mut buffer) {
                Ok(length) => length,
                // A wait with a limit ends when the process is stopped and goes on, too.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
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

#[test]
fn probes_of_a_container_tell_a_peer_that_runs_from_one_that_takes_part() {
    let federation = Federation::new(2, &["--rounds", "100000"]);
    let dir = federation.dir("ada");
    let dir = dir.to_str().expect("text");
    let probe = |option| {
        let output = common::run(&["status", "--dir", dir, option]);
        (output.status.code(), told(&output))
    };
    assert_eq!(probe("--live").0, Some(1), "it does not run");
    let mut ada = federation.start("ada");
    ada.until_event("serving");
    assert_eq!(probe("--live"), (Some(0), String::new()));
    let (code, why) = probe("--ready");
    assert_eq!(code, Some(1), "nobody else is there: {why}");
    let _bob = federation.start("bob");
    ada.until_event("round-opened");
    assert_eq!(probe("--ready"), (Some(0), String::new()));
}

#[test]
fn there_is_a_manual_page_for_each_verb_and_man_reads_it() {
    let folder = Folder::new();
    let output = folder.kith(&["man", "man1"]);
    assert!(output.status.success(), "{}", told(&output));
    let page = folder.path("man1/kith-run.1");
    assert!(text_of(&page).contains("SIGTERM"));
    for name in ["kith", "kith-sim-sweep", "kith-charter-new"] {
        assert!(folder.path(&format!("man1/{name}.1")).exists(), "{name}");
    }
    if let Some(output) = tool(
        "man",
        &[
            "--warnings",
            "-E",
            "UTF-8",
            "-l",
            page.to_str().expect("text"),
        ],
    ) {
        assert!(output.status.success() && told(&output).is_empty());
    }
}

/// The commands of a container file's `RUN` that mentions `part`.
fn run_line(part: &str) -> String {
    let text = text_of(&deploy("image/Containerfile")).replace("\\\n", " ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("RUN "));
    let line = lines.find(|line| line.contains(part));
    line.expect("the line").to_owned()
}

#[test]
fn an_image_without_a_c_compiler_ends_in_one_clear_line() {
    let check = run_line("no C compiler");
    for there in [&[][..], &["make"], &["cc"], &["make", "cc"]] {
        let path = Folder::new();
        for name in there {
            std::os::unix::fs::symlink("/bin/true", path.path(name)).expect("a link");
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &check]).env("PATH", path.0.path());
        let output = command.output().expect("a shell");
        if there.len() == 2 {
            assert!(output.status.success());
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{there:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(told.lines().count(), 1, "{told}");
        for part in ["no C compiler", "expected both", "--build-arg BUILDER="] {
            assert!(told.contains(part), "{told}");
        }
    }
}

#[test]
fn the_three_organisations_of_the_compose_file_train_to_the_last_round() {
    let folder = Folder::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kith-under-test"), folder.path("kith"))
        .expect("a link");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(deploy("compose/federation.sh"))
        .current_dir(root)
        .env("PATH", format!("{}:{path}", folder.0.path().display()))
        .args([folder.path("made").as_os_str(), "40".as_ref()])
        .output()
        .expect("a shell");
    assert!(output.status.success(), "{}", told(&output));
    let compose = text_of(&deploy("compose/compose.yaml"));
    let ports: Vec<u16> = (0..3).map(|_| common::free_port()).collect();
    let mut running = Vec::new();
    for (name, port) in ["ada", "bob", "cyd"].iter().zip(&ports) {
        assert!(compose.contains(&format!("/{name}:/peer")), "{name}");
        // In the containers' network each has an address of its own; here they share one.
        let dir = folder.path("made").join(name);
        let config = text_of(&dir.join("kith.toml"));
        let config = config
            .replace(
                "/dns4/ada/tcp/4001",
                // A name, as there: the two that start from it hear of each other from the first alone.
                &format!("/dns4/localhost/tcp/{}", ports[0]),
            )
            .replace(
                "/ip4/0.0.0.0/tcp/4001",
                &format!("/ip4/127.0.0.1/tcp/{port}"),
            );
        std::fs::write(dir.join("kith.toml"), config).expect("written");
        running.push(Running::start(&dir));
    }
    for mut peer in running {
        assert_eq!(peer.end(), Some(0));
        let report = peer.seen.last().expect("a report");
        assert_eq!(
            (&report["finished"], &report["rounds"]),
            (&true.into(), &40.into())
        );
    }
}

#[test]
fn kubernetes_accepts_what_kustomize_makes_of_the_example() {
    let charter = deploy("kubernetes/ada/charter.toml");
    let output = common::run(&["charter", "hash", charter.to_str().expect("text")]);
    assert!(output.status.success(), "{}", told(&output));
    let job = text_of(&deploy("kubernetes/sweep-job.yaml"));
    assert!(job.contains("completions: 8\n") && job.contains("job/8,"));
    let ada = deploy("kubernetes/ada");
    let Some(rendered) = tool("kubectl", &["kustomize", ada.to_str().expect("text")]) else {
        return;
    };
    assert!(rendered.status.success(), "{}", told(&rendered));
    let text = String::from_utf8_lossy(&rendered.stdout);
    for part in ["replicas: 1\n", "secretName: ada-key\n", "ReadWriteOnce"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let folder = Folder::new();
    let rendered = folder.write("ada.yaml", &text);
    for file in [rendered, deploy("kubernetes/sweep-job.yaml")] {
        let arguments = ["--strict", file.to_str().expect("text")];
        if let Some(output) = tool("kubernetes-validate", &arguments) {
            assert!(output.status.success(), "{}", told(&output));
        }
    }
}

#[test]
fn a_task_of_a_slurm_array_runs_its_shard_and_an_array_with_gaps_is_refused() {
    let folder = Folder::new();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kith-under-test"), folder.path("kith"))
        .expect("a link");
    let experiment = "[federation]\nname = \"tiny\"\nrounds = 2\n[topology]\nkind = \"complete\"\n\
                      [world]\npeers = 4\n[world.trainer]\nkind = \"quadratic\"\n[sweep]\nseeds = 3\n";
    folder.write("tiny.toml", experiment);
    let path = std::env::var("PATH").unwrap_or_default();
    let task = |number: &str, last: &str| {
        let mut command = Command::new("bash");
        command
            .arg(deploy("slurm/sweep.sbatch").canonicalize().expect("a path"))
            .args(["tiny.toml", "shared"])
            .current_dir(folder.0.path())
            .env("PATH", format!("{}:{path}", folder.0.path().display()))
            .env("SLURM_ARRAY_TASK_ID", number)
            .env("SLURM_ARRAY_TASK_MIN", "1")
            .env("SLURM_ARRAY_TASK_MAX", last)
            .env("SLURM_ARRAY_TASK_COUNT", "2");
        command.output().expect("bash")
    };
    for number in ["1", "2"] {
        let output = task(number, "2");
        assert!(output.status.success(), "{}", told(&output));
    }
    let report = folder.json(&["sim", "report", "shared", "--json"]);
    assert_eq!(report[0]["runs"], 3);
    let output = task("1", "3");
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("expected 1 to N without gaps"));
}

#[test]
fn what_the_debian_package_holds_is_there_or_made_by_its_script() {
    let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node");
    let manifest = text_of(&node.join("Cargo.toml"));
    let script = text_of(&deploy("debian/build.sh"));
    let assets = manifest.split("assets = [\n").nth(1).expect("a list");
    let lines = assets.lines().take_while(|line| *line != "]");
    for line in lines {
        let source = line.split('"').nth(1).expect("a path");
        if let Some(made) = source.strip_prefix("target/release/package") {
            let made = made.trim_end_matches("/*.1.gz");
            assert!(script.contains(&format!("\"$made{made}\"")), "{source}");
        } else if !source.starts_with("target/") {
            let place = source.split('*').next().unwrap_or(source);
            assert!(node.join(place).exists(), "{source}");
        }
    }
    let service = text_of(&deploy("systemd/kith@.service"));
    let page = service.split("file:/usr/share/doc/kith/").nth(1);
    let page = page.and_then(|rest| rest.lines().next());
    assert!(node.join("..").join(page.expect("a page")).exists());
    assert!(assets.contains("[\"../docs/**/*.md\", \"usr/share/doc/kith/docs/\""));
    let version = format!("kith ({}-1)", env!("CARGO_PKG_VERSION"));
    assert!(text_of(&deploy("debian/changelog")).starts_with(&version));
}

#[test]
fn what_root_restores_belongs_to_the_services_user() {
    if !nix::unistd::Uid::effective().is_root() {
        skip("only root can give files away");
        return;
    }
    const SERVICE: u32 = 65_532;
    let federation = Federation::new(1, &["--rounds", "2"]);
    let dir = federation.dir("ada");
    let kith = |arguments: &[&str]| {
        let mut command = kith();
        let command = command.current_dir(&dir).args(arguments);
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
    };
    kith(&["run"]);
    kith(&["backup", "--out", "copy"]);
    let chown =
        |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None).expect("given");
    let restores = || {
        kith(&["restore", "--from", "copy"]);
        for folder in ["state", "checkpoints"] {
            let entries = std::fs::read_dir(dir.join(folder)).expect("a folder");
            let mut paths: Vec<PathBuf> = entries
                .map(|entry| entry.expect("an entry").path())
                .collect();
            assert!(!paths.is_empty());
            paths.push(dir.join(folder));
            for path in paths {
                let owner = std::fs::metadata(&path).expect("there").uid();
                assert_eq!(owner, SERVICE, "{}", path.display());
            }
        }
    };
    // The folders are the service's; then their place is, and they are root's or not there.
    chown(&dir.join("state"), SERVICE);
    chown(&dir.join("checkpoints"), SERVICE);
    restores();
    chown(&dir, SERVICE);
    chown(&dir.join("state"), 0);
    std::fs::remove_dir_all(dir.join("checkpoints")).expect("removed");
    restores();
}
