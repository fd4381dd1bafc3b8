//! Do the invariants notice bugs? One after the other is planted, and a few worlds are played until
//! something breaks.

#[allow(dead_code, reason = "shared with the test of seeds, which draws")]
mod worlds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kith_gossip::mutant::{MUTANTS, Mutant, plant};
use kith_simulations::experiment::Outcome;
use kith_simulations::simulator::Ended;
use worlds::Play;

/// Seeds in which every scene is played.
const SEEDS: u64 = 12;

/// Bugs that show only under messages that no peer of a simulation sends. A driver in gossip's
/// `tests/liars.rs` plants each and finds it.
const ELSEWHERE: &[Mutant] = &[
    Mutant::ForgetSigned,
    Mutant::KeepHeaders,
    // In gossip's `tests/liars.rs`; the last also by the scenarios in `tests/tests/carriers`.
    Mutant::TellAllAddresses,
    Mutant::DialRefuted,
    Mutant::BlameSpared,
    // In node's `store/ledger/campaign.rs`, where neighbours hide what they hold.
    Mutant::ForgetSpent,
    Mutant::ChargeUnanswered,
    // In models' `tests/mutants.rs`.
    Mutant::QuarterNoise,
    Mutant::SameNoise,
    Mutant::BareTensor,
    Mutant::FixedLots,
    Mutant::NoClip,
];

/// So many bugs are noticed here: all others.
const FOUND_MIN: usize = MUTANTS.len() - ELSEWHERE.len();

/// Most consensus distance that is left: without a planted bug 2.8 is (measured).
const DISTANCE_MAX: f64 = 4.0;

/// A world, what is set on top, and what must be true of its end beside the invariants.
struct Scene {
    file: &'static str,
    settings: &'static [&'static str],
    /// Whether somebody must be convicted.
    convicts: bool,
    /// What some honest peer must refuse, by its name.
    refuses: Option<&'static str>,
    /// Whether nobody may do without a body that was announced.
    pulls_all: bool,
}

