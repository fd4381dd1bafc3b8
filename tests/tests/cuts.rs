//! A line that is cut and heals: in network namespaces, since a closed socket tells both ends, and
//! a cut line tells nobody.
//!
//! Needs root, `ip` and `unshare`, and says so where it is skipped. `KITH_CUTS=20 cargo test --test
//! cuts` cuts twenty times for 35 s each and asks that the peer is back within ten.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Federation, Running};

/// How long each of many cuts lasts: longer than pings take to tell that a connection is dead.
const LONG: Duration = Duration::from_secs(35);
/// How long a peer may take to be back in a round with all others, where it is measured.
const BACK: Duration = Duration::from_secs(10);

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("ip starts");
    assert!(status.success(), "ip {arguments}");
}

/// Three hosts at one switch, each in a namespace of its own; gone when dropped.
struct Hosts(Vec<String>);

impl Hosts {
    fn new() -> Hosts {
        ip("link set lo up");
        ip("link add switch type bridge");
        ip("link set switch up");
        let hosts = Hosts(
            (0..3)
                .map(|host| format!("kith-{}-{host}", std::process::id()))
                .collect(),
        );
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
        }
        hosts
    }

    fn address(index: usize) -> String {
        format!("10.77.0.{}", index + 1)
    }

    fn start(&self, federation: &Federation, index: usize) -> Running {
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &self.0[index],
            env!("CARGO_BIN_EXE_kith-under-test"),
        ]);
        command
            .env("NO_COLOR", "1")
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::null());
        Running::with(command, &federation.dir(federation.names[index]))
    }

    /// Nothing from `from` arrives at `to` any longer, since it goes to a machine that does not
    /// exist.
    fn cut(&self, from: usize, to: usize) {
        ip(&format!(
            "-n {} neigh replace {} lladdr 02:00:00:00:00:99 dev line nud permanent",
            self.0[from],
            Hosts::address(to)
        ));
    }

    fn heal(&self, from: usize, to: usize) {
        ip(&format!(
            "-n {} neigh del {} dev line",
            self.0[from],
            Hosts::address(to)
        ));
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Runs itself again in a network namespace of its own, where that is allowed.
#[test]
fn a_peer_is_back_after_each_cut_of_its_line_both_ways_and_one_way() {
    const INSIDE: &str = "KITH_INSIDE_A_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return cuts();
    }
    let allowed = Command::new("unshare")
        .args(["--net", "--mount", "ip", "link", "set", "lo", "up"])
        .output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: cutting lines needs root, `ip` and `unshare`");
        return;
    }
    let inside = Command::new("unshare")
        .args(["--net", "--mount"])
        .arg(std::env::current_exe().expect("a test"))
        .args(["--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(inside.expect("unshare starts").success());
}

fn cuts() {
    let number = std::env::var("KITH_CUTS")
        .ok()
        .map(|text| text.parse::<usize>().expect("KITH_CUTS is a number"));
    let hosts = Hosts::new();
    let addresses: Vec<String> = (0..3).map(Hosts::address).collect();
    let options = ["--rounds", "1000000", "--deadline", "3"];
    let federation = Federation::at(&addresses, &options);
    for name in &federation.names {
        federation.edit(
            name,
            "charter.toml",
            "local_epochs = 1",
            "local_epochs = 200",
        ); // some rounds in a second, not hundreds
    }
    let mut peers: Vec<Running> = (0..3)
        .map(|index| hosts.start(&federation, index))
        .collect();
    let mut cut_off = peers.pop().expect("three");
    let full = |line: &serde_json::Value| line["event"] == "aggregated" && line["models"] == 3;
    cut_off.until("a round with all three", full);
    // From the peer to the others, the other way, or both.
    let ways: [(&str, &[(usize, usize)]); 3] = [
        ("both ways", &[(2, 0), (2, 1), (0, 2), (1, 2)]),
        ("from it", &[(2, 0), (2, 1)]),
        ("to it", &[(0, 2), (1, 2)]),
    ];
    for (way, lines) in ways.iter().cycle().take(number.unwrap_or(ways.len())) {
        let since = Instant::now();
        lines.iter().for_each(|(from, to)| hosts.cut(*from, *to));
        for _ in 0..2 {
            cut_off.until_event("disconnected");
        }
        if number.is_some() {
            std::thread::sleep(LONG.saturating_sub(since.elapsed()));
        }
        lines.iter().for_each(|(from, to)| hosts.heal(*from, *to));
        let healed = Instant::now();
        cut_off.until("a round with all three, after the line has healed", full);
        let took = healed.elapsed();
        eprintln!(
            "cut {way}: back in a full round {:.1} s after the line healed",
            took.as_secs_f64()
        );
        assert!(
            number.is_none() || took < BACK,
            "cut {way}: back after {took:?}"
        );
        peers.iter_mut().for_each(Running::read);
    }
}
