//! Real processes as a stage: over loopback, or each in a network namespace of its own at one
//! switch.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::common::{Federation, Running};
use super::{Act, Lines, Scenario, Stage, Told};

/// Set in the process that plays a scenario inside namespaces.
const INSIDE: &str = "KITH_INSIDE_A_NAMESPACE";

/// Plays a scenario; if it needs lines, this test runs itself again in namespaces of its own.
pub(crate) fn play(scenario: &Scenario) {
    if scenario.lines == Lines::Loopback || std::env::var_os(INSIDE).is_some() {
        return Processes::start(scenario).play(scenario);
    }
    let Some(unshare) = unshare() else {
        eprintln!(
            "SKIPPED: {} needs namespaces, `ip`, `nft`, `tc`, `ss` and `unshare`",
            scenario.name
        );
        return;
    };
    let inside = Command::new("unshare")
        .args(unshare)
        .arg(std::env::current_exe().expect("a test"))
        .args(["--exact", "--nocapture"])
        .arg(format!("{}::processes", scenario.name))
        .env(INSIDE, "1")
        .output()
        .expect("unshare starts");
    let told = String::from_utf8_lossy(&inside.stderr);
    eprint!("{told}");
    let ran = String::from_utf8_lossy(&inside.stdout);
    assert!(inside.status.success(), "{told}{ran}");
    assert!(ran.contains("1 passed"), "the scenario was played: {ran}");
}

/// Arguments with which `unshare` gives namespaces, by root's right or as anybody.
fn unshare() -> Option<&'static [&'static str]> {
    const TRY: &str = "ip link set lo up && mkdir -p /run/netns && mount -t tmpfs none /run/netns && \
        ip netns add kith-try && nft list ruleset && tc qdisc && ss -tn";
    let ways: [&[&str]; 2] = [
        &["--net", "--mount"],
        &["--user", "--map-root-user", "--net", "--mount"],
    ];
    let works = |way: &&'static [&'static str]| {
        let tried = Command::new("unshare")
            .args(*way)
            .args(["sh", "-c", TRY])
            .output();
        tried.is_ok_and(|output| output.status.success())
    };
    ways.iter().copied().find(|way| works(way))
}

/// The folders of a scenario's peers, one at each of these addresses.
pub(crate) fn federation(scenario: &Scenario, addresses: &[String]) -> Federation {
    let federation = Federation::at(addresses, scenario.options);
    for name in &federation.names {
        // Some rounds in a second, not hundreds.
        let (quick, slower) = match scenario.hidden {
            0 => ("local_epochs = 1", "local_epochs = 200"),
            _ => ("local_epochs = 1", "local_epochs = 2"),
        };
        federation.edit(name, "charter.toml", quick, slower);
        if scenario.hidden > 0 {
            let mlp = format!("kind = \"mlp\"\nhidden = [{}]", scenario.hidden);
            federation.edit(name, "charter.toml", "kind = \"softmax\"", &mlp);
        }
    }
    federation
}

struct Processes {
    federation: Federation,
    hosts: Option<Hosts>,
    running: Vec<Running>,
    began: Instant,
}

impl Processes {
    fn start(scenario: &Scenario) -> Processes {
        let hosts = (scenario.lines == Lines::Own).then(|| Hosts::new(scenario.peers));
        let address = |peer| match hosts {
            Some(_) => Hosts::address(peer),
            None => "127.0.0.1".to_owned(),
        };
        let addresses: Vec<String> = (0..scenario.peers).map(address).collect();
        let mut stage = Processes {
            federation: federation(scenario, &addresses),
            hosts,
            running: Vec::new(),
            began: Instant::now(),
        };
        for act in scenario.begin {
            stage.act(*act);
        }
        for peer in 0..scenario.peers {
            let running = stage.start_peer(peer);
            stage.running.push(running);
        }
        stage
    }

    fn play(mut self, scenario: &Scenario) {
        (scenario.play)(&mut self);
    }

    fn start_peer(&self, peer: usize) -> Running {
        let dir = self.federation.dir(self.federation.names[peer]);
        match &self.hosts {
            None => Running::start(&dir),
            Some(hosts) => {
                let mut command = Command::new("ip");
                command
                    .args(["netns", "exec", &hosts.0[peer]])
                    .arg(env!("CARGO_BIN_EXE_kith-under-test"))
                    .env("NO_COLOR", "1")
                    .env("RAYON_NUM_THREADS", "1")
                    .stdin(Stdio::null());
                Running::with(command, &dir)
            }
        }
    }

    fn hosts(&self) -> &Hosts {
        self.hosts
            .as_ref()
            .expect("its peers have lines of their own")
    }
}

impl Stage for Processes {
    fn until(&mut self, peer: usize, what: &str, wanted: &dyn Fn(&Value) -> bool) -> Value {
        self.running[peer].until(what, wanted)
    }