const fn scene(file: &'static str, settings: &'static [&'static str]) -> Scene {
    Scene {
        file,
        settings,
        convicts: false,
        refuses: None,
        pulls_all: false,
    }
}

/// A model whose bodies are pulled.
const LARGE: &str = "world.trainer.dimension=13000";

/// One whose bodies travel in several parts.
const LARGER: &str = "world.trainer.dimension=100000";

const SCENES: &[Scene] = &[
    scene("attacked", &["world.attack=odd-spelling"]),
    scene("attacked", &["world.attack=two-sequences"]),
    scene("attacked", &["world.attack=two-claims"]),
    scene("attacked", &["world.attack=header-first"]),
    scene(
        "attacked",
        &["world.attack=far-ahead", "round.mode=asynchronous"],
    ),
    // Longer than a ban.
    scene(
        "attacked",
        &["world.attack=junk-gossip", "federation.rounds=150"],
    ),
    scene("attacked", &["world.attack=recordings"]),
    scene("attacked", &["world.attack=false-addresses"]),
    scene("attacked", &["world.attack=far-claims"]),
    scene("attacked", &["world.attack=flood"]),
    scene("attacked", &["world.attack=late"]),
    scene("attacked", &["world.attack=half-met"]),
    scene("attacked", &["world.attack=silence"]),
    scene(
        "attacked",
        &[
            "world.attack=silence",
            "world.peers=9",
            "world.adversaries=2",
            "aggregation.rule=median",
            "aggregation.byzantine=2",
        ],
    ),
    scene(
        "attacked",
        &[
            "world.attack=foreign-bodies",
            "world.peers=9",
            "world.adversaries=3",
            "topology.kind=ring",
            "federation.rounds=12",
            LARGE,
        ],
    ),
    scene(
        "attacked",
        &["world.attack=slow-bodies", "federation.rounds=12", LARGE],
    ),
    Scene {
        pulls_all: true,
        ..scene(
            "clear",
            &["federation.rounds=4", LARGER, "world.lines.up_mbit=10"],
        )
    },
    // Bodies take longer than the rounds of their senders.
    scene(
        "attacked",
        &[
            "world.adversaries=0",
            "round.mode=asynchronous",
            LARGE,
            "world.lines.up_mbit=2",
        ],
    ),
    // Peers that were there when a liar was convicted come back.
    scene(
        "chaos",
        &[
            "federation.rounds=30",
            "world.peers=7",
            "world.adversaries=1",
            "world.attack=two-sequences",
        ],
    ),
    scene("clear", &[]),
    scene(
        "clear",
        &[
            "topology.kind=exponential",
            "codec.kind=int8",
            "codec.replica=true",
        ],
    ),
    scene(
        "clear",
        &[
            "aggregation.rule=trimmed-mean",
            "aggregation.byzantine=2",
            "world.adversaries=2",
            "world.attack=sign-flip:10",
        ],
    ),
    Scene {
        convicts: true,
        ..scene(
            "clear",
            &[
                "aggregation.rule=trimmed-mean",
                "aggregation.byzantine=1",
                "world.adversaries=1",
                "world.attack=equivocation",
            ],
        )
    },
    // Receivers that are not connected to each other: peers between them compare.
    Scene {
        convicts: true,
        ..scene(
            "clear",
            &[
                "topology.kind=hypercube",
                "world.peers=16",
                "aggregation.rule=mean",
                "world.adversaries=1",
                "world.attack=equivocation",
            ],
        )
    },
    scene(
        "clear",
        &[
            "round.quorum=0.7",
            "aggregation.rule=median",
            "aggregation.byzantine=1",
            "world.adversaries=1",
            "world.attack=mute",
        ],
    ),
    scene(
        "clear",
        &[
            "world.peers=14",
            "topology.kind=random-regular",
            "topology.degree=4",
            "aggregation.rule=median",
            "aggregation.byzantine=1",
            "world.adversaries=1",
            "world.attack=equivocation",
        ],
    ),
    scene(
        "chaos",
        &[
            "federation.rounds=30",
            "topology.kind=random-regular",
            "topology.degree=4",
            "world.trainer.noise=0.1",
        ],
    ),
    scene(
        "chaos",
        &[
            "federation.rounds=30",
            "topology.kind=random-regular",
            "topology.degree=4",
            "topology.redraw_every=5",
            "codec.kind=top-k",
            "codec.share=0.3",
        ],
    ),
    scene(
        "chaos",
        &[
            "federation.rounds=30",
            "world.peers=7",
            "round.staleness=1",
            "round.quorum=0.6",
            "aggregation.rule=krum",
            "aggregation.byzantine=1",
            "world.adversaries=1",
            "world.attack=replay",
        ],
    ),
    scene(
        "chaos",
        &[
            "federation.rounds=30",
            "world.peers=8",
            "topology.kind=ring",
            "aggregation.rule=trimmed-mean",
            "aggregation.byzantine=1",
        ],
    ),
    scene(
        "chaos",
        &[
            "federation.rounds=30",
            "codec.kind=f16",
            "codec.replica=true",
            "aggregation.rule=median",
            "aggregation.byzantine=1",
            "world.adversaries=1",
            "world.attack=not-a-number",
        ],
    ),
    scene(
        "storm",
        &[
            "federation.rounds=30",
            "world.peers=10",
            "aggregation.rule=trimmed-mean",
            "aggregation.byzantine=1",
            "world.adversaries=1",
            "world.attack=equivocation",
        ],
    ),
    scene(
        "forgetful",
        &[
            "federation.rounds=30",
            "world.peers=8",
            "world.trainer.noise=0.1",
        ],
    ),
    scene(
        "restarting",
        &[
            "federation.rounds=30",
            "world.peers=8",
            "world.trainer.noise=0.1",
            "codec.kind=qsgd",
            "codec.replica=true",
        ],
    ),
    Scene {
        refuses: Some("state-mismatch"),
        ..scene(
            "clear",
            &[
                "federation.rounds=5",
                "world.adversaries=1",
                "world.attack=false-state",
            ],
        )
    },
    Scene {
        refuses: Some("signature"),
        ..scene(
            "clear",
            &[
                "federation.rounds=4",
                "world.adversaries=1",
                "world.attack=forgery",
            ],
        )
    },
    scene("rollback", &[]),
    scene("private", &[]),
    scene("restored", &[]),
    scene(
        "slow",
        &[
            "federation.rounds=30",
            "world.peers=10",
            "aggregation.rule=median",
            "aggregation.byzantine=1",
        ],
    ),
];

/// What broke in a play.
fn broken(scene: &Scene, outcome: &Outcome) -> Option<String> {
    if let Some(first) = outcome.checks.failed.first() {
        return Some(first.check.clone());
    }
    if outcome.ended != Ended::Stopped {
        return Some("it does not end".to_owned());
    }
    if scene.convicts && outcome.convicted.is_empty() {
        return Some("nobody is convicted".to_owned());
    }
    if let Some(name) = scene
        .refuses
        .filter(|name| !outcome.refused.contains_key(*name))
    {
        return Some(format!("no {name} is refused"));
    }
    if scene.pulls_all && outcome.refused.contains_key("unavailable") {
        return Some("a body could not be pulled".to_owned());
    }
    // A distance grows with the number of values.
    if [LARGE, LARGER]
        .iter()
        .any(|large| scene.settings.contains(large))
    {
        return None;
    }
    let distance = outcome.consensus_distance.unwrap_or(f64::INFINITY);
    (distance > DISTANCE_MAX || distance.is_nan()).then(|| "models do not agree".to_owned())
}

fn plays() -> Vec<(&'static Scene, Play)> {
    let play = |seed: u64, scene: &'static Scene| {
        let settings = scene
            .settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect();
        (
            scene,
            Play {
                file: format!("simulations/tests/worlds/{}.toml", scene.file),
                seed,
                settings,
            },
        )
    };
    (0..SEEDS)
        .flat_map(|seed| SCENES.iter().map(move |scene| play(seed, scene)))
        .collect()
}

