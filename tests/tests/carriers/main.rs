//! What a network does to peers, and what they make of it: each scenario is played twice, by
//! processes over real sockets and by the same peers over the simulated carrier. So what the
//! simulator shows of a fault holds for the program too.
//!
//! Scenarios over loopback run everywhere. Those that do something to lines run in network
//! namespaces, since a closed socket tells both ends, and a cut line tells nobody. They need `ip`,
//! `nft`, `tc`, `ss` and root, or a system that gives everybody namespaces, and say so where they are
//! skipped. `KITH_CUTS=20 cargo test --test carriers cuts -- --nocapture` cuts twenty times for 35 s
//! each.

mod processes;
mod simulated;

#[path = "../common/mod.rs"]
mod common;

use std::time::Duration;

use serde_json::Value;

/// How long each of many cuts lasts: longer than pings take to tell that a connection is dead.
const LONG: Duration = Duration::from_secs(35);
/// How long a peer may take to be back in a round with all others once nothing is in its way.
const BACK: Duration = Duration::from_secs(10);
/// Rounds that are seen to be full before it is believed that they stay so.
const SOME: usize = 8;

/// Something that is done to peers or to their lines.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A process is killed, and starts again after `back`.
    Kill { peer: usize, back: Duration },
    /// A process stands still (SIGSTOP) for `lasts`, and then goes on.
    Pause { peer: usize, lasts: Duration },
    /// Nothing from `from` arrives at `to` any more, which are all others.
    Cut {
        from: &'static [usize],
        to: &'static [usize],
    },
    /// The two do not hear each other any more.
    Part {
        some: &'static [usize],
        others: &'static [usize],
    },
    /// All lines are whole again.
    Heal,
    /// The connection of two peers ends: both are told (a reset), or nobody is.
    Break {
        peer: usize,
        other: usize,
        told: Told,
    },
    /// Nobody can dial this peer. Only before it starts.
    BehindRouter { peer: usize },
    /// This peer's line carries so many bytes in a second, each way. Only before it starts.
    Slow { peer: usize, bytes_per_second: u64 },
}

/// Who hears of a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Both,
    Nobody,
}

/// Where a scenario's peers live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    /// On one machine.
    Loopback,
    /// Each on a machine of its own.
    Own,
}

/// Peers of a federation over one of the carriers. Everybody exchanges with everybody.
trait Stage {
    /// Waits until a peer tells an event that is `wanted`, after those that were waited for before.
    fn until(&mut self, peer: usize, what: &str, wanted: &dyn Fn(&Value) -> bool) -> Value;

    /// All events that a peer has told up to the newest that was waited for.
    fn seen(&mut self, peer: usize) -> Vec<Value>;

    /// Does something now.
    fn act(&mut self, act: Act);

    /// Time since the start, by the carrier's clock.
    fn now(&mut self) -> Duration;

    /// Whether times are judged: virtual ones, and real ones where they are measured. On a busy machine
    /// real ones say nothing.
    fn is_timed(&self) -> bool;

    /// How many peers there are.
    fn peers(&self) -> usize;

    /// Name of the carrier.
    fn name(&self) -> &'static str;
}

impl dyn Stage + '_ {
    /// Waits for an event of this name.
    fn until_event(&mut self, peer: usize, name: &str) -> Value {
        self.until(peer, name, &|event| event["event"] == name)
    }

    /// Waits until a peer has combined `models` models.
    fn until_mixed(&mut self, peer: usize, models: usize) -> Value {
        let what = format!("a round with {models} models");
        self.until(peer, &what, &|event| is_mixed(event, models))
    }

    /// Waits until every peer has combined everybody's models.
    fn until_full(&mut self) {
        let peers = self.peers();
        (0..peers).for_each(|peer| {
            self.until_mixed(peer, peers);
        });
    }

    /// Fails if something took too long.
    fn lasted(&self, took: Duration, most: Duration, what: &str) {
        let name = self.name();
        assert!(
            took < most || !self.is_timed(),
            "{name}, {what}: {took:?}, expected less than {most:?}"
        );
    }

    /// Waits for a peer to be in rounds with everybody again, from now on, for at most [`BACK`].
    fn is_back(&mut self, peer: usize, after: &str) {
        let since = self.now();
        let peers = self.peers();
        self.until_mixed(peer, peers);
        let took = self.now().saturating_sub(since);
        let name = self.name();
        eprintln!(
            "{name}, {after}: back in a full round {:.1} s later",
            took.as_secs_f64()
        );
        self.lasted(took, BACK, after);
    }
}