    fn seen(&mut self, peer: usize) -> Vec<Value> {
        self.running[peer].seen.clone()
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Kill { peer, back } => {
                self.running[peer].kill();
                std::thread::sleep(back);
                let seen = std::mem::take(&mut self.running[peer].seen);
                self.running[peer] = self.start_peer(peer);
                self.running[peer].seen = seen;
            }
            Act::Pause { peer, lasts } => {
                let process = Pid::from_raw(self.running[peer].child.id() as i32);
                kill(process, Signal::SIGSTOP).expect("it runs");
                std::thread::sleep(lasts);
                kill(process, Signal::SIGCONT).expect("it runs");
            }
            Act::Cut { from, to } => self.hosts().cut(from, to),
            Act::Part { some, others } => {
                self.hosts().cut(some, others);
                self.hosts().cut(others, some);
            }
            Act::Heal => self.hosts().heal(),
            Act::Break { peer, other, told } => self.hosts().end_connections(peer, other, told),
            Act::BehindRouter { peer } => self.hosts().lets_nobody_in(peer),
            Act::Slow {
                peer,
                bytes_per_second,
            } => self.hosts().slow(peer, bytes_per_second),
        }
    }

    fn now(&mut self) -> Duration {
        self.began.elapsed()
    }

    fn is_timed(&self) -> bool {
        std::env::var_os("KITH_CUTS").is_some()
    }

    fn peers(&self) -> usize {
        self.running.len()
    }

    fn name(&self) -> &'static str {
        "processes"
    }
}

/// Hosts at one switch, each in a namespace of its own; gone when dropped.
struct Hosts(Vec<String>);

/// Runs a command of the system's, which must succeed; what it printed.
fn system(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ip(arguments: &str) {
    system("ip", arguments);
}

impl Hosts {
    fn new(number: usize) -> Hosts {
        // Names of namespaces are files: this test's own are seen by nobody else.
        system("mkdir", "-p /run/netns");
        system("mount", "-t tmpfs none /run/netns");
        ip("link set lo up");
        ip("link add switch type bridge");
        ip("link set switch up");
        let hosts = Hosts((0..number).map(|host| format!("host{host}")).collect());
        for (index, name) in hosts.0.iter().enumerate() {
            ip(&format!("netns add {name}"));
            ip(&format!(
                "link add line{index} type veth peer name line netns {name}"
            ));
            ip(&format!("link set line{index} master switch up"));
            ip(&format!(
                "-n {name} addr add {}/24 dev line",
                Hosts::address(index)
            ));
            ip(&format!("-n {name} link set line up"));
            ip(&format!("-n {name} link set lo up"));
            hosts.nft(index, "add table ip kith");
            for chain in ["ends", "router"] {
                let hook = "{ type filter hook input priority 0 ; }";
                hosts.nft(index, &format!("add chain ip kith {chain} {hook}"));
            }
        }
        hosts
    }

    fn address(index: usize) -> String {
        format!("10.77.0.{}", index + 1)
    }

    fn nft(&self, host: usize, rule: &str) {
        system("ip", &format!("netns exec {} nft {rule}", self.0[host]));
    }

    /// Nothing from `from` arrives at `to` any longer, since it goes to a machine that does not
    /// exist.
    fn cut(&self, from: &[usize], to: &[usize]) {
        for (from, to) in pairs(from, to) {
            let (name, to) = (&self.0[from], Hosts::address(to));
            ip(&format!(
                "-n {name} neigh replace {to} lladdr 02:00:00:00:00:99 dev line nud permanent"
            ));
        }
    }

    fn heal(&self) {
        let all: Vec<usize> = (0..self.0.len()).collect();
        for (from, to) in pairs(&all, &all).filter(|(from, to)| from != to) {
            let (name, to) = (&self.0[from], Hosts::address(to));
            // There is none if nothing was cut here.
            let _ = Command::new("ip")
                .args(["-n", name, "neigh", "del", &to, "dev", "line"])
                .output();
        }
    }

    /// The TCP connections that two hosts have now carry nothing any more.
    fn end_connections(&self, host: usize, other: usize, told: Told) {
        let name = &self.0[host];
        let to = Hosts::address(other);
        let listed = system(
            "ip",
            &format!("netns exec {name} ss -Htn state established dst {to}"),
        );
        let ports = |line: &str| -> Option<[String; 2]> {
            let mut ends = line.split_whitespace().filter(|word| word.contains(':'));
            let mut port = || Some(ends.next()?.rsplit(':').next()?.to_owned());
            Some([port()?, port()?])
        };
        let connections: Vec<[String; 2]> = listed.lines().filter_map(ports).collect();
        assert!(!connections.is_empty(), "they are connected: {listed}");
        let fate = match told {
            // All but the resets themselves.
            Told::Both => "tcp flags & rst == 0 reject with tcp reset",
            Told::Nobody => "drop",
        };
        for [own, theirs] in connections {
            // What arrives at either end. A reset goes back to the sender, and the other end's next
            // packet brings one for this.
            let rule = |sport: &str, dport: &str, of: usize| {
                let from = Hosts::address(of);
                format!(
                    "add rule ip kith ends ip saddr {from} tcp sport {sport} tcp dport {dport} {fate}"
                )
            };
            self.nft(host, &rule(&theirs, &own, other));
            self.nft(other, &rule(&own, &theirs, host));
        }
    }

    /// As a router does that forwards nothing: who calls from outside hears nothing.
    fn lets_nobody_in(&self, host: usize) {
        self.nft(host, "add rule ip kith router tcp flags syn / syn,ack drop");
    }

    fn slow(&self, host: usize, bytes_per_second: u64) {
        let rate = bytes_per_second * 8;
        for (inside, device) in [(true, "line".to_owned()), (false, format!("line{host}"))] {
            let inside = if inside {
                format!("-n {} ", self.0[host])
            } else {
                String::new()
            };
            let limit = format!(
                "{inside}qdisc add dev {device} root tbf rate {rate}bit burst 16kb latency 2s"
            );
            system("tc", &limit);
        }
    }
}

fn pairs<'a>(from: &'a [usize], to: &'a [usize]) -> impl Iterator<Item = (usize, usize)> + 'a {
    from.iter()
        .flat_map(|from| to.iter().map(|to| (*from, *to)))
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}
