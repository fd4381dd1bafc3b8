//! Hundreds of seeds of chaos: whatever is drawn, no invariant is broken while faults last, and once
//! they have stopped everybody finishes.

mod worlds;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use kith_simulations::attack::{ATTACKS, Means};
use worlds::{PAIRED, Play, STAGED};

/// Plays these seeds and says what broke.
fn play(name: &str, seeds: Range<u64>, draw: impl Fn(u64) -> Play + Sync) {
    let began = Instant::now();
    let count = seeds.end.saturating_sub(seeds.start);
    let (next, inputs, rounds) = (
        AtomicU64::new(seeds.start),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let play = draw(seed);
                    let outcome = play.run();
                    inputs.fetch_add(outcome.events, Ordering::Relaxed);
                    rounds.fetch_add(outcome.peer_rounds, Ordering::Relaxed);
                    let mut broken: Vec<String> = outcome
                        .checks
                        .failed
                        .iter()
                        .map(|failure| {
                            format!(
                                "{} at {:.3} s, peer {:?}: {}",
                                failure.check, failure.virtual_seconds, failure.peer, failure.what
                            )
                        })
                        .collect();
                    if outcome.ended != kith_simulations::simulator::Ended::Stopped {
                        broken.push(format!("the run ended as {:?}", outcome.ended));
                    }
                    if !broken.is_empty() {
                        failures.lock().expect("nobody panics here").push((
                            seed,
                            format!("{}\n    {}", play.replay(), broken.join("\n    ")),
                        ));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("nobody panics here");
    failures.sort();
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{name}: {count} seeds, {} failures, {seconds:.1} s, {:.1} seeds/s, {} inputs handled, {} rounds of peers",
        failures.len(),
        count as f64 / seconds,
        inputs.into_inner(),
        rounds.into_inner()
    );
    let shown: Vec<&str> = failures
        .iter()
        .map(|(_, failure)| failure.as_str())
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {count} seeds break an invariant:\n{}",
        failures.len(),
        shown.join("\n")
    );
}

/// Plays seeds of a world with settings of their own.
fn replay(name: &str, world: &str, seeds: Range<u64>, settings: &[&str]) {
    play(name, seeds, |seed| Play {
        file: format!("simulations/tests/worlds/{world}.toml"),
        seed,
        settings: settings.iter().map(|text| (*text).to_owned()).collect(),
    });
}

/// The first `count` seeds, or those that `KITH_SEEDS` asks for: so many, or `FROM..TO`.
fn seeds(count: u64) -> Range<u64> {
    let asked = std::env::var("KITH_SEEDS").ok();
    let range = asked.and_then(|asked| match asked.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => Some(0..asked.parse().ok()?),
    });
    range.unwrap_or(0..count)
}

#[test]
fn everything_that_can_go_wrong() {
    play("chaos", seeds(300), |seed| {
        Play::draw("chaos", seed, 8..=16)
    });
}

#[test]
fn much_is_lost_and_repeated() {
    play("storm", seeds(60), |seed| Play::draw("storm", seed, 8..=16));
}

#[test]
fn disks_are_lost() {
    play("forgetful", seeds(40), |seed| {
        Play::draw("forgetful", seed, 8..=16)
    });
}

#[test]
fn disks_are_slow() {
    play("restarting", seeds(40), |seed| {
        Play::draw("restarting", seed, 8..=16)
    });
}

#[test]
fn some_are_slow() {
    play("slow", seeds(40), |seed| Play::draw("slow", seed, 8..=16));
}

#[test]
fn heads_and_hubs_are_lost_as_anybody_is() {
    play("stages", seeds(60), |seed| {
        Play::draw_among(STAGED, "stages", seed, 9..=16)
    });
}

#[test]
fn partners_are_lost_as_anybody_is() {
    play("pairwise", seeds(40), |seed| {
        Play::draw_among(PAIRED, "chaos", seed, 8..=16)
    });
}

/// Chaos, with a selection that its rule and its graph can carry.
fn selecting(seed: u64) -> Play {
    let kinds: [&[&str]; 4] = [
        &["round.selection=uniform"],
        &["round.selection=power-of-choice", "round.candidates=3"],
        &[
            "round.selection=deadline",
            "round.late=0.1",
            "round.fairness=3",
        ],
        &["round.selection=uniform", "round.share=0.9"],
    ];
    let drawn = Play::draw("chaos", seed, 8..=16);
    for place in 0..kinds.len() as u64 {
        let kind = kinds[((seed + place) % kinds.len() as u64) as usize];
        let settings = drawn
            .settings
            .iter()
            .cloned()
            .chain(kind.iter().map(|key| (*key).to_owned()))
            .collect();
        let play = Play {
            file: drawn.file.clone(),
            seed,
            settings,
        };
        if play.experiment().is_ok() {
            return play;
        }
    }
    unreachable!("a selection by deadline goes with every graph and rule")
}

