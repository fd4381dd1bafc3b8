//! Hostile processes against the program: what a member says that no peer would say, and what
//! strangers do to its ports, leaves the honest peers' model as it is, and ends none of them.
//!
//! `KITH_HOSTILE=SECONDS cargo test --test hostile measured -- --nocapture` measures floods, replays and
//! strangers for so long each: what they cost honest peers, and that nothing of theirs counts.

mod common;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kith_node::{Config, Identity};
use serde_json::Value;

use common::{Federation, Running};

/// The member that is hostile, or absent.
const HOSTILE: &str = "fay";

/// What a hostile member does. The tape of one run is played in the next, to peers that have started
/// anew.
const ATTACKS: [&str; 10] = [
    "junk",
    "deaf",
    "odd-spelling",
    "junk-gossip",
    "false-addresses",
    "far-claims",
    "half-met",
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
            .stdout(Stdio::piped())
            .spawn();
        Hostile(child.expect("the hostile program starts"))
    }
}

impl Hostile {
    /// How often it did what it does, once its time is up.
    fn count(&mut self) -> u64 {
        let mut told = String::new();
        let stdout = self.0.stdout.as_mut().expect("piped");
        stdout.read_to_string(&mut told).expect("words");
        assert!(self.0.wait().expect("a child").success(), "{told}");
        let number = told.split_whitespace().find_map(|word| word.parse().ok());
        number.unwrap_or_else(|| panic!("a number in {told:?}"))
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

/// Six members that go on until they are ended, some rounds in a second, with this deadline.
fn endless(deadline: &str) -> Federation {
    let federation = Federation::new(6, &["--rounds", "1000000", "--deadline", deadline]);
    for name in &federation.names {
        let start = (
            "start_deadline_seconds = 60.0",
            "start_deadline_seconds = 2.0",
        );
        federation.edit(name, "charter.toml", start.0, start.1);
        federation.edit(
            name,
            "charter.toml",
            "local_epochs = 1",
            "local_epochs = 100",
        );
    }
    federation
}

// --- another stack ---

/// What js-libp2p sees at a peer's door; `None` if it is not here.
fn foreign(door: &str, secret: Option<&str>) -> Option<Child> {
    let Some(packages) = std::env::var_os("KITH_JS_LIBP2P") else {
        eprintln!(
            "SKIPPED: KITH_JS_LIBP2P names no folder with js-libp2p, so no other stack speaks"
        );
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/peer.mjs");
    let child = Command::new("node")
        .args(["--input-type=module", "-", door, "8"])
        .args(secret)
        .current_dir(packages)
        .stdin(std::fs::File::open(script).expect("a script"))
        .stdout(Stdio::piped())
        .spawn();
    Some(child.expect("node starts"))
}

/// A stack that others have written shakes hands with this one, is understood, and is refused for
/// what it says, as any member is; and no stranger gets further than the handshake.
#[test]
fn another_stack_is_a_member_like_any_other_and_a_stranger_like_any_other() {
    let federation = endless("3");
    let config = Config::load(&federation.dir(HOSTILE).join("kith.toml")).expect("a good file");
    let secret = std::fs::read_to_string(&config.key).expect("a key");
    let door = format!("/ip4/127.0.0.1/tcp/{}", federation.ports[0]);
    let Some(member) = foreign(&door, Some(secret.trim())) else {
        return;
    };
    let stranger = foreign(&door, None).expect("it is here");
    let honest = &federation.names[..5];
    let mut running: Vec<Running> = honest.iter().map(|name| federation.start(name)).collect();
    let saw = |child: Child| -> Value {
        let output = child.wait_with_output().expect("it ends by itself");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let (member, stranger) = (saw(member), saw(stranger));
    eprintln!("a member saw {member}\na stranger saw {stranger}");
    assert!(
        stranger["agent"].is_null(),
        "it was told a version: {stranger}"
    );
    let agent = member["agent"].as_str().expect("it was told");
    assert!(agent.starts_with("kith/"), "{member}");
    for protocol in ["/kith/message/1", "/kith/body/1"] {
        let spoken = member["protocols"].as_array().expect("a list");
        assert!(spoken.iter().any(|one| one == protocol), "{member}");
    }
    for count in ["pings", "heard", "sent"] {
        assert!(member[count].as_u64() > Some(0), "{count}: {member}");
        assert_eq!(stranger[count], 0, "{count}: {stranger}");
    }
    // The peer at that door has refused it by name, and goes on with the others.
    running[0].read();
    assert!(
        running[0].has("refused") && running[0].has("dismissed"),
        "{:?}",
        running[0].seen.len()
    );
    for peer in &mut running {
        let five = |event: &Value| event["event"] == "aggregated" && event["models"] == 5;
        peer.until("a round of the five honest peers", five);
    }
}

// --- measured ---

/// Most memory of a process beside a flood (the default limit of a service: 512 MiB besides the model,
/// which has 58 values here).
const MEMORY_MAX: u64 = 512 << 20;
/// A member that floods is sent away within this.
const CUT_WITHIN: Duration = Duration::from_secs(10);
/// How much longer rounds of honest peers may take beside a flood.
const SLOWER_MAX: f64 = 1.5;

/// What honest peers tell of a time with hostile processes.
struct Time {
    /// Lengths of all rounds of all peers, in seconds, ascending.
    rounds: Vec<f64>,
    /// The most memory that any of them had, in bytes.
    memory: u64,
    /// How long the hostile member was connected before it was sent away for the first time, at the
    /// peer where that took longest; in seconds.
    cut: Option<f64>,
    /// Updates of the hostile member that were accepted.
    accepted: usize,
    /// How often each hostile process did what it does.
    counts: Vec<u64>,
}

impl Time {
    fn quantile(&self, share: f64) -> f64 {
        self.rounds[((self.rounds.len() - 1) as f64 * share) as usize]
    }
}

/// Honest peers for so long, beside hostile processes or none; nobody waits for the hostile member.
fn time(federation: &Federation, seconds: &str, hostile: &[Vec<&str>]) -> Time {
    let honest: Vec<&str> = federation.names[..5].to_vec();
    for name in &honest {
        for folder in ["state", "checkpoints"] {
            let _ = std::fs::remove_dir_all(federation.dir(name).join(folder));
        }
    }
    let mut running: Vec<Running> = honest.iter().map(|name| federation.start(name)).collect();
    for peer in &mut running {
        peer.until_event("no-longer-awaited");
        peer.seen.clear();
    }
    let began = Instant::now();
    let mut hostile: Vec<Hostile> = hostile.iter().map(|words| Hostile::start(words)).collect();
    let counts: Vec<u64> = hostile.iter_mut().map(Hostile::count).collect();
    let wanted = Duration::from_secs_f64(seconds.parse().expect("KITH_HOSTILE is seconds"));
    while began.elapsed() < wanted {
        running[0].until_event("aggregated");
    }
    let mut time = Time {
        rounds: Vec::new(),
        memory: 0,
        cut: None,
        accepted: 0,
        counts,
    };
    let config = Config::load(&federation.dir(HOSTILE).join("kith.toml")).expect("a good file");
    let member = Identity::load(&config.key)
        .expect("a key")
        .peer()
        .to_string();
    for peer in &mut running {
        peer.read();
        let status = format!("/proc/{}/status", peer.child.id());
        let status = std::fs::read_to_string(status).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        time.memory = time.memory.max(peak.expect("a number") * 1024);
        let at = |event: &Value| event["at_seconds"].as_f64().expect("a time");
        let mixed = peer
            .seen
            .iter()
            .filter(|event| event["event"] == "aggregated");
        let mixed: Vec<f64> = mixed.map(at).collect();
        time.rounds
            .extend(mixed.windows(2).map(|pair| pair[1] - pair[0]));
        let of_member = |name: &'static str| {
            let named = peer.seen.iter().filter(move |event| event["event"] == name);
            named.filter(|event| event["peer"] == member.as_str())
        };
        time.accepted += of_member("accepted").count();
        if let (Some(came), Some(went)) =
            (of_member("connected").next(), of_member("dismissed").next())
        {
            let took = at(went) - at(came);
            time.cut = Some(time.cut.map_or(took, |longest| longest.max(took)));
        }
    }
    time.rounds.sort_by(f64::total_cmp);
    time
}

#[test]
fn measured_floods_replays_and_strangers() {
    let Ok(seconds) = std::env::var("KITH_HOSTILE") else {
        eprintln!("SKIPPED: floods are measured with KITH_HOSTILE=120");
        return;
    };
    // A hundred requests of each kind in a deadline are allowed, and 1,000 come in a second.
    let federation = endless("12");
    let dir = federation.dir(HOSTILE);
    let (dir, tape) = (dir.to_string_lossy(), federation.folder.path().join("tape"));
    let tape = tape.to_string_lossy();
    let alone = time(&federation, &seconds, &[]);
    let tell = |what: &str, time: &Time| {
        eprintln!(
            "{what}: {} rounds, median {:.3} s, 95 % within {:.3} s; at most {} MiB; {:?} messages, {} accepted; \
             sent away after {:?} s",
            time.rounds.len(),
            time.quantile(0.5),
            time.quantile(0.95),
            time.memory >> 20,
            time.counts,
            time.accepted,
            time.cut,
        );
    };
    tell("alone", &alone);
    // The tape of one run is played in the next.
    for attack in ["flood", "tape", "tape"] {
        let beside = time(
            &federation,
            &seconds,
            &[vec!["member", &dir, attack, &seconds, &tape]],
        );
        tell(attack, &beside);
        assert_eq!(beside.accepted, 0, "{attack}");
        assert!(
            beside.memory < MEMORY_MAX,
            "{attack}: {} bytes",
            beside.memory
        );
        if attack == "flood" {
            let cut = beside.cut.expect("it was sent away");
            assert!(cut < CUT_WITHIN.as_secs_f64(), "after {cut} s");
            for share in [0.5, 0.95] {
                let (with, without) = (beside.quantile(share), alone.quantile(share));
                assert!(
                    with < SLOWER_MAX * without,
                    "rounds take {with} s, {without} s without"
                );
            }
        }
    }
    let door = format!("127.0.0.1:{}", federation.ports[0]);
    let strangers = ["half-open", "junk", "libp2p", "datagrams"];
    let strangers = strangers.map(|what| vec!["stranger", door.as_str(), what, &seconds]);
    let beside = time(&federation, &seconds, &strangers);
    tell("strangers", &beside);
    assert!(
        beside.memory < MEMORY_MAX,
        "strangers: {} bytes",
        beside.memory
    );
}