fn is_mixed(event: &Value, models: usize) -> bool {
    event["event"] == "aggregated" && event["models"] == models
}

struct Scenario {
    name: &'static str,
    peers: usize,
    lines: Lines,
    /// Options of `kith charter new`.
    options: &'static [&'static str],
    /// Hidden values of a two-layer model; 0 is a linear one, whose updates travel in one message.
    hidden: usize,
    /// What is done before the peers start.
    begin: &'static [Act],
    play: fn(&mut dyn Stage),
}

const OPTIONS: &[&str] = &["--rounds", "1000000", "--deadline", "3", "--rule", "mean"];

/// Named as what is to be seen.
macro_rules! scenarios {
    ($($name:ident { $($field:ident: $value:expr),* $(,)? })*) => {
        $(mod $name {
            use super::*;

            const SCENARIO: Scenario = Scenario {
                name: stringify!($name),
                $($field: $value,)*
                ..DEFAULT
            };

            #[test]
            fn simulated() {
                simulated::play(&SCENARIO);
            }

            #[test]
            fn processes() {
                processes::play(&SCENARIO);
            }
        })*
    };
}

const DEFAULT: Scenario = Scenario {
    name: "",
    peers: 3,
    lines: Lines::Loopback,
    options: OPTIONS,
    hidden: 0,
    begin: &[],
    play: |_| {},
};