#[test]
fn peers_select() {
    play("selecting", seeds(60), selecting);
}

/// A world in which one peer attacks with messages: in calm, and among all other faults.
fn attacked(seed: u64) -> Play {
    let mut attacks = ATTACKS.iter().filter_map(|entry| match entry.new.means {
        Means::Messages { .. } => Some(entry.name),
        _ => None,
    });
    let count = attacks.clone().count() as u64;
    let attack = attacks
        .nth((seed / 2 % count) as usize)
        .expect("one of them");
    let file = if seed.is_multiple_of(2) {
        "attacked"
    } else {
        "chaos"
    };
    let free = attack == "far-ahead";
    let mut play = Play::draw(file, seed, 6..=12);
    let liar = |setting: &String| {
        setting.starts_with("world.adversaries") || setting.starts_with("world.attack")
    };
    play.settings.retain(|setting| !liar(setting));
    play.settings.push("world.adversaries=1".to_owned());
    play.settings.push(format!("world.attack={attack}"));
    if free {
        play.settings.push("round.mode=asynchronous".to_owned());
        play.settings.retain(|setting| !setting.contains("replica"));
    }
    match play.experiment() {
        Ok(_) => play,
        Err(_) => attacked(seed + 2 * count),
    }
}

#[test]
fn one_attacks_with_messages() {
    play("attacked", seeds(130), attacked);
}

#[test]
fn disks_are_rolled_back() {
    replay("rollback", "rollback", seeds(40), &[]);
}

/// A liar's infinity has no int8: it says nothing then, and nobody panics.
#[test]
fn a_lie_that_its_codec_cannot_say_is_not_sent() {
    let settings = [
        "codec.kind=int8",
        "codec.replica=true",
        "aggregation.rule=median",
        "aggregation.byzantine=1",
        "world.adversaries=1",
        "world.attack=infinity",
    ];
    replay("infinity", "chaos", 0..3, &settings);
}

#[test]
fn bodies_are_pulled() {
    play("pulled", seeds(12), |seed| {
        Play::draw("pulled", seed, 8..=10)
    });
}

#[test]
fn signatures_are_real() {
    play("signed", seeds(8), |seed| {
        Play::draw("signed", seed, 8..=10)
    });
}

/// A peer whose newest checkpoint is damaged resumes in a round that it has published in, so it
/// listens there. In a hierarchy that round may have no neighbours. Then nobody can be heard, and
/// the peer waits for ever, and with it the neighbour that waits for it in the next round.
#[test]
fn a_peer_that_is_rolled_back_into_a_round_without_neighbours_continues() {
    let settings = [
        "world.links.loss=0",
        "world.links.duplication=0",
        "world.links.reordering=false",
        "world.limit_seconds=400",
    ];
    replay("rolled back", "stages", 266..267, &settings);
}

/// While a line is cut, what two sides show each other waits, and comes at once when it heals: at a free
/// pace hundreds of headers that are old by then. They were counted as a flood.
#[test]
fn what_waited_for_a_line_is_no_flood() {
    let settings = [
        "world.adversaries=0",
        "round.mode=asynchronous",
        "federation.rounds=300",
        "world.fault=[{at_seconds=11,kind=\"partition\",group=[0,1],lasts_seconds=15}]",
    ];
    replay("cut", "attacked", 0..6, &settings);
}

/// In asynchronous rounds a peer that starts late has updates waiting of senders that have gone on,
/// and no replica that those build on. It asked for the oldest one's, which nobody keeps any more,
/// until the next was too old as well, and so never heard one of its neighbours.
#[test]
fn a_late_peer_asks_for_the_newest_replica() {
    let settings = [
        "world.peers=10",
        "topology.kind=random-regular",
        "topology.degree=4",
        "codec.kind=power-sgd",
        "aggregation.rule=mean",
        "world.adversaries=1",
        "world.attack=far-ahead",
        "round.mode=asynchronous",
    ];
    replay("late", "attacked", 2218..2219, &settings);
}

/// A peer that comes back when all others have gone has a liar alone to train with, which keeps
/// being sent away. No bound can be given for it, and the run ends.
#[test]
fn a_peer_that_has_nobody_but_a_liar_is_not_waited_for() {
    let settings = [
        "world.peers=7",
        "topology.kind=exponential",
        "codec.kind=random-k",
        "codec.share=0.3",
        "aggregation.rule=mean",
        "world.adversaries=1",
        "world.attack=junk-gossip",
    ];
    replay("alone", "chaos", 5549..5550, &settings);
}