/// The first play that breaks something, and what; plays are taken in order by all threads.
fn first_broken(plays: &[(&'static Scene, Play)]) -> Option<(usize, String)> {
    let (next, first) = (AtomicUsize::new(0), Mutex::new(None::<(usize, String)>));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((scene, play)) = plays.get(number) else {
                        break;
                    };
                    if first.lock().expect("panics are caught").is_some() {
                        break;
                    }
                    let what = match catch_unwind(AssertUnwindSafe(|| play.run())) {
                        Ok(outcome) => broken(scene, &outcome),
                        Err(_) => Some("it panics".to_owned()),
                    };
                    if let Some(what) = what {
                        let mut first = first.lock().expect("panics are caught");
                        if first.as_ref().is_none_or(|(before, _)| number < *before) {
                            *first = Some((number, what));
                        }
                    }
                }
            });
        }
    });
    first.into_inner().expect("panics are caught")
}

#[test]
fn planted_bugs_are_noticed_and_none_is_seen_where_none_is() {
    let began = Instant::now();
    let plays = plays();
    plant(None);
    if let Some((number, what)) = first_broken(&plays) {
        panic!(
            "{what}, without a planted bug: {}",
            plays[number].1.replay()
        );
    }
    println!(
        "{} plays without a planted bug: nothing breaks, {:.1} s",
        plays.len(),
        began.elapsed().as_secs_f64()
    );
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut survivors = Vec::new();
    println!(
        "{:<22} {:<22} {:>4} {:>6}  {:<10} the bug",
        "mutant", "found by", "seed", "plays", "world"
    );
    let here = |(mutant, ..): &&(Mutant, &str, &str)| !ELSEWHERE.contains(mutant);
    for (mutant, name, what) in MUTANTS.iter().filter(here) {
        plant(Some(*mutant));
        let found = first_broken(&plays);
        match &found {
            Some((number, by)) => {
                let (scene, play) = &plays[*number];
                println!(
                    "{name:<22} {by:<22} {:>4} {:>6}  {:<10} {what}",
                    play.seed,
                    number + 1,
                    scene.file
                );
            }
            None => {
                println!(
                    "{name:<22} {:<22} {:>4} {:>6}  {:<10} {what}",
                    "-",
                    "-",
                    plays.len(),
                    "-"
                );
                survivors.push(*name);
            }
        }
    }
    plant(None);
    std::panic::set_hook(loud);
    let found = FOUND_MIN - survivors.len();
    println!(
        "{found} of {FOUND_MIN} found, {:.1} s; not found: {survivors:?}",
        began.elapsed().as_secs_f64()
    );
    assert!(
        found >= FOUND_MIN,
        "{found} of {FOUND_MIN} planted bugs are noticed"
    );
}