scenarios! {
    rounds_are_full_where_nothing_is_wrong {
        peers: 4,
        options: &["--rounds", "1000000", "--deadline", "60", "--rule", "mean"],
        play: |stage| {
            stage.until_full();
            (0..SOME).for_each(|_| stage.until_full());
            for peer in 0..stage.peers() {
                for event in stage.seen(peer) {
                    let name = event["event"].as_str().unwrap_or_default();
                    let ill = ["disconnected", "stalled", "refused", "no-longer-awaited", "dismissed"];
                    // Two peers that dial each other at once have two connections, and send again
                    // over the second, since the line of the first may be dead.
                    let is_heard_twice = event["reason"]["refused"] == "duplicate";
                    let is_ill = ill.contains(&name) && !is_heard_twice;
                    assert!(!is_ill, "{}: {event}", stage.name());
                }
            }
        },
    }

    bodies_that_are_pulled_are_never_missed {
        peers: 6,
        hidden: 4096,
        options: &["--rounds", "1000000", "--deadline", "60", "--rule", "mean"],
        play: |stage| {
            stage.until_full();
            (0..SOME).for_each(|_| stage.until_full());
            for peer in 0..stage.peers() {
                let stalled = stage.seen(peer).iter().any(|event| event["event"] == "stalled");
                assert!(!stalled, "{}: peer {peer} waited in vain", stage.name());
            }
        },
    }

    a_killed_peer_is_back {
        play: |stage| {
            stage.until_full();
            stage.act(Act::Kill { peer: 2, back: Duration::from_secs(4) });
            stage.until_event(0, "disconnected");
            stage.until_event(1, "disconnected");
            stage.until_mixed(0, 2);
            stage.until_event(2, "started");
            stage.is_back(2, "killed");
        },
    }

    a_peer_that_stood_still_is_back {
        play: |stage| {
            stage.until_full();
            stage.act(Act::Pause { peer: 2, lasts: LONG });
            // Others go on without it, and their pings tell that it is not there.
            stage.until_mixed(0, 2);
            stage.until_event(0, "disconnected");
            stage.until_event(1, "disconnected");
            // It wakes once the others can reach it again.
            stage.until_event(0, "connected");
            stage.is_back(0, "stood still");
        },
    }

    cuts_of_a_line_heal {
        lines: Lines::Own,
        play: |stage| {
            let number = std::env::var("KITH_CUTS").ok();
            let number = number.map(|text| text.parse::<usize>().expect("KITH_CUTS is a number"));
            let cuts = [
                ("cut both ways", Act::Part { some: &[2], others: &[0, 1] }),
                ("cut from it", Act::Cut { from: &[2], to: &[0, 1] }),
                ("cut to it", Act::Cut { from: &[0, 1], to: &[2] }),
            ];
            stage.until_full();
            for (way, cut) in cuts.iter().cycle().take(number.unwrap_or(cuts.len())) {
                let since = stage.now();
                stage.act(*cut);
                for _ in 0..2 {
                    stage.until_event(2, "disconnected");
                }
                // The others are still a federation.
                stage.until_mixed(0, 2);
                while number.is_some() && stage.now() - since < LONG {
                    stage.until_event(0, "round-opened");
                }
                stage.act(Act::Heal);
                stage.is_back(2, way);
            }
        },
    }

    a_connection_that_went_silent_is_replaced {
        lines: Lines::Own,
        play: |stage| {
            stage.until_full();
            stage.act(Act::Break { peer: 2, other: 0, told: Told::Nobody });
            stage.until_event(2, "disconnected");
            stage.is_back(2, "silence");
        },
    }

    a_connection_that_was_reset_is_replaced {
        lines: Lines::Own,
        play: |stage| {
            stage.until_full();
            stage.act(Act::Break { peer: 2, other: 0, told: Told::Both });
            stage.until_event(2, "disconnected");
            stage.is_back(2, "reset");
        },
    }

    a_peer_that_nobody_can_dial_takes_part {
        lines: Lines::Own,
        begin: &[Act::BehindRouter { peer: 2 }],
        play: |stage| {
            stage.until_full();
            // It comes back by itself, since the others cannot come to it.
            stage.act(Act::Kill { peer: 2, back: Duration::from_secs(2) });
            stage.until_event(0, "disconnected");
            stage.until_event(2, "started");
            stage.is_back(2, "killed behind a router");
        },
    }

    two_peers_that_nobody_can_dial_train_with_the_others {
        peers: 4,
        lines: Lines::Own,
        begin: &[Act::BehindRouter { peer: 2 }, Act::BehindRouter { peer: 3 }],
        play: |stage| {
            for peer in [0, 1] {
                stage.until_mixed(peer, 4);
            }
            for peer in [2, 3] {
                stage.until_mixed(peer, 3);
            }
            // They have ceased to wait for each other, and rounds are as fast as ever.
            let since = stage.now();
            for _ in 0..SOME {
                stage.until_mixed(2, 3);
            }
            let took = stage.now() - since;
            stage.lasted(took, Duration::from_secs(12), "some rounds");
            for peer in 0..4 {
                let all = if peer < 2 { 4 } else { 3 };
                let seen = stage.seen(peer);
                let models: Vec<u64> = seen.iter().filter_map(|event| event["models"].as_u64()).collect();
                assert_eq!(models.iter().max(), Some(&all), "{}: peer {peer}", stage.name());
                // That the two waited for each other was no fault of theirs, so nobody missed them.
                let is_full = models.iter().all(|models| *models == all);
                assert!(is_full || !stage.is_timed(), "{}, peer {peer}: {models:?}", stage.name());
            }
        },
    }

    a_slow_line_delays_rounds_and_nothing_else {
        lines: Lines::Own,
        hidden: 4096,
        options: &["--rounds", "1000000", "--deadline", "30", "--rule", "mean"],
        // A body of 240 kB takes 2 s, and two are asked of it.
        begin: &[Act::Slow { peer: 2, bytes_per_second: 120_000 }],
        play: |stage| {
            stage.until_full();
            stage.until_full();
            for peer in 0..3 {
                let seen = stage.seen(peer);
                let ill = |event: &&Value| event["event"] == "disconnected" || event["event"] == "no-longer-awaited";
                assert_eq!(seen.iter().find(ill), None, "{}: peer {peer}", stage.name());
            }
        },
    }

    a_line_that_is_too_slow_holds_nobody_up {
        lines: Lines::Own,
        hidden: 4096,
        // Pings wait behind at most a window of a body: 4 s.
        begin: &[Act::Slow { peer: 2, bytes_per_second: 60_000 }],
        play: |stage| {
            // Its bodies come after the deadline, so the others cease to wait for it.
            for peer in [0, 1] {
                stage.until(peer, "no longer awaited", &|event| event["event"] == "no-longer-awaited");
            }
            let since = stage.now();
            for _ in 0..SOME {
                stage.until_mixed(0, 2);
            }
            let took = stage.now() - since;
            stage.lasted(took, Duration::from_secs(16), "some rounds");
            let lost = stage.seen(0).iter().filter(|event| event["event"] == "disconnected").count();
            assert_eq!(lost, 0, "{}: its pings are answered", stage.name());
        },
    }
}
