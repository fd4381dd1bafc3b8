//! Hostile processes against the program: what a member says that no peer would say, and what
//! strangers do to its ports, leaves the honest peers' model as it is, and ends none of them.

mod common;

use std::process::{Child, Command, Stdio};

use common::{Federation, Running};

/// The member that is hostile, or absent.
const HOSTILE: &str = "fay";

/// What a hostile member does. The tape of one run is played in the next, to peers that have started
/// anew.
const ATTACKS: [&str; 9] = [
    "junk",
    "deaf",
    "odd-spelling",
    "junk-gossip",
    "false-addresses",
    "far-claims",
    "flood",
    "tape",
    "tape",
];

/// How long a hostile process goes on: longer than a run.
const SECONDS: &str = "60";

/// A hostile process, ended when dropped.
struct Hostile(Child);

impl Hostile {
    fn start(arguments: &[&str]) -> Hostile {
        let program = env!("CARGO_BIN_EXE_kith-hostile");
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Hostile(child.expect("the hostile program starts"))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Six members, each of which hears all others.
fn federation() -> Federation {
    let federation = Federation::new(6, &["--rounds", "10", "--deadline", "10"]);
    for name in &federation.names {
        let (default, short) = (
            "start_deadline_seconds = 60.0",
            "start_deadline_seconds = 10.0",
        );
        federation.edit(name, "charter.toml", default, short);
    }
    federation
}

/// The models with which the honest peers end, after a run beside these hostile processes.
fn models(federation: &Federation, hostile: &[Vec<&str>]) -> Vec<String> {
    let honest = || federation.names.iter().filter(|name| **name != HOSTILE);
    for name in honest() {
        for folder in ["state", "checkpoints"] {
            let _ = std::fs::remove_dir_all(federation.dir(name).join(folder));
        }
    }
    let mut running: Vec<Running> = honest().map(|name| federation.start(name)).collect();
    let hostile: Vec<Hostile> = hostile
        .iter()
        .map(|arguments| Hostile::start(arguments))
        .collect();
    let finished = |peer: &mut Running| {
        let finished = peer.until_event("finished");
        finished["state"].as_str().expect("a state").to_owned()
    };
    let models = running.iter_mut().map(finished).collect();
    for mut hostile in hostile {
        let ended = hostile.0.try_wait().expect("a child");
        assert!(
            ended.is_none(),
            "a hostile process ended by itself: {ended:?}"
        );
    }
    for peer in &mut running {
        assert_eq!(peer.end(), Some(0));
    }
    models
}

#[test]
fn what_hostile_processes_say_and_do_does_not_change_the_honest_model() {
    let federation = federation();
    let alone = models(&federation, &[]);
    let dir = federation.dir(HOSTILE);
    let (dir, tape) = (dir.to_string_lossy(), federation.folder.path().join("tape"));
    let tape = tape.to_string_lossy();
    let doors: Vec<String> = federation
        .ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    for attack in ATTACKS {
        let hostile = vec![vec!["member", &dir, attack, SECONDS, &tape]];
        assert_eq!(models(&federation, &hostile), alone, "beside {attack}");
    }
    let recorded = std::fs::metadata(&*tape).expect("a tape").len();
    assert!(
        recorded > 10_000,
        "{recorded} bytes were said to the hostile member"
    );
    let strangers = ["half-open", "junk", "libp2p", "datagrams"];
    let strangers = strangers.iter().zip(&doors);
    let hostile = strangers.map(|(what, door)| vec!["stranger", door.as_str(), *what, SECONDS]);
    assert_eq!(
        models(&federation, &hostile.collect::<Vec<_>>()),
        alone,
        "beside strangers"
    );
}
